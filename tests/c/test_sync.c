/* Locks, conditions, events, semaphores, barriers: alone and with threads. */
#include <stdint.h>

#include "base/error.h"
#include "chan/sync.h"
#include "check.h"
#include "sys/clock.h"
#include "sys/thread.h"

enum { MILLISECOND = 1000000, ROUNDS = 3000, THREADS = 4 };

static at_patience forever(void)
{
    return (at_patience){AT_NEVER, NULL};
}

static at_patience briefly(void)
{
    return (at_patience){at_clock_deadline(2 * MILLISECOND), NULL};
}

static at_lock *lock_of(bool recursive)
{
    at_lock *lock;
    CHECK(at_lock_new(recursive, &lock) == 0);
    return lock;
}

static void unref(void *thing)
{
    at_shared_unref(thing);
}

static int makes_and_frees(void)
{
    at_lock *lock;
    int result = at_lock_new(true, &lock);
    if (result < 0) {
        return result;
    }
    at_condition *condition = NULL;
    at_peer *peer;
    result = at_condition_new(lock, &condition);
    if (result == 0 && (result = at_peer_join(3, &peer)) == 0) {
        result = at_lock_watch(lock, peer);
        unref(peer);
    }
    unref(condition);
    unref(lock);
    return result;
}

static void locks_alone(void)
{
    at_lock *lock = lock_of(false);
    CHECK(at_lock_release(lock) == AT_EPERMISSION);
    CHECK(at_lock_try_acquire(lock, NULL) == 0 && at_lock_is_held(lock));
    CHECK(at_lock_try_acquire(lock, NULL) == AT_EAGAIN);
    at_patience patience = briefly();
    CHECK(at_lock_acquire(lock, &patience) == AT_ETIMEOUT);
    CHECK(at_lock_release(lock) == 0 && !at_lock_is_held(lock));
    unref(lock);
    lock = lock_of(true);
    CHECK(at_lock_try_acquire(lock, NULL) == 0 && at_lock_try_acquire(lock, NULL) == 0);
    CHECK(at_lock_release(lock) == 0 && at_lock_is_mine(lock));
    CHECK(at_lock_release(lock) == 0 && !at_lock_is_mine(lock));
    CHECK(at_lock_release(lock) == AT_EPERMISSION);
    unref(lock);
}

typedef struct crowd {
    at_lock *lock;
    at_condition *condition;
    at_semaphore *semaphore;
    at_barrier *barrier;
    at_event *event;
    long counter; /* guarded: whatever the test is about */
    int result;
} crowd;

static void run(void (*body)(void *), crowd *all)
{
    at_thread threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        CHECK(at_thread_start(&threads[i], "crowd", body, all, NULL) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        at_thread_join(&threads[i]);
    }
}

static void count_locked(void *data)
{
    crowd *all = data;
    at_patience patience = forever();
    for (int i = 0; i < ROUNDS; i++) {
        CHECK(at_lock_acquire(all->lock, &patience) == 0);
        all->counter++;
        CHECK(at_lock_release(all->lock) == 0);
    }
}

static void locks_exclude(void)
{
    for (int recursive = 0; recursive < 2; recursive++) {
        crowd all = {.lock = lock_of(recursive != 0)};
        run(count_locked, &all);
        CHECK(all.counter == (long)THREADS * ROUNDS);
        unref(all.lock);
    }
}

static void lock_in_interpreter(void *data)
{
    crowd *all = data;
    at_patience patience = forever();
    all->result = at_lock_acquire(all->lock, &patience);
}

static void death_of_the_holder_is_told_once(void)
{
    crowd all = {.lock = lock_of(false)};
    at_peer *peer;
    CHECK(at_peer_join(9, &peer) == 0 && at_lock_watch(all.lock, peer) == 0);
    CHECK(at_lock_try_acquire(all.lock, peer) == 0);
    at_thread thread;
    CHECK(at_thread_start(&thread, "next", lock_in_interpreter, &all, NULL) == 0);
    at_channels_interpreter_closing(9);
    at_thread_join(&thread);
    CHECK(all.result == AT_EOWNERDEAD);
    CHECK(at_lock_try_acquire(all.lock, NULL) == 0);
    CHECK(at_lock_watch(all.lock, peer) == 0); /* known, though it closes */
    unref(all.lock);
    unref(peer);
}

