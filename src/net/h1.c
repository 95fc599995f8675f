/* HTTP/1.1 on a connection: requests in order, bodies with backpressure; see
 * connection.h. What the layer above does with a request is in h1_exchange.c. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "net/account.h"
#include "net/connection.h"
#include "net/front.h"
#include "net/h2.h"
#include "net/websocket.h"

/* ---- exchanges ------------------------------------------------------------------- */

void at_h1_drop_exchange(at_connection *connection)
{
    at_exchange *exchange = connection->exchange;
    if (exchange != NULL) {
        at_account_end(exchange);
        connection->exchange = NULL;
        exchange->connection = NULL;
        at_exchange_unref(exchange);
    }
}

static void tell_body(at_connection *connection)
{
    at_exchange *exchange = connection->exchange;
    if (exchange->wants_body) {
        exchange->wants_body = false;
        at_reactor *reactor = connection->reactor;
        at_reactor_hooks(reactor)->body(at_reactor_context(reactor), exchange);
    }
}

void at_h1_lost(at_connection *connection)
{
    at_exchange *exchange = connection->exchange;
    if (exchange != NULL && exchange->websocket != NULL) {
        at_websocket_lost(exchange);
    }
    if (exchange == NULL || exchange->lost || exchange->complete) {
        return;
    }
    at_reactor *reactor = connection->reactor;
    exchange->lost = true;
    (void)at_exchange_ref(exchange);
    at_reactor_hooks(reactor)->lost(at_reactor_context(reactor), exchange);
    if (connection->exchange == exchange) {
        tell_body(connection);
    }
    if (exchange->wants_writable && connection->phase == AT_PHASE_CLOSED) {
        exchange->wants_writable = false;
        at_reactor_hooks(reactor)->writable(at_reactor_context(reactor), exchange);
    }
    at_exchange_unref(exchange);
}

/* ---- answers of our own ---------------------------------------------------------- */

void at_h1_refuse(at_connection *connection, int status, const char *text)
{
    at_exchange *exchange = connection->exchange;
    if (exchange != NULL) {
        bool started = exchange->started;
        exchange->status = started ? exchange->status : status;
        at_h1_lost(connection);
        at_h1_drop_exchange(connection);
        if (started) {
            at_connection_close(connection, true);
            return;
        }
    } else {
        at_account_refused(connection, status);
    }
    static const at_h1_header headers[] = {
        {{"content-type", 12}, {"text/plain; charset=utf-8", 25}},
        {{"upgrade", 7}, {"websocket", 9}}, /* of 426 alone, as the next */
        {{"sec-websocket-version", 21}, {"13", 2}},
    };
    size_t size = strlen(text);
    at_h1_response response = {
        .status = status,
        .headers = headers,
        .header_count = status == 426 ? 3 : 1,
        .body_bytes = (int64_t)size + 1,
        .date = at_reactor_date(connection->reactor),
    };
    if (at_h1_write_head(&connection->out, &response) == 0) {
        at_span pieces[] = {{text, size}, {"\n", 1}};
        (void)at_connection_send(connection, pieces, 2);
    }
    if (connection->phase != AT_PHASE_CLOSED) {
        connection->body_ended = false; /* there may be more of it: linger */
        at_connection_finish(connection);
    }
}

/* ---- bodies ---------------------------------------------------------------------- */

/* Decode chunks in place, so that the body's bytes lie together behind what is ready.
 * Returns 0 or an error. */
static int decode_chunks(at_connection *connection)
{
    char *data = connection->data;
    size_t from = connection->start + connection->body_ready;
    size_t to = from;
    int result = 1;
    while (result == 1) {
        size_t used = 0;
        at_span piece = {NULL, 0};
        result = at_h1_chunked_next(&connection->chunked, data + from,
                                    connection->end - from, &used, &piece);
        if (piece.size != 0) {
            memmove(data + to, piece.data, piece.size);
            to += piece.size;
        }
        from += used;
    }
    connection->body_bytes += to - (connection->start + connection->body_ready);
    connection->body_ready = to - connection->start;
    memmove(data + to, data + from, connection->end - from);
    connection->end -= from - to;
    if (result == 0) {
        connection->body_ended = true;
    }
    return result < 0 && result != AT_EAGAIN ? result : 0;
}

static void decode_length(at_connection *connection)
{
    size_t raw = connection->end - connection->start - connection->body_ready;
    size_t take = connection->body_left < raw ? (size_t)connection->body_left : raw;
    connection->body_ready += take;
    connection->body_left -= take;
    connection->body_ended = connection->body_left == 0;
}

