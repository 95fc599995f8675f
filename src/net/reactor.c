/* A reactor: its batches, and the connections that live in it; see reactor.h.
 *
 *   reactor_deadlines.c   timeouts
 *   reactor_arrivals.c    listeners and the inbox: connections come
 *   reactor_moves.c       the balancer and a drain: connections go elsewhere
 *   reactor_stuck.c       is the owner alive, and what if it is not
 *   reactor_tell.c        what others may know
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "net/access_log.h"
#include "net/connection.h"
#include "net/control.h"
#include "net/reactor_internal.h"
#include "net/static.h"
#include "sys/clock.h"
#include "sys/pollset.h"
#include "sys/thread.h"
#include "sys/wakefd.h"

enum {
    COMPLAIN_PAUSE_S = 10,
    GOAWAY_MS = 300, /* a round trip, so that what is on its way comes first */
};

/* ---- connections live ------------------------------------------------------------ */

bool at_reactor_hold(at_connection *connection)
{
    unsigned claim = atomic_load_explicit(&connection->claim, memory_order_relaxed);
    while (claim == AT_CLAIM_FREE || claim == AT_CLAIM_ASKED ||
           claim == AT_CLAIM_OPEN) {
        if (atomic_compare_exchange_weak_explicit(&connection->claim, &claim,
                                                  AT_CLAIM_HELD, memory_order_acquire,
                                                  memory_order_relaxed)) {
            return true;
        }
    }
    if (claim == AT_CLAIM_ANSWERED && connection->phase != AT_PHASE_CLOSED) {
        /* Who answered may still be at its streams, under the mutex. */
        (void)pthread_mutex_lock(&connection->reactor->mutex);
        (void)pthread_mutex_unlock(&connection->reactor->mutex);
        at_connection_close(connection, false);
    }
    return claim == AT_CLAIM_HELD;
}

void at_reactor_let_answer(at_connection *connection)
{
    atomic_store_explicit(&connection->claim, AT_CLAIM_ASKED, memory_order_release);
}

