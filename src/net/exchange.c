/* Exchanges, whatever carries them; see exchange.h. */
#include "net/exchange.h"

#include <string.h>

#include "base/memory.h"
#include "net/access_log.h"
#include "net/account.h"
#include "net/connection.h"
#include "net/counters.h"
#include "net/h2.h"
#include "net/websocket.h"

at_exchange *at_exchange_ref(at_exchange *exchange)
{
    exchange->references++;
    return exchange;
}

void at_exchange_unref(at_exchange *exchange)
{
    if (exchange != NULL && --exchange->references == 0) {
        at_websocket_free(exchange->websocket);
        at_h2_carrier_free(exchange->over_h2);
        at_access_entry_free(exchange->entry);
        at_free(exchange);
    }
}

/* ---- whose turn it is ------------------------------------------------------------ */

/* The layer above does something with its exchange. Where the connection was lent to
 * whoever ends it for a stuck owner, it is ours for that long. False: it was ended,
 * perhaps while the layer above was away; then it is closed. */
static bool enter(const at_exchange *exchange, at_connection **lent)
{
    at_connection *connection = exchange->connection;
    *lent = NULL;
    if (connection == NULL) {
        return true;
    }
    unsigned claim = atomic_load_explicit(&connection->claim, memory_order_relaxed);
    if (claim == AT_CLAIM_HELD || claim == AT_CLAIM_ASKED) {
        return true; /* what is asked is taken hold of to answer, and stays otherwise */
    }
    if (!at_reactor_hold(connection)) {
        return false;
    }
    *lent = connection;
    return true;
}

static void leave(at_connection *lent)
{
    if (lent != NULL) {
        at_connection_lend(lent);
    }
}

/* ---- to HTTP/1.1 or HTTP/2 ------------------------------------------------------- */

int at_exchange_body(at_exchange *exchange, at_span *piece)
{
    return exchange->over_h2 != NULL ? at_h2_exchange_body(exchange, piece)
                                     : at_h1_exchange_body(exchange, piece);
}

void at_exchange_take_body(at_exchange *exchange, size_t size_bytes)
{
    at_connection *lent;
    if (!enter(exchange, &lent) && exchange->over_h2 == NULL) {
        return; /* over HTTP/2 what has come is still here, to be read once */
    }
    if (exchange->over_h2 != NULL) {
        at_h2_exchange_take_body(exchange, size_bytes);
    } else {
        at_h1_exchange_take_body(exchange, size_bytes);
    }
    leave(lent);
}

void at_exchange_want_body(at_exchange *exchange)
{
    at_connection *lent;
    if (!enter(exchange, &lent)) {
        return;
    }
    if (exchange->over_h2 != NULL) {
        at_h2_exchange_want_body(exchange);
    } else {
        at_h1_exchange_want_body(exchange);
    }
    leave(lent);
}

int at_exchange_respond(at_exchange *exchange, int status, const at_h1_header *headers,
                        size_t header_count, at_span piece, bool more, const char **why)
{
    at_account_response(exchange, headers, header_count);
    at_connection *lent;
    if (!enter(exchange, &lent)) {
        return AT_ECLOSED;
    }
    int result = exchange->over_h2 != NULL
                     ? at_h2_exchange_respond(exchange, status, headers, header_count,
                                              piece, more, why)
                     : at_h1_exchange_respond(exchange, status, headers, header_count,
                                              piece, more, why);
    leave(lent);
    return result;
}

void at_exchange_answer(at_exchange *exchange, int status, const at_h1_header *headers,
                        size_t header_count, at_span body)
{
    const char *why;
    (void)at_exchange_ref(exchange); /* it may go with its connection */
    if (at_exchange_respond(exchange, status, headers, header_count, body, false,
                            &why) < 0) {
        at_exchange_abort(exchange);
    }
    at_exchange_unref(exchange);
}

int at_exchange_write(at_exchange *exchange, at_span piece, bool more)
{
    at_connection *lent;
    if (!enter(exchange, &lent)) {
        return AT_ECLOSED;
    }
    int result = exchange->over_h2 != NULL
                     ? at_h2_exchange_write(exchange, piece, more)
                     : at_h1_exchange_write(exchange, piece, more);
    leave(lent);
    return result;
}

int at_exchange_interim(at_exchange *exchange, int status, const at_h1_header *headers,
                        size_t header_count)
{
    if (exchange->started) {
        return AT_EBUSY;
    }
    if (exchange->connection == NULL) {
        return AT_ECLOSED;
    }
    at_connection *lent;
    if (!enter(exchange, &lent)) {
        return AT_ECLOSED;
    }
    int result = exchange->over_h2 != NULL
                     ? at_h2_exchange_interim(exchange, status, headers, header_count)
                     : at_h1_exchange_interim(exchange, status, headers, header_count);
    leave(lent);
    return result;
}

int at_exchange_write_trailers(at_exchange *exchange, const at_h1_header *trailers,
                               size_t trailer_count)
{
    if (exchange->complete || !exchange->started) {
        return AT_EBUSY;
    }
    if (exchange->body_end != AT_H1_END_CHUNK) {
        return at_exchange_write(exchange, (at_span){NULL, 0}, false);
    }
    if (exchange->connection == NULL) {
        return AT_ECLOSED;
    }
    at_connection *lent;
    if (!enter(exchange, &lent)) {
        return AT_ECLOSED;
    }
    int result = exchange->over_h2 != NULL
                     ? at_h2_exchange_trailers(exchange, trailers, trailer_count)
                     : at_h1_exchange_trailers(exchange, trailers, trailer_count);
    leave(lent);
    return result;
}

