/* A connection's HTTP/2 session: streams come and go; see h2.h. */
#include "net/h2.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "net/account.h"
#include "net/front.h"
#include "net/h2_internal.h"
#include "net/websocket.h"
#include "sys/clock.h"

enum {
    OUTPUT_BYTES = 64 << 10, /* asked of the session at once */
    TICK_NS = 1000000000,
};

/* ---- exchanges ------------------------------------------------------------------- */

void at_h2_carrier_free(at_h2_carrier *carrier)
{
    if (carrier != NULL) {
        at_bytes_fini(&carrier->body);
        at_free(carrier->unheard);
        at_free(carrier);
    }
}

static at_exchange *exchange_new(at_connection *connection, at_h2_stream *stream)
{
    at_exchange *exchange = at_calloc(1, sizeof *exchange);
    at_h2_carrier *carrier = at_calloc(1, sizeof *carrier);
    if (exchange == NULL || carrier == NULL) {
        at_free(exchange);
        at_free(carrier);
        return NULL;
    }
    exchange->references = 1;
    exchange->connection = connection;
    exchange->over_h2 = carrier;
    carrier->exchange = exchange;
    carrier->stream = stream;
    carrier->after = connection->h2_carriers;
    if (carrier->after != NULL) {
        carrier->after->before = carrier;
    }
    connection->h2_carriers = carrier;
    stream->owner = exchange;
    return exchange;
}

/* Before the layer above runs, and after it. */
static at_connection *lend(const at_exchange *exchange)
{
    at_connection *connection = exchange->connection;
    if (connection != NULL) {
        at_connection_lend(connection);
    }
    return connection;
}

static void take_back(at_connection *connection)
{
    if (connection != NULL) {
        (void)at_reactor_hold(connection); /* or it is closed, which the phase says */
    }
}

static void tell_body(at_exchange *exchange, at_reactor *reactor)
{
    if (exchange->wants_body) {
        exchange->wants_body = false;
        at_connection *connection = lend(exchange);
        at_reactor_hooks(reactor)->body(at_reactor_context(reactor), exchange);
        take_back(connection);
    }
}

static void tell_writable(at_exchange *exchange, at_reactor *reactor)
{
    if (exchange->wants_writable) {
        exchange->wants_writable = false;
        at_connection *connection = lend(exchange);
        at_reactor_hooks(reactor)->writable(at_reactor_context(reactor), exchange);
        take_back(connection);
    }
}

/* ---- the session's events -------------------------------------------------------- */

static void fill_request(at_h1_request *to, const at_h2_request *from)
{
    to->method = from->method;
    to->target = from->target;
    to->path = from->path;
    to->query = from->query;
    to->authority = from->authority;
    to->host = from->authority;
    to->version_minor = 1;
    to->framing = !from->has_body            ? AT_H1_NO_BODY
                  : from->has_content_length ? AT_H1_LENGTH
                                             : AT_H1_CHUNKED;
    to->content_length = from->has_content_length ? from->content_length : 0;
    to->keep_alive = true;
    to->expect_continue = false;
    to->upgrade_websocket = false;
    to->upgrade_h2c = false;
    to->header_count =
        from->header_count < AT_H1_HEADERS_MAX ? from->header_count : AT_H1_HEADERS_MAX;
    memcpy(to->headers, from->headers, to->header_count * sizeof *to->headers);
}

/* Answer without a word to the layer above. */
static void refuse(at_connection *connection, at_h2_stream *stream, int status)
{
    at_h2_response response = {
        .status = status,
        .body_bytes = 0,
        .date = at_reactor_date(connection->reactor),
    };
    (void)at_h2_respond(connection->h2, stream, &response, true);
    at_h2_reset(connection->h2, stream, 0);
}

static void hand_on(at_exchange *exchange, const at_h1_request *head)
{
    at_connection *connection = exchange->connection;
    at_reactor *reactor = connection->reactor;
    if (at_front_pass(exchange, head)) {
        at_connection_lend(connection);
        at_reactor_hooks(reactor)->request(at_reactor_context(reactor), exchange, head);
        take_back(connection);
    }
}

/* Keep the request until there is more of it. False: there is no memory. */
static bool put_off(at_exchange *exchange, const at_h2_request *request)
{
    at_h2_request *unheard = at_alloc(sizeof *unheard);
    if (unheard == NULL) {
        return false;
    }
    *unheard = *request; /* what it points to lasts as long as its stream */
    exchange->over_h2->unheard = unheard;
    exchange->connection->h2_unheard_count++;
    exchange->lost = true; /* nobody needs to be told, should it end */
    return true;
}

/* The layer above will never hear of it, or does now. */
static void put_off_no_more(at_connection *connection, at_h2_carrier *carrier)
{
    if (carrier->unheard != NULL) {
        at_free(carrier->unheard);
        carrier->unheard = NULL;
        connection->h2_unheard_count--;
    }
}

