/* Locks and conditions; see sync.h.
 *
 * The state word of a lock decides who has it; the rest is written by the holder. A
 * condition is a list of tickets under a mutex: to notify is to take tickets off the
 * list and mark them, so a waiter that gives up takes its own off and no notification
 * goes to one who has left.
 */
#include <pthread.h>

#include "base/error.h"
#include "base/memory.h"
#include "chan/sync.h"

enum { FREE, HELD, OWNER_DIED };

typedef struct watch {
    at_membership membership;
    struct watch *next;
} watch;

struct at_lock {
    at_shared shared;
    bool recursive; /* fixed after init */
    atomic_uint state;
    /* writer: the holder. Read by the watch of a closing peer, and by at_lock_is_mine.
     */
    _Atomic(const at_peer *) holder_peer;
    _Atomic(const void *) holder_thread;
    unsigned depth; /* of a recursive lock; the holder's own */
    at_spin spin;
    at_wait_queue queue;
    pthread_mutex_t watch_mutex;
    watch *watches; /* guarded: watch_mutex */
};

/* Something that each live thread has another of. */
static const void *this_thread(void)
{
    static _Thread_local char here;
    return &here;
}

static void lock_free(at_shared *thing)
{
    at_lock *lock = (at_lock *)thing;
    while (lock->watches != NULL) {
        watch *first = lock->watches;
        lock->watches = first->next;
        at_membership_leave(&first->membership);
        at_shared_unref(&first->membership.peer->shared);
        at_free(first);
    }
    at_wait_queue_fini(&lock->queue);
    (void)pthread_mutex_destroy(&lock->watch_mutex);
    at_free(lock);
}

const at_shared_kind at_lock_kind = {"lock", lock_free};
const at_shared_kind at_rlock_kind = {"rlock", lock_free};

int at_lock_new(bool recursive, at_lock **made)
{
    at_lock *lock = at_calloc(1, sizeof *lock);
    if (lock == NULL) {
        return AT_ENOMEM;
    }
    at_shared_init(&lock->shared, recursive ? &at_rlock_kind : &at_lock_kind);
    lock->recursive = recursive;
    at_spin_init(&lock->spin);
    at_wait_queue_init(&lock->queue);
    (void)pthread_mutex_init(&lock->watch_mutex, NULL);
    *made = lock;
    return 0;
}

/* ---- a holder that closes ------------------------------------------------------- */

static void holder_closing(at_membership *membership)
{
    at_lock *lock = (at_lock *)membership->thing;
    const at_peer *peer = membership->peer;
    unsigned held = HELD;
    if (atomic_load(&lock->state) == HELD && atomic_load(&lock->holder_peer) == peer &&
        atomic_compare_exchange_strong(&lock->state, &held, OWNER_DIED)) {
        at_wait_notify(&lock->queue, 1);
    }
}

int at_lock_watch(at_lock *lock, at_peer *peer)
{
    watch *fresh = at_calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        return AT_ENOMEM;
    }
    fresh->membership.peer = peer;
    fresh->membership.thing = &lock->shared;
    fresh->membership.closing = holder_closing;
    int result = 0;
    (void)pthread_mutex_lock(&lock->watch_mutex);
    watch *known = lock->watches;
    while (known != NULL && known->membership.peer != peer) {
        known = known->next;
    }
    if (known == NULL) {
        result = at_membership_enter(&fresh->membership);
        if (result == 0) {
            at_shared_ref(&peer->shared);
            fresh->next = lock->watches;
            lock->watches = fresh;
            fresh = NULL;
        }
    }
    (void)pthread_mutex_unlock(&lock->watch_mutex);
    at_free(fresh);
    return result;
}

/* ---- taking and letting go ------------------------------------------------------- */

int at_lock_try_acquire(at_lock *lock, at_peer *peer)
{
    if (lock->recursive && at_lock_is_mine(lock)) {
        lock->depth++;
        return 0;
    }
    unsigned state = FREE;
    if (atomic_compare_exchange_strong(&lock->state, &state, HELD)) {
        atomic_store(&lock->holder_peer, peer);
        atomic_store(&lock->holder_thread, this_thread());
        lock->depth = 1;
        return 0;
    }
    if (state == OWNER_DIED &&
        atomic_compare_exchange_strong(&lock->state, &state, FREE)) {
        at_wait_notify(&lock->queue, 1);
        return AT_EOWNERDEAD;
    }
    return AT_EAGAIN;
}

typedef struct taking {
    at_lock *lock;
    at_peer *peer;
} taking;

static int attempt_acquire(void *context)
{
    taking *wanted = context;
    return at_lock_try_acquire(wanted->lock, wanted->peer);
}

int at_lock_acquire(at_lock *lock, const at_patience *patience)
{
    taking wanted = {lock, patience->peer};
    at_wait_link link = {.queue = &lock->queue};
    return at_wait(&link, 1, attempt_acquire, &wanted, &lock->spin, patience);
}

