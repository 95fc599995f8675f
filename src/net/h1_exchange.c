/* The functions of exchange.h over HTTP/1.1; see connection.h. */
#include <assert.h>

#include "base/error.h"
#include "net/connection.h"

/* ---- the layer above takes the body ---------------------------------------------- */

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

/* ---- the layer above responds ---------------------------------------------------- */

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
        at_exchange_complete(exchange);
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
                    connection->body_left > AT_DISCARD_MAX_BYTES && !more));
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
    result = at_exchange_check_length(exchange, piece, more);
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
    int result = at_exchange_check_length(exchange, piece, more);
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

/* ---- a WebSocket on the connection ----------------------------------------------- */

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

/* ---- what stands around a response ----------------------------------------------- */

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
    if (result == AT_ENOMEM) {
        at_connection_close(connection, true);
    }
    if (result < 0) {
        return result;
    }
    result = at_connection_send(connection, NULL, 0);
    if (result < 0) {
        return result;
    }
    at_exchange_complete(exchange);
    at_h1_responded(connection);
    return 0;
}
