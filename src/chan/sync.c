/* Events, semaphores and barriers; see sync.h. */
#include "chan/sync.h"

#include <pthread.h>

#include "base/error.h"
#include "base/memory.h"

/* ---- events --------------------------------------------------------------------- */

struct at_event {
    at_shared shared;
    atomic_bool set;
    at_spin spin;
    at_wait_queue queue;
};

static void event_free(at_shared *thing)
{
    at_wait_queue_fini(&((at_event *)thing)->queue);
    at_free(thing);
}

const at_shared_kind at_event_kind = {"event", event_free};

int at_event_new(at_event **made)
{
    at_event *event = at_calloc(1, sizeof *event);
    if (event == NULL) {
        return AT_ENOMEM;
    }
    at_shared_init(&event->shared, &at_event_kind);
    at_spin_init(&event->spin);
    at_wait_queue_init(&event->queue);
    *made = event;
    return 0;
}

void at_event_set(at_event *event)
{
    atomic_store(&event->set, true);
    at_wait_notify_all(&event->queue);
}

void at_event_clear(at_event *event)
{
    atomic_store(&event->set, false);
}

bool at_event_is_set(const at_event *event)
{
    return atomic_load(&event->set);
}

static int attempt_event(void *context)
{
    return at_event_is_set(context) ? 0 : AT_EAGAIN;
}

int at_event_wait(at_event *event, const at_patience *patience)
{
    at_wait_link link = {.queue = &event->queue};
    return at_wait(&link, 1, attempt_event, event, &event->spin, patience);
}

/* ---- semaphores -------------------------------------------------------------------
 */

struct at_semaphore {
    at_shared shared;
    int64_t limit; /* fixed after init */
    atomic_int_fast64_t value;
    at_spin spin;
    at_wait_queue queue;
};

static void semaphore_free(at_shared *thing)
{
    at_wait_queue_fini(&((at_semaphore *)thing)->queue);
    at_free(thing);
}

const at_shared_kind at_semaphore_kind = {"semaphore", semaphore_free};

int at_semaphore_new(int64_t value, int64_t limit, at_semaphore **made)
{
    at_semaphore *semaphore = at_calloc(1, sizeof *semaphore);
    if (semaphore == NULL) {
        return AT_ENOMEM;
    }
    at_shared_init(&semaphore->shared, &at_semaphore_kind);
    semaphore->limit = limit;
    atomic_init(&semaphore->value, value);
    at_spin_init(&semaphore->spin);
    at_wait_queue_init(&semaphore->queue);
    *made = semaphore;
    return 0;
}

int at_semaphore_try_acquire(at_semaphore *semaphore)
{
    int_fast64_t value = atomic_load(&semaphore->value);
    while (value > 0) {
        if (atomic_compare_exchange_weak(&semaphore->value, &value, value - 1)) {
            return 0;
        }
    }
    return AT_EAGAIN;
}

static int attempt_semaphore(void *context)
{
    return at_semaphore_try_acquire(context);
}

int at_semaphore_acquire(at_semaphore *semaphore, const at_patience *patience)
{
    at_wait_link link = {.queue = &semaphore->queue};
    return at_wait(&link, 1, attempt_semaphore, semaphore, &semaphore->spin, patience);
}

int at_semaphore_release(at_semaphore *semaphore, int64_t count)
{
    int_fast64_t value = atomic_load(&semaphore->value);
    do {
        if (count > semaphore->limit - value) {
            return AT_ELIMIT;
        }
    } while (!atomic_compare_exchange_weak(&semaphore->value, &value, value + count));
    at_wait_notify(&semaphore->queue,
                   count < UINT32_MAX ? (unsigned)count : UINT32_MAX);
    return 0;
}

/* ---- barriers ---------------------------------------------------------------------
 */

struct at_barrier {
    at_shared shared;
    unsigned parties; /* fixed after init */
    pthread_mutex_t mutex;
    unsigned waiting;    /* guarded: mutex, as the next; of the present round */
    uint64_t round;      /* goes up when all have come, and when it is reset */
    uint64_t last_whole; /* the last round in which all came */
    bool broken;
    at_spin spin;
    at_wait_queue queue;
};

