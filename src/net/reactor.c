/* A reactor: batches, deadlines, newcomers; see reactor.h. */
#include "net/reactor.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "net/connection.h"
#include "net/static.h"
#include "sys/clock.h"
#include "sys/pollset.h"
#include "sys/thread.h"
#include "sys/wakefd.h"

enum {
    ACCEPT_BATCH = 32, /* then others have their turn */
    ACCEPT_PAUSE_MS = 100,
    COMPLAIN_PAUSE_S = 10,
    GOAWAY_MS = 300, /* a round trip, so that what is on its way comes first */
};

typedef struct at_deadlines {
    at_connection *first, *last; /* ordered, since all are of one length */
    int64_t length_ns;           /* 0: never */
} at_deadlines;

struct at_reactor {
    at_service *service;
    const at_hooks *hooks;
    void *context;
    int thread; /* fixed after init; at_thread_number() */
    at_static *files; /* between us and those hooks, or NULL */

    int set, wake, timer;
    int listeners[AT_LISTENERS_MAX];
    int listener_count;
    bool listening;
    int64_t listen_again_ns; /* AT_NEVER unless descriptors had run out */

    bool in_batch, draining, drained_told;
    int64_t now_ns; /* of the present batch */

    at_connection *connections; /* all that live */
    at_connection *scheduled, *scheduled_last;
    at_connection *dead;
    at_deadlines deadlines[AT_DEADLINE_KINDS];
    int64_t armed_ns; /* what the timer is set for */

    int64_t complain_again_ns;
    unsigned complaints_left_out;

    time_t date_second;
    char date[AT_HTTP_DATE_BYTES];

    atomic_ullong load; /* connections, those in the inbox included */
    atomic_ullong accepted;
    atomic_ullong requests;
    atomic_bool drain_wanted;
    pthread_mutex_t mutex;
    at_newcomer *inbox; /* guarded: mutex */
    bool inbox_closed;  /* guarded: mutex */

    /* For the balancer. Nothing of it orders other memory: it is a guess, made again in
     * a millisecond. */
    atomic_ullong batches; /* writer: the owner */
    atomic_uint undone;    /* events of the batch not begun; writer: the owner */
    atomic_bool busy;      /* writer: the owner */
    atomic_bool stuck;     /* writer: the balancer, and the owner, who clears it */
    at_poll_event *batch;  /* guarded: mutex; the events, where there are several */
    unsigned batch_count;  /* guarded: mutex */
    atomic_bool disturbed; /* writer: under the mutex; `taken` or `told` is not empty */
    at_connection *taken;  /* guarded: mutex; shells to be put away */
    at_connection *told;   /* guarded: mutex; look at connection->told */

    at_h1_request request; /* the one being parsed */
    char scratch[AT_SCRATCH_BYTES];
};

static void let_go_of_batch(at_reactor *reactor);
static void forget_told(at_reactor *reactor);

/* ---- deadlines ---------------------------------------------------------------------
 */

static int64_t now_ns(const at_reactor *reactor)
{
    return reactor->in_batch ? reactor->now_ns : at_clock_ns();
}

static void arm(at_reactor *reactor, int64_t deadline_ns)
{
    if (deadline_ns < reactor->armed_ns) {
        reactor->armed_ns = deadline_ns;
        at_timerfd_set(reactor->timer, deadline_ns);
    }
}

static void forget_deadline(at_connection *connection)
{
    if (connection->deadline_kind == AT_DEADLINE_NONE) {
        return;
    }
    at_deadlines *list = &connection->reactor->deadlines[connection->deadline_kind];
    at_connection *before = connection->deadline_before;
    at_connection *after = connection->deadline_after;
    *(before != NULL ? &before->deadline_after : &list->first) = after;
    *(after != NULL ? &after->deadline_before : &list->last) = before;
    connection->deadline_kind = AT_DEADLINE_NONE;
}

