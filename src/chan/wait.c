/* Waiting; see wait.h. */
#include "chan/wait.h"

#include <assert.h>

#include "base/error.h"
#include "chan/peer.h"
#include "sys/park.h"

/* How many are notified with one lock of the queue. */
enum { NOTIFY_BATCH = 16 };

void at_wait_queue_init(at_wait_queue *queue)
{
    atomic_init(&queue->count, 0);
    (void)pthread_mutex_init(&queue->mutex, NULL);
    queue->first = NULL;
    queue->last = NULL;
}

void at_wait_queue_fini(at_wait_queue *queue)
{
    assert(queue->first == NULL);
    (void)pthread_mutex_destroy(&queue->mutex);
}

/* ---- links ------------------------------------------------------------------ */

static void link_in(at_wait_link *link, at_waiter *waiter)
{
    at_wait_queue *queue = link->queue;
    (void)pthread_mutex_lock(&queue->mutex);
    link->waiter = waiter;
    link->next = NULL;
    link->previous = queue->last;
    if (queue->last != NULL) {
        queue->last->next = link;
    } else {
        queue->first = link;
    }
    queue->last = link;
    link->linked = true;
    /* Sequentially consistent, before the attempt that follows. */
    atomic_fetch_add(&queue->count, 1);
    (void)pthread_mutex_unlock(&queue->mutex);
}

/* Caller holds the queue's mutex. */
static void unlink_locked(at_wait_link *link)
{
    at_wait_queue *queue = link->queue;
    if (link->previous != NULL) {
        link->previous->next = link->next;
    } else {
        queue->first = link->next;
    }
    if (link->next != NULL) {
        link->next->previous = link->previous;
    } else {
        queue->last = link->previous;
    }
    link->linked = false;
    atomic_fetch_sub(&queue->count, 1);
}

static void link_out(at_wait_link *link)
{
    at_wait_queue *queue = link->queue;
    (void)pthread_mutex_lock(&queue->mutex);
    if (link->linked) {
        unlink_locked(link);
    }
    (void)pthread_mutex_unlock(&queue->mutex);
}

/* ---- notifying -------------------------------------------------------------- */

/* Whom to wake once the mutex is free. */
typedef struct wake {
    at_waiter *waiter; /* only an address, unless it has an owner */
    at_shared *owner;  /* counted, or NULL */
} wake;

static bool state_leave_waiting(at_waiter *waiter, unsigned state)
{
    unsigned waiting = AT_WAITER_WAITING;
    return atomic_compare_exchange_strong(&waiter->state, &waiting, state);
}

/* Move up to `limit` waiters from waiting to notified. Caller holds the mutex. */
static unsigned notify_locked(at_wait_queue *queue, int64_t now_ns, wake *wakes,
                              unsigned limit)
{
    unsigned count = 0;
    at_wait_link *next;
    for (at_wait_link *link = queue->first; link != NULL && count < limit;
         link = next) {
        next = link->next;
        at_waiter *waiter = link->waiter;
        unsigned place = (unsigned)(link - waiter->links);
        at_wake_note_write(&waiter->note, now_ns);
        /* One that another queue has notified, or whose interpreter ends, will not use
         * this: it leaves by itself, and the next one is asked. */
        if (state_leave_waiting(waiter, AT_WAITER_NOTIFIED + place)) {
            unlink_locked(link);
            wakes[count++] = (wake){
                waiter, waiter->owner != NULL ? at_shared_ref(waiter->owner) : NULL};
        }
    }
    return count;
}

/* Returns how many were notified. */
static unsigned notify_batch(at_wait_queue *queue, unsigned limit)
{
    wake wakes[NOTIFY_BATCH];
    int64_t now_ns = at_spin_wakes();
    (void)pthread_mutex_lock(&queue->mutex);
    unsigned count = notify_locked(queue, now_ns, wakes,
                                   limit < NOTIFY_BATCH ? limit : NOTIFY_BATCH);
    (void)pthread_mutex_unlock(&queue->mutex);
    for (unsigned i = 0; i < count; i++) {
        if (wakes[i].owner != NULL) {
            wakes[i].waiter->call(wakes[i].waiter);
            at_shared_unref(wakes[i].owner);
        } else {
            at_park_wake(&wakes[i].waiter->state, 1, AT_PARK_PRIVATE);
        }
    }
    return count;
}

void at_wait_notify(at_wait_queue *queue, unsigned count)
{
    /* Pairs with the addition in link_in: see wait.h. */
    while (count != 0 && atomic_load(&queue->count) != 0) {
        unsigned notified = notify_batch(queue, count);
        if (notified < NOTIFY_BATCH) {
            return; /* as many as wanted, or as there are */
        }
        count -= notified;
    }
}

void at_wait_notify_all(at_wait_queue *queue)
{
    at_wait_notify(queue, UINT32_MAX);
}

/* ---- sleeping --------------------------------------------------------------- */

static int sleeper_enter(at_waiter *waiter)
{
    at_peer *peer = waiter->peer;
    if (peer == NULL) {
        return 0;
    }
    (void)pthread_mutex_lock(&peer->mutex);
    bool closing = atomic_load(&peer->closing);
    if (!closing) {
        waiter->previous_sleeper = NULL;
        waiter->next_sleeper = peer->sleepers;
        if (peer->sleepers != NULL) {
            peer->sleepers->previous_sleeper = waiter;
        }
        peer->sleepers = waiter;
        waiter->sleeping = true;
    }
    (void)pthread_mutex_unlock(&peer->mutex);
    return closing ? AT_EENDING : 0;
}

