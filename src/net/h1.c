/* HTTP/1.1 on a connection: requests in order, bodies with backpressure; see
 * connection.h and exchange.h. */
#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "net/account.h"
#include "net/connection.h"
#include "net/front.h"
#include "net/h2.h"
#include "net/websocket.h"

enum {
    DISCARD_MAX_BYTES = 256 << 10, /* of a body that nobody wanted; more: close */
};

/* ---- exchanges
 * ------------------------------------------------------------------------ */

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

/* ---- answers of our own
 * --------------------------------------------------------------- */

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

/* ---- bodies
 * --------------------------------------------------------------------------- */

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

/* ---- requests
 * ------------------------------------------------------------------------- */

static void begin(at_connection *connection, const at_h1_request *request)
{
    at_reactor *reactor = connection->reactor;
    uint64_t limit = at_reactor_limits(reactor)->body_bytes;
    if (limit != 0 && request->framing == AT_H1_LENGTH &&
        request->content_length > limit) {
        at_h1_refuse(connection, 413, "the request's body is too large");
        return;
    }
    at_exchange *exchange = at_calloc(1, sizeof *exchange);
    if (exchange == NULL) {
        at_h1_refuse(connection, 503, "out of memory");
        return;
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
    if (at_connection_is_asked(connection)) {
        at_reactor_let_answer(connection);
    }
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
    if (connection->discarded > DISCARD_MAX_BYTES) {
        at_connection_finish(connection);
    } else if (connection->body_ended) {
        next(connection);
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
        tell_body(connection);
    }
}

/* ---- what was upgraded
 * ---------------------------------------------------------------- */

static void process_websocket(at_connection *connection)
{
    at_exchange *exchange = connection->exchange;
    if (at_reactor_draining(connection->reactor)) {
        (void)at_websocket_close(exchange, AT_WS_CODE_RESTART, (at_span){NULL, 0});
    }
    if (connection->phase != AT_PHASE_WEBSOCKET) {
        return;
    }
    size_t used = at_websocket_input(exchange, connection->data + connection->start,
                                     connection->end - connection->start);
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

/* ---- the layer above takes the body
 * ----------------------------------------------------- */

int at_h1_exchange_body(at_exchange *exchange, at_span *piece)
{
    at_connection *connection = exchange->connection;
    *piece = (at_span){NULL, 0};
    if (connection == NULL) {
        return AT_ECLOSED;
    }
    if (connection->body_ready != 0) { /* there may be no buffer */
        *piece =
            (at_span){connection->data + connection->start, connection->body_ready};
    }
    if (connection->body_ended) {
        return 0;
    }
    return connection->eof && connection->body_ready == 0 ? AT_ECLOSED : 1;
}

void at_h1_exchange_take_body(at_exchange *exchange, size_t size_bytes)
{
    at_connection *connection = exchange->connection;
    if (connection == NULL) {
        return;
    }
    assert(size_bytes <= connection->body_ready);
    connection->start += size_bytes;
    connection->body_ready -= size_bytes;
    if (!connection->body_ended && at_h1_wants_input(connection)) {
        at_connection_resume(connection);
    }
}

void at_h1_exchange_want_body(at_exchange *exchange)
{
    at_connection *connection = exchange->connection;
    if (connection == NULL) {
        return;
    }
    exchange->wants_body = true;
    if (!at_reactor_hold(connection)) {
        return;
    }
    if (exchange->continue_pending) {
        exchange->continue_pending = false;
        /* A client that did not wait needs no word. */
        if (!exchange->started && connection->body_ready == 0 &&
            at_h1_write_interim(&connection->out, 100, NULL, 0) == 0) {
            (void)at_connection_send(connection, NULL, 0);
        }
    }
    if (!connection->working) {
        at_connection_settle(connection);
    }
}

/* ---- the layer above responds
 * ------------------------------------------------------------ */

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

/* Send a piece of body with the framing of the response. Returns 0 or an error. */
static int send_piece(at_exchange *exchange, at_span piece, bool more)
{
    at_connection *connection = exchange->connection;
    exchange->sent_bytes += piece.size;
    char prefix[AT_H1_CHUNK_PREFIX_MAX];
    at_span pieces[AT_PIECES_MAX] = {0}; /* with no piece, some compilers ask for it */
    int count = 0;
    switch (exchange->body_end) {
    case AT_H1_END_NONE:
        break;
    case AT_H1_END_LENGTH:
        exchange->response_left -= piece.size;
        pieces[count++] = piece;
        break;
    case AT_H1_END_CLOSE:
        pieces[count++] = piece;
        break;
    case AT_H1_END_CHUNK:
        if (piece.size != 0) {
            size_t size = at_h1_chunk_prefix(prefix, piece.size);
            pieces[count++] = (at_span){prefix, size};
            pieces[count++] = piece;
            pieces[count++] =
                more ? (at_span){"\r\n", 2} : (at_span){"\r\n0\r\n\r\n", 7};
        } else if (!more) {
            pieces[count++] = (at_span){"0\r\n\r\n", 5};
        }
        break;
    }
    int result = at_connection_send(connection, pieces, count);
    if (result < 0) {
        return result;
    }
    if (!more) {
        exchange->complete = true;
        exchange->wants_body = false;
        at_account_end(exchange);
        at_h1_responded(connection);
        return 0;
    }
    if (!connection->working) {
        at_connection_settle(connection);
    }
    if (at_connection_waiting(connection) > AT_OUT_HIGH_BYTES) {
        exchange->wants_writable = true;
        return 1;
    }
    return 0;
}

/* Does `piece` fit the promised length? Returns 0 or an error. */
static int check_length(const at_exchange *exchange, at_span piece, bool more)
{
    if (exchange->body_end != AT_H1_END_LENGTH) {
        return 0;
    }
    if (piece.size > exchange->response_left) {
        return AT_ELIMIT;
    }
    return !more && piece.size < exchange->response_left ? AT_EFORMAT : 0;
}

int at_h1_exchange_respond(at_exchange *exchange, int status,
                           const at_h1_header *headers, size_t header_count,
                           at_span piece, bool more, const char **why)
{
    at_connection *connection = exchange->connection;
    if (exchange->started) {
        return AT_EBUSY;
    }
    if (connection == NULL || !at_reactor_hold(connection)) {
        return AT_ECLOSED;
    }
    /* A rest of the request's body that is not worth reading costs the connection. */
    bool unread = !connection->body_ended &&
                  (exchange->continue_pending ||
                   (connection->framing == AT_H1_LENGTH &&
                    connection->body_left > DISCARD_MAX_BYTES && !more));
    at_h1_response response = {
        .status = status,
        .headers = headers,
        .header_count = header_count,
        .body_bytes = more ? -1 : (int64_t)piece.size,
        .date = at_reactor_date(connection->reactor),
        .server = {"atoll", 5},
        .is_head = exchange->head_request,
        .is_http_10 = exchange->http_1_0,
        .keep_alive =
            connection->keep_alive && !unread && !at_reactor_is_last(connection),
    };
    if (exchange->head_request && piece.size == 0) {
        response.body_bytes = -1; /* the application left the body out by itself */
    }
    int result = at_h1_write_head(&connection->out, &response);
    if (result < 0) {
        *why = response.error_text;
        return result;
    }
    exchange->started = true;
    exchange->status = status;
    exchange->body_end = response.body_end;
    exchange->response_left = response.length_bytes;
    connection->keep_alive = !response.will_close;
    result = check_length(exchange, piece, more);
    if (result < 0) {
        at_connection_close(connection, true);
        return result;
    }
    return send_piece(exchange, piece, more);
}

int at_h1_exchange_write(at_exchange *exchange, at_span piece, bool more)
{
    if (exchange->complete) {
        return AT_EBUSY;
    }
    if (exchange->connection == NULL) {
        return AT_ECLOSED;
    }
    int result = check_length(exchange, piece, more);
    if (result < 0) {
        at_connection_close(exchange->connection, true);
        return result;
    }
    return send_piece(exchange, piece, more);
}

void at_h1_exchange_abort(at_exchange *exchange)
{
    if (exchange->connection != NULL) {
        exchange->lost = true; /* the layer above knows */
        if (at_reactor_hold(exchange->connection)) {
            at_connection_close(exchange->connection, true);
        }
    }
}

/* ---- a WebSocket on the connection
 * ---------------------------------------------------------- */

int at_h1_exchange_switch(at_exchange *exchange, const at_h1_header *headers,
                          size_t header_count, const char **why)
{
    at_connection *connection = exchange->connection;
    if (!at_reactor_hold(connection)) {
        return AT_ECLOSED;
    }
    at_h1_response response = {
        .status = 101,
        .headers = headers,
        .header_count = header_count,
        .body_bytes = -1,
        .date = at_reactor_date(connection->reactor),
        .server = {"atoll", 5},
        .keep_alive = true,
        .upgrade = true,
    };
    int result = at_h1_write_head(&connection->out, &response);
    if (result < 0) {
        *why = response.error_text;
        return result;
    }
    exchange->started = true;
    exchange->status = 101;
    connection->phase = AT_PHASE_WEBSOCKET;
    result = at_connection_send(connection, NULL, 0);
    if (result == 0 && !connection->working) {
        connection->readable = true; /* its edge may have gone by unread */
        at_connection_resume(connection);
        at_connection_settle(connection);
    }
    return result;
}

int at_h1_exchange_emit(at_exchange *exchange, const at_span *pieces, int count)
{
    at_connection *connection = exchange->connection;
    int result = at_connection_send(connection, pieces, count);
    if (result == 0 && !connection->working) {
        at_connection_settle(connection);
    }
    return result;
}

/* ---- what stands around a response -------------------------------------------------
 */

int at_h1_exchange_interim(at_exchange *exchange, int status,
                           const at_h1_header *headers, size_t header_count)
{
    at_connection *connection = exchange->connection;
    if (exchange->http_1_0) {
        return 0; /* it would take it for the response */
    }
    if (!at_reactor_hold(connection)) {
        return AT_ECLOSED;
    }
    int result = at_h1_write_interim(&connection->out, status, headers, header_count);
    return result == 0 ? at_h1_exchange_emit(exchange, NULL, 0) : result;
}

int at_h1_exchange_trailers(at_exchange *exchange, const at_h1_header *trailers,
                            size_t trailer_count)
{
    at_connection *connection = exchange->connection;
    int result = at_h1_write_last_chunk(&connection->out, trailers, trailer_count);
    if (result < 0) {
        return result;
    }
    result = at_connection_send(connection, NULL, 0);
    if (result < 0) {
        return result;
    }
    exchange->complete = true;
    exchange->wants_body = false;
    at_account_end(exchange);
    at_h1_responded(connection);
    return 0;
}
