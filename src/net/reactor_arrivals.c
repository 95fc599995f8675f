/* How connections come to a reactor: its listeners, and its inbox; see reactor.h. */
#include <pthread.h>

#include "base/memory.h"
#include "net/connection.h"
#include "net/reactor_internal.h"
#include "sys/pollset.h"
#include "sys/wakefd.h"

enum {
    ACCEPT_BATCH = 32, /* then others have their turn */
    ACCEPT_PAUSE_MS = 100,
};

/* ---- a connection is ours ------------------------------------------------------ */

/* The connection's TLS, where the service has it. False without memory. */
static bool make_tls(at_reactor *reactor, int descriptor, at_tls **tls)
{
    at_tls_context *context = at_service_tls(reactor->service);
    if (context == NULL) {
        return true;
    }
    *tls = at_tls_new(context, descriptor);
    at_tls_context_unref(context);
    return *tls != NULL;
}

/* Takes what the newcomer holds in any case; the connection is in the load already. */
static void attach(at_reactor *reactor, const at_newcomer *newcomer)
{
    int descriptor = newcomer->descriptor;
    at_connection *connection = at_calloc(1, sizeof *connection);
    at_tls *tls = newcomer->tls;
    bool moved = newcomer->moved || newcomer->of_control; /* nothing goes before */
    bool made = connection != NULL && (moved || make_tls(reactor, descriptor, &tls));
    const unsigned interest =
        AT_POLL_READABLE | AT_POLL_WRITABLE | AT_POLL_PEER_SHUT | AT_POLL_EDGE;
    if (!made || at_poll_add(reactor->set, descriptor, interest, connection) < 0) {
        at_tls_free(tls);
        at_free(connection);
        at_socket_close(descriptor);
        atomic_fetch_sub_explicit(&reactor->record->load, 1, memory_order_relaxed);
        return;
    }
    connection->tls = tls;
    bool has_proxy = !moved && at_service_get_limits(reactor->service)->proxy_protocol;
    connection->phase = has_proxy               ? AT_PHASE_PROXY
                        : tls != NULL && !moved ? AT_PHASE_HANDSHAKE
                                                : AT_PHASE_IDLE;
    connection->is_new = true;
    connection->of_control = newcomer->of_control;
    connection->surplus = newcomer->surplus;
    connection->reactor = reactor;
    connection->descriptor = descriptor;
    connection->peer = newcomer->peer;
    connection->deadline_kind = AT_DEADLINE_NONE;
    (void)pthread_mutex_lock(&reactor->mutex);
    connection->after = reactor->connections;
    if (reactor->connections != NULL) {
        reactor->connections->before = connection;
    }
    reactor->connections = connection;
    (void)pthread_mutex_unlock(&reactor->mutex);
    connection->requests = newcomer->requests;
    connection->local_known = newcomer->local_known;
    connection->local = newcomer->local;
    at_reactor_set_deadline(connection, connection->phase != AT_PHASE_IDLE
                                            ? AT_DEADLINE_HANDSHAKE
                                        : newcomer->requests == 0 ? AT_DEADLINE_HEAD
                                                                  : AT_DEADLINE_IDLE);
    if (connection->phase == AT_PHASE_IDLE) {
        at_reactor_let_go(connection);
    }
}

/* ---- listening ----------------------------------------------------------------- */

void at_reactor_listen_start(at_reactor *reactor)
{
    if (reactor->listening || reactor->draining) {
        return;
    }
    reactor->listening = true;
    for (int i = 0; i < reactor->listener_count; i++) {
        (void)at_poll_add(reactor->set, reactor->listeners[i],
                          AT_POLL_READABLE | AT_POLL_EXCLUSIVE, &reactor->listeners[i]);
    }
}

void at_reactor_listen_stop(at_reactor *reactor)
{
    if (reactor->listening) {
        reactor->listening = false;
        for (int i = 0; i < reactor->listener_count; i++) {
            at_poll_remove(reactor->set, reactor->listeners[i]);
        }
    }
}

/* End the connection that has rested for longest, for one that wants something. */
static bool make_room(at_reactor *reactor)
{
    at_connection *oldest = reactor->deadlines[AT_DEADLINE_IDLE].first;
    if (oldest == NULL || oldest->phase != AT_PHASE_IDLE || !at_reactor_hold(oldest)) {
        return false;
    }
    at_connection_finish(oldest);
    return true;
}

