/* How connections leave a reactor for another: the balancer takes them, or a draining
 * one gives them away; see balance.h. */
#include <pthread.h>

#include "base/memory.h"
#include "net/connection.h"
#include "net/reactor_internal.h"
#include "sys/clock.h"
#include "sys/wakefd.h"

/* ---- what the owner does --------------------------------------------------------- */

/* Say what is about to be worked off, so that the balancer can take from it what waits
 * behind something long. */
void at_reactor_begin_batch(at_reactor *reactor, at_poll_event *events, int count)
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
void at_reactor_let_go_of_batch(at_reactor *reactor)
{
    /* The owner is the only writer, and may look without the mutex. */
    if (reactor->batch != NULL) {
        (void)pthread_mutex_lock(&reactor->mutex);
        reactor->batch = NULL;
        reactor->batch_count = 0;
        (void)pthread_mutex_unlock(&reactor->mutex);
    }
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
    at_reactor_unlink(connection);
}

void at_reactor_put_shells_away(at_reactor *reactor)
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

void at_reactor_see_to_disturbance(at_reactor *reactor)
{
    atomic_store_explicit(&reactor->disturbed, false, memory_order_relaxed);
    at_reactor_put_shells_away(reactor);
    hear_what_was_told(reactor);
}

/* The dead are told nothing. */
void at_reactor_forget_told(at_reactor *reactor)
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

/* ---- what the balancer does ------------------------------------------------------ */

static bool is_connection(const at_reactor *reactor, const void *user)
{
    return user != &reactor->wake && user != &reactor->timer &&
           ((const int *)user < reactor->listeners ||
            (const int *)user >= reactor->listeners + AT_LISTENERS_MAX);
}

/* What another reactor needs to go on with a connection that is ours to give. */
static at_newcomer newcomer_of(const at_connection *connection)
{
    return (at_newcomer){.descriptor = connection->descriptor,
                         .tls = connection->tls,
                         .peer = connection->peer,
                         .requests = connection->requests,
                         .moved = true,
                         .local_known = connection->local_known,
                         .local = connection->local};
}