void at_reactor_let_end(at_connection *connection)
{
    atomic_store_explicit(&connection->claim, AT_CLAIM_OPEN, memory_order_release);
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
void at_reactor_unlink(at_connection *connection)
{
    at_reactor *reactor = connection->reactor;
    at_reactor_forget_deadline(connection);
    (void)pthread_mutex_lock(&reactor->mutex);
    if (connection->before != NULL) {
        connection->before->after = connection->after;
    } else {
        reactor->connections = connection->after;
    }
    if (connection->after != NULL) {
        connection->after->before = connection->before;
    }
    (void)pthread_mutex_unlock(&reactor->mutex);
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
    /* First out of the list: who gives this reactor up finds sockets there. */
    at_reactor_unlink(connection);
    /* The close alone does not take it out of the set while a child between fork and
     * exec has a copy. */
    at_poll_remove(reactor->set, connection->descriptor);
    at_socket_close(connection->descriptor);
    atomic_fetch_sub_explicit(&reactor->record->load, 1, memory_order_relaxed);
}

/* Events of the batch, and frames of the layer above, may name a dead connection until
 * the batch is over. */
static void free_dead(at_reactor *reactor)
{
    if (reactor->dead == NULL) {
        return;
    }
    at_reactor_let_go_of_batch(reactor);
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
    at_reactor_forget_told(reactor);
    while (reactor->dead != NULL) {
        at_connection *connection = reactor->dead;
        reactor->dead = connection->after;
        at_bytes_fini(&connection->in);
        at_bytes_fini(&connection->out);
        at_tls_free(connection->tls);
        at_free(connection);
    }
}

/* ---- life ------------------------------------------------------------------------ */

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
    at_access_ring_close(reactor->ring);
    at_record_leave(reactor->record);
    if (!reactor->is_guard) {
        at_service_unref(reactor->service);
    }
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

/* Where the counts go, on from where another of that worker stopped. Returns 0 or an
 * error. */
static int take_record(at_reactor *reactor, int worker, at_fault *fault)
{
    reactor->record = at_service_take_record(reactor->service, worker);
    if (reactor->record == NULL) {
        return at_fault_set(fault, AT_ELIMIT, "the service takes no more workers");
    }
    reactor->counters = &reactor->record->counters;
    at_counters_read(reactor->counters, &reactor->before);
    return 0;
}

/* Others may look at it from now on. */
static void show(at_reactor *reactor)
{
    atomic_store(&reactor->record->open, true);
    atomic_store(&reactor->record->thread, reactor->thread);
}

/* All but what tells a worker's reactor from the guard's. Returns 0 or an error. */
static int open_common(at_reactor **out, at_service *service, const at_hooks *hooks,
                       void *context, bool is_guard, int worker, at_fault *fault)
{
    at_reactor *reactor = at_calloc(1, sizeof *reactor);
    if (reactor == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory for a reactor");
    }
    reactor->is_guard = is_guard;
    reactor->service = is_guard ? service : at_service_ref(service);
    reactor->hooks = hooks;
    reactor->context = context;
    reactor->thread = at_thread_number();
    reactor->set = reactor->wake = reactor->timer = -1;
    reactor->armed_ns = reactor->listen_again_ns = AT_NEVER;
    (void)pthread_mutex_init(&reactor->mutex, NULL);
    set_lengths(reactor, at_service_get_limits(service));
    at_access_log *log = at_service_access_log(service);
    reactor->ring = log != NULL ? at_access_ring_open(log) : NULL;
    int result = log != NULL && reactor->ring == NULL
                     ? at_fault_set(fault, AT_ENOMEM, "out of memory for a reactor")
                     : open_descriptors(reactor, fault);
    if (result == 0) {
        result = take_record(reactor, worker, fault);
    }
    if (result < 0) {
        reactor_free(reactor);
        return result;
    }
    *out = reactor;
    return 0;
}

int at_reactor_open(at_reactor **out, at_service *service, const at_hooks *hooks,
                    void *context, int worker, int64_t interpreter_id, at_fault *fault)
{
    at_reactor *reactor;
    int result = open_common(&reactor, service, hooks, context, false, worker, fault);
    if (result < 0) {
        return result;
    }
    /* Before it joins, where it can be looked at. */
    at_reactor_set_worker(reactor, worker, interpreter_id);
    at_reactor_tell_heap(reactor);
    result = put_files_between(reactor, fault);
    if (result == 0 && (result = at_service_join(service, reactor)) < 0) {
        (void)at_fault_set(fault, result, "the service takes no more workers");
    }
    if (result < 0) {
        reactor_free(reactor);
        return result;
    }
    show(reactor);
    at_service_tell(service);
    reactor->listener_count = at_service_listeners(service, reactor->listeners);
    at_reactor_listen_start(reactor);
    *out = reactor;
    return 0;
}

int at_reactor_open_guard(at_reactor **out, at_service *service, const at_hooks *hooks,
                          void *context, const int *listeners, int count,
                          at_fault *fault)
{
    assert(count <= AT_LISTENERS_MAX);
    at_reactor *reactor;
    int result =
        open_common(&reactor, service, hooks, context, true, AT_WORKER_GUARD, fault);
    if (result < 0) {
        return result;
    }
    memcpy(reactor->listeners, listeners, (size_t)count * sizeof *listeners);
    reactor->listener_count = count;
    at_reactor_listen_start(reactor);
    show(reactor);
    *out = reactor;
    return 0;
}

/* The worker has ended by itself: nobody will answer the requests that it has. */
static void answer_requests(at_reactor *reactor)
{
    enum { RETRY_AFTER_NS = 1000000000 };
    at_connection *connection = reactor->connections;
    while (connection != NULL) {
        at_connection *after = connection->after;
        if (at_reactor_hold(connection) && at_connection_is_asked(connection)) {
            connection->keep_alive = false;
            at_control_refuse(connection->exchange, RETRY_AFTER_NS,
                              "the worker has ended\n");
        }
        connection = after;
    }
}

void at_reactor_close(at_reactor *reactor)
{
    if (reactor == NULL) {
        return;
    }
    assert(!reactor->in_batch);
    at_service_leave(reactor->service, reactor);
    atomic_store(&reactor->record->open, false);
    atomic_store(&reactor->record->thread, 0);
    at_reactor_listen_stop(reactor);
    for (int i = 0; reactor->is_guard && i < reactor->listener_count; i++) {
        at_socket_close(reactor->listeners[i]);
    }
    at_reactor_move_all(reactor);
    answer_requests(reactor);
    at_reactor_abort(reactor);
    free_dead(reactor);
    reactor_free(reactor);
}

void at_reactor_abort(at_reactor *reactor)
{
    while (reactor->connections != NULL) {
        at_connection *connection = reactor->connections;
        if (at_reactor_hold(connection)) {
            /* Its last answer is under way, where it lingers. */
            at_connection_close(connection, connection->phase != AT_PHASE_LINGER);
        } else if (connection->phase != AT_PHASE_CLOSED) {
            at_reactor_put_shells_away(reactor);
        }
    }
}

void at_reactor_drain(at_reactor *reactor)
{
    if (reactor->draining) {
        return;
    }
    at_reactor_listen_stop(reactor);
    reactor->draining = true;
    at_reactor_attach_all(reactor, at_reactor_empty_inbox(reactor, true));
    /* Each is looked at: an idle one moves to another reactor, or closes where there is
     * none, unless a request has just come. */
    at_connection *connection = reactor->connections;
    while (connection != NULL) {
        at_connection *after = connection->after;
        unsigned claim = atomic_load_explicit(&connection->claim, memory_order_relaxed);
        if (at_reactor_hold(connection)) {
            connection->readable = true;
            at_reactor_schedule(connection);
            /* The application may get stuck before the next batch: whoever gives this
             * reactor up then finds each connection as it was. */
            atomic_store_explicit(&connection->claim, claim, memory_order_release);
        }
        connection = after;
    }
    at_wakefd_set(reactor->wake);
}

/* ---- a batch --------------------------------------------------------------------- */

static void take_messages(at_reactor *reactor)
{
    at_wakefd_clear(reactor->wake);
    at_reactor_attach_all(reactor, at_reactor_empty_inbox(reactor, false));
    if (atomic_load_explicit(&reactor->disturbed, memory_order_relaxed)) {
        at_reactor_see_to_disturbance(reactor);
    }
    if (atomic_exchange_explicit(&reactor->drain_wanted, false, memory_order_acquire)) {
        reactor->hooks->drain(reactor->context);
    }
}

static void dispatch(at_reactor *reactor, const at_poll_event *event)
{
    if (event->user == &reactor->wake) {
        take_messages(reactor);
    } else if (event->user == &reactor->timer) {
        at_reactor_expire(reactor);
    } else if ((int *)event->user >= reactor->listeners &&
               (int *)event->user < reactor->listeners + AT_LISTENERS_MAX) {
        at_reactor_accept_batch(reactor, *(int *)event->user);
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
        if (connection->phase != AT_PHASE_CLOSED && at_reactor_hold(connection)) {
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
    int64_t seen_ns =
        atomic_load_explicit(&reactor->record->seen_ns, memory_order_relaxed);
    if (seen_ns != 0) {
        atomic_store_explicit(&reactor->record->seen_ns, 0, memory_order_relaxed);
    }
    at_delay_batch(&reactor->delay, reactor->now_ns, seen_ns);
    at_reactor_begin_batch(reactor, events, count);
    for (int i = 0; i < count; i++) {
        atomic_store_explicit(&reactor->undone, (unsigned)(count - i - 1),
                              memory_order_relaxed);
        dispatch(reactor, &events[i]);
    }
    at_reactor_let_go_of_batch(reactor);
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

/* ---- what the service asks ------------------------------------------------------- */

bool at_reactor_is_open(at_reactor *reactor)
{
    (void)pthread_mutex_lock(&reactor->mutex);
    bool open = !reactor->inbox_closed;
    (void)pthread_mutex_unlock(&reactor->mutex);
    return open;
}

bool at_reactor_gives_away(const at_connection *connection)
{
    const at_reactor *reactor = connection->reactor;
    return reactor->draining || (reactor->is_guard && !connection->of_control);
}

bool at_reactor_returns(const at_connection *connection)
{
    const at_reactor *reactor = connection->reactor;
    return reactor->is_guard && !connection->of_control &&
           connection->phase == AT_PHASE_IDLE && connection->start == connection->end &&
           at_connection_waiting(connection) == 0 &&
           !at_service_is_swamped(reactor->service);
}

bool at_reactor_is_last(const at_connection *connection)
{
    const at_reactor *reactor = connection->reactor;
    return reactor->draining &&
           !at_service_has_other(reactor->service, reactor, connection->tls == NULL);
}

void at_reactor_reserve(at_reactor *reactor)
{
    atomic_fetch_add_explicit(&reactor->record->load, 1, memory_order_relaxed);
}

uint64_t at_reactor_load(const at_reactor *reactor)
{
    return atomic_load_explicit(&reactor->record->load, memory_order_relaxed);
}

/* ---- what the rest of the part asks ---------------------------------------------- */

void at_reactor_complain(at_reactor *reactor, const char *what, const char *text)
{
    if (reactor->hooks->complain == NULL) {
        return;
    }
    int64_t now = at_reactor_now_ns(reactor);
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