/* What the view has of the body. False: it is refused. */
static bool decode_body(at_connection *connection)
{
    if (connection->body_ended || connection->end == connection->start) {
        return true;
    }
    if (connection->framing == AT_H1_LENGTH) {
        decode_length(connection);
    } else if (decode_chunks(connection) < 0) {
        at_h1_refuse(connection, connection->chunked.error_status,
                     connection->chunked.error_text);
        return false;
    }
    uint64_t limit = at_reactor_limits(connection->reactor)->body_bytes;
    if (limit != 0 && connection->body_bytes > limit) {
        at_h1_refuse(connection, 413, "the request's body is too large");
        return false;
    }
    return true;
}

/* ---- requests -------------------------------------------------------------------- */

/* The exchange of `request`, which the connection is busy with from now on; NULL where
 * there is no memory. */
static at_exchange *take_on(at_connection *connection, const at_h1_request *request)
{
    at_exchange *exchange = at_calloc(1, sizeof *exchange);
    if (exchange == NULL) {
        return NULL;
    }
    exchange->references = 1;
    exchange->connection = connection;
    exchange->head_request =
        request->method.size == 4 && memcmp(request->method.data, "HEAD", 4) == 0;
    exchange->http_1_0 = request->version_minor == 0;
    connection->exchange = exchange;
    connection->phase = AT_PHASE_ACTIVE;
    connection->keep_alive = request->keep_alive && !at_reactor_is_last(connection);
    connection->framing = request->framing;
    connection->body_left = request->content_length;
    connection->body_ended =
        request->framing == AT_H1_NO_BODY ||
        (request->framing == AT_H1_LENGTH && request->content_length == 0);
    connection->body_ready = 0;
    connection->body_bytes = 0;
    connection->discarded = 0;
    exchange->continue_pending = request->expect_continue && !connection->body_ended;
    if (request->framing == AT_H1_CHUNKED) {
        at_h1_chunked_init(&connection->chunked);
    }
    connection->requests++;
    at_account_begin(exchange, request);
    return exchange;
}

static void begin(at_connection *connection, const at_h1_request *request)
{
    at_reactor *reactor = connection->reactor;
    uint64_t limit = at_reactor_limits(reactor)->body_bytes;
    if (limit != 0 && request->framing == AT_H1_LENGTH &&
        request->content_length > limit) {
        at_h1_refuse(connection, 413, "the request's body is too large");
        return;
    }
    at_exchange *exchange = take_on(connection, request);
    if (exchange == NULL) {
        at_h1_refuse(connection, 503, "out of memory");
        return;
    }
    if (request->upgrade_websocket) {
        const char *text = "";
        int status = at_websocket_offer(exchange, request, &text);
        if (status != 0) {
            exchange->lost = true; /* the layer above has not heard of it */
            at_h1_refuse(connection, status, text);
            return;
        }
    }
    /* A body that has come with the head is there for the first receive(): otherwise
     * each small POST would wait for a turn of the loop, with all that it holds. */
    exchange->lost = true;
    if (!decode_body(connection)) {
        return;
    }
    exchange->lost = false;
    if (connection->body_ready != 0 || connection->body_ended) {
        exchange->continue_pending = false; /* it did not wait for our word */
    }
    at_reactor_set_deadline(connection, AT_DEADLINE_NONE);
    if (!at_front_pass(exchange, request)) {
        return;
    }
    at_connection_lend(connection);
    at_reactor_hooks(reactor)->request(at_reactor_context(reactor), exchange, request);
    (void)at_reactor_hold(connection); /* or it is closed, which the phase says */
}

static void parse_head(at_connection *connection)
{
    at_h1_request *request = at_reactor_request(connection->reactor);
    size_t size = connection->end - connection->start;
    long used = at_h1_parse_head(request, connection->data + connection->start, size,
                                 connection->seen,
                                 &at_reactor_limits(connection->reactor)->head);
    if (used == AT_EAGAIN) {
        connection->seen = size;
        return;
    }
    connection->seen = 0;
    if (used == 0) { /* HTTP/2, by prior knowledge */
        if (connection->requests == 0) {
            at_h2_start(connection);
        } else {
            at_h1_refuse(connection, 505, "HTTP/2 begins with the connection");
        }
        return;
    }
    if (used < 0) {
        at_h1_refuse(connection, request->error_status, request->error_text);
        return;
    }
    connection->start += (size_t)used;
    begin(connection, request);
}

/* The request is over at both ends: make ready for the next. */
static void next(at_connection *connection)
{
    at_h1_drop_exchange(connection);
    connection->start += connection->body_ready;
    connection->body_ready = 0;
    if (!connection->keep_alive) {
        at_connection_finish(connection);
        return;
    }
    connection->phase = AT_PHASE_IDLE;
    connection->seen = 0;
    if (!connection->working) {
        if (connection->eof && connection->start == connection->end) {
            at_connection_finish(connection);
            return;
        }
        at_connection_resume(connection);
        at_connection_settle(connection);
    }
}

