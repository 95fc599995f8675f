/* A connection's socket: what comes in, what goes out, when it ends; see connection.h.
 */
#include "net/connection.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "net/counters.h"
#include "net/h2.h"
#include "net/websocket.h"
#include "sys/pollset.h"

enum {
    TOGETHER_BYTES = 16 << 10, /* output up to that waits for the end of a read */
    READ_BYTES = 16 << 10,     /* room for a read behind what is there */
    KEPT_BYTES = 4 << 10,      /* an empty output buffer up to that is kept */
};

/* ---- output ---------------------------------------------------------------------- */

static void drop_output(at_connection *connection)
{
    connection->out_start = 0;
    connection->out.size = 0;
    if (connection->out.capacity > KEPT_BYTES) {
        at_bytes_fini(&connection->out);
    }
}

/* Keep pieces[0..count) but for their first `skip` bytes. Returns 0 or an error. */
static int keep(at_connection *connection, const at_span *pieces, int count,
                size_t skip)
{
    for (int i = 0; i < count; i++) {
        size_t over = skip < pieces[i].size ? skip : pieces[i].size;
        skip -= over;
        if (over == pieces[i].size) {
            continue; /* an empty piece may have no address */
        }
        int result = at_bytes_append(&connection->out, pieces[i].data + over,
                                     pieces[i].size - over);
        if (result < 0) {
            return result;
        }
    }
    return 0;
}

/* Offer the socket all that waits and the pieces behind it. Returns 0 or AT_ECLOSED. */
static int offer(at_connection *connection, const at_span *pieces, int count)
{
    at_span all[AT_PIECES_MAX + 1];
    int total_count = 0;
    size_t waiting = at_connection_waiting(connection);
    size_t total = waiting;
    if (waiting != 0) {
        all[total_count++] =
            (at_span){connection->out.data + connection->out_start, waiting};
    }
    for (int i = 0; i < count; i++) {
        if (pieces[i].size != 0) {
            all[total_count++] = pieces[i];
            total += pieces[i].size;
        }
    }
    if (total == 0) {
        return 0;
    }
    long taken = connection->tls != NULL
                     ? at_tls_send(connection->tls, all, total_count)
                     : at_socket_send(connection->descriptor, all, total_count);
    if (taken < 0 && taken != AT_EAGAIN) {
        at_connection_close(connection, false);
        return AT_ECLOSED;
    }
    size_t went = taken > 0 ? (size_t)taken : 0;
    at_count(at_reactor_counters(connection->reactor), AT_COUNT_SENT, went);
    connection->progress = connection->progress || went != 0;
    connection->blocked = connection->torn = went < total;
    connection->sent = connection->sent || went != 0;
    size_t of_waiting = went < waiting ? went : waiting;
    connection->out_start += of_waiting;
    if (of_waiting == waiting) {
        drop_output(connection);
    }
    if (connection->blocked && keep(connection, pieces, count, went - of_waiting) < 0) {
        at_connection_close(connection, true);
        return AT_ECLOSED;
    }
    return 0;
}

int at_connection_send(at_connection *connection, const at_span *pieces, int count)
{
    if (connection->phase == AT_PHASE_CLOSED) {
        return AT_ECLOSED;
    }
    size_t size = at_connection_waiting(connection);
    for (int i = 0; i < count; i++) {
        size += pieces[i].size;
    }
    if (connection->blocked || (connection->working && size <= TOGETHER_BYTES)) {
        if (keep(connection, pieces, count, 0) < 0) {
            at_connection_close(connection, true);
            return AT_ECLOSED;
        }
        return 0;
    }
    return offer(connection, pieces, count);
}

/* Output has gone: whoever waited for that goes on. */
static void flushed(at_connection *connection)
{
    at_exchange *exchange = connection->exchange;
    if (exchange != NULL && exchange->wants_writable &&
        at_connection_waiting(connection) <= AT_OUT_LOW_BYTES) {
        exchange->wants_writable = false;
        at_reactor *reactor = connection->reactor;
        at_reactor_hooks(reactor)->writable(at_reactor_context(reactor), exchange);
    }
}

/* All is sent after the last answer: say so, and wait for the client to close, since a
 * close with bytes unread would reset the connection under the answer. */
