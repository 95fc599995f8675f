/* HTTP/2 on a connection: one exchange for each stream; drives http/h2.h.
 *
 * A request's body lies with its exchange until the layer above takes it, and only then
 * is its window given back: a client can have no more on its way than the windows say.
 * A response's body lies with its stream; the `writable` hook follows what nghttp2
 * could send of it, so a client that opens no window blocks its own exchange and no
 * other.
 *
 * The layer above hears of a request with a body when the read has been worked off, or
 * the body is whole: a small one that has come with its head is there for the first
 * receive(), as over HTTP/1.1, and needs no turn of the loop.
 *
 * Inside at_h2_input the layer above runs, and may answer: what it says is sent when
 * the read has been worked off (`h2_busy`), otherwise at once.
 */
#ifndef AT_NET_H2_H
#define AT_NET_H2_H

#include "http/h2.h"
#include "net/connection.h"

/* What an exchange over HTTP/2 has besides. */
typedef struct at_h2_carrier {
    at_exchange *exchange; /* whose it is */
    at_h2_stream *stream;  /* NULL when it has ended */
    at_bytes body;         /* of the request, as it came */
    size_t body_start;     /* what was taken of it */
    uint64_t body_bytes;   /* so far, for the limit */
    size_t unsent_bytes;   /* of the response */
    bool body_ended;
    at_h2_request *unheard; /* the layer above has not heard of it yet; or NULL */
    bool input_busy;        /* a WebSocket's bytes are being worked off */
    struct at_h2_carrier *before, *after; /* all of the connection, while `stream` */
} at_h2_carrier;

void at_h2_carrier_free(at_h2_carrier *carrier);

/* Has the end of the response been said to the session, or was it in the head? */
static inline bool at_h2_is_answered(const at_exchange *exchange)
{
    return exchange->started && exchange->body_end == AT_H1_END_NONE;
}

/* ---- for the connection ---------------------------------------------------------- */

/* The client speaks HTTP/2 from here on. */
void at_h2_start(at_connection *connection);

/* Work off the view. */
void at_h2_process(at_connection *connection);

/* Output has gone: there may be more. */
void at_h2_flushed(at_connection *connection);

bool at_h2_wants_input(const at_connection *connection);
at_deadline_kind at_h2_deadline(const at_connection *connection);
void at_h2_expired(at_connection *connection, at_deadline_kind kind);

/* The client sends no more. */
void at_h2_eof(at_connection *connection);

/* End the session: every exchange is told. */
void at_h2_end(at_connection *connection);

/* ---- the functions of exchange.h and those that carry a WebSocket ---------------- */

int at_h2_exchange_body(at_exchange *exchange, at_span *piece);
void at_h2_exchange_take_body(at_exchange *exchange, size_t size_bytes);
void at_h2_exchange_want_body(at_exchange *exchange);
int at_h2_exchange_respond(at_exchange *exchange, int status,
                           const at_h1_header *headers, size_t header_count,
                           at_span piece, bool more, const char **why);
int at_h2_exchange_write(at_exchange *exchange, at_span piece, bool more);
int at_h2_exchange_interim(at_exchange *exchange, int status,
                           const at_h1_header *headers, size_t header_count);
int at_h2_exchange_trailers(at_exchange *exchange, const at_h1_header *trailers,
                            size_t trailer_count);
void at_h2_exchange_abort(at_exchange *exchange);
int at_h2_exchange_switch(at_exchange *exchange, const at_h1_header *headers,
                          size_t header_count, const char **why);
int at_h2_exchange_emit(at_exchange *exchange, const at_span *pieces, int count);
void at_h2_exchange_resume(at_exchange *exchange);

#endif
