/* Exchanges: one request and its response, whatever protocol carries them.
 *
 * The reactor tells the layer above of each request through at_hooks; that layer
 * answers with the functions here. It keeps its reference to the exchange as long as it
 * likes, longer than the connection lives if need be: everything then says AT_ECLOSED.
 *
 * A body comes with backpressure: while the layer above takes nothing, the connection
 * stops reading above AT_BODY_HIGH_BYTES. A response goes with backpressure: a write
 * says when what waits for the client is above AT_OUT_HIGH_BYTES, and `writable` is
 * called when it has gone down.
 *
 * All of it happens on the thread of the connection's reactor.
 */
#ifndef AT_NET_EXCHANGE_H
#define AT_NET_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"
#include "http/h1.h"
#include "http/h1_response.h"
#include "sys/stream.h"

enum {
    AT_BODY_HIGH_BYTES = 256 << 10,
    AT_OUT_HIGH_BYTES = 256 << 10,
    AT_OUT_LOW_BYTES = 64 << 10,
};

typedef struct at_exchange at_exchange;
struct at_connection;
struct at_forwarded;

/* What the layer above does with what arrives. `context` is the reactor's. None may
 * free the reactor; all may call every function below. */
typedef struct at_hooks {
    /* A request's head has come. `request` and what it points to last until the
     * return; at_exchange_ref keeps the exchange longer. */
    void (*request)(void *context, at_exchange *exchange, const at_h1_request *request);
    /* After at_exchange_want_body: there is body to take, or its end, or the client
     * has gone. */
    void (*body)(void *context, at_exchange *exchange);
    /* After a write that gave 1: room again, or the client has gone. */
    void (*writable)(void *context, at_exchange *exchange);
    /* The client has gone, or has said that it sends no more, before the response was
     * complete. Once for an exchange. */
    void (*lost)(void *context, at_exchange *exchange);
    /* The connection is over, or leaves this reactor: let go of what the layer keeps
     * for it (at_exchange_connection_user). */
    void (*forget)(void *context, void *connection_user);
    /* The service asks this reactor to finish (at_service_drain). */
    void (*drain)(void *context);
    /* A draining reactor's last connection has gone. */
    void (*drained)(void *context);
    /* Clients do what they should not, TLS handshakes that fail for one: a line for the
     * log, one in ten seconds at most. May be NULL. */
    void (*complain)(void *context, const char *text);
    /* The layer above lets requests wait, and calls at_exchange_admit itself. */
    bool queues;
} at_hooks;

struct at_exchange {
    struct at_connection *connection; /* NULL when it has gone */
    void *user;                       /* the layer above's */
    bool is_static;                   /* answered by static.c */
    struct at_h2_carrier *over_h2;    /* NULL: over HTTP/1.1 */
    struct at_websocket *websocket;   /* where the request asks for one; websocket.h */
    unsigned references;
    bool wants_body;
    bool wants_writable;
    bool lost;               /* the `lost` hook was called, or needs not be */
    bool head_request;       /* HEAD: the response has no body */
    bool http_1_0;           /* the client knows no chunks */
    bool continue_pending;   /* the client waits for "100 Continue" */
    bool started;            /* the response's head is on its way */
    bool complete;           /* the response is */
    at_h1_body_end body_end; /* how the response's body ends, once started */
    int status;              /* of the response, once started */
    uint64_t response_left;  /* bytes of Content-Length still to come */
    uint64_t sent_bytes;     /* body bytes of the response so far */
    int64_t begun_ns;        /* when its head was read; 0: the account is closed */
    struct at_access_entry *entry; /* of the access log, until it is put there */
    int64_t arrived_ns;            /* when the kernel had it, as far as is known */
    bool admitted;                 /* it has come to the application, or never will */
};

/* ctx: any, on the reactor's thread, as all of these */
at_exchange *at_exchange_ref(at_exchange *exchange);
void at_exchange_unref(at_exchange *exchange);

/* The request comes to the application now, having waited until now.
 * gives: true; or false where it must not: it was answered already */