void at_reactor_set_deadline(at_connection *connection, at_deadline_kind kind)
{
    forget_deadline(connection);
    at_reactor *reactor = connection->reactor;
    if (kind == AT_DEADLINE_NONE || reactor->deadlines[kind].length_ns == 0) {
        return;
    }
    at_deadlines *list = &reactor->deadlines[kind];
    connection->deadline_kind = kind;
    connection->deadline_ns = now_ns(reactor) + list->length_ns;
    connection->deadline_before = list->last;
    connection->deadline_after = NULL;
    *(list->last != NULL ? &list->last->deadline_after : &list->first) = connection;
    list->last = connection;
    arm(reactor, connection->deadline_ns);
}

static void listen_start(at_reactor *reactor);

static void expire(at_reactor *reactor)
{
    reactor->armed_ns = AT_NEVER;
    at_timerfd_set(reactor->timer, AT_NEVER);
    if (reactor->listen_again_ns <= reactor->now_ns) {
        reactor->listen_again_ns = AT_NEVER;
        listen_start(reactor);
    }
    int64_t earliest = reactor->listen_again_ns;
    for (int kind = 0; kind < AT_DEADLINE_KINDS; kind++) {
        at_deadlines *list = &reactor->deadlines[kind];
        while (list->first != NULL && list->first->deadline_ns <= reactor->now_ns) {
            at_connection *connection = list->first;
            forget_deadline(connection);
            if (at_reactor_hold(connection)) {
                at_connection_expired(connection, (at_deadline_kind)kind);
            }
        }
    }
    for (int kind = 0; kind < AT_DEADLINE_KINDS; kind++) {
        at_connection *first = reactor->deadlines[kind].first;
        if (first != NULL && first->deadline_ns < earliest) {
            earliest = first->deadline_ns;
        }
    }
    arm(reactor, earliest);
}

/* ---- connections come and go
 * --------------------------------------------------------- */

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
    bool moved = newcomer->moved;
    bool made = connection != NULL && (moved || make_tls(reactor, descriptor, &tls));
    const unsigned interest =
        AT_POLL_READABLE | AT_POLL_WRITABLE | AT_POLL_PEER_SHUT | AT_POLL_EDGE;
    if (!made || at_poll_add(reactor->set, descriptor, interest, connection) < 0) {
        at_tls_free(tls);
        at_free(connection);
        at_socket_close(descriptor);
        atomic_fetch_sub_explicit(&reactor->load, 1, memory_order_relaxed);
        return;
    }
    connection->tls = tls;
    bool has_proxy = !moved && at_service_get_limits(reactor->service)->proxy_protocol;
    connection->phase = has_proxy               ? AT_PHASE_PROXY
                        : tls != NULL && !moved ? AT_PHASE_HANDSHAKE
                                                : AT_PHASE_IDLE;
    connection->reactor = reactor;
    connection->descriptor = descriptor;
    connection->peer = newcomer->peer;
    connection->deadline_kind = AT_DEADLINE_NONE;
    connection->after = reactor->connections;
    if (reactor->connections != NULL) {
        reactor->connections->before = connection;
    }
    reactor->connections = connection;
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

bool at_reactor_hold(at_connection *connection)
{
    unsigned claim = AT_CLAIM_FREE;
    return atomic_compare_exchange_strong_explicit(&connection->claim, &claim,
                                                   AT_CLAIM_HELD, memory_order_acquire,
                                                   memory_order_relaxed) ||
           claim == AT_CLAIM_HELD;
}

void at_reactor_let_go(at_connection *connection)
{
    atomic_store_explicit(&connection->claim, AT_CLAIM_FREE, memory_order_release);
}

void at_reactor_schedule(at_connection *connection)
{
    at_reactor *reactor = connection->reactor;
    if (connection->scheduled) {
        return;
    }
    connection->scheduled = true;
    connection->scheduled_next = NULL;
    if (reactor->scheduled == NULL) {
        reactor->scheduled = connection;
    } else {
        reactor->scheduled_last->scheduled_next = connection;
    }
    reactor->scheduled_last = connection;
    if (!reactor->in_batch) {
        at_wakefd_set(reactor->wake);
    }
}