/* Caller holds the peer's mutex. */
static void sleeper_unlink(at_waiter *waiter)
{
    if (waiter->previous_sleeper != NULL) {
        waiter->previous_sleeper->next_sleeper = waiter->next_sleeper;
    } else {
        waiter->peer->sleepers = waiter->next_sleeper;
    }
    if (waiter->next_sleeper != NULL) {
        waiter->next_sleeper->previous_sleeper = waiter->previous_sleeper;
    }
    waiter->sleeping = false;
}

static void sleeper_leave(at_waiter *waiter)
{
    at_peer *peer = waiter->peer;
    if (peer != NULL) {
        (void)pthread_mutex_lock(&peer->mutex);
        if (waiter->sleeping) {
            sleeper_unlink(waiter);
        }
        (void)pthread_mutex_unlock(&peer->mutex);
    }
}

void at_waiters_end(at_peer *peer)
{
    unsigned count;
    do {
        at_waiter *woken[NOTIFY_BATCH];
        count = 0;
        (void)pthread_mutex_lock(&peer->mutex);
        atomic_store(&peer->closing, true);
        while (peer->sleepers != NULL && count < NOTIFY_BATCH) {
            at_waiter *waiter = peer->sleepers;
            sleeper_unlink(waiter);
            if (state_leave_waiting(waiter, AT_WAITER_ENDING)) {
                woken[count++] = waiter;
            }
        }
        (void)pthread_mutex_unlock(&peer->mutex);
        for (unsigned i = 0; i < count; i++) {
            at_park_wake(&woken[i]->state, 1, AT_PARK_PRIVATE);
        }
    } while (count == NOTIFY_BATCH);
}

void at_waiter_interrupt(at_peer *peer, pthread_t thread)
{
    at_waiter *woken = NULL;
    (void)pthread_mutex_lock(&peer->mutex);
    for (at_waiter *one = peer->sleepers; one != NULL; one = one->next_sleeper) {
        if (pthread_equal(one->thread, thread) &&
            state_leave_waiting(one, AT_WAITER_INTERRUPTED)) {
            woken = one; /* a thread sleeps once */
            break;
        }
    }
    (void)pthread_mutex_unlock(&peer->mutex);
    if (woken != NULL) {
        at_park_wake(&woken->state, 1, AT_PARK_PRIVATE);
    }
}

/* Sleep until the waiter is notified: 0, or why it was not. */
static int sleep_on(at_waiter *waiter, int64_t deadline_ns) AT_DETACHED
{
    int result = sleeper_enter(waiter);
    if (result < 0) {
        return result;
    }
    /* Who interrupts sets the bit and then looks for sleepers. */
    if (at_park_is_told()) {
        result = AT_EINTERRUPTED;
    }
    while (result == 0 && atomic_load(&waiter->state) == AT_WAITER_WAITING) {
        result = at_park_wait_watching(&waiter->state, AT_WAITER_WAITING, deadline_ns,
                                       AT_PARK_PRIVATE);
    }
    sleeper_leave(waiter);
    unsigned state = atomic_load(&waiter->state);
    if (state == AT_WAITER_ENDING) {
        return AT_EENDING;
    }
    if (state == AT_WAITER_INTERRUPTED) {
        return AT_EINTERRUPTED;
    }
    return state >= AT_WAITER_NOTIFIED ? 0 : result;
}

/* ---- the loop --------------------------------------------------------------- */

static void waiter_link(at_waiter *waiter, at_wait_link *links, size_t count)
{
    waiter->links = links;
    atomic_store(&waiter->state, AT_WAITER_WAITING);
    for (size_t i = 0; i < count; i++) {
        link_in(&links[i], waiter);
    }
}

/* Unless `used`, a notification that came is given to the next one. */
static void waiter_unlink(at_waiter *waiter, at_wait_link *links, size_t count,
                          bool used)
{
    for (size_t i = 0; i < count; i++) {
        link_out(&links[i]);
    }
    unsigned state = atomic_load(&waiter->state);
    if (state >= AT_WAITER_NOTIFIED && !used) {
        at_wait_notify(links[state - AT_WAITER_NOTIFIED].queue, 1);
    }
}

int at_wait(at_wait_link *links, size_t count, at_attempt *attempt, void *context,
            at_spin *spin, const at_patience *patience)
{
    int result = at_spin_for(spin, attempt, context);
    at_waiter waiter = {.peer = patience->peer, .thread = pthread_self()};
    while (result == AT_EAGAIN) {
        waiter_link(&waiter, links, count);
        result = attempt(context);
        if (result != AT_EAGAIN) {
            waiter_unlink(&waiter, links, count, false);
            return result;
        }
        int slept = sleep_on(&waiter, patience->deadline_ns);
        if (slept == 0) {
            at_spin_was_woken(spin, &waiter.note);
            result = attempt(context);
            /* With several queues it may not have been the one that notified. */
            waiter_unlink(&waiter, links, count, count == 1);
        } else {
            waiter_unlink(&waiter, links, count, false);
            result = slept == AT_ETIMEOUT ? attempt(context) : slept;
            if (result == AT_EAGAIN) {
                return AT_ETIMEOUT;
            }
        }
    }
    return result;
}

void at_wait_arm(at_waiter *waiter, at_wait_link *links, size_t count)
{
    waiter_link(waiter, links, count);
}

void at_wait_disarm(at_waiter *waiter, at_wait_link *links, size_t count, bool used)
{
    waiter_unlink(waiter, links, count, used);
}