bool at_exchange_admit(at_exchange *exchange);

/* The body bytes that have come and were not taken, perhaps none; valid until the next
 * call of this part or the return to the reactor.
 * gives: 1 (more will come behind them), 0 (they are the last)
 * errs:  AT_ECLOSED (the client went before the body's end) */
int at_exchange_body(at_exchange *exchange, at_span *piece);

/* Take the first `size_bytes` of them; the connection may read on. */
void at_exchange_take_body(at_exchange *exchange, size_t size_bytes);

/* Call the `body` hook, once, when at_exchange_body has something new to say. Sends
 * "100 Continue" where the client waits for it. */
void at_exchange_want_body(at_exchange *exchange);

/* Start the response, with the first piece of its body, and the last if not `more`.
 * Framing (Content-Length, chunks, Connection, Date) is added as needed; headers that
 * only say framing are taken as wishes.
 * gives: 0, or 1 (too much waits for the client: `writable` will be called)
 * errs:  AT_ECLOSED (the client is gone); AT_EBUSY (started before); AT_EINVALID (a
 *        header or status that may not be sent, *why says which; nothing was sent);
 *        AT_ELIMIT (more body than the Content-Length); AT_ENOMEM. Where the head was
 *        under way already, as exchange->started says, it is broken off as by
 *        at_exchange_abort: the client takes no part for the whole */
int at_exchange_respond(at_exchange *exchange, int status, const at_h1_header *headers,
                        size_t header_count, at_span piece, bool more,
                        const char **why);

/* Answer with all of the body; where there is no memory for that, abort. Not for an
 * exchange whose response has started. */
void at_exchange_answer(at_exchange *exchange, int status, const at_h1_header *headers,
                        size_t header_count, at_span body);

/* The next piece of the body; the last if not `more`. As at_exchange_respond; and
 * AT_EFORMAT where the end comes before Content-Length is reached. After an error the
 * response is broken off, which is how the client learns of it. */
int at_exchange_write(at_exchange *exchange, at_span piece, bool more);

/* An interim response before the final one: 103 with Link fields.
 * errs: AT_ECLOSED, AT_EBUSY (the response has started), AT_EINVALID, AT_ENOMEM */
int at_exchange_interim(at_exchange *exchange, int status, const at_h1_header *headers,
                        size_t header_count);

/* End the body with trailer fields; without them where the response has no room for
 * any: one with Content-Length, or to HTTP/1.0. As at_exchange_write; but a field that
 * may not be sent, AT_EINVALID, breaks nothing off. */
int at_exchange_write_trailers(at_exchange *exchange, const at_h1_header *trailers,
                               size_t trailer_count);

/* Send a part of a file as body, straight from the page cache; not the end of the body,
 * for which at_exchange_write is.
 * gives: bytes sent; 0 where it cannot be done now: read the file and write that
 * errs:  AT_ECLOSED, AT_ELIMIT (more than the Content-Length) */
long at_exchange_send_file(at_exchange *exchange, int file, uint64_t offset,
                           size_t size_bytes);

/* Nothing more of the response will come: reset the connection, or its stream. A body
 * that is whole, by Content-Length or because there is to be none, is ended instead:
 * the client has all of it, and a reset could take that from it. */
void at_exchange_abort(at_exchange *exchange);

/* The ends of the connection; NULL when it has gone. */
const at_address *at_exchange_peer(const at_exchange *exchange);
const at_address *at_exchange_local(const at_exchange *exchange);

/* How the connection is encrypted, or NULL. */
const struct at_tls *at_exchange_tls(const at_exchange *exchange);

/* What a reverse proxy that is trusted says of the request, by the service's rules.
 * gives: 1, or 0 (nothing, or nobody who is trusted) */
int at_exchange_forwarded(const at_exchange *exchange, const at_h1_request *request,
                          struct at_forwarded *result);

/* Where the layer above keeps one pointer for a connection; NULL when it has gone. */
void **at_exchange_connection_user(at_exchange *exchange);

#endif