static void finish_output(at_connection *connection)
{
    if (connection->eof) {
        at_connection_close(connection, false);
    } else {
        if (connection->tls != NULL) {
            at_tls_shut_write(connection->tls);
        }
        at_socket_shut_write(connection->descriptor);
    }
}

static void flush(at_connection *connection)
{
    if (at_connection_waiting(connection) == 0 || connection->blocked) {
        return;
    }
    if (offer(connection, NULL, 0) < 0) {
        return;
    }
    if (connection->phase == AT_PHASE_LINGER &&
        at_connection_waiting(connection) == 0) {
        finish_output(connection);
        return;
    }
    if (connection->phase == AT_PHASE_H2) {
        at_h2_flushed(connection);
    } else {
        flushed(connection);
    }
}

/* ---- input ----------------------------------------------------------------------- */

/* Receive behind the view. Gives bytes, 0 at the end, or an error. */
static long receive(at_connection *connection)
{
    char *room;
    size_t size;
    if (connection->start == connection->end) {
        connection->data = at_reactor_scratch(connection->reactor);
        connection->start = connection->end = 0;
        room = connection->data;
        size = AT_SCRATCH_BYTES;
    } else {
        at_bytes *in = &connection->in;
        if (connection->data != in->data) {
            in->size = 0;
            int result = at_bytes_append(in, connection->data + connection->start,
                                         connection->end - connection->start);
            if (result < 0) {
                return result;
            }
        } else {
            in->size = connection->end;
            at_bytes_consume(in, connection->start);
        }
        connection->end -= connection->start;
        connection->start = 0;
        if (at_bytes_reserve(in, READ_BYTES) < 0) {
            return AT_ENOMEM;
        }
        connection->data = in->data;
        room = in->data + in->size;
        size = in->capacity - in->size;
    }
    at_tls *tls = connection->tls;
    long got = tls != NULL ? at_tls_receive(tls, room, size)
                           : at_socket_receive(connection->descriptor, room, size);
    if (got > 0) {
        connection->end += (size_t)got;
        connection->progress = true;
        at_count(at_reactor_counters(connection->reactor), AT_COUNT_RECEIVED,
                 (uint64_t)got);
        /* A short read has emptied the socket; what comes after it is a new edge. */
        connection->readable = (size_t)got == size || connection->peer_shut ||
                               (tls != NULL && at_tls_has_ended(tls));
    } else if (got == AT_EAGAIN) {
        connection->readable = false;
    }
    return got;
}

/* The reactor's buffer goes to the next connection: keep what is left in our own. */
static void leave_scratch(at_connection *connection)
{
    size_t left = connection->end - connection->start;
    at_bytes *in = &connection->in;
    if (left == 0) {
        at_bytes_fini(in);
    } else if (connection->data != in->data) {
        in->size = 0;
        if (at_bytes_append(in, connection->data + connection->start, left) < 0) {
            at_connection_close(connection, true);
            return;
        }
    } else {
        return;
    }
    connection->data = in->data;
    connection->start = 0;
    connection->end = left;
}

static void work(at_connection *connection)
{
    if (!at_connection_begin(connection)) {
        return;
    }
    connection->working = true;
    for (;;) {
        at_h1_process(connection);
        if (connection->phase == AT_PHASE_CLOSED || !connection->readable ||
            connection->eof || !at_h1_wants_input(connection)) {
            break;
        }
        long got = receive(connection);
        if (got == 0) {
            connection->eof = true;
            connection->readable = false;
            at_h1_process(connection);
            if (connection->phase != AT_PHASE_CLOSED) {
                at_h1_eof(connection);
            }
            break;
        }
        if (got < 0 && got != AT_EAGAIN) {
            at_connection_close(connection, false);
            break;
        }
    }
    connection->working = false;
    if (connection->phase != AT_PHASE_CLOSED) {
        leave_scratch(connection);
    }
}

