/* Locks, conditions, events, semaphores, barriers: alone and with threads. */
#include <stdint.h>
#include <time.h>

#include "base/error.h"
#include "chan/atomic.h"
#include "chan/condition.h"
#include "chan/sync.h"
#include "check.h"
#include "sys/clock.h"
#include "sys/park.h"
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

/* Every test runs over private words and over a shared page. */
static at_origin origin;

static at_lock *lock_of(bool recursive)
{
    at_lock *lock;
    CHECK(at_lock_new(recursive, &origin, &lock, NULL) == 0);
    return lock;
}

static void unref(void *thing)
{
    at_shared_unref(thing);
}

static int makes_and_frees(void)
{
    at_lock *lock;
    int result = at_lock_new(true, &origin, &lock, NULL);
    if (result < 0) {
        return result;
    }
    at_condition *over = NULL;
    at_condition *alone = NULL;
    at_barrier *barrier = NULL;
    at_event *event = NULL;
    at_semaphore *semaphore = NULL;
    at_atomic *atomic = NULL;
    at_peer *peer;
    if ((result = at_condition_new(lock, &origin, &over, NULL)) == 0 &&
        (result = at_condition_new(NULL, &origin, &alone, NULL)) == 0 &&
        (result = at_barrier_new(2, &origin, &barrier, NULL)) == 0 &&
        (result = at_event_new(&origin, &event, NULL)) == 0 &&
        (result = at_semaphore_new(2, true, &origin, &semaphore, NULL)) == 0 &&
        (result = at_atomic_new(2, &origin, &atomic, NULL)) == 0 &&
        (result = at_peer_join(3, &peer)) == 0) {
        result = at_lock_watch(lock, peer);
        unref(peer);
    }
    unref(atomic);
    unref(semaphore);
    unref(event);
    unref(barrier);
    unref(alone);
    unref(over);
    unref(lock);
    return result;
}