/* A new connection: for the reactor that has fewest. Over the service's limit one that
 * rests makes room; otherwise a few are told 503, and the rest nothing. */
static void take_in(at_reactor *reactor, at_newcomer *newcomer)
{
    newcomer->of_control = reactor->is_guard;
    at_fullness fullness =
        reactor->is_guard ? AT_HAS_ROOM : at_service_fullness(reactor->service);
    if (fullness != AT_HAS_ROOM && !make_room(reactor)) {
        at_count(reactor->counters, AT_COUNT_REFUSED, 1);
        if (fullness == AT_OVERFULL) {
            at_socket_close(newcomer->descriptor);
            return;
        }
        newcomer->surplus = true;
    }
    if (reactor->is_guard || newcomer->surplus) {
        at_reactor_reserve(reactor);
        attach(reactor, newcomer);
    } else if (!at_service_hand_over(reactor->service, reactor, newcomer)) {
        attach(reactor, newcomer);
    }
}

/* From the listener or, if that is a passage, from another process. Returns 0 or an
 * error. */
static int accept_one(at_reactor *reactor, int listener, at_newcomer *newcomer)
{
    if (at_service_is_passage(reactor->service, listener)) {
        return at_service_take_passed(reactor->service, newcomer);
    }
    *newcomer = (at_newcomer){.descriptor = -1};
    newcomer->descriptor = at_socket_accept(listener, &newcomer->peer);
    return newcomer->descriptor < 0 ? newcomer->descriptor : 0;
}

void at_reactor_accept_batch(at_reactor *reactor, int listener)
{
    /* Where other processes accept too, one at a time: who is busy shall not take what
     * the others have time for. */
    int most = at_service_has_passage(reactor->service) ? 1 : ACCEPT_BATCH;
    for (int i = 0; i < most && reactor->listening; i++) {
        at_newcomer newcomer;
        int result = accept_one(reactor, listener, &newcomer);
        if (result == AT_EAGAIN || result == AT_EINVALID) {
            return;
        }
        if (result < 0) {
            /* Out of descriptors or memory: the backlog keeps them while we look away;
             * the listener would stay ready and keep us busy. */
            at_reactor_listen_stop(reactor);
            reactor->listen_again_ns =
                reactor->now_ns + (int64_t)ACCEPT_PAUSE_MS * 1000000;
            at_reactor_arm(reactor, reactor->listen_again_ns);
            return;
        }
        at_count(reactor->counters, AT_COUNT_ACCEPTED, 1);
        take_in(reactor, &newcomer);
    }
}

/* ---- the inbox ----------------------------------------------------------------- */

int at_reactor_post(at_reactor *reactor, at_newcomer *newcomer)
{
    (void)pthread_mutex_lock(&reactor->mutex);
    bool closed = reactor->inbox_closed;
    if (!closed) {
        newcomer->next = reactor->inbox;
        reactor->inbox = newcomer;
        atomic_fetch_add_explicit(&reactor->record->load, 1, memory_order_relaxed);
    }
    (void)pthread_mutex_unlock(&reactor->mutex);
    if (closed) {
        return AT_ECLOSED;
    }
    at_wakefd_set(reactor->wake);
    return 0;
}

void at_reactor_post_drain(at_reactor *reactor)
{
    /* Pairs with the exchange in take_messages; the wakefd orders the rest. */
    atomic_store_explicit(&reactor->drain_wanted, true, memory_order_release);
    at_wakefd_set(reactor->wake);
}

at_newcomer *at_reactor_empty_inbox(at_reactor *reactor, bool close)
{
    (void)pthread_mutex_lock(&reactor->mutex);
    at_newcomer *newcomers = reactor->inbox;
    reactor->inbox = NULL;
    if (close) {
        reactor->inbox_closed = true;
        atomic_store(&reactor->record->open, false);
    }
    (void)pthread_mutex_unlock(&reactor->mutex);
    return newcomers;
}

void at_reactor_attach_all(at_reactor *reactor, at_newcomer *newcomers)
{
    while (newcomers != NULL) {
        at_newcomer *newcomer = newcomers;
        newcomers = newcomer->next;
        attach(reactor, newcomer);
        at_free(newcomer);
    }
}

void at_newcomer_close(at_newcomer *newcomer)
{
    at_tls_free(newcomer->tls);
    at_socket_close(newcomer->descriptor);
    at_free(newcomer);
}