void at_connection_event(at_connection *connection, unsigned ready)
{
    if (ready & AT_POLL_HANGUP) {
        if (connection->phase == AT_PHASE_WEBSOCKET) {
            connection->readable = connection->peer_shut = true;
            work(connection); /* its last words, a close frame perhaps */
        }
        at_connection_close(connection, false);
        return;
    }
    const unsigned ending = AT_POLL_HANGUP | AT_POLL_PEER_SHUT;
    if (at_reactor_returns(connection) && !(ready & ending) &&
        at_reactor_move_away(connection)) {
        return;
    }
    if (ready & AT_POLL_WRITABLE) {
        connection->blocked = false;
        flush(connection);
        if (connection->phase != AT_PHASE_CLOSED && !at_reactor_hold(connection)) {
            return; /* the layer above ended its response, and it rested */
        }
    }
    if (ready & (AT_POLL_READABLE | AT_POLL_PEER_SHUT)) {
        connection->readable = true;
    }
    if (ready & AT_POLL_PEER_SHUT) {
        connection->peer_shut = true;
    }
    if (connection->phase == AT_PHASE_CLOSED) {
        return;
    }
    work(connection);
    if (connection->peer_shut && connection->phase == AT_PHASE_ACTIVE &&
        connection->body_ended) {
        at_h1_lost(connection);
    }
    if (connection->phase != AT_PHASE_CLOSED) {
        flush(connection);
    }
    at_connection_settle(connection);
}

void at_connection_resume(at_connection *connection)
{
    if (!connection->working &&
        (connection->readable || connection->start != connection->end)) {
        at_reactor_schedule(connection);
    }
}

/* ---- deadlines ------------------------------------------------------------------- */

static at_deadline_kind wanted_deadline(const at_connection *connection)
{
    if (at_connection_waiting(connection) != 0) {
        return AT_DEADLINE_WRITE;
    }
    switch (connection->phase) {
    case AT_PHASE_PROXY:
    case AT_PHASE_HANDSHAKE:
        return AT_DEADLINE_HANDSHAKE;
    case AT_PHASE_IDLE:
        return connection->requests == 0 ? AT_DEADLINE_HEAD : AT_DEADLINE_IDLE;
    case AT_PHASE_HEAD:
        return AT_DEADLINE_HEAD;
    case AT_PHASE_ACTIVE:
        return connection->body_ended || connection->exchange->continue_pending ||
                       !at_h1_wants_input(connection)
                   ? AT_DEADLINE_NONE
                   : AT_DEADLINE_BODY;
    case AT_PHASE_H2:
        return at_h2_deadline(connection);
    case AT_PHASE_WEBSOCKET:
        return at_websocket_is_closing(connection->exchange)   ? AT_DEADLINE_CLOSE
               : at_websocket_is_pinging(connection->exchange) ? AT_DEADLINE_PONG
                                                               : AT_DEADLINE_PING;
    case AT_PHASE_LINGER:
        return AT_DEADLINE_LINGER;
    case AT_PHASE_CLOSED:
        break;
    }
    return AT_DEADLINE_NONE;
}

/* Is there nothing here but the socket? Then another reactor can go on with it. */
static bool rests(const at_connection *connection)
{
    return connection->phase == AT_PHASE_IDLE && connection->start == connection->end &&
           !connection->readable && !connection->peer_shut && !connection->working &&
           !connection->scheduled && at_connection_waiting(connection) == 0;
}

bool at_connection_is_asked(const at_connection *connection)
{
    const at_exchange *exchange = connection->exchange;
    return connection->phase == AT_PHASE_ACTIVE && exchange != NULL &&
           !exchange->started && at_connection_waiting(connection) == 0;
}

void at_connection_lend(at_connection *connection)
{
    if (atomic_load_explicit(&connection->claim, memory_order_relaxed) !=
        AT_CLAIM_HELD) {
        return; /* lent already, or answered by another */
    }
    bool in_frames = connection->phase == AT_PHASE_H2 ||
                     (connection->phase == AT_PHASE_WEBSOCKET &&
                      !at_websocket_is_closing(connection->exchange));
    if (in_frames && !connection->torn) {
        at_reactor_let_end(connection);
    } else if (at_connection_is_asked(connection)) {
        at_reactor_let_answer(connection);
    }
}