static void locks_alone(void)
{
    at_lock *lock = lock_of(false);
    CHECK(at_lock_release(lock, NULL) == AT_EPERMISSION);
    CHECK(at_lock_try_acquire(lock, NULL) == 0 && at_lock_is_held(lock));
    CHECK(at_lock_try_acquire(lock, NULL) == AT_EAGAIN);
    at_patience patience = briefly();
    CHECK(at_lock_acquire(lock, &patience) == AT_ETIMEOUT);
    CHECK(at_lock_release(lock, NULL) == 0 && !at_lock_is_held(lock));
    unref(lock);
    lock = lock_of(true);
    CHECK(at_lock_try_acquire(lock, NULL) == 0 && at_lock_try_acquire(lock, NULL) == 0);
    CHECK(at_lock_release(lock, NULL) == 0 && at_lock_is_mine(lock));
    CHECK(at_lock_release(lock, NULL) == 0 && !at_lock_is_mine(lock));
    CHECK(at_lock_release(lock, NULL) == AT_EPERMISSION);
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
        CHECK(at_lock_release(all->lock, NULL) == 0);
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

static void death_of_an_interpreter_is_told(void)
{
    static int64_t ids = 100;
    int64_t id = ids++;
    crowd all = {.lock = lock_of(false)};
    at_peer *peer;
    CHECK(at_peer_join(id, &peer) == 0 && at_lock_watch(all.lock, peer) == 0);
    CHECK(at_lock_try_acquire(all.lock, peer) == 0);
    at_thread thread;
    CHECK(at_thread_start(&thread, "next", lock_in_interpreter, &all, NULL) == 0);
    at_channels_interpreter_closing(id);
    at_thread_join(&thread);
    CHECK(all.result == AT_EOWNERDEAD && at_lock_is_held(all.lock));
    /* What the closed one does late is without effect. */
    CHECK(at_lock_release(all.lock, peer) == 0 && at_lock_is_held(all.lock));
    /* It is in doubt until somebody says that it is not. */
    CHECK(at_lock_release(all.lock, NULL) == 0 && !at_lock_is_held(all.lock));
    CHECK(at_lock_try_acquire(all.lock, NULL) == AT_EOWNERDEAD);
    at_lock_settle_death(all.lock);
    CHECK(at_lock_mark_consistent(all.lock) == 0);
    CHECK(at_lock_release(all.lock, NULL) == 0);
    CHECK(at_lock_mark_consistent(all.lock) == AT_EPERMISSION);
    /* And it takes nothing any more. */
    CHECK(at_lock_try_acquire(all.lock, peer) == AT_EENDING);
    CHECK(at_lock_try_acquire(all.lock, NULL) == 0);
    CHECK(at_lock_watch(all.lock, peer) == 0); /* known, though it closes */
    unref(all.lock);
    unref(peer);
}

typedef struct closing {
    at_lock *lock;
    at_peer *peer;
    atomic_bool begun;
    int result;
} closing;

static void take_in_interpreter(void *data)
{
    closing *one = data;
    at_patience patience = {AT_NEVER, one->peer};
    atomic_store(&one->begun, true);
    one->result = at_lock_acquire(one->lock, &patience);
}

/* Whatever the order of the taking and the closing, the lock is not lost, and the
 * sleeper comes back. */
static void a_closing_interpreter_keeps_nothing(void)
{
    static int64_t ids = 1000;
    for (int round = 0; round < ROUNDS / 10; round++) {
        closing one = {.lock = lock_of(round % 2 != 0)};
        int64_t id = ids++;
        CHECK(at_peer_join(id, &one.peer) == 0);
        CHECK(at_lock_watch(one.lock, one.peer) == 0);
        bool held = round % 3 == 0;
        CHECK(!held || at_lock_try_acquire(one.lock, NULL) == 0);
        at_thread thread;
        CHECK(at_thread_start(&thread, "closing", take_in_interpreter, &one, NULL) ==
              0);
        while (!atomic_load(&one.begun)) {
            at_park_relax();
        }
        at_channels_interpreter_closing(id);
        at_thread_join(&thread);
        CHECK(one.result == AT_EENDING || (one.result == 0 && !held));
        CHECK(!held || at_lock_release(one.lock, NULL) == 0);
        int next = at_lock_try_acquire(one.lock, NULL);
        /* One that was refused may have had it for a moment. */
        CHECK(next == AT_EOWNERDEAD || (next == 0 && one.result != 0));
        unref(one.lock);
        unref(one.peer);
    }
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
        CHECK(at_lock_release(all->lock, NULL) == 0);
        CHECK(at_lock_acquire(all->lock, &patience) == 0);
        all->counter++;
        CHECK(at_condition_notify(all->condition, 1) == 0);
        CHECK(at_lock_release(all->lock, NULL) == 0);
    }
}

