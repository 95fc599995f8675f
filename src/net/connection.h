/* A connection and its HTTP/1.1 state: what reactor.c, connection.c and h1.c share.
 *
 * It begins with PROXY or HANDSHAKE where the service says so.
 *
 *   IDLE ──first byte──▶ HEAD ──whole head──▶ ACTIVE ──both ends done──▶ IDLE
 *     │                   │ bad                 │ must close
 *     └── timeout, EOF ──▶ CLOSED ◀── EOF ── LINGER
 *
 * A connection that is upgraded goes from ACTIVE to WEBSOCKET, and from there to
 * LINGER.
 *
 * Input is a view: bytes [start, end) of `data`, which is the reactor's scratch buffer
 * while a read is being worked off and `in` otherwise, so that an idle connection holds
 * no buffer. The first `body_ready` bytes of the view are decoded body, what follows is
 * raw; raw bytes follow only when the body has ended (the next request, pipelined).
 *
 * Output goes to the socket at once when nothing waits before it; what the socket does
 * not take, and small answers while a read is worked off, wait in `out`.
 *
 * A connection is registered edge-triggered once and for all. `readable` remembers an
 * edge that was not read to its end because the layer above is behind.
 */
#ifndef AT_NET_CONNECTION_H
#define AT_NET_CONNECTION_H

#include <stdatomic.h>

#include "base/bytes.h"
#include "net/reactor.h"
#include "net/tls.h"

typedef enum at_phase {
    AT_PHASE_PROXY,     /* its PROXY header comes first */
    AT_PHASE_HANDSHAKE, /* of TLS */
    AT_PHASE_IDLE,
    AT_PHASE_HEAD,
    AT_PHASE_ACTIVE,
    AT_PHASE_H2,        /* its streams have phases of their own */
    AT_PHASE_WEBSOCKET, /* accepted: the connection is its own */
    AT_PHASE_LINGER,
    AT_PHASE_CLOSED,
} at_phase;

/* Kinds of deadline, each with one length and so one ordered list. */
typedef enum at_deadline_kind {
    AT_DEADLINE_NONE = -1,
    AT_DEADLINE_HANDSHAKE,
    AT_DEADLINE_HEAD,
    AT_DEADLINE_BODY,
    AT_DEADLINE_IDLE,
    AT_DEADLINE_WRITE,
    AT_DEADLINE_LINGER,
    AT_DEADLINE_GOAWAY, /* HTTP/2: the end is announced, and comes */
    AT_DEADLINE_PING,   /* of a WebSocket: nothing came, ask */
    AT_DEADLINE_PONG,   /* nothing came though it was asked */
    AT_DEADLINE_CLOSE,  /* its closing handshake */
    AT_DEADLINE_KINDS,
} at_deadline_kind;

enum { AT_SCRATCH_BYTES = 64 << 10 };

/* Who may touch a connection. One that rests, between two requests and with nothing
 * read or to be sent, is FREE: the owner's thread takes hold of it for the next event,
 * and the balancer may take it away instead, to a reactor that has time. What is TAKEN
 * is an empty shell, which the owner puts away.
 *
 * One whose request is with the layer above, with nothing said to the client yet, is
 * ASKED: the owner takes hold of it for each event and to answer. Where the owner is
 * given up as stuck, another thread may answer instead, and then it is ANSWERED: the
 * owner closes it when it meets it.
 *
 * One that speaks in frames, HTTP/2 or a WebSocket's, is OPEN while the owner does
 * nothing with it and all that went to the socket was whole frames: the owner is then
 * outside of its TLS object and of the list of its streams, and another thread may say
 * the last frames instead; it is ANSWERED then too. Code of the layer above runs while
 * a connection is ASKED or OPEN, never while it is HELD, since that is where an owner
 * gets stuck. */
enum {
    AT_CLAIM_HELD,
    AT_CLAIM_FREE,
    AT_CLAIM_TAKEN,
    AT_CLAIM_ASKED,
    AT_CLAIM_OPEN,
    AT_CLAIM_ANSWERED,
};

