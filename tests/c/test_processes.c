/* What processes share, and what becomes of it when they are killed.
 *
 * The other processes are this program again, started with the name of a part and the
 * descriptors of the things it uses: a fork alone would be no process that a thread
 * sanitizer follows.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "chan/atomic.h"
#include "chan/condition.h"
#include "chan/sync.h"
#include "check.h"
#include "sys/clock.h"
#include "sys/park.h"
#include "sys/thread.h"

enum { SECOND = 1000000000, ROUNDS = 200, KILLS = 12, DEADLINE_SECONDS = 100 };

static at_origin origin = {.shared_as = "test"};

/* What every test and every part has. */
typedef struct common {
    at_lock *lock;
    at_condition *condition; /* over lock */
    at_event *event;
    at_semaphore *semaphore;
    at_barrier *barrier;
    at_atomic *counter;
    at_atomic *state;
} common;

enum { THINGS = sizeof(common) / sizeof(void *) };

static at_shared **things_of(common *all)
{
    return (at_shared **)(void *)all;
}

static at_patience forever(void)
{
    return (at_patience){AT_NEVER, NULL};
}

static common make(void)
{
    common all;
    CHECK(at_lock_new(false, &origin, &all.lock, NULL) == 0);
    CHECK(at_condition_new(all.lock, &origin, &all.condition, NULL) == 0);
    CHECK(at_event_new(&origin, &all.event, NULL) == 0);
    CHECK(at_semaphore_new(0, false, &origin, &all.semaphore, NULL) == 0);
    CHECK(at_barrier_new(2, &origin, &all.barrier, NULL) == 0);
    CHECK(at_atomic_new(0, &origin, &all.counter, NULL) == 0);
    CHECK(at_atomic_new(0, &origin, &all.state, NULL) == 0);
    return all;
}

static void end(common *all)
{
    for (int i = THINGS - 1; i >= 0; i--) {
        at_shared_unref(things_of(all)[i]);
    }
}

static int64_t load(at_atomic *atomic)
{
    return atomic_load(at_atomic_value(atomic));
}

static void await_at_least(at_atomic *atomic, int64_t wanted)
{
    at_patience patience = forever();
    int64_t seen = load(atomic);
    while (seen < wanted) {
        CHECK(at_atomic_wait(atomic, seen, &seen, &patience) == 0);
    }
}

static void add(at_atomic *atomic, int64_t value)
{
    atomic_fetch_add(at_atomic_value(atomic), value);
    (void)at_atomic_notify(atomic, AT_PARK_ALL);
}

/* ---- processes ------------------------------------------------------------------- */

static pid_t start(const char *part, common *all)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child != 0) {
        return child;
    }
    char numbers[THINGS][16];
    char *arguments[THINGS + 3] = {"part", (char *)part};
    for (int i = 0; i < THINGS; i++) {
        at_placed *placed = (at_placed *)things_of(all)[i];
        int copy = dup(placed->place.page.memory.descriptor); /* stays over exec */
        (void)snprintf(numbers[i], sizeof numbers[i], "%d", copy);
        arguments[i + 2] = numbers[i];
    }
    (void)execv("/proc/self/exe", arguments);
    _exit(127);
}

static common adopt(char **numbers)
{
    common all = {0};
    for (int i = 0; i < THINGS; i++) {
        at_fault fault;
        at_lock *lock = i == 1 ? all.lock : NULL;
        int descriptor = (int)strtol(numbers[i], NULL, 10);
        CHECK(at_sync_adopt(descriptor, lock, &things_of(&all)[i], &fault) == 0);
    }
    return all;
}

