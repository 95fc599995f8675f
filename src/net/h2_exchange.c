/* The functions of exchange.h over HTTP/2; see h2.h. */
#include <assert.h>

#include "net/h2_internal.h"
#include "net/websocket.h"

/* What an answer outside of a read leaves to do. */
static void done(at_connection *connection)
{
    at_h2_pump(connection);
    if (!connection->working && !connection->h2_busy &&
        connection->phase == AT_PHASE_H2) {
        at_connection_settle(connection);
    }
}

/* ---- the request's body ---------------------------------------------------------- */

int at_h2_exchange_body(at_exchange *exchange, at_span *piece)
{
    at_h2_carrier *carrier = exchange->over_h2;
    *piece = (at_span){NULL, 0};
    if (carrier->body.size != 0) { /* there may be no buffer */
        *piece = (at_span){carrier->body.data + carrier->body_start,
                           carrier->body.size - carrier->body_start};
    }
    if (carrier->body_ended) {
        return 0;
    }
    if (carrier->stream == NULL || exchange->lost) {
        *piece = (at_span){NULL, 0};
        return AT_ECLOSED;
    }
    return 1;
}

void at_h2_exchange_take_body(at_exchange *exchange, size_t size)
{
    at_h2_carrier *carrier = exchange->over_h2;
    assert(size <= carrier->body.size - carrier->body_start);
    carrier->body_start += size;
    if (carrier->body_start == carrier->body.size) {
        at_bytes_fini(&carrier->body);
        carrier->body_start = 0;
    }
    at_connection *connection = exchange->connection;
    if (connection != NULL && size != 0) {
        at_h2_consume(connection->h2, carrier->stream, size);
        done(connection);
    }
}

void at_h2_exchange_want_body(at_exchange *exchange)
{
    at_connection *connection = exchange->connection;
    if (connection == NULL) {
        return;
    }
    exchange->wants_body = true;
    if (exchange->continue_pending) {
        exchange->continue_pending = false;
        if (!exchange->started && exchange->over_h2->body.size == 0) {
            (void)at_h2_respond_interim(connection->h2, exchange->over_h2->stream, 100,
                                        NULL, 0);
        }
    }
    done(connection);
}

/* ---- the response ---------------------------------------------------------------- */

/* Hand a piece of a body to the session. Returns 0 or an error. */
static int queue_piece(at_exchange *exchange, at_span piece, bool more)
{
    at_connection *connection = exchange->connection;
    at_h2_carrier *carrier = exchange->over_h2;
    if (connection == NULL) {
        return AT_ECLOSED;
    }
    long unsent = at_h2_send(connection->h2, carrier->stream, piece, !more);
    if (unsent < 0) {
        /* What follows would be taken for what is missing. */
        at_h2_exchange_abort(exchange);
        return (int)unsent;
    }
    connection->h2_unsent_bytes += (size_t)unsent - carrier->unsent_bytes;
    carrier->unsent_bytes = (size_t)unsent;
    if (exchange->body_end == AT_H1_END_LENGTH) {
        exchange->response_left -= piece.size;
    }
    return 0;
}

/* Add a piece to the response's body. Returns 0, 1 or an error, as
 * at_exchange_write. */
static int send_piece(at_exchange *exchange, at_span piece, bool more)
{
    at_connection *connection = exchange->connection;
    at_h2_carrier *carrier = exchange->over_h2;
    int result = exchange->body_end != AT_H1_END_NONE
                     ? queue_piece(exchange, piece, more)
                     : 0; /* the client has all of it in the head */
    if (result < 0) {
        return result;
    }
    exchange->sent_bytes += piece.size;
    if (!more) {
        at_exchange_complete(exchange);
    }
    if (connection == NULL) {
        return 0;
    }
    if (!more && !carrier->body_ended) {
        at_h2_reset(connection->h2, carrier->stream, 0);
    }
    done(connection);
    if (more && carrier->unsent_bytes > AT_OUT_HIGH_BYTES) {
        exchange->wants_writable = true;
        return 1;
    }
    return 0;
}

/* The Content-Length among `headers`, where there is one. Returns 1, 0, or an error. */
static int find_length(const at_h1_header *headers, size_t count, uint64_t *length)
{
    int found = 0;
    for (size_t i = 0; i < count; i++) {
        if (!at_h1_equal(headers[i].name, "content-length")) {
            continue;
        }
        at_span text = headers[i].value;
        if (found || text.size == 0 || text.size > 18) {
            return AT_EINVALID;
        }
        *length = 0;
        for (size_t at = 0; at < text.size; at++) {
            if (text.data[at] < '0' || text.data[at] > '9') {
                return AT_EINVALID;
            }
            *length = *length * 10 + (uint64_t)(text.data[at] - '0');
        }
        found = 1;
    }
    return found;
}

int at_h2_exchange_respond(at_exchange *exchange, int status,
                           const at_h1_header *headers, size_t header_count,
                           at_span piece, bool more, const char **why)
{
    at_connection *connection = exchange->connection;
    if (exchange->started) {
        return AT_EBUSY;
    }
    if (connection == NULL) {
        return AT_ECLOSED;
    }
    uint64_t length = 0;
    int has_length = find_length(headers, header_count, &length);
    if (has_length < 0) {
        *why = "Content-Length is malformed or repeated";
        return AT_EINVALID;
    }
    bool no_body = exchange->head_request || status == 204 || status == 304;
    bool whole = !more && !(exchange->head_request && piece.size == 0);
    at_h2_response response = {
        .status = status,
        .headers = headers,
        .header_count = header_count,
        .date = at_reactor_date(connection->reactor),
        .server = {"atoll", 5},
        .body_bytes = whole && status != 304 ? (int64_t)piece.size : -1,
    };
    bool is_end = no_body || (!more && piece.size == 0);
    int result =
        at_h2_respond(connection->h2, exchange->over_h2->stream, &response, is_end);
    if (result < 0) {
        *why = "a header or the status is not one that may be sent";
        return result;
    }
    exchange->started = true;
    exchange->status = status;
    exchange->body_end = no_body      ? AT_H1_END_NONE
                         : has_length ? AT_H1_END_LENGTH
                                      : AT_H1_END_CHUNK;
    exchange->response_left = length;
    result = at_exchange_check_length(exchange, piece, more);
    if (result < 0) {
        at_h2_exchange_abort(exchange);
        return result;
    }
    if (is_end && exchange->body_end != AT_H1_END_NONE) {
        exchange->body_end = AT_H1_END_NONE; /* the head has ended the stream */
    }
    return send_piece(exchange, piece, more);
}