typedef struct at_connection {
    at_reactor *reactor; /* whose thread owns it */
    int descriptor;
    at_tls *tls; /* NULL: as it is */
    at_phase phase;
    bool readable;   /* there may be bytes in the socket */
    bool peer_shut;  /* the peer sends no more; there may be bytes before the end */
    bool eof;        /* that end was read */
    bool keep_alive; /* another request may follow the present one */
    bool working;    /* on the stack of a read: small output waits for its end */
    bool blocked;    /* the socket takes no more for now */
    bool progress;   /* bytes came or went since the deadline was set */
    bool scheduled;  /* in the reactor's list of connections to look at */
    bool of_control; /* it came to the guard's own listener */
    bool torn;       /* what has gone ends within a frame, or within a TLS record */
    bool sent;       /* something has gone */
    bool surplus;    /* there are too many: its request is answered 503 */
    bool is_new;     /* to this reactor: no request has come since it was attached */
    bool local_known;
    uint64_t requests; /* that came over it */

    /* the present request */
    at_exchange *exchange; /* a reference of our own; NULL unless ACTIVE */
    at_h1_framing framing;
    bool body_ended;     /* all of it has come */
    uint64_t body_left;  /* bytes of Content-Length still to come */
    uint64_t body_bytes; /* so far, for the limit */
    uint64_t discarded;  /* bytes of a body that nobody wanted */
    at_h1_chunked chunked;

    /* HTTP/2; h2.h */
    struct at_h2 *h2;
    struct at_h2_carrier *h2_carriers; /* of the streams that are open */
    size_t h2_unsent_bytes;            /* of all their responses */
    unsigned h2_unheard_count;         /* of which the layer above has not heard yet */
    int64_t h2_ticked_ns;
    bool h2_busy;     /* inside the session */
    uint8_t h2_going; /* 1: the end is announced; 2: no new streams are taken */

    /* input; see above */
    char *data;
    size_t start, end;
    size_t body_ready;
    size_t seen; /* bytes of an unfinished head that were parsed already */
    at_bytes in; /* storage of its own, kept while the view has bytes in it */

    /* output */
    at_bytes out;
    size_t out_start;

    /* deadlines */
    at_deadline_kind deadline_kind;
    int64_t deadline_ns;
    struct at_connection *deadline_before, *deadline_after;

    struct at_connection *before, *after; /* all of the reactor */
    struct at_connection *scheduled_next; /* or the next of the dead */

    atomic_uint claim; /* AT_CLAIM_*; the releases in at_reactor_let_* pair with the
                        * acquires of the owner and of who takes or answers instead */
    struct at_connection *taken_next; /* guarded: the reactor's mutex */
    struct at_connection *told_next;  /* guarded: the reactor's mutex */
    unsigned told; /* guarded: the reactor's mutex; AT_POLL_* that the balancer saw */

    void *user; /* the layer above's */
    at_address peer;
    at_address local;
} at_connection;

/* ---- reactor.c ------------------------------------------------------------------- */

/* Let the connection's only deadline be one of `kind` from now. */
void at_reactor_set_deadline(at_connection *connection, at_deadline_kind kind);

/* Take hold of the connection, before anything is done with its socket. False: it is
 * being moved away, or was answered by another and is closed now. */
bool at_reactor_hold(at_connection *connection);

/* Its request is with the layer above: where this reactor is given up, another thread
 * may answer it. */
void at_reactor_let_answer(at_connection *connection);

/* It speaks in frames, and the last has gone whole: as at_reactor_let_answer. */
void at_reactor_let_end(at_connection *connection);

/* It rests: the balancer may have it. */
void at_reactor_let_go(at_connection *connection);

/* Give a held connection that rests to another reactor; true: it is gone from here. */
bool at_reactor_move_away(at_connection *connection);

/* Look at the connection soon, from the reactor's own frame: at the end of this batch,
 * or in one that this call brings about. */
void at_reactor_schedule(at_connection *connection);

/* Take it out of everything; freed at the end of the batch. */
void at_reactor_bury(at_connection *connection);

/* Tell the layer above of something that is a client's fault, now and then. */
void at_reactor_complain(at_reactor *reactor, const char *what, const char *text);

const at_hooks *at_reactor_hooks(at_reactor *reactor);
void *at_reactor_context(at_reactor *reactor);
const at_service_limits *at_reactor_limits(at_reactor *reactor);
char *at_reactor_scratch(at_reactor *reactor);
bool at_reactor_draining(const at_reactor *reactor);

/* Does a connection that rests belong elsewhere? True for a reactor that drains, and
 * for one that only answers while the others cannot. */
bool at_reactor_gives_away(const at_connection *connection);

/* Is it here only while the workers were stuck, and they are not any more? */
bool at_reactor_returns(const at_connection *connection);

/* Must the connection end here? Not where other reactors that can have it go on. */
bool at_reactor_is_last(const at_connection *connection);

at_h1_request *at_reactor_request(at_reactor *reactor);

/* ---- connection_begin.c ---------------------------------------------------------- */

/* Go on with the PROXY header and the handshake, where there are any. False: they are
 * not over, or the connection is closed or refused. */