/* Out of the lists, to the dead. */
static void unlink_connection(at_connection *connection)
{
    at_reactor *reactor = connection->reactor;
    forget_deadline(connection);
    if (connection->before != NULL) {
        connection->before->after = connection->after;
    } else {
        reactor->connections = connection->after;
    }
    if (connection->after != NULL) {
        connection->after->before = connection->before;
    }
    connection->before = NULL;
    connection->after = reactor->dead;
    reactor->dead = connection;
    if (reactor->draining && reactor->connections == NULL && !reactor->in_batch) {
        at_wakefd_set(reactor->wake); /* for `drained` */
    }
}

void at_reactor_bury(at_connection *connection)
{
    at_reactor *reactor = connection->reactor;
    /* The close alone does not take it out of the set while a child between fork and
     * exec has a copy. */
    at_poll_remove(reactor->set, connection->descriptor);
    at_socket_close(connection->descriptor);
    atomic_fetch_sub_explicit(&reactor->load, 1, memory_order_relaxed);
    unlink_connection(connection);
}

/* The socket lives on elsewhere. */
static void bury_shell(at_connection *connection)
{
    at_reactor *reactor = connection->reactor;
    connection->phase = AT_PHASE_CLOSED;
    connection->tls = NULL;
    if (connection->user != NULL) {
        void *user = connection->user;
        connection->user = NULL;
        reactor->hooks->forget(reactor->context, user);
    }
    unlink_connection(connection);
}

/* Events of the batch, and frames of the layer above, may name a dead connection until
 * the batch is over. */
static void free_dead(at_reactor *reactor)
{
    if (reactor->dead == NULL) {
        return;
    }
    let_go_of_batch(reactor);
    at_connection *list = reactor->scheduled;
    reactor->scheduled = NULL;
    while (list != NULL) {
        at_connection *connection = list;
        list = list->scheduled_next;
        connection->scheduled = false;
        if (connection->phase != AT_PHASE_CLOSED) {
            at_reactor_schedule(connection);
        }
    }
    forget_told(reactor);
    while (reactor->dead != NULL) {
        at_connection *connection = reactor->dead;
        reactor->dead = connection->after;
        at_bytes_fini(&connection->in);
        at_bytes_fini(&connection->out);
        at_tls_free(connection->tls);
        at_free(connection);
    }
}

/* ---- listening
 * ------------------------------------------------------------------------ */

static void listen_start(at_reactor *reactor)
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

static void listen_stop(at_reactor *reactor)
{
    if (reactor->listening) {
        reactor->listening = false;
        for (int i = 0; i < reactor->listener_count; i++) {
            at_poll_remove(reactor->set, reactor->listeners[i]);
        }
    }
}

static void accept_batch(at_reactor *reactor, int listener)
{
    for (int i = 0; i < ACCEPT_BATCH && reactor->listening; i++) {
        at_address peer;
        int descriptor = at_socket_accept(listener, &peer);
        if (descriptor == AT_EAGAIN) {
            return;
        }
        if (descriptor < 0) {
            /* Out of descriptors or memory: the backlog keeps them while we look away;
             * the listener would stay ready and keep us busy. */
            listen_stop(reactor);
            reactor->listen_again_ns =
                reactor->now_ns + (int64_t)ACCEPT_PAUSE_MS * 1000000;
            arm(reactor, reactor->listen_again_ns);
            return;
        }
        atomic_fetch_add_explicit(&reactor->accepted, 1, memory_order_relaxed);
        if (!at_service_hand_over(reactor->service, reactor, descriptor, &peer)) {
            at_newcomer newcomer = {.descriptor = descriptor, .peer = peer};
            attach(reactor, &newcomer);
        }
    }
}

/* ---- the inbox
 * ------------------------------------------------------------------------ */