int at_h2_exchange_write(at_exchange *exchange, at_span piece, bool more)
{
    if (exchange->complete) {
        return AT_EBUSY;
    }
    if (exchange->connection == NULL && exchange->body_end != AT_H1_END_NONE) {
        return AT_ECLOSED;
    }
    int result = at_exchange_check_length(exchange, piece, more);
    if (result < 0) {
        at_h2_exchange_abort(exchange);
        return result;
    }
    return send_piece(exchange, piece, more);
}

int at_h2_exchange_interim(at_exchange *exchange, int status,
                           const at_h1_header *headers, size_t header_count)
{
    at_connection *connection = exchange->connection;
    int result = at_h2_respond_interim(connection->h2, exchange->over_h2->stream,
                                       status, headers, header_count);
    done(connection);
    return result;
}

int at_h2_exchange_trailers(at_exchange *exchange, const at_h1_header *trailers,
                            size_t trailer_count)
{
    at_connection *connection = exchange->connection;
    at_h2_carrier *carrier = exchange->over_h2;
    int result =
        at_h2_send_trailers(connection->h2, carrier->stream, trailers, trailer_count);
    if (result == AT_ENOMEM) {
        at_h2_exchange_abort(exchange);
    }
    if (result < 0) {
        return result;
    }
    at_exchange_complete(exchange);
    if (!carrier->body_ended) {
        at_h2_reset(connection->h2, carrier->stream, 0);
    }
    done(connection);
    return 0;
}

void at_h2_break_off(at_exchange *exchange, uint32_t error)
{
    at_h2_carrier *carrier = exchange->over_h2;
    if (!at_h2_is_answered(exchange)) {
        at_h2_reset(exchange->connection->h2, carrier->stream, error);
    } else if (!carrier->body_ended) {
        at_h2_reset(exchange->connection->h2, carrier->stream, 0);
    }
}

void at_h2_exchange_abort(at_exchange *exchange)
{
    at_connection *connection = exchange->connection;
    exchange->lost = true; /* the layer above knows */
    if (connection != NULL) {
        at_h2_break_off(exchange, 2);
        done(connection);
    }
}

/* ---- a WebSocket in a stream (RFC 8441) ------------------------------------------ */

int at_h2_exchange_switch(at_exchange *exchange, const at_h1_header *headers,
                          size_t header_count, const char **why)
{
    at_connection *connection = exchange->connection;
    at_h2_response response = {
        .status = 200,
        .headers = headers,
        .header_count = header_count,
        .date = at_reactor_date(connection->reactor),
        .server = {"atoll", 5},
        .body_bytes = -1,
    };
    int result =
        at_h2_respond(connection->h2, exchange->over_h2->stream, &response, false);
    if (result < 0) {
        *why = "a header that may not be sent";
        return result;
    }
    exchange->started = true;
    exchange->status = 200;
    exchange->body_end = AT_H1_END_CHUNK;
    done(connection);
    at_h2_exchange_resume(exchange);
    return 0;
}

int at_h2_exchange_emit(at_exchange *exchange, const at_span *pieces, int count)
{
    at_connection *connection = exchange->connection;
    at_h2_carrier *carrier = exchange->over_h2;
    /* All of a frame, or nothing: what follows would be taken for the rest of it. */
    long unsent =
        at_h2_send_pieces(connection->h2, carrier->stream, pieces, count, false);
    if (unsent < 0) {
        return (int)unsent;
    }
    connection->h2_unsent_bytes += (size_t)unsent - carrier->unsent_bytes;
    carrier->unsent_bytes = (size_t)unsent;
    done(connection);
    return 0;
}

void at_h2_websocket_input(at_exchange *exchange)
{
    at_connection *connection = exchange->connection;
    at_h2_carrier *carrier = exchange->over_h2;
    if (carrier->input_busy) {
        return;
    }
    carrier->input_busy = true;
    (void)at_exchange_ref(exchange);
    if (at_reactor_draining(connection->reactor)) {
        (void)at_websocket_close(exchange, AT_WS_CODE_RESTART, (at_span){NULL, 0});
    }
    if (exchange->connection != NULL && !at_websocket_is_over(exchange)) {
        char *data = carrier->body.size != 0 ? carrier->body.data : NULL;
        size_t used = at_websocket_input(
            exchange, data != NULL ? data + carrier->body_start : NULL,
            carrier->body.size - carrier->body_start);
        at_h2_exchange_take_body(exchange, used);
        if (exchange->connection != NULL && at_websocket_is_over(exchange)) {
            (void)at_h2_send(connection->h2, carrier->stream, (at_span){NULL, 0}, true);
            at_h2_reset(connection->h2, carrier->stream, 0);
            done(connection);
        }
    }
    carrier->input_busy = false;
    at_exchange_unref(exchange);
}

void at_h2_exchange_resume(at_exchange *exchange)
{
    if (exchange->connection != NULL) {
        at_h2_websocket_input(exchange);
    }
}