/* Tokens go round: each thread waits for its turn and passes it on. */
static void pass_on(void *data)
{
    crowd *all = data;
    at_patience patience = forever();
    for (int i = 0; i < ROUNDS / 10; i++) {
        CHECK(at_lock_acquire(all->lock, &patience) == 0);
        while (all->counter == 0) {
            CHECK(at_condition_wait(all->condition, &patience) == 0);
        }
        all->counter--;
        CHECK(at_lock_release(all->lock) == 0);
        CHECK(at_lock_acquire(all->lock, &patience) == 0);
        all->counter++;
        CHECK(at_condition_notify(all->condition, 1) == 0);
        CHECK(at_lock_release(all->lock) == 0);
    }
}

static void conditions(void)
{
    crowd all = {.lock = lock_of(true), .counter = 1};
    CHECK(at_condition_new(all.lock, &all.condition) == 0);
    at_patience patience = briefly();
    CHECK(at_condition_wait(all.condition, &patience) == AT_EPERMISSION);
    CHECK(at_condition_notify(all.condition, 1) == AT_EPERMISSION);
    CHECK(at_lock_try_acquire(all.lock, NULL) == 0);
    CHECK(at_lock_try_acquire(all.lock, NULL) == 0);
    CHECK(at_condition_notify(all.condition, 1) == 0);
    CHECK(at_condition_wait(all.condition, &patience) == AT_ETIMEOUT);
    CHECK(at_lock_release(all.lock) == 0 && at_lock_release(all.lock) == 0);
    run(pass_on, &all);
    CHECK(all.counter == 1);
    unref(all.condition);
    unref(all.lock);
}

static void count_limited(void *data)
{
    crowd *all = data;
    at_patience patience = forever();
    for (int i = 0; i < ROUNDS; i++) {
        CHECK(at_semaphore_acquire(all->semaphore, &patience) == 0);
        all->counter++;
        CHECK(at_semaphore_release(all->semaphore, 1) == 0);
    }
}

static void semaphores(void)
{
    crowd all = {0};
    CHECK(at_semaphore_new(1, 1, &all.semaphore) == 0);
    CHECK(at_semaphore_release(all.semaphore, 1) == AT_ELIMIT);
    CHECK(at_semaphore_try_acquire(all.semaphore) == 0);
    CHECK(at_semaphore_try_acquire(all.semaphore) == AT_EAGAIN);
    CHECK(at_semaphore_release(all.semaphore, 1) == 0);
    run(count_limited, &all);
    CHECK(all.counter == (long)THREADS * ROUNDS);
    unref(all.semaphore);
}

static void wait_for_event(void *data)
{
    crowd *all = data;
    at_patience patience = forever();
    CHECK(at_event_wait(all->event, &patience) == 0);
}

static void set_event(void *data)
{
    crowd *all = data;
    at_event_set(all->event);
}

static void events(void)
{
    crowd all = {0};
    CHECK(at_event_new(&all.event) == 0);
    at_patience patience = briefly();
    CHECK(at_event_wait(all.event, &patience) == AT_ETIMEOUT);
    at_thread setter;
    CHECK(at_thread_start(&setter, "setter", set_event, &all, NULL) == 0);
    run(wait_for_event, &all);
    at_thread_join(&setter);
    at_event_clear(all.event);
    CHECK(!at_event_is_set(all.event));
    unref(all.event);
}

static void meet(void *data)
{
    crowd *all = data;
    at_patience patience = forever();
    for (int i = 0; i < ROUNDS / 10; i++) {
        unsigned place;
        CHECK(at_barrier_wait(all->barrier, &place, &patience) == 0 && place < THREADS);
        if (place == 0) {
            all->counter++; /* one of them, and the others wait below */
        }
        CHECK(at_barrier_wait(all->barrier, &place, &patience) == 0);
    }
}

static void barriers(void)
{
    crowd all = {0};
    CHECK(at_barrier_new(THREADS, &all.barrier) == 0);
    run(meet, &all);
    CHECK(all.counter == ROUNDS / 10);
    unsigned place;
    at_patience patience = briefly();
    CHECK(at_barrier_wait(all.barrier, &place, &patience) == AT_EBROKEN);
    CHECK(at_barrier_is_broken(all.barrier));
    CHECK(at_barrier_wait(all.barrier, &place, &patience) == AT_EBROKEN);
    at_barrier_reset(all.barrier);
    CHECK(!at_barrier_is_broken(all.barrier) && at_barrier_waiting(all.barrier) == 0);
    run(meet, &all);
    unref(all.barrier);
}

int main(void)
{
    RUN_FAILING(makes_and_frees);
    RUN(locks_alone);
    RUN(locks_exclude);
    RUN(death_of_the_holder_is_told_once);
    RUN(conditions);
    RUN(semaphores);
    RUN(events);
    RUN(barriers);
    return 0;
}