int at_reactor_post(at_reactor *reactor, at_newcomer *newcomer)
{
    (void)pthread_mutex_lock(&reactor->mutex);
    bool closed = reactor->inbox_closed;
    if (!closed) {
        newcomer->next = reactor->inbox;
        reactor->inbox = newcomer;
        atomic_fetch_add_explicit(&reactor->load, 1, memory_order_relaxed);
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

static at_newcomer *empty_inbox(at_reactor *reactor, bool close)
{
    (void)pthread_mutex_lock(&reactor->mutex);
    at_newcomer *newcomers = reactor->inbox;
    reactor->inbox = NULL;
    reactor->inbox_closed = reactor->inbox_closed || close;
    (void)pthread_mutex_unlock(&reactor->mutex);
    return newcomers;
}

static void attach_all(at_reactor *reactor, at_newcomer *newcomers)
{
    while (newcomers != NULL) {
        at_newcomer *newcomer = newcomers;
        newcomers = newcomer->next;
        attach(reactor, newcomer);
        at_free(newcomer);
    }
}

/* ---- connections move -------------------------------------------------------------
 */

/* Say what is about to be worked off, so that the balancer can take from it what waits
 * behind something long. */
static void begin_batch(at_reactor *reactor, at_poll_event *events, int count)
{
    uint64_t batches = atomic_load_explicit(&reactor->batches, memory_order_relaxed);
    atomic_store_explicit(&reactor->batches, batches + 1, memory_order_relaxed);
    atomic_store_explicit(&reactor->busy, true, memory_order_relaxed);
    atomic_store_explicit(&reactor->stuck, false, memory_order_relaxed);
    if (count > 1) {
        (void)pthread_mutex_lock(&reactor->mutex);
        reactor->batch = events;
        reactor->batch_count = (unsigned)count;
        (void)pthread_mutex_unlock(&reactor->mutex);
        at_service_nudge(reactor->service);
    }
}

/* The batch is over; what it names may be freed. */
static void let_go_of_batch(at_reactor *reactor)
{
    /* The owner is the only writer, and may look without the mutex. */
    if (reactor->batch != NULL) {
        (void)pthread_mutex_lock(&reactor->mutex);
        reactor->batch = NULL;
        reactor->batch_count = 0;
        (void)pthread_mutex_unlock(&reactor->mutex);
    }
}

static void put_shells_away(at_reactor *reactor)
{
    (void)pthread_mutex_lock(&reactor->mutex);
    at_connection *taken = reactor->taken;
    reactor->taken = NULL;
    (void)pthread_mutex_unlock(&reactor->mutex);
    while (taken != NULL) {
        at_connection *connection = taken;
        taken = connection->taken_next;
        bury_shell(connection);
    }
}

/* Events that the balancer took out of the set and that are ours. */
static void hear_what_was_told(at_reactor *reactor)
{
    for (;;) {
        (void)pthread_mutex_lock(&reactor->mutex);
        at_connection *connection = reactor->told;
        unsigned ready = 0;
        if (connection != NULL) {
            reactor->told = connection->told_next;
            ready = connection->told;
            connection->told = 0;
        }
        (void)pthread_mutex_unlock(&reactor->mutex);
        if (connection == NULL) {
            return;
        }
        if (connection->phase != AT_PHASE_CLOSED && at_reactor_hold(connection)) {
            at_connection_event(connection, ready);
        }
    }
}

static void see_to_disturbance(at_reactor *reactor)
{
    atomic_store_explicit(&reactor->disturbed, false, memory_order_relaxed);
    put_shells_away(reactor);
    hear_what_was_told(reactor);
}

/* The dead are told nothing. */
static void forget_told(at_reactor *reactor)
{
    (void)pthread_mutex_lock(&reactor->mutex);
    at_connection **at = &reactor->told;
    while (*at != NULL) {
        if ((*at)->phase == AT_PHASE_CLOSED) {
            *at = (*at)->told_next;
        } else {
            at = &(*at)->told_next;
        }
    }
    (void)pthread_mutex_unlock(&reactor->mutex);
}

static bool is_connection(const at_reactor *reactor, const void *user)
{
    return user != &reactor->wake && user != &reactor->timer &&
           ((const int *)user < reactor->listeners ||
            (const int *)user >= reactor->listeners + AT_LISTENERS_MAX);
}

/* Take it away if it rests. Caller holds the mutex. */
static bool take(at_reactor *reactor, at_connection *connection, at_newcomer *newcomer)
{
    unsigned claim = AT_CLAIM_FREE;
    if (!atomic_compare_exchange_strong_explicit(&connection->claim, &claim,
                                                 AT_CLAIM_TAKEN, memory_order_acquire,
                                                 memory_order_relaxed)) {
        return false;
    }
    *newcomer = (at_newcomer){.descriptor = connection->descriptor,
                              .tls = connection->tls,
                              .peer = connection->peer,
                              .requests = connection->requests,
                              .moved = true,
                              .local_known = connection->local_known,
                              .local = connection->local};
    at_poll_remove(reactor->set, connection->descriptor);
    atomic_fetch_sub_explicit(&reactor->load, 1, memory_order_relaxed);
    connection->taken_next = reactor->taken;
    reactor->taken = connection;
    return true;
}

static void tell(at_reactor *reactor, at_connection *connection, unsigned ready)
{
    if (connection->told == 0) {
        connection->told_next = reactor->told;
        reactor->told = connection;
    }
    connection->told |= ready;
}

at_newcomer *at_reactor_take_from(at_reactor *reactor, at_newcomer **spare,
                                  int *spare_count)
{
    at_poll_event events[AT_POLL_BATCH];
    const unsigned ending = AT_POLL_HANGUP | AT_POLL_PEER_SHUT;
    (void)pthread_mutex_lock(&reactor->mutex);
    at_newcomer *list = reactor->inbox;
    reactor->inbox = NULL;
    for (at_newcomer *newcomer = list; newcomer != NULL; newcomer = newcomer->next) {
        atomic_fetch_sub_explicit(&reactor->load, 1, memory_order_relaxed);
    }
    /* What the owner has in its hands and has not begun with, then what is ready. */
    unsigned undone = atomic_load_explicit(&reactor->undone, memory_order_relaxed);
    unsigned begun = undone < reactor->batch_count ? reactor->batch_count - undone : 0;
    int count = at_poll_wait(reactor->set, events, 0);
    bool disturbed = false;
    for (int i = -(int)(reactor->batch_count - begun); i < count; i++) {
        const at_poll_event *event =
            i < 0 ? &reactor->batch[(int)reactor->batch_count + i] : &events[i];
        if (!is_connection(reactor, event->user)) {
            continue;
        }
        if (!(event->ready & ending) && (event->ready & AT_POLL_READABLE) &&
            *spare_count > 0 && take(reactor, event->user, spare[*spare_count - 1])) {
            at_newcomer *newcomer = spare[--*spare_count];
            newcomer->next = list;
            list = newcomer;
            disturbed = true;
        } else if (i >= 0) {
            tell(reactor, event->user, event->ready);
            disturbed = true;
        }
    }
    if (disturbed) {
        atomic_store_explicit(&reactor->disturbed, true, memory_order_relaxed);
    }
    (void)pthread_mutex_unlock(&reactor->mutex);
    if (disturbed) {
        at_wakefd_set(reactor->wake);
    }
    return list;
}

void at_reactor_observe(at_reactor *reactor, at_reactor_look *look)
{
    look->batches = atomic_load_explicit(&reactor->batches, memory_order_relaxed);
    look->busy = atomic_load_explicit(&reactor->busy, memory_order_relaxed);
    look->waiting = atomic_load_explicit(&reactor->undone, memory_order_relaxed) != 0 ||
                    at_poll_any(&reactor->set, 1, 0);
    look->open = at_reactor_is_open(reactor);
}

bool at_reactor_is_open(at_reactor *reactor)
{
    (void)pthread_mutex_lock(&reactor->mutex);
    bool open = !reactor->inbox_closed;
    (void)pthread_mutex_unlock(&reactor->mutex);
    return open;
}

void at_reactor_set_stuck(at_reactor *reactor, bool stuck)
{
    atomic_store_explicit(&reactor->stuck, stuck, memory_order_relaxed);
}

bool at_reactor_is_stuck(const at_reactor *reactor)
{
    return atomic_load_explicit(&reactor->stuck, memory_order_relaxed);
}

bool at_reactor_move_away(at_connection *connection)
{
    at_reactor *reactor = connection->reactor;
    at_newcomer *newcomer = at_alloc(sizeof *newcomer);
    if (newcomer == NULL) {
        return false;
    }
    *newcomer = (at_newcomer){.descriptor = connection->descriptor,
                              .tls = connection->tls,
                              .peer = connection->peer,
                              .requests = connection->requests,
                              .moved = true,
                              .local_known = connection->local_known,
                              .local = connection->local};
    at_poll_remove(reactor->set, connection->descriptor);
    if (!at_service_place(reactor->service, reactor, newcomer)) {
        at_free(newcomer);
        return false; /* it ends here; nobody misses its events */
    }
    atomic_fetch_sub_explicit(&reactor->load, 1, memory_order_relaxed);
    bury_shell(connection);
    return true;
}

bool at_reactor_is_last(const at_reactor *reactor)
{
    return reactor->draining && !at_service_has_other(reactor->service, reactor);
}

static void take_messages(at_reactor *reactor)
{
    at_wakefd_clear(reactor->wake);
    attach_all(reactor, empty_inbox(reactor, false));
    if (atomic_load_explicit(&reactor->disturbed, memory_order_relaxed)) {
        see_to_disturbance(reactor);
    }
    if (atomic_exchange_explicit(&reactor->drain_wanted, false, memory_order_acquire)) {
        reactor->hooks->drain(reactor->context);
    }
}

void at_reactor_reserve(at_reactor *reactor)
{
    atomic_fetch_add_explicit(&reactor->load, 1, memory_order_relaxed);
}

uint64_t at_reactor_load(const at_reactor *reactor)
{
    return atomic_load_explicit(&reactor->load, memory_order_relaxed);
}

void at_reactor_stats_get(const at_reactor *reactor, at_reactor_stats *stats)
{
    stats->thread = reactor->thread;
    stats->connections = at_reactor_load(reactor);
    stats->accepted = atomic_load_explicit(&reactor->accepted, memory_order_relaxed);
    stats->requests = atomic_load_explicit(&reactor->requests, memory_order_relaxed);
}

/* ---- life
 * ----------------------------------------------------------------------------- */

static void reactor_free(at_reactor *reactor)
{
    if (reactor->timer >= 0) {
        at_poll_close(reactor->timer);
    }
    if (reactor->wake >= 0) {
        at_wakefd_close(reactor->wake);
    }
    if (reactor->set >= 0) {
        at_poll_close(reactor->set);
    }
    (void)pthread_mutex_destroy(&reactor->mutex);
    at_static_free(reactor->files);
    at_service_unref(reactor->service);
    at_free(reactor);
}

static void set_lengths(at_reactor *reactor, const at_service_limits *limits)
{
    reactor->deadlines[AT_DEADLINE_HANDSHAKE].length_ns = limits->handshake_timeout_ns;
    reactor->deadlines[AT_DEADLINE_HEAD].length_ns = limits->head_timeout_ns;
    reactor->deadlines[AT_DEADLINE_BODY].length_ns = limits->body_timeout_ns;
    reactor->deadlines[AT_DEADLINE_IDLE].length_ns = limits->idle_timeout_ns;
    reactor->deadlines[AT_DEADLINE_WRITE].length_ns = limits->write_timeout_ns;
    reactor->deadlines[AT_DEADLINE_LINGER].length_ns = limits->linger_timeout_ns;
    reactor->deadlines[AT_DEADLINE_GOAWAY].length_ns = (int64_t)GOAWAY_MS * 1000000;
    const at_websocket_limits *websocket = &limits->websocket;
    reactor->deadlines[AT_DEADLINE_PING].length_ns = websocket->ping_interval_ns;
    reactor->deadlines[AT_DEADLINE_PONG].length_ns = websocket->ping_timeout_ns;
    reactor->deadlines[AT_DEADLINE_CLOSE].length_ns = websocket->close_timeout_ns;
}

/* The descriptors, watched. Returns 0 or an error. */
static int open_descriptors(at_reactor *reactor, at_fault *fault)
{
    if ((reactor->set = at_poll_open(fault)) < 0) {
        return reactor->set;
    }
    if ((reactor->wake = at_wakefd_open(fault)) < 0) {
        return reactor->wake;
    }
    if ((reactor->timer = at_timerfd_open(fault)) < 0) {
        return reactor->timer;
    }
    int result =
        at_poll_add(reactor->set, reactor->wake, AT_POLL_READABLE, &reactor->wake);
    if (result == 0) {
        result = at_poll_add(reactor->set, reactor->timer, AT_POLL_READABLE,
                             &reactor->timer);
    }
    return result == 0 ? 0 : at_fault_set(fault, result, "watching a descriptor");
}

/* Where the service has static files. Returns 0 or an error. */
static int put_files_between(at_reactor *reactor, at_fault *fault)
{
    const at_static_mounts *mounts = at_service_mounts(reactor->service);
    if (mounts == NULL) {
        return 0;
    }
    reactor->files = at_static_new(mounts, reactor->hooks, reactor->context);
    if (reactor->files == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory for static files");
    }
    reactor->hooks = &at_static_hooks;
    reactor->context = reactor->files;
    return 0;
}

int at_reactor_open(at_reactor **out, at_service *service, const at_hooks *hooks,
                    void *context, at_fault *fault)
{
    at_reactor *reactor = at_calloc(1, sizeof *reactor);
    if (reactor == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory for a reactor");
    }
    reactor->service = at_service_ref(service);
    reactor->hooks = hooks;
    reactor->context = context;
    reactor->thread = at_thread_number();
    reactor->set = reactor->wake = reactor->timer = -1;
    reactor->armed_ns = reactor->listen_again_ns = AT_NEVER;
    (void)pthread_mutex_init(&reactor->mutex, NULL);
    set_lengths(reactor, at_service_get_limits(service));
    int result = put_files_between(reactor, fault);
    if (result == 0) {
        result = open_descriptors(reactor, fault);
    }
    if (result == 0) {
        result = at_service_join(service, reactor);
        if (result < 0) {
            (void)at_fault_set(fault, result, "the service takes no more workers");
        }
    }
    if (result < 0) {
        reactor_free(reactor);
        return result;
    }
    reactor->listener_count = at_service_listeners(service, reactor->listeners);
    listen_start(reactor);
    *out = reactor;
    return 0;
}

void at_newcomer_close(at_newcomer *newcomer)
{
    at_tls_free(newcomer->tls);
    at_socket_close(newcomer->descriptor);
    at_free(newcomer);
}

static void refuse_newcomers(at_reactor *reactor)
{
    at_newcomer *newcomers = empty_inbox(reactor, true);
    while (newcomers != NULL) {
        at_newcomer *newcomer = newcomers;
        newcomers = newcomer->next;
        at_newcomer_close(newcomer);
        atomic_fetch_sub_explicit(&reactor->load, 1, memory_order_relaxed);
    }
}

void at_reactor_close(at_reactor *reactor)
{
    if (reactor == NULL) {
        return;
    }
    assert(!reactor->in_batch);
    at_service_leave(reactor->service, reactor);
    listen_stop(reactor);
    refuse_newcomers(reactor);
    at_reactor_abort(reactor);
    free_dead(reactor);
    reactor_free(reactor);
}

void at_reactor_abort(at_reactor *reactor)
{
    while (reactor->connections != NULL) {
        if (at_reactor_hold(reactor->connections)) {
            at_connection_close(reactor->connections, true);
        } else {
            put_shells_away(reactor);
        }
    }
}

void at_reactor_drain(at_reactor *reactor)
{
    if (reactor->draining) {
        return;
    }
    listen_stop(reactor);
    reactor->draining = true;
    attach_all(reactor, empty_inbox(reactor, true));
    /* Each is looked at: an idle one moves to another reactor, or closes where there is
     * none, unless a request has just come. */
    at_connection *connection = reactor->connections;
    while (connection != NULL) {
        if (at_reactor_hold(connection)) {
            connection->readable = true;
            at_reactor_schedule(connection);
        }
        connection = connection->after;
    }
    at_wakefd_set(reactor->wake);
}

/* ---- a batch
 * -------------------------------------------------------------------------- */

static void dispatch(at_reactor *reactor, const at_poll_event *event)
{
    if (event->user == &reactor->wake) {
        take_messages(reactor);
    } else if (event->user == &reactor->timer) {
        expire(reactor);
    } else if ((int *)event->user >= reactor->listeners &&
               (int *)event->user < reactor->listeners + AT_LISTENERS_MAX) {
        accept_batch(reactor, *(int *)event->user);
    } else {
        at_connection *connection = event->user;
        if (connection->phase != AT_PHASE_CLOSED && at_reactor_hold(connection)) {
            at_connection_event(connection, event->ready);
        }
    }
}

/* One round over what was scheduled; what is scheduled meanwhile waits for the next
 * batch, so that a client with a long pipeline does not keep the others waiting. */
static void run_scheduled(at_reactor *reactor)
{
    at_connection *list = reactor->scheduled;
    reactor->scheduled = NULL;
    while (list != NULL) {
        at_connection *connection = list;
        list = connection->scheduled_next;
        connection->scheduled = false;
        if (connection->phase != AT_PHASE_CLOSED) {
            at_connection_event(connection, 0);
        }
    }
    if (reactor->scheduled != NULL) {
        at_wakefd_set(reactor->wake);
    }
}

void at_reactor_run(at_reactor *reactor, int timeout_ms)
{
    assert(!reactor->in_batch);
    at_poll_event events[AT_POLL_BATCH];
    int count = at_poll_wait(reactor->set, events, timeout_ms);
    reactor->now_ns = at_clock_ns();
    reactor->in_batch = true;
    begin_batch(reactor, events, count);
    for (int i = 0; i < count; i++) {
        atomic_store_explicit(&reactor->undone, (unsigned)(count - i - 1),
                              memory_order_relaxed);
        dispatch(reactor, &events[i]);
    }
    let_go_of_batch(reactor);
    if (reactor->scheduled != NULL) {
        run_scheduled(reactor);
    }
    reactor->in_batch = false;
    free_dead(reactor);
    atomic_store_explicit(&reactor->busy, false, memory_order_relaxed);
    if (reactor->draining && reactor->connections == NULL && !reactor->drained_told) {
        reactor->drained_told = true;
        reactor->hooks->drained(reactor->context);
    }
}

/* ---- what the rest of the part asks
 * ----------------------------------------------------- */

void at_reactor_complain(at_reactor *reactor, const char *what, const char *text)
{
    if (reactor->hooks->complain == NULL) {
        return;
    }
    int64_t now = now_ns(reactor);
    if (now < reactor->complain_again_ns) {
        reactor->complaints_left_out++;
        return;
    }
    char line[256];
    int size = snprintf(line, sizeof line, "%s: %s", what, text);
    if (reactor->complaints_left_out != 0 && size > 0 && size < (int)sizeof line) {
        (void)snprintf(line + size, sizeof line - (size_t)size, " (and %u more)",
                       reactor->complaints_left_out);
    }
    reactor->complaints_left_out = 0;
    reactor->complain_again_ns = now + (int64_t)COMPLAIN_PAUSE_S * 1000000000;
    reactor->hooks->complain(reactor->context, line);
}

at_span at_reactor_date(at_reactor *reactor)
{
    time_t second = time(NULL);
    if (second != reactor->date_second) {
        at_http_date(reactor->date, second);
        reactor->date_second = second;
    }
    return (at_span){reactor->date, AT_HTTP_DATE_BYTES};
}

int at_reactor_descriptor(const at_reactor *reactor)
{
    return reactor->set;
}

const at_hooks *at_reactor_hooks(at_reactor *reactor)
{
    return reactor->hooks;
}

void *at_reactor_context(at_reactor *reactor)
{
    return reactor->context;
}

const at_service_limits *at_reactor_limits(at_reactor *reactor)
{
    return at_service_get_limits(reactor->service);
}

char *at_reactor_scratch(at_reactor *reactor)
{
    return reactor->scratch;
}

bool at_reactor_draining(const at_reactor *reactor)
{
    return reactor->draining;
}

at_h1_request *at_reactor_request(at_reactor *reactor)
{
    return &reactor->request;
}

void at_reactor_count_request(at_reactor *reactor)
{
    atomic_fetch_add_explicit(&reactor->requests, 1, memory_order_relaxed);
}