static void kill_it(pid_t child)
{
    CHECK(kill(child, SIGKILL) == 0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
}

static void await_end(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- a holder that dies ---------------------------------------------------------- */

static void hold(common *all)
{
    at_patience patience = forever();
    CHECK(at_lock_acquire(all->lock, &patience) == 0);
    add(all->state, 1);
    await_at_least(all->state, 1000);
}

typedef struct waiting {
    at_lock *lock;
    int result;
} waiting;

static void wait_for_lock(void *data)
{
    waiting *mine = data;
    at_patience patience = forever();
    mine->result = at_lock_acquire(mine->lock, &patience);
}

static void a_killed_holder_is_told(void)
{
    common all = make();
    pid_t child = start("hold", &all);
    await_at_least(all.state, 1);
    CHECK(at_lock_is_held(all.lock) && !at_lock_is_mine(all.lock));
    CHECK(at_lock_try_acquire(all.lock, NULL) == AT_EAGAIN);
    CHECK(at_lock_release(all.lock, NULL) == AT_EPERMISSION);
    at_patience brief = {at_clock_deadline(1000000), NULL};
    CHECK(at_lock_acquire(all.lock, &brief) == AT_ETIMEOUT);
    waiting mine = {all.lock, 1};
    at_thread thread;
    CHECK(at_thread_start(&thread, "waiter", wait_for_lock, &mine, NULL) == 0);
    kill_it(child);
    at_thread_join(&thread);
    CHECK(mine.result == AT_EOWNERDEAD && at_lock_is_mine(all.lock));
    CHECK(at_lock_mark_consistent(all.lock) == 0);
    CHECK(at_lock_release(all.lock, NULL) == 0);
    CHECK(at_lock_try_acquire(all.lock, NULL) == 0);
    end(&all);
}

/* The last handle of a process that holds the lock: nobody there can let go of it. */
static void hold_and_forget(common *all)
{
    CHECK(at_lock_try_acquire(all->lock, NULL) == 0);
    at_shared_unref((at_shared *)all->condition);
    at_shared_unref((at_shared *)all->lock);
    add(all->state, 1);
    await_at_least(all->state, 2);
}

static void a_forgotten_lock_is_told(void)
{
    common all = make();
    pid_t child = start("hold_and_forget", &all);
    await_at_least(all.state, 1);
    CHECK(at_lock_try_acquire(all.lock, NULL) == AT_EOWNERDEAD);
    at_lock_settle_death(all.lock);
    add(all.state, 1);
    await_end(child);
    end(&all);
}

/* ---- many that are killed at any moment ------------------------------------------ */

static void work(common *all)
{
    at_patience patience = forever();
    add(all->state, 1);
    for (;;) {
        int result = at_lock_acquire(all->lock, &patience);
        CHECK(result == 0 || result == AT_EOWNERDEAD);
        if (result == AT_EOWNERDEAD) {
            CHECK(at_lock_mark_consistent(all->lock) == 0);
        }
        /* Not atomic: two who had the lock at once would lose one. */
        _Atomic(int64_t) *value = at_atomic_value(all->counter);
        int64_t before = atomic_load(value);
        CHECK(atomic_load(at_atomic_value(all->state)) > 0);
        atomic_store(value, before + 1);
        CHECK(at_lock_release(all->lock, NULL) == 0);
    }
}

static void the_rest_goes_on(void)
{
    enum { WORKERS = 3 };
    common all = make();
    pid_t workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = start("work", &all);
    }
    await_at_least(all.state, WORKERS);
    unsigned seed = 12345;
    for (int round = 0; round < KILLS; round++) {
        /* Every one of them, and this process, comes to its turn after a death. */
        at_patience patience = forever();
        int64_t reached = load(all.counter) + 50;
        while (load(all.counter) < reached) {
            int result = at_lock_acquire(all.lock, &patience);
            CHECK(result == 0 || result == AT_EOWNERDEAD);
            CHECK(at_lock_mark_consistent(all.lock) == 0);
            int64_t before = load(all.counter);
            at_park_relax();
            CHECK(load(all.counter) == before); /* nobody else is in */
            CHECK(at_lock_release(all.lock, NULL) == 0);
        }
        seed = seed * 1103515245 + 12345;
        int victim = (int)(seed >> 16) % WORKERS;
        kill_it(workers[victim]);
        workers[victim] = start("work", &all);
    }
    for (int i = 0; i < WORKERS; i++) {
        kill_it(workers[i]);
    }
    end(&all);
}

/* ---- conditions ------------------------------------------------------------------ */

static void wait_notified(common *all)
{
    at_patience patience = forever();
    CHECK(at_lock_acquire(all->lock, &patience) == 0);
    add(all->state, 1); /* seen by who takes the lock once we wait */
    CHECK(at_condition_wait(all->condition, &patience) == 0);
    CHECK(at_lock_release(all->lock, NULL) == 0);
}

static void the_dead_are_not_notified(void)
{
    common all = make();
    pid_t children[3];
    at_patience patience = forever();
    for (int i = 0; i < 3; i++) {
        children[i] = start("wait_notified", &all);
        await_at_least(all.state, i + 1);
        CHECK(at_lock_acquire(all.lock, &patience) == 0); /* it waits */
        CHECK(at_lock_release(all.lock, NULL) == 0);
    }
    kill_it(children[0]);
    kill_it(children[1]);
    CHECK(at_lock_acquire(all.lock, &patience) == 0);
    CHECK(at_condition_notify(all.condition, 1) == 0);
    CHECK(at_lock_release(all.lock, NULL) == 0);
    await_end(children[2]); /* the one that lives has got it */
    end(&all);
}

/* More waiters come and give up than there are places for at once. */
static void places_are_used_again(void)
{
    common all = make();
    at_patience brief = {at_clock_deadline(1000000), NULL};
    CHECK(at_lock_try_acquire(all.lock, NULL) == 0);
    for (int i = 0; i < 1000; i++) {
        CHECK(at_condition_wait(all.condition, &brief) == AT_ETIMEOUT);
    }
    CHECK(at_condition_notify(all.condition, UINT32_MAX) == 0);
    CHECK(at_lock_release(all.lock, NULL) == 0);
    end(&all);
}

/* ---- the others ------------------------------------------------------------------ */

static void play_along(common *all)
{
    at_patience patience = forever();
    CHECK(at_event_wait(all->event, &patience) == 0);
    for (int64_t i = 0; i < ROUNDS; i++) {
        at_arrival arrival = {0};
        CHECK(at_semaphore_acquire(all->semaphore, &patience) == 0);
        add(all->counter, 1);
        CHECK(at_barrier_wait(all->barrier, &arrival, &patience) == 0);
        CHECK(at_lock_acquire(all->lock, &patience) == 0);
        while (load(all->state) == i) {
            CHECK(at_condition_wait(all->condition, &patience) == 0);
        }
        CHECK(at_lock_release(all->lock, NULL) == 0);
    }
}

static void all_of_them_work_between_processes(void)
{
    common all = make();
    pid_t child = start("play_along", &all);
    at_patience patience = forever();
    at_event_set(all.event);
    for (int64_t i = 0; i < ROUNDS; i++) {
        int64_t seen;
        CHECK(at_semaphore_release(all.semaphore, 1) == 0);
        CHECK(at_atomic_wait(all.counter, i, &seen, &patience) == 0 && seen == i + 1);
        at_arrival arrival = {0};
        CHECK(at_barrier_wait(all.barrier, &arrival, &patience) == 0);
        CHECK(at_lock_acquire(all.lock, &patience) == 0);
        atomic_fetch_add(at_atomic_value(all.state), 1);
        CHECK(at_condition_notify(all.condition, 1) == 0);
        CHECK(at_lock_release(all.lock, NULL) == 0);
    }
    await_end(child);
    end(&all);
}

static void a_page_is_one_thing(void)
{
    common all = make();
    at_placed *placed = (at_placed *)all.lock;
    at_shared *again;
    CHECK(at_sync_adopt(dup(placed->place.page.memory.descriptor), NULL, &again,
                        NULL) == 0);
    CHECK(again != (at_shared *)all.lock); /* that one was not published */
    at_shared *third;
    CHECK(at_sync_adopt(dup(placed->place.page.memory.descriptor), NULL, &third,
                        NULL) == 0);
    CHECK(third == again);
    at_shared_unref(third);
    at_shared_unref(again);
    placed = (at_placed *)all.condition;
    int copy = dup(placed->place.page.memory.descriptor);
    CHECK(at_sync_adopt(copy, NULL, &again, NULL) == AT_EINVALID);
    CHECK(close(copy) == 0); /* still ours */
    end(&all);
}

/* ---- parts ----------------------------------------------------------------------- */

static int run_part(const char *part, char **numbers)
{
    static const struct {
        const char *name;
        void (*run)(common *all);
    } parts[] = {
        {"hold", hold},
        {"hold_and_forget", hold_and_forget},
        {"work", work},
        {"wait_notified", wait_notified},
        {"play_along", play_along},
    };
    common all = adopt(numbers);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (strcmp(parts[i].name, part) == 0) {
            parts[i].run(&all);
            _exit(0); /* what it has open goes with it */
        }
    }
    return 1;
}

int main(int count, char **arguments)
{
    (void)alarm(DEADLINE_SECONDS); /* a hang is a failure, and of children as well */
    if (count == THINGS + 2) {
        return run_part(arguments[1], arguments + 2);
    }
    at_lock *lock;
    if (at_lock_new(false, &origin, &lock, NULL) == AT_EUNSUPPORTED) {
        (void)printf("the system has no robust futexes\n");
        return 77;
    }
    at_shared_unref((at_shared *)lock);
    RUN(a_killed_holder_is_told);
    RUN(a_forgotten_lock_is_told);
    RUN(all_of_them_work_between_processes);
    RUN(the_dead_are_not_notified);
    RUN(places_are_used_again);
    RUN(the_rest_goes_on);
    RUN(a_page_is_one_thing);
    return 0;
}