bool at_reactor_take(at_reactor *reactor, at_connection *connection,
                     at_newcomer *newcomer)
{
    unsigned claim = AT_CLAIM_FREE;
    if (!atomic_compare_exchange_strong_explicit(&connection->claim, &claim,
                                                 AT_CLAIM_TAKEN, memory_order_acquire,
                                                 memory_order_relaxed)) {
        return false;
    }
    *newcomer = newcomer_of(connection);
    at_poll_remove(reactor->set, connection->descriptor);
    atomic_fetch_sub_explicit(&reactor->record->load, 1, memory_order_relaxed);
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

/* How many events of the batch the owner has begun with. Caller holds the mutex. */
static unsigned begun_of_batch(const at_reactor *reactor)
{
    unsigned undone = atomic_load_explicit(&reactor->undone, memory_order_relaxed);
    return undone < reactor->batch_count ? reactor->batch_count - undone : 0;
}

/* Something to read, of a connection that rests: it is taken, into the list. Caller
 * holds the mutex. */
static bool take_ready(at_reactor *reactor, const at_poll_event *event,
                       at_newcomer **spare, int *spare_count, at_newcomer **list)
{
    const unsigned ending = AT_POLL_HANGUP | AT_POLL_PEER_SHUT;
    if ((event->ready & ending) || !(event->ready & AT_POLL_READABLE) ||
        *spare_count == 0 ||
        !at_reactor_take(reactor, event->user, spare[*spare_count - 1])) {
        return false;
    }
    at_newcomer *newcomer = spare[--*spare_count];
    newcomer->next = *list;
    *list = newcomer;
    return true;
}

at_newcomer *at_reactor_take_share(at_reactor *reactor, int takers, at_newcomer **spare,
                                   int *spare_count)
{
    at_newcomer *list = NULL;
    (void)pthread_mutex_lock(&reactor->mutex);
    unsigned begun = begun_of_batch(reactor);
    unsigned undone = reactor->batch_count - begun;
    unsigned share = undone * (unsigned)takers / ((unsigned)takers + 1);
    for (unsigned i = reactor->batch_count; i > begun && share > 0; i--) {
        const at_poll_event *event = &reactor->batch[i - 1];
        if (is_connection(reactor, event->user) &&
            take_ready(reactor, event, spare, spare_count, &list)) {
            share--;
        }
    }
    if (list != NULL) {
        atomic_store_explicit(&reactor->disturbed, true, memory_order_relaxed);
    }
    (void)pthread_mutex_unlock(&reactor->mutex);
    if (list != NULL) {
        at_wakefd_set(reactor->wake);
    }
    return list;
}

at_newcomer *at_reactor_take_from(at_reactor *reactor, at_newcomer **spare,
                                  int *spare_count)
{
    at_poll_event events[AT_POLL_BATCH];
    (void)pthread_mutex_lock(&reactor->mutex);
    at_newcomer *list = reactor->inbox;
    reactor->inbox = NULL;
    for (at_newcomer *newcomer = list; newcomer != NULL; newcomer = newcomer->next) {
        atomic_fetch_sub_explicit(&reactor->record->load, 1, memory_order_relaxed);
    }
    /* What the owner has in its hands and has not begun with, then what is ready. */
    unsigned begun = begun_of_batch(reactor);
    int count = at_poll_wait(reactor->set, events, 0);
    bool disturbed = false;
    for (int i = -(int)(reactor->batch_count - begun); i < count; i++) {
        const at_poll_event *event =
            i < 0 ? &reactor->batch[(int)reactor->batch_count + i] : &events[i];
        if (!is_connection(reactor, event->user)) {
            continue;
        }
        if (take_ready(reactor, event, spare, spare_count, &list)) {
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
    look->undone = atomic_load_explicit(&reactor->undone, memory_order_relaxed);
    look->waiting = look->undone != 0 || at_poll_any(&reactor->set, 1, 0);
    look->open = at_reactor_is_open(reactor);
}

void at_reactor_poke(at_reactor *reactor)
{
    at_wakefd_set(reactor->wake);
}

static void note_since(atomic_llong *since_ns, bool is)
{
    if (is != (atomic_load_explicit(since_ns, memory_order_relaxed) != 0)) {
        atomic_store_explicit(since_ns, is ? at_clock_ns() : 0, memory_order_relaxed);
    }
}

void at_reactor_see(at_reactor *reactor, bool waiting, bool busy)
{
    note_since(&reactor->record->seen_ns, waiting);
    note_since(&reactor->record->busy_ns, busy);
}

void at_reactor_set_stuck(at_reactor *reactor, bool stuck)
{
    atomic_store_explicit(&reactor->stuck, stuck, memory_order_relaxed);
}

bool at_reactor_is_watched(const at_reactor *reactor)
{
    return reactor->watched;
}

void at_reactor_set_watched(at_reactor *reactor, bool watched)
{
    reactor->watched = watched;
}

bool at_reactor_is_stuck(const at_reactor *reactor)
{
    return atomic_load_explicit(&reactor->stuck, memory_order_relaxed);
}

/* ---- a draining reactor ---------------------------------------------------------- */

/* Of one that is held, by the owner; not while at_reactor_cut uses its socket. */
static void set_claim(at_connection *connection, unsigned claim)
{
    at_reactor *reactor = connection->reactor;
    (void)pthread_mutex_lock(&reactor->mutex);
    atomic_store_explicit(&connection->claim, claim, memory_order_relaxed);
    (void)pthread_mutex_unlock(&reactor->mutex);
}

bool at_reactor_move_away(at_connection *connection)
{
    at_reactor *reactor = connection->reactor;
    at_newcomer *newcomer = at_alloc(sizeof *newcomer);
    if (newcomer == NULL) {
        return false;
    }
    *newcomer = newcomer_of(connection);
    at_poll_remove(reactor->set, connection->descriptor);
    /* From now on the socket may be another's: who gives this reactor up and finds the
     * connection in the list shall not touch it. */
    set_claim(connection, AT_CLAIM_TAKEN);
    if (!at_service_place(reactor->service, reactor, newcomer)) {
        set_claim(connection, AT_CLAIM_HELD);
        at_free(newcomer);
        return false; /* it ends here; nobody misses its events */
    }
    atomic_fetch_sub_explicit(&reactor->record->load, 1, memory_order_relaxed);
    bury_shell(connection);
    return true;
}

/* Give away what rests, as far as there is somebody to take it. */
static void move_those_at_rest(at_reactor *reactor)
{
    at_connection *connection = reactor->connections;
    while (connection != NULL) {
        at_connection *after = connection->after;
        bool rests = atomic_load_explicit(&connection->claim, memory_order_relaxed) ==
                     AT_CLAIM_FREE;
        if (rests && at_reactor_hold(connection) && !at_reactor_move_away(connection)) {
            return;
        }
        connection = after;
    }
}

void at_reactor_move_all(at_reactor *reactor)
{
    at_newcomer *newcomers = at_reactor_empty_inbox(reactor, true);
    while (newcomers != NULL) {
        at_newcomer *newcomer = newcomers;
        newcomers = newcomer->next;
        atomic_fetch_sub_explicit(&reactor->record->load, 1, memory_order_relaxed);
        if (!at_service_place(reactor->service, reactor, newcomer)) {
            at_newcomer_close(newcomer);
        }
    }
    at_reactor_put_shells_away(reactor);
    move_those_at_rest(reactor);
}