bool at_connection_begin(at_connection *connection);

/* ---- connection.c ---------------------------------------------------------------- */

/* Something is ready (AT_POLL_*), or it was scheduled (0). */
void at_connection_event(at_connection *connection, unsigned ready);

/* Its deadline, of that kind, has come. */
void at_connection_expired(at_connection *connection, at_deadline_kind kind);

enum { AT_PIECES_MAX = 4 };

/* Send `out` and the pieces behind it, or keep what the socket does not take.
 * errs: AT_ECLOSED (and the connection is closed) */
int at_connection_send(at_connection *connection, const at_span *pieces, int count);

/* Give the connection the deadline that its state asks for; where a draining reactor's
 * connection has nothing left to do, close it. */
void at_connection_settle(at_connection *connection);

/* Is there a request without a word of an answer, and nothing else to be sent? */
bool at_connection_is_asked(const at_connection *connection);

/* The layer above is about to run, or has time: let another thread say the last word
 * should this one not come back. Then at_reactor_hold before anything else. */
void at_connection_lend(at_connection *connection);

/* Read again, if reading had stopped for the layer above. */
void at_connection_resume(at_connection *connection);

/* Bytes that wait for the client. */
static inline size_t at_connection_waiting(const at_connection *connection)
{
    return connection->out.size - connection->out_start;
}

/* Close now; `reset` where the client must not take what it got for the whole. The
 * running exchange is told. */
void at_connection_close(at_connection *connection, bool reset);

/* No more requests: send what waits, say so, and close when the client has. */
void at_connection_finish(at_connection *connection);

/* ---- h1.c, h1_exchange.c --------------------------------------------------------- */

enum { AT_DISCARD_MAX_BYTES = 256 << 10 }; /* of a body that nobody wanted */

/* Work off the view: heads, bodies, until there is not enough. */
void at_h1_process(at_connection *connection);

/* The response is complete: on to the next request, or the end. */
void at_h1_responded(at_connection *connection);

/* Would more input be of use now? */
bool at_h1_wants_input(const at_connection *connection);

/* The peer sends no more. */
void at_h1_eof(at_connection *connection);

/* The client is too slow, or sends what cannot be understood: answer `status` where no
 * answer has begun, and end the connection. */
void at_h1_refuse(at_connection *connection, int status, const char *text);

/* Tell the layer above that the client of the running exchange is lost. */
void at_h1_lost(at_connection *connection);

/* Let go of the running exchange, if there is one. */
void at_h1_drop_exchange(at_connection *connection);

/* The functions of exchange.h over HTTP/1.1. */
int at_h1_exchange_body(at_exchange *exchange, at_span *piece);
void at_h1_exchange_take_body(at_exchange *exchange, size_t size_bytes);
void at_h1_exchange_want_body(at_exchange *exchange);
int at_h1_exchange_respond(at_exchange *exchange, int status,
                           const at_h1_header *headers, size_t header_count,
                           at_span piece, bool more, const char **why);
int at_h1_exchange_write(at_exchange *exchange, at_span piece, bool more);
int at_h1_exchange_interim(at_exchange *exchange, int status,
                           const at_h1_header *headers, size_t header_count);
int at_h1_exchange_trailers(at_exchange *exchange, const at_h1_header *trailers,
                            size_t trailer_count);
void at_h1_exchange_abort(at_exchange *exchange);
int at_h1_exchange_switch(at_exchange *exchange, const at_h1_header *headers,
                          size_t header_count, const char **why);
int at_h1_exchange_emit(at_exchange *exchange, const at_span *pieces, int count);

/* ---- exchange.c: what both protocols ask of a response --------------------------- */

/* Does `piece` fit the promised length? 0, AT_ELIMIT (too long), AT_EFORMAT (it is the
 * last, and more was promised) */
int at_exchange_check_length(const at_exchange *exchange, at_span piece, bool more);

/* All of the response has been handed on. */
void at_exchange_complete(at_exchange *exchange);

/* ---- exchange.c: how a WebSocket's exchange is carried --------------------------- */

/* Say yes to the client and go on with at_websocket_input. As at_exchange_respond. */
int at_exchange_switch_protocol(at_exchange *exchange, const at_h1_header *headers,
                                size_t header_count, const char **why);

/* Send frames. errs: AT_ECLOSED, AT_ENOMEM */
int at_exchange_emit(at_exchange *exchange, const at_span *pieces, int count);

/* Bytes that wait for the client. */
size_t at_exchange_waiting(const at_exchange *exchange);

/* What made at_websocket_input stop may be over. */
void at_exchange_resume(at_exchange *exchange);

#endif