static void hand_on_unheard(at_h2_carrier *carrier)
{
    at_exchange *exchange = carrier->exchange;
    at_connection *connection = exchange->connection;
    at_h1_request *head = at_reactor_request(connection->reactor);
    fill_request(head, carrier->unheard);
    put_off_no_more(connection, carrier);
    exchange->lost = false;
    if (carrier->body.size != 0 || carrier->body_ended) {
        exchange->continue_pending = false; /* it did not wait for our word */
    }
    hand_on(exchange, head);
}

/* The read has been worked off; the oldest first. */
static void hand_on_all(at_connection *connection)
{
    while (connection->h2_unheard_count != 0 && connection->phase == AT_PHASE_H2) {
        at_h2_carrier *oldest = NULL;
        for (at_h2_carrier *carrier = connection->h2_carriers; carrier != NULL;
             carrier = carrier->after) {
            oldest = carrier->unheard != NULL ? carrier : oldest;
        }
        assert(oldest != NULL); /* h2_unheard_count counts those that wait */
        hand_on_unheard(oldest);
    }
}

static void on_request(void *context, at_h2_stream *stream,
                       const at_h2_request *request)
{
    at_connection *connection = context;
    at_reactor *reactor = connection->reactor;
    uint64_t limit = at_reactor_limits(reactor)->body_bytes;
    if (limit != 0 && request->has_content_length && request->content_length > limit) {
        at_account_refused(connection, 413);
        refuse(connection, stream, 413);
        return;
    }
    bool is_websocket = at_h1_equal(request->protocol, "websocket");
    if (request->protocol.size != 0 && !is_websocket) {
        at_account_refused(connection, 501);
        refuse(connection, stream, 501);
        return;
    }
    at_exchange *exchange = exchange_new(connection, stream);
    if (exchange == NULL) {
        at_account_refused(connection, 503);
        refuse(connection, stream, 503);
        return;
    }
    at_h1_request *head = at_reactor_request(reactor);
    fill_request(head, request);
    exchange->head_request = at_h1_equal(request->method, "head");
    const at_h1_header *expect = at_h1_find(head, "expect");
    exchange->continue_pending = request->has_body && expect != NULL &&
                                 at_h1_equal(expect->value, "100-continue");
    connection->requests++;
    at_account_begin(exchange, head);
    if (is_websocket) {
        const char *text;
        int status = at_websocket_offer(exchange, head, &text);
        if (status != 0) {
            /* The layer above has not heard of it. */
            exchange->started = exchange->complete = true;
            exchange->status = status;
            refuse(connection, stream, status);
            return;
        }
    }
    exchange->over_h2->body_ended = !request->has_body;
    if (!request->has_body || is_websocket || !put_off(exchange, request)) {
        hand_on(exchange, head);
    }
}

static void on_body(void *context, at_h2_stream *stream, at_span piece)
{
    at_connection *connection = context;
    at_reactor *reactor = connection->reactor;
    at_exchange *exchange = stream->owner;
    bool unwanted =
        exchange == NULL || (exchange->complete && !at_websocket_is_accepted(exchange));
    if (unwanted) {
        at_h2_consume(connection->h2, stream, piece.size);
        return;
    }
    at_h2_carrier *carrier = exchange->over_h2;
    if (at_bytes_append(&carrier->body, piece.data, piece.size) < 0) {
        at_h2_exchange_abort(exchange);
        return;
    }
    if (at_websocket_is_accepted(exchange)) {
        at_h2_websocket_input(exchange);
        return;
    }
    carrier->body_bytes += piece.size;
    uint64_t limit = at_reactor_limits(reactor)->body_bytes;
    if (limit != 0 && carrier->body_bytes > limit && !exchange->websocket) {
        bool started = exchange->started;
        bool heard = carrier->unheard == NULL;
        put_off_no_more(connection, carrier);
        exchange->lost = true;
        carrier->body_ended = false;
        if (heard) {
            at_reactor_hooks(reactor)->lost(at_reactor_context(reactor), exchange);
        }
        if (started) {
            at_h2_break_off(exchange, 2);
        } else {
            exchange->started = exchange->complete = true;
            exchange->status = 413;
            refuse(connection, stream, 413);
        }
    }
    tell_body(exchange, reactor);
}

static void on_body_end(void *context, at_h2_stream *stream)
{
    at_connection *connection = context;
    at_exchange *exchange = stream->owner;
    if (exchange == NULL) {
        return;
    }
    exchange->over_h2->body_ended = true;
    if (exchange->websocket != NULL && !exchange->complete) {
        /* Frames can come no more, not even a close. */
        at_h2_reset(connection->h2, stream, 8);
        return;
    }
    if (exchange->over_h2->unheard != NULL) {
        hand_on_unheard(exchange->over_h2);
        return;
    }
    tell_body(exchange, connection->reactor);
}