static void conditions(void)
{
    crowd all = {.lock = lock_of(true), .counter = 1};
    CHECK(at_condition_new(all.lock, &origin, &all.condition, NULL) == 0);
    at_patience patience = briefly();
    CHECK(at_condition_wait(all.condition, &patience) == AT_EPERMISSION);
    CHECK(at_condition_notify(all.condition, 1) == AT_EPERMISSION);
    CHECK(at_lock_try_acquire(all.lock, NULL) == 0);
    CHECK(at_lock_try_acquire(all.lock, NULL) == 0);
    CHECK(at_condition_notify(all.condition, 1) == 0);
    CHECK(at_condition_wait(all.condition, &patience) == AT_ETIMEOUT);
    CHECK(at_lock_release(all.lock, NULL) == 0 && at_lock_release(all.lock, NULL) == 0);
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
    CHECK(at_semaphore_new(1, true, &origin, &all.semaphore, NULL) == 0);
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
    CHECK(at_event_new(&origin, &all.event, NULL) == 0);
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

static atomic_uint actors;

static void meet(void *data)
{
    crowd *all = data;
    at_patience patience = forever();
    for (int i = 0; i < ROUNDS / 10; i++) {
        at_arrival arrival = {0};
        CHECK(at_barrier_wait(all->barrier, &arrival, &patience) == 0);
        CHECK(arrival.place < THREADS);
        if (arrival.place == 0) {
            all->counter++; /* one of them, and the others wait below */
        }
        arrival = (at_arrival){0};
        CHECK(at_barrier_wait(all->barrier, &arrival, &patience) == 0);
    }
}

/* Two of the parties have an action: each round one of them acts, alone. */
static void meet_and_act(void *data)
{
    crowd *all = data;
    at_patience patience = forever();
    bool has_action = atomic_fetch_add(&actors, 1) % 2 == 0;
    for (long i = 0; i < ROUNDS / 10; i++) {
        at_arrival arrival = {.has_action = has_action};
        CHECK(at_barrier_wait(all->barrier, &arrival, &patience) == 0);
        CHECK(!arrival.acts || has_action);
        if (arrival.acts) {
            CHECK(all->counter == i);
            all->counter++;
            CHECK(at_barrier_acted(all->barrier, &arrival, true) == 0);
        }
        CHECK(all->counter == i + 1);
        arrival = (at_arrival){0};
        CHECK(at_barrier_wait(all->barrier, &arrival, &patience) == 0);
        CHECK(!arrival.acts);
    }
}

static void fail_to_act(void *data)
{
    crowd *all = data;
    at_patience patience = forever();
    at_arrival arrival = {.has_action = true};
    int result = at_barrier_wait(all->barrier, &arrival, &patience);
    CHECK(result == (arrival.acts ? 0 : AT_EBROKEN));
    if (arrival.acts) {
        CHECK(at_barrier_acted(all->barrier, &arrival, false) == AT_EBROKEN);
    }
}

enum { LATE_ROUNDS = 3000 };

typedef struct latecomers {
    at_barrier *barrier;
    atomic_bool over;
} latecomers;

/* Alone a round each time, and its action takes a while. */
static void *act_alone(void *data)
{
    latecomers *all = data;
    at_patience patience = forever();
    uintptr_t ended = 0;
    while (!atomic_load(&all->over)) {
        at_arrival arrival = {.has_action = true};
        if (at_barrier_wait(all->barrier, &arrival, &patience) == 0) {
            CHECK(arrival.acts);
            struct timespec while_acting = {0, arrival.round % 64 * 1000L};
            (void)nanosleep(&while_acting, NULL);
            ended += at_barrier_acted(all->barrier, &arrival, true) == 0;
        }
    }
    return (void *)ended; /* NOLINT(performance-no-int-to-ptr) */
}

/* Who has not come yet when its time is over was of no round: it never leaves with the
 * others. Each wait below ends a round or breaks the barrier, once. */
static void late_comers(void)
{
    latecomers all = {0};
    CHECK(at_barrier_new(1, &origin, &all.barrier, NULL) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, act_alone, &all) == 0);
    uintptr_t ended = 0;
    for (int i = 0; i < LATE_ROUNDS; i++) {
        at_arrival arrival = {0};
        at_patience patience = {.deadline_ns = at_clock_ns()};
        int result = at_barrier_wait(all.barrier, &arrival, &patience);
        CHECK(result == 0 || result == AT_EBROKEN);
        ended++;
        if (result == AT_EBROKEN) {
            at_barrier_reset(all.barrier);
        }
    }
    atomic_store(&all.over, true);
    void *by_other;
    CHECK(pthread_join(thread, &by_other) == 0);
    at_patience patience = forever();
    at_arrival arrival = {0};
    CHECK(at_barrier_wait(all.barrier, &arrival, &patience) == 0);
    CHECK(arrival.round == ended + (uintptr_t)by_other);
    unref(all.barrier);
}