static void let_go(at_lock *lock)
{
    atomic_store(&lock->holder_thread, NULL);
    atomic_store(&lock->holder_peer, NULL);
    unsigned held = HELD;
    /* OWNER_DIED instead: our interpreter is closing, and the next was told so. */
    if (atomic_compare_exchange_strong(&lock->state, &held, FREE)) {
        at_wait_notify(&lock->queue, 1);
    }
}

int at_lock_release(at_lock *lock)
{
    if (atomic_load(&lock->state) == FREE ||
        (lock->recursive && !at_lock_is_mine(lock))) {
        return AT_EPERMISSION;
    }
    if (!lock->recursive || --lock->depth == 0) {
        let_go(lock);
    }
    return 0;
}

bool at_lock_is_held(const at_lock *lock)
{
    return atomic_load(&lock->state) == HELD;
}

bool at_lock_is_mine(const at_lock *lock)
{
    return at_lock_is_held(lock) &&
           (!lock->recursive || atomic_load(&lock->holder_thread) == this_thread());
}

/* ---- conditions ------------------------------------------------------------------ */

typedef struct ticket {
    struct ticket *next; /* guarded: the condition's mutex */
    atomic_bool notified;
} ticket;

struct at_condition {
    at_shared shared;
    at_lock *lock; /* a reference; fixed after init */
    pthread_mutex_t mutex;
    ticket *first; /* guarded: mutex, as the next */
    ticket *last;
    at_spin spin;
    at_wait_queue queue;
};

static void condition_free(at_shared *thing)
{
    at_condition *condition = (at_condition *)thing;
    at_shared_unref(&condition->lock->shared);
    at_wait_queue_fini(&condition->queue);
    (void)pthread_mutex_destroy(&condition->mutex);
    at_free(condition);
}

const at_shared_kind at_condition_kind = {"condition", condition_free};

int at_condition_new(at_lock *lock, at_condition **made)
{
    at_condition *condition = at_calloc(1, sizeof *condition);
    if (condition == NULL) {
        return AT_ENOMEM;
    }
    at_shared_init(&condition->shared, &at_condition_kind);
    condition->lock = (at_lock *)at_shared_ref(&lock->shared);
    at_spin_init(&condition->spin);
    at_wait_queue_init(&condition->queue);
    (void)pthread_mutex_init(&condition->mutex, NULL);
    *made = condition;
    return 0;
}

at_lock *at_condition_lock(at_condition *condition)
{
    return condition->lock;
}

static void ticket_enter(at_condition *condition, ticket *mine)
{
    (void)pthread_mutex_lock(&condition->mutex);
    if (condition->last != NULL) {
        condition->last->next = mine;
    } else {
        condition->first = mine;
    }
    condition->last = mine;
    (void)pthread_mutex_unlock(&condition->mutex);
}

/* Off the list, unless notified; true when it was notified. */
static bool ticket_leave(at_condition *condition, ticket *mine)
{
    (void)pthread_mutex_lock(&condition->mutex);
    bool notified = atomic_load(&mine->notified);
    ticket *previous = NULL;
    for (ticket *one = condition->first; !notified && one != NULL; one = one->next) {
        if (one == mine) {
            *(previous != NULL ? &previous->next : &condition->first) = mine->next;
            if (condition->last == mine) {
                condition->last = previous;
            }
            break;
        }
        previous = one;
    }
    (void)pthread_mutex_unlock(&condition->mutex);
    return notified;
}

static int attempt_notified(void *context)
{
    ticket *mine = context;
    return atomic_load(&mine->notified) ? 0 : AT_EAGAIN;
}

int at_condition_wait(at_condition *condition, const at_patience *patience)
{
    at_lock *lock = condition->lock;
    if (!at_lock_is_mine(lock)) {
        return AT_EPERMISSION;
    }
    ticket mine = {0};
    ticket_enter(condition, &mine);
    unsigned depth = lock->depth;
    let_go(lock);
    at_wait_link link = {.queue = &condition->queue};
    int result = at_wait(&link, 1, attempt_notified, &mine, &condition->spin, patience);
    if (ticket_leave(condition, &mine)) {
        result = 0;
    }
    /* Signals wait until the lock is held again: the caller relies on that. */
    at_patience forever = {INT64_MAX, patience->peer};
    int retaken;
    do {
        retaken = at_lock_acquire(lock, &forever);
    } while (retaken == AT_EINTERRUPTED);
    if (retaken < 0) {
        return retaken;
    }
    lock->depth = depth;
    return result;
}

int at_condition_notify(at_condition *condition, unsigned count)
{
    if (!at_lock_is_mine(condition->lock)) {
        return AT_EPERMISSION;
    }
    (void)pthread_mutex_lock(&condition->mutex);
    bool any = condition->first != NULL;
    while (count-- != 0 && condition->first != NULL) {
        ticket *first = condition->first;
        condition->first = first->next;
        if (condition->first == NULL) {
            condition->last = NULL;
        }
        /* The last touch: its owner may leave from here on. */
        atomic_store(&first->notified, true);
    }
    (void)pthread_mutex_unlock(&condition->mutex);
    if (any) {
        at_wait_notify_all(&condition->queue);
    }
    return 0;
}