static void on_sent(void *context, at_h2_stream *stream, size_t unsent_bytes)
{
    at_connection *connection = context;
    at_exchange *exchange = stream->owner;
    if (exchange == NULL) {
        return;
    }
    at_h2_carrier *carrier = exchange->over_h2;
    connection->h2_unsent_bytes -= carrier->unsent_bytes - unsent_bytes;
    carrier->unsent_bytes = unsent_bytes;
    if (unsent_bytes <= AT_OUT_LOW_BYTES) {
        tell_writable(exchange, connection->reactor);
    }
}

static void on_close(void *context, at_h2_stream *stream, uint32_t error)
{
    at_connection *connection = context;
    at_reactor *reactor = connection->reactor;
    at_exchange *exchange = stream->owner;
    if (exchange == NULL) {
        return;
    }
    at_h2_carrier *carrier = exchange->over_h2;
    *(carrier->before != NULL ? &carrier->before->after : &connection->h2_carriers) =
        carrier->after;
    if (carrier->after != NULL) {
        carrier->after->before = carrier->before;
    }
    carrier->before = carrier->after = NULL;
    carrier->stream = NULL;
    put_off_no_more(connection, carrier);
    connection->h2_unsent_bytes -= carrier->unsent_bytes;
    carrier->unsent_bytes = 0;
    at_account_end(exchange);
    exchange->connection = NULL;
    if (exchange->websocket != NULL) {
        at_websocket_lost(exchange);
    }
    if (!exchange->complete && !exchange->lost) {
        exchange->lost = true;
        at_reactor_hooks(reactor)->lost(at_reactor_context(reactor), exchange);
    }
    tell_body(exchange, reactor);
    tell_writable(exchange, reactor);
    at_exchange_unref(exchange);
}

/* ---- bytes ----------------------------------------------------------------------- */

void at_h2_start(at_connection *connection)
{
    at_h2_limits limits;
    const at_service_limits *all = at_reactor_limits(connection->reactor);
    limits = all->h2;
    limits.header_count = (uint32_t)all->head.header_count;
    limits.header_bytes = (uint32_t)all->head.head_bytes;
    const at_h2_events events = {
        .context = connection,
        .on_request = on_request,
        .on_body = on_body,
        .on_body_end = on_body_end,
        .on_sent = on_sent,
        .on_close = on_close,
    };
    connection->phase = AT_PHASE_H2;
    connection->h2_ticked_ns = at_clock_ns();
    if (at_h2_new(&limits, &events, &connection->h2) < 0) {
        at_connection_close(connection, true);
    }
}

void at_h2_pump(at_connection *connection)
{
    if (connection->h2_busy) {
        return;
    }
    while (connection->phase == AT_PHASE_H2 && connection->h2 != NULL) {
        size_t waiting = at_connection_waiting(connection);
        if (waiting < OUTPUT_BYTES) {
            connection->h2_busy = true;
            int result = at_h2_output(connection->h2, &connection->out,
                                      connection->out_start + OUTPUT_BYTES);
            connection->h2_busy = false;
            if (result == AT_ENOMEM) {
                at_connection_close(connection, true); /* a frame is lost */
            }
        }
        if (connection->phase == AT_PHASE_CLOSED) {
            at_h2_end(connection);
            return;
        }
        size_t now = at_connection_waiting(connection);
        if (now == waiting || at_connection_send(connection, NULL, 0) < 0 ||
            at_connection_waiting(connection) != 0) {
            return;
        }
    }
}

void at_h2_flushed(at_connection *connection)
{
    at_h2_pump(connection);
}

/* A stop is announced before it comes, so that requests on their way are served. */
static void announce_end(at_connection *connection)
{
    if (at_reactor_draining(connection->reactor) && connection->h2_going == 0) {
        connection->h2_going = 1;
        at_h2_shutdown(connection->h2, false);
        connection->h2_busy = true;
        for (at_h2_carrier *carrier = connection->h2_carriers; carrier != NULL;
             carrier = carrier->after) {
            if (at_websocket_is_accepted(carrier->exchange)) {
                (void)at_websocket_close(carrier->exchange, AT_WS_CODE_RESTART,
                                         (at_span){NULL, 0});
            }
        }
        connection->h2_busy = false;
    }
}