static void barrier_free(at_shared *thing)
{
    at_barrier *barrier = (at_barrier *)thing;
    at_wait_queue_fini(&barrier->queue);
    (void)pthread_mutex_destroy(&barrier->mutex);
    at_free(barrier);
}

const at_shared_kind at_barrier_kind = {"barrier", barrier_free};

int at_barrier_new(unsigned parties, at_barrier **made)
{
    at_barrier *barrier = at_calloc(1, sizeof *barrier);
    if (barrier == NULL) {
        return AT_ENOMEM;
    }
    at_shared_init(&barrier->shared, &at_barrier_kind);
    barrier->parties = parties;
    barrier->round = 1;
    at_spin_init(&barrier->spin);
    at_wait_queue_init(&barrier->queue);
    (void)pthread_mutex_init(&barrier->mutex, NULL);
    *made = barrier;
    return 0;
}

typedef struct arrival {
    at_barrier *barrier;
    uint64_t round;
} arrival;

static int attempt_barrier(void *context)
{
    arrival *mine = context;
    at_barrier *barrier = mine->barrier;
    (void)pthread_mutex_lock(&barrier->mutex);
    int result = AT_EAGAIN;
    if (barrier->round != mine->round) {
        /* Rounds that did not become whole were reset under those who waited. */
        result = barrier->last_whole >= mine->round ? 0 : AT_EBROKEN;
    } else if (barrier->broken) {
        result = AT_EBROKEN;
    }
    (void)pthread_mutex_unlock(&barrier->mutex);
    return result;
}

/* Returns 1 when the caller completed the round, 0 when it must wait for others. */
static int arrive(at_barrier *barrier, arrival *mine, unsigned *place)
{
    (void)pthread_mutex_lock(&barrier->mutex);
    int result = AT_EBROKEN;
    if (!barrier->broken) {
        *place = barrier->waiting++;
        mine->round = barrier->round;
        result = barrier->waiting == barrier->parties;
        if (result) {
            barrier->last_whole = barrier->round++;
            barrier->waiting = 0;
        }
    }
    (void)pthread_mutex_unlock(&barrier->mutex);
    return result;
}

int at_barrier_wait(at_barrier *barrier, unsigned *place, const at_patience *patience)
{
    arrival mine = {.barrier = barrier};
    int arrived = arrive(barrier, &mine, place);
    if (arrived < 0) {
        return arrived;
    }
    if (arrived == 1) {
        at_wait_notify_all(&barrier->queue);
        return 0;
    }
    at_wait_link link = {.queue = &barrier->queue};
    int result = at_wait(&link, 1, attempt_barrier, &mine, &barrier->spin, patience);
    if (result == 0 || result == AT_EBROKEN) {
        return result;
    }
    at_barrier_abort(barrier);
    return result == AT_ETIMEOUT ? AT_EBROKEN : result;
}

void at_barrier_abort(at_barrier *barrier)
{
    (void)pthread_mutex_lock(&barrier->mutex);
    barrier->broken = true;
    (void)pthread_mutex_unlock(&barrier->mutex);
    at_wait_notify_all(&barrier->queue);
}

void at_barrier_reset(at_barrier *barrier)
{
    (void)pthread_mutex_lock(&barrier->mutex);
    if (barrier->waiting != 0) {
        barrier->round++;
    }
    barrier->waiting = 0;
    barrier->broken = false;
    (void)pthread_mutex_unlock(&barrier->mutex);
    at_wait_notify_all(&barrier->queue);
}

unsigned at_barrier_parties(const at_barrier *barrier)
{
    return barrier->parties;
}

unsigned at_barrier_waiting(at_barrier *barrier)
{
    (void)pthread_mutex_lock(&barrier->mutex);
    unsigned waiting = barrier->waiting;
    (void)pthread_mutex_unlock(&barrier->mutex);
    return waiting;
}

bool at_barrier_is_broken(at_barrier *barrier)
{
    (void)pthread_mutex_lock(&barrier->mutex);
    bool broken = barrier->broken;
    (void)pthread_mutex_unlock(&barrier->mutex);
    return broken;
}