void at_connection_settle(at_connection *connection)
{
    /* It may have settled already, within what is over now. */
    if (connection->phase == AT_PHASE_CLOSED || !at_reactor_hold(connection)) {
        return;
    }
    if (connection->phase == AT_PHASE_IDLE && connection->start == connection->end &&
        !connection->readable && at_reactor_gives_away(connection)) {
        if (at_reactor_is_last(connection) || connection->peer_shut) {
            at_connection_finish(connection);
        } else if (rests(connection)) {
            if (at_reactor_move_away(connection)) {
                return;
            }
            at_connection_finish(connection);
        } /* else it is looked at again: it is scheduled, or output has to go first */
        if (connection->phase == AT_PHASE_CLOSED) {
            return;
        }
    }
    if (connection->phase == AT_PHASE_H2 && at_h2_is_done(connection->h2)) {
        at_connection_finish(connection);
        return;
    }
    at_deadline_kind kind = wanted_deadline(connection);
    /* A head and a goodbye have their time as a whole; the rest, from byte to byte. */
    bool whole = kind == AT_DEADLINE_GOAWAY || kind == AT_DEADLINE_HANDSHAKE ||
                 kind == AT_DEADLINE_HEAD || kind == AT_DEADLINE_LINGER ||
                 kind == AT_DEADLINE_PONG || kind == AT_DEADLINE_CLOSE;
    if (kind != connection->deadline_kind || (connection->progress && !whole)) {
        at_reactor_set_deadline(connection, kind);
    }
    connection->progress = false;
    if (rests(connection)) {
        at_reactor_let_go(connection);
    } else {
        at_connection_lend(connection);
    }
}

void at_connection_expired(at_connection *connection, at_deadline_kind kind)
{
    if (connection->phase == AT_PHASE_H2) {
        at_h2_expired(connection, kind);
        return;
    }
    switch (kind) {
    case AT_DEADLINE_HEAD:
        if (connection->phase == AT_PHASE_HEAD) {
            at_h1_refuse(connection, 408, "the request's head took too long");
            return;
        }
        at_connection_close(connection, false);
        return;
    case AT_DEADLINE_BODY:
        at_h1_refuse(connection, 408, "the request's body took too long");
        return;
    case AT_DEADLINE_WRITE:
        at_connection_close(connection, true);
        return;
    case AT_DEADLINE_PING:
    case AT_DEADLINE_PONG:
        if (at_websocket_ping(connection->exchange)) {
            if (connection->phase == AT_PHASE_WEBSOCKET) {
                at_reactor_set_deadline(connection, wanted_deadline(connection));
            }
        } else {
            at_connection_close(connection, true);
        }
        return;
    default:
        at_connection_close(connection, false);
        return;
    }
}

/* ---- the end --------------------------------------------------------------------- */

void at_connection_close(at_connection *connection, bool reset)
{
    if (connection->phase == AT_PHASE_CLOSED) {
        return;
    }
    at_phase phase = connection->phase;
    connection->phase = AT_PHASE_CLOSED;
    bool answered = atomic_load_explicit(&connection->claim, memory_order_relaxed) ==
                    AT_CLAIM_ANSWERED; /* and ended, perhaps just now */
    if (answered) {
    } else if (reset) {
        at_socket_reset_on_close(connection->descriptor);
    } else if (connection->tls != NULL) {
        at_tls_shut_write(connection->tls);
    }
    if (phase == AT_PHASE_ACTIVE || phase == AT_PHASE_WEBSOCKET) {
        at_h1_lost(connection);
        at_h1_drop_exchange(connection);
    }
    at_h2_end(connection);
    at_reactor *reactor = connection->reactor;
    if (connection->user != NULL) {
        void *user = connection->user;
        connection->user = NULL;
        at_reactor_hooks(reactor)->forget(at_reactor_context(reactor), user);
    }
    at_reactor_bury(connection);
}

void at_connection_finish(at_connection *connection)
{
    if (connection->phase == AT_PHASE_CLOSED) {
        return;
    }
    /* With nothing unread here, a plain close resets nothing. */
    bool clean = connection->start == connection->end && !connection->readable &&
                 (connection->phase == AT_PHASE_IDLE ||
                  connection->phase == AT_PHASE_WEBSOCKET ||
                  (connection->phase == AT_PHASE_ACTIVE && connection->body_ended));
    at_h1_drop_exchange(connection);
    at_h2_end(connection);
    connection->phase = AT_PHASE_LINGER;
    connection->start = connection->end;
    connection->body_ready = 0;
    if (at_connection_waiting(connection) != 0 && offer(connection, NULL, 0) < 0) {
        return;
    }
    if (at_connection_waiting(connection) == 0) {
        if (clean || connection->eof) {
            at_connection_close(connection, false);
            return;
        }
        finish_output(connection);
    }
    at_connection_settle(connection);
}