void at_h2_process(at_connection *connection)
{
    int64_t now = at_clock_ns();
    if (now - connection->h2_ticked_ns >= TICK_NS) {
        connection->h2_ticked_ns = now;
        at_h2_tick(connection->h2);
    }
    announce_end(connection);
    size_t size = connection->end - connection->start;
    const char *data = size != 0 ? connection->data + connection->start : NULL;
    connection->start = connection->end;
    int result = 0;
    if (size != 0) {
        connection->h2_busy = true;
        result = at_h2_input(connection->h2, data, size);
        hand_on_all(connection);
        connection->h2_busy = false;
    }
    if (connection->phase != AT_PHASE_H2) {
        at_h2_end(connection); /* closed from inside */
        return;
    }
    at_h2_pump(connection);
    if (connection->phase == AT_PHASE_H2 &&
        (result < 0 || at_h2_is_done(connection->h2))) {
        if (result < 0) {
            at_reactor_complain(connection->reactor, "HTTP/2 was broken off",
                                at_error_text(result));
        }
        at_connection_finish(connection);
    }
}

bool at_h2_wants_input(const at_connection *connection)
{
    return at_connection_waiting(connection) <= AT_OUT_HIGH_BYTES;
}

void at_h2_eof(at_connection *connection)
{
    at_connection_close(connection, false);
}

void at_h2_end(at_connection *connection)
{
    at_h2 *h2 = connection->h2;
    if (h2 != NULL && !connection->h2_busy) {
        connection->h2 = NULL;
        at_h2_free(h2);
    }
}

/* ---- deadlines ------------------------------------------------------------------- */

at_deadline_kind at_h2_deadline(const at_connection *connection)
{
    if (connection->h2_going == 1) {
        return AT_DEADLINE_GOAWAY;
    }
    if (connection->h2_unsent_bytes != 0) {
        return AT_DEADLINE_WRITE; /* the client opens no window */
    }
    if (connection->h2_carriers == NULL) {
        return connection->requests == 0 ? AT_DEADLINE_HEAD : AT_DEADLINE_IDLE;
    }
    at_deadline_kind kind = AT_DEADLINE_NONE;
    for (const at_h2_carrier *carrier = connection->h2_carriers; carrier != NULL;
         carrier = carrier->after) {
        if (at_websocket_is_accepted(carrier->exchange)) {
            kind = AT_DEADLINE_PING;
        }
        if (carrier->exchange->wants_body && !carrier->body_ended) {
            return AT_DEADLINE_BODY;
        }
    }
    return kind;
}

/* Ping the WebSockets; those that did not answer the last one are lost. */
static void ping_all(at_connection *connection)
{
    at_h2_carrier *carrier = connection->h2_carriers;
    connection->h2_busy = true;
    while (carrier != NULL) {
        at_h2_carrier *after = carrier->after;
        at_exchange *exchange = carrier->exchange;
        if (at_websocket_is_accepted(exchange) &&
            (at_websocket_is_closing(exchange) || !at_websocket_ping(exchange))) {
            at_h2_reset(connection->h2, carrier->stream, 8);
        }
        carrier = after;
    }
    connection->h2_busy = false;
    at_h2_pump(connection);
}

static void refuse_slow_bodies(at_connection *connection)
{
    at_reactor *reactor = connection->reactor;
    at_h2_carrier *carrier = connection->h2_carriers;
    connection->h2_busy = true;
    while (carrier != NULL) {
        at_h2_carrier *after = carrier->after;
        at_exchange *exchange = carrier->exchange;
        if (exchange->wants_body && !carrier->body_ended && !exchange->websocket) {
            exchange->lost = true;
            at_reactor_hooks(reactor)->lost(at_reactor_context(reactor), exchange);
            if (exchange->started) {
                at_h2_break_off(exchange, 8);
            } else {
                exchange->started = exchange->complete = true;
                exchange->status = 408;
                refuse(connection, carrier->stream, 408);
            }
            tell_body(exchange, reactor);
        }
        carrier = after;
    }
    connection->h2_busy = false;
    at_h2_pump(connection);
}

void at_h2_expired(at_connection *connection, at_deadline_kind kind)
{
    switch (kind) {
    case AT_DEADLINE_PING:
    case AT_DEADLINE_PONG:
        ping_all(connection);
        break;
    case AT_DEADLINE_BODY:
        refuse_slow_bodies(connection);
        break;
    case AT_DEADLINE_GOAWAY:
        connection->h2_going = 2;
        at_h2_shutdown(connection->h2, true);
        at_h2_pump(connection);
        if (connection->phase == AT_PHASE_H2 && at_h2_is_done(connection->h2)) {
            at_connection_finish(connection);
        }
        break;
    case AT_DEADLINE_WRITE:
        at_connection_close(connection, true);
        break;
    default:
        at_h2_shutdown(connection->h2, true);
        at_h2_pump(connection);
        at_connection_finish(connection);
        break;
    }
    if (connection->phase == AT_PHASE_H2) {
        at_reactor_set_deadline(connection, at_h2_deadline(connection));
    }
}