static void discard(at_connection *connection)
{
    connection->discarded += connection->body_ready;
    connection->start += connection->body_ready;
    connection->body_ready = 0;
    if (connection->discarded > AT_DISCARD_MAX_BYTES) {
        at_connection_finish(connection);
    } else if (connection->body_ended) {
        next(connection);
    }
}

void at_h1_responded(at_connection *connection)
{
    at_exchange *exchange = connection->exchange;
    if (!connection->keep_alive || connection->body_ended) {
        next(connection);
    } else if (exchange->continue_pending) {
        connection->keep_alive = false; /* will it send the body or not? */
        next(connection);
    } else if (connection->working) {
        return; /* the read that is being worked off discards the rest */
    } else {
        discard(connection);
        if (connection->phase == AT_PHASE_ACTIVE) {
            at_connection_resume(connection);
            at_connection_settle(connection);
        }
    }
}

static void take_body_in(at_connection *connection)
{
    if (!decode_body(connection)) {
        return;
    }
    if (connection->exchange->complete) {
        discard(connection);
    } else if (connection->body_ready != 0 || connection->body_ended) {
        at_connection_lend(connection);
        tell_body(connection);
        (void)at_reactor_hold(connection);
    }
}

/* ---- what was upgraded ----------------------------------------------------------- */

static void process_websocket(at_connection *connection)
{
    at_exchange *exchange = connection->exchange;
    if (at_reactor_draining(connection->reactor)) {
        (void)at_websocket_close(exchange, AT_WS_CODE_RESTART, (at_span){NULL, 0});
    }
    if (connection->phase != AT_PHASE_WEBSOCKET) {
        return;
    }
    size_t size = connection->end - connection->start;
    char *data = size != 0 ? connection->data + connection->start : NULL;
    size_t used = at_websocket_input(exchange, data, size);
    if (connection->phase != AT_PHASE_WEBSOCKET) {
        return;
    }
    connection->start += used;
    if (at_websocket_is_over(exchange)) {
        at_connection_finish(connection);
    }
}

void at_h1_process(at_connection *connection)
{
    for (;;) {
        switch (connection->phase) {
        case AT_PHASE_IDLE:
            if (connection->start == connection->end ||
                at_connection_waiting(connection) > AT_OUT_HIGH_BYTES) {
                return;
            }
            connection->phase = AT_PHASE_HEAD;
            continue;
        case AT_PHASE_HEAD:
            parse_head(connection);
            if (connection->phase == AT_PHASE_HEAD) {
                return;
            }
            continue;
        case AT_PHASE_ACTIVE:
            take_body_in(connection);
            if (connection->phase == AT_PHASE_ACTIVE) {
                return;
            }
            continue;
        case AT_PHASE_H2:
            at_h2_process(connection);
            if (connection->phase == AT_PHASE_H2) {
                return;
            }
            continue;
        case AT_PHASE_WEBSOCKET:
            process_websocket(connection);
            if (connection->phase == AT_PHASE_WEBSOCKET) {
                return;
            }
            continue;
        case AT_PHASE_LINGER:
            connection->start = connection->end;
            return;
        case AT_PHASE_PROXY:
        case AT_PHASE_HANDSHAKE:
        case AT_PHASE_CLOSED:
            return;
        }
    }
}

bool at_h1_wants_input(const at_connection *connection)
{
    switch (connection->phase) {
    case AT_PHASE_IDLE:
    case AT_PHASE_HEAD:
        return at_connection_waiting(connection) <= AT_OUT_HIGH_BYTES;
    case AT_PHASE_ACTIVE:
        return !connection->body_ended && connection->body_ready < AT_BODY_HIGH_BYTES;
    case AT_PHASE_H2:
        return at_h2_wants_input(connection);
    case AT_PHASE_WEBSOCKET:
        return at_websocket_wants_input(connection->exchange);
    case AT_PHASE_LINGER:
        return true;
    case AT_PHASE_PROXY:
    case AT_PHASE_HANDSHAKE:
    case AT_PHASE_CLOSED:
        break;
    }
    return false;
}

void at_h1_eof(at_connection *connection)
{
    switch (connection->phase) {
    case AT_PHASE_ACTIVE:
        if (connection->exchange->complete) {
            at_connection_finish(connection);
        } else {
            at_h1_lost(connection);
        }
        return;
    case AT_PHASE_H2:
        at_h2_eof(connection);
        return;
    case AT_PHASE_WEBSOCKET:
        at_connection_close(connection, false);
        return;
    case AT_PHASE_LINGER:
        if (at_connection_waiting(connection) == 0) {
            at_connection_close(connection, false);
        }
        return;
    default:
        connection->start = connection->end;
        connection->phase = AT_PHASE_IDLE;
        at_connection_finish(connection);
        return;
    }
}