static void actions(void)
{
    crowd all = {0};
    CHECK(at_barrier_new(THREADS, &origin, &all.barrier, NULL) == 0);
    run(meet_and_act, &all);
    CHECK(all.counter == ROUNDS / 10);
    run(fail_to_act, &all);
    CHECK(at_barrier_is_broken(all.barrier));
    unref(all.barrier);
}

static void barriers(void)
{
    crowd all = {0};
    CHECK(at_barrier_new(THREADS, &origin, &all.barrier, NULL) == 0);
    CHECK(at_barrier_parties(all.barrier) == THREADS);
    run(meet, &all);
    CHECK(all.counter == ROUNDS / 10);
    at_arrival arrival = {0};
    at_patience patience = briefly();
    CHECK(at_barrier_wait(all.barrier, &arrival, &patience) == AT_EBROKEN);
    CHECK(at_barrier_is_broken(all.barrier));
    arrival = (at_arrival){0};
    CHECK(at_barrier_wait(all.barrier, &arrival, &patience) == AT_EBROKEN);
    at_barrier_reset(all.barrier);
    CHECK(!at_barrier_is_broken(all.barrier) && at_barrier_waiting(all.barrier) == 0);
    run(meet, &all);
    unref(all.barrier);
}

static void count_atomically(void *data)
{
    at_atomic *atomic = data;
    at_patience patience = forever();
    for (int i = 0; i < ROUNDS; i++) {
        int64_t old = atomic_fetch_add(at_atomic_value(atomic), 1);
        (void)at_atomic_notify(atomic, AT_PARK_ALL);
        int64_t seen;
        CHECK(at_atomic_wait(atomic, old, &seen, &patience) == 0 && seen > old);
    }
}

static void wait_for_change(void *data)
{
    at_atomic *atomic = data;
    at_patience patience = forever();
    int64_t seen = INT64_MIN;
    int64_t end = INT64_MIN + (int64_t)THREADS * ROUNDS;
    while (seen != end) {
        CHECK(at_atomic_wait(atomic, seen, &seen, &patience) == 0);
    }
}

static void atomics(void)
{
    at_atomic *atomic;
    CHECK(at_atomic_new(INT64_MIN, &origin, &atomic, NULL) == 0);
    at_patience patience = briefly();
    int64_t seen;
    CHECK(at_atomic_wait(atomic, INT64_MIN, &seen, &patience) == AT_ETIMEOUT);
    CHECK(at_atomic_wait(atomic, 0, &seen, &patience) == 0 && seen == INT64_MIN);
    CHECK(at_atomic_notify(atomic, 1) == 0);
    at_thread watcher;
    CHECK(at_thread_start(&watcher, "watcher", wait_for_change, atomic, NULL) == 0);
    at_thread threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        CHECK(at_thread_start(&threads[i], "adder", count_atomically, atomic, NULL) ==
              0);
    }
    for (int i = 0; i < THREADS; i++) {
        at_thread_join(&threads[i]);
    }
    at_thread_join(&watcher);
    unref(atomic);
}

static void all_of_it(void)
{
    RUN_FAILING(makes_and_frees);
    RUN(locks_alone);
    RUN(locks_exclude);
    RUN(death_of_an_interpreter_is_told);
    RUN(a_closing_interpreter_keeps_nothing);
    RUN(conditions);
    RUN(semaphores);
    RUN(events);
    RUN(barriers);
    RUN(late_comers);
    RUN(actions);
    RUN(atomics);
}

int main(void)
{
    (void)printf("in this process\n");
    all_of_it();
    (void)printf("shared with processes\n");
    origin.shared_as = "test";
    at_lock *lock;
    if (at_lock_new(false, &origin, &lock, NULL) == AT_EUNSUPPORTED) {
        (void)printf("the system has no robust futexes\n");
        return 77;
    }
    unref(lock);
    all_of_it();
    return 0;
}