long at_exchange_send_file(at_exchange *exchange, int file, uint64_t offset,
                           size_t size)
{
    at_connection *connection = exchange->connection;
    if (connection == NULL) {
        return AT_ECLOSED;
    }
    bool whole_length =
        exchange->body_end == AT_H1_END_LENGTH || exchange->body_end == AT_H1_END_CLOSE;
    if (exchange->over_h2 != NULL || connection->tls != NULL || !whole_length ||
        connection->blocked || at_connection_waiting(connection) != 0 || size == 0) {
        return 0;
    }
    if (exchange->body_end == AT_H1_END_LENGTH && size > exchange->response_left) {
        return AT_ELIMIT;
    }
    long sent = at_socket_send_file(connection->descriptor, file, offset, size);
    if (sent == AT_EAGAIN) {
        return 0; /* what is read and written instead waits for the socket */
    }
    if (sent < 0) {
        at_connection_close(connection, false);
        return AT_ECLOSED;
    }
    connection->progress = true;
    at_count(at_reactor_counters(connection->reactor), AT_COUNT_SENT, (uint64_t)sent);
    exchange->sent_bytes += (uint64_t)sent;
    if (exchange->body_end == AT_H1_END_LENGTH) {
        exchange->response_left -= (uint64_t)sent;
    }
    return sent;
}

/* Has the layer above given all of the body, and only not said so? */
static bool is_whole(const at_exchange *exchange)
{
    return exchange->started && !exchange->complete &&
           !at_websocket_is_accepted(exchange) &&
           (exchange->body_end == AT_H1_END_NONE ||
            (exchange->body_end == AT_H1_END_LENGTH && exchange->response_left == 0));
}

void at_exchange_abort(at_exchange *exchange)
{
    if (is_whole(exchange)) {
        (void)at_exchange_write(exchange, (at_span){NULL, 0}, false);
        return;
    }
    at_connection *lent;
    if (!enter(exchange, &lent)) {
        return;
    }
    if (exchange->over_h2 != NULL) {
        at_h2_exchange_abort(exchange);
    } else {
        at_h1_exchange_abort(exchange);
    }
    leave(lent);
}

/* ---- for both protocols ---------------------------------------------------------- */

int at_exchange_check_length(const at_exchange *exchange, at_span piece, bool more)
{
    if (exchange->body_end != AT_H1_END_LENGTH) {
        return 0;
    }
    if (piece.size > exchange->response_left) {
        return AT_ELIMIT;
    }
    return !more && piece.size < exchange->response_left ? AT_EFORMAT : 0;
}

void at_exchange_complete(at_exchange *exchange)
{
    exchange->complete = true;
    exchange->wants_body = false;
    at_account_end(exchange);
}

/* ---- how a WebSocket is carried -------------------------------------------------- */

int at_exchange_switch_protocol(at_exchange *exchange, const at_h1_header *headers,
                                size_t header_count, const char **why)
{
    at_connection *lent;
    if (!enter(exchange, &lent)) {
        return AT_ECLOSED;
    }
    int result = exchange->over_h2 != NULL
                     ? at_h2_exchange_switch(exchange, headers, header_count, why)
                     : at_h1_exchange_switch(exchange, headers, header_count, why);
    leave(lent);
    return result;
}

int at_exchange_emit(at_exchange *exchange, const at_span *pieces, int count)
{
    at_connection *lent;
    if (!enter(exchange, &lent)) {
        return AT_ECLOSED;
    }
    int result = exchange->over_h2 != NULL
                     ? at_h2_exchange_emit(exchange, pieces, count)
                     : at_h1_exchange_emit(exchange, pieces, count);
    leave(lent);
    return result;
}

size_t at_exchange_waiting(const at_exchange *exchange)
{
    return exchange->over_h2 != NULL ? exchange->over_h2->unsent_bytes
                                     : at_connection_waiting(exchange->connection);
}

void at_exchange_resume(at_exchange *exchange)
{
    at_connection *lent;
    if (!enter(exchange, &lent)) {
        return;
    }
    if (exchange->over_h2 != NULL) {
        at_h2_exchange_resume(exchange);
    } else {
        at_connection_resume(exchange->connection);
    }
    leave(lent);
}

/* ---- what is known of the connection --------------------------------------------- */

const at_address *at_exchange_peer(const at_exchange *exchange)
{
    return exchange->connection != NULL ? &exchange->connection->peer : NULL;
}

const at_address *at_exchange_local(const at_exchange *exchange)
{
    at_connection *connection = exchange->connection;
    if (connection == NULL) {
        return NULL;
    }
    if (!connection->local_known) {
        at_socket_name(connection->descriptor, &connection->local);
        connection->local_known = true;
    }
    return &connection->local;
}

const at_tls *at_exchange_tls(const at_exchange *exchange)
{
    return exchange->connection != NULL ? exchange->connection->tls : NULL;
}

int at_exchange_forwarded(const at_exchange *exchange, const at_h1_request *request,
                          at_forwarded *result)
{
    const at_connection *connection = exchange->connection;
    if (connection == NULL) {
        return 0;
    }
    const at_service_limits *limits = at_reactor_limits(connection->reactor);
    if (!limits->forwarded_headers) {
        return 0;
    }
    const at_address *peer = &connection->peer;
    at_span address = {peer->host, peer->port < 0 ? 0 : strlen(peer->host)};
    return at_forwarded_read(&limits->forwarded, address, request->headers,
                             request->header_count, result);
}

void **at_exchange_connection_user(at_exchange *exchange)
{
    return exchange->connection != NULL ? &exchange->connection->user : NULL;
}
