/* Clock, park, threads, eventfd. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/error.h"
#include "check.h"
#include "sys/clock.h"
#include "sys/park.h"
#include "sys/thread.h"
#include "sys/wakefd.h"

#if defined(__SANITIZE_THREAD__)
#define AT_TEST_SIGNALS_ARE_LATE 1
#elif defined(__has_feature)
#define AT_TEST_SIGNALS_ARE_LATE __has_feature(thread_sanitizer)
#else
#define AT_TEST_SIGNALS_ARE_LATE 0
#endif

enum { MILLISECOND = 1000000 };

static void deadlines(void)
{
    int64_t before_ns = at_clock_ns();
    CHECK(at_clock_deadline(-5) >= before_ns);
    CHECK(at_clock_deadline(AT_NEVER) == AT_NEVER);
    CHECK(at_clock_deadline(MILLISECOND) >= before_ns + MILLISECOND);
}

static void park_times_out(void)
{
    atomic_uint word = 7;
    int64_t deadline_ns = at_clock_deadline(2 * MILLISECOND);
    int result;
    do {
        result = at_park_wait(&word, 7, deadline_ns, AT_PARK_PRIVATE);
    } while (result == 0);
    CHECK(result == AT_ETIMEOUT);
    CHECK(at_clock_ns() >= deadline_ns);
    CHECK(at_park_wait(&word, 7, INT64_MIN, AT_PARK_SHARED) == AT_ETIMEOUT);
    CHECK(at_park_wait(&word, 8, AT_NEVER, AT_PARK_PRIVATE) == 0);
}

static void set_and_wake(void *data)
{
    atomic_uint *word = data;
    atomic_store(word, 1);
    at_park_wake(word, AT_PARK_ALL, AT_PARK_PRIVATE);
}

static void park_is_woken(void)
{
    for (int i = 0; i < 200; i++) {
        atomic_uint word = 0;
        at_thread thread;
        CHECK(at_thread_start(&thread, "a name that is too long", set_and_wake, &word,
                              NULL) == 0);
        while (atomic_load(&word) == 0) {
            CHECK(at_park_wait(&word, 0, AT_NEVER, AT_PARK_PRIVATE) == 0);
        }
        at_thread_join(&thread);
    }
}

static void handler(int number)
{
    (void)number;
}

typedef struct sleeper {
    atomic_uint word;
    atomic_uint ready;
    int result;
} sleeper;

static void sleep_until_signal(void *data)
{
    sleeper *self = data;
    sigset_t none;
    (void)sigemptyset(&none);
    (void)pthread_sigmask(SIG_SETMASK, &none, NULL);
    atomic_store(&self->ready, 1);
    do {
        self->result = at_park_wait(&self->word, 0, AT_NEVER, AT_PARK_PRIVATE);
    } while (self->result == 0);
    atomic_store(&self->ready, 2);
}

static atomic_uint handled;

static void set_handled_bit(int number)
{
    (void)number;
    atomic_fetch_or(&handled, 2);
}

/* A bit that is set already, whatever it was that set it, is not slept over; others are
 * none of its business. */
static void watched_bits_end_a_sleep(void)
{
    atomic_uint word = 0;
    atomic_uint flags = 4;
    at_park_watch watch = {&flags, 2};
    CHECK(at_park_set_watch(watch).word == NULL);
    int64_t deadline_ns = at_clock_deadline(2 * MILLISECOND);
    int result;
    do {
        result = at_park_wait_watching(&word, 0, deadline_ns, AT_PARK_PRIVATE);
    } while (result == 0);
    CHECK(result == AT_ETIMEOUT);
    CHECK(at_park_wait_watching(&word, 1, AT_NEVER, AT_PARK_SHARED) == 0);
    atomic_store(&flags, 6);
    CHECK(at_park_wait_watching(&word, 0, AT_NEVER, AT_PARK_PRIVATE) ==
          AT_EINTERRUPTED);
    CHECK(at_park_set_watch((at_park_watch){NULL, 0}).word == &flags);
}

/* Linux can from 5.16 on; qemu's user mode cannot. */
__attribute__((unused)) static bool can_wait_on_two_words(void)
{
    enum { WAITV_NUMBER = 449 };
    return syscall(WAITV_NUMBER, NULL, 0, 0, NULL, 0) < 0 && errno == EINVAL;
}

/* A handler that runs at any moment before the sleep, or in it, ends it. Not under
 * ThreadSanitizer, which keeps signals back until the call has returned. */
__attribute__((unused)) static void no_handler_is_slept_over(void)
{
    enum { ROUNDS = 2000, LONGEST_US = 40 };
    struct sigaction action = {.sa_handler = set_handled_bit};
    struct sigaction before;
    CHECK(sigaction(SIGALRM, &action, &before) == 0);
    (void)at_park_set_watch((at_park_watch){&handled, 2});
    srand(5);
    for (int i = 0; i < ROUNDS; i++) {
        atomic_uint word = 0;
        atomic_store(&handled, 0);
        struct itimerval soon = {.it_value.tv_usec = 1 + rand() % LONGEST_US};
        CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
        int64_t deadline_ns = at_clock_deadline(INT64_C(30000) * MILLISECOND);
        int result;
        do {
            result = at_park_wait_watching(&word, 0, deadline_ns, AT_PARK_PRIVATE);
        } while (result == 0);
        CHECK(result == AT_EINTERRUPTED);
        CHECK(atomic_load(&handled) == 2);
    }
    (void)at_park_set_watch((at_park_watch){NULL, 0});
    CHECK(sigaction(SIGALRM, &before, NULL) == 0);
}

static void park_is_interrupted(void)
{
    struct sigaction action = {.sa_handler = handler};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    sleeper self = {0};
    at_thread thread;
    CHECK(at_thread_start(&thread, "sleeper", sleep_until_signal, &self, NULL) == 0);
    while (atomic_load(&self.ready) != 2) {
        if (atomic_load(&self.ready) == 1) {
            (void)pthread_kill(thread.handle, SIGUSR1);
        }
        (void)usleep(1000);
    }
    at_thread_join(&thread);
    CHECK(self.result == AT_EINTERRUPTED);
}

static void big_stack(void *data)
{
    char block[7 << 20];
    memset(block, 1, sizeof block);
    *(volatile int *)data = block[12345];
}

static void threads_have_room(void)
{
    int answer = 0;
    at_thread thread;
    CHECK(at_thread_start(&thread, "deep", big_stack, &answer, NULL) == 0);
    CHECK(at_thread_join_until(&thread, at_clock_deadline(60000LL * MILLISECOND)) == 0);
    CHECK(answer == 1);
}

static void join_times_out(void)
{
    sleeper self = {0};
    at_thread thread;
    CHECK(at_thread_start(&thread, "sleeper", sleep_until_signal, &self, NULL) == 0);
    CHECK(at_thread_join_until(&thread, at_clock_ns()) == AT_ETIMEOUT);
    while (atomic_load(&self.ready) != 2) {
        if (atomic_load(&self.ready) == 1) {
            (void)pthread_kill(thread.handle, SIGUSR1);
        }
        (void)usleep(1000);
    }
    at_thread_join(&thread);
}

static void wakefd_flags(void)
{
    int descriptor = at_wakefd_open(NULL);
    CHECK(descriptor >= 0);
    struct pollfd wanted = {.fd = descriptor, .events = POLLIN};
    CHECK(poll(&wanted, 1, 0) == 0);
    at_wakefd_set(descriptor);
    at_wakefd_set(descriptor);
    CHECK(poll(&wanted, 1, 0) == 1);
    at_wakefd_clear(descriptor);
    at_wakefd_clear(descriptor);
    CHECK(poll(&wanted, 1, 0) == 0);
    at_wakefd_close(descriptor);
}

/* ---- who may spin ------------------------------------------------------------ */

typedef struct pinned {
    int cpu;
    bool wanted;
    atomic_int *agreeing; /* threads that were told what is wanted */
} pinned;

/* On one CPU, ask until told what is wanted, and then until all are. */
static void ask(void *data)
{
    const pinned *self = data;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(self->cpu, &set);
    CHECK(sched_setaffinity(0, sizeof set, &set) == 0);
    bool agreed = false;
    int64_t until_ns = at_clock_deadline(60LL * 1000 * MILLISECOND);
    while (atomic_load(self->agreeing) < 2) {
        CHECK(at_clock_ns() < until_ns);
        if (!agreed && at_park_can_spin() == self->wanted) {
            agreed = true;
            atomic_fetch_add(self->agreeing, 1);
        }
        (void)at_park_can_spin(); /* so that the other one still hears of this */
        (void)sched_yield();
    }
}

/* Threads that are pinned to one CPU each can tell whether it is the same. */
static void pinned_threads_know_of_each_other(void)
{
    cpu_set_t allowed;
    CHECK(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
    int cpus[2] = {-1, -1};
    for (int cpu = 0; cpu < CPU_SETSIZE && cpus[1] < 0; cpu++) {
        if (CPU_ISSET(cpu, &allowed)) {
            cpus[cpus[0] >= 0] = cpu;
        }
    }
    for (int apart = 0; apart < 2; apart++) {
        if (apart == 1 && cpus[1] < 0) {
            return; /* there is but one */
        }
        atomic_int agreeing = 0;
        pinned both[2] = {{cpus[0], apart == 1, &agreeing},
                          {cpus[apart], apart == 1, &agreeing}};
        at_thread threads[2];
        for (int i = 0; i < 2; i++) {
            CHECK(at_thread_start(&threads[i], "pinned", ask, &both[i], NULL) == 0);
        }
        at_thread_join(&threads[0]);
        at_thread_join(&threads[1]);
    }
}

int main(void)
{
    RUN(deadlines);
    RUN(park_times_out);
    RUN(park_is_woken);
    RUN(watched_bits_end_a_sleep);
#if !AT_TEST_SIGNALS_ARE_LATE
    if (can_wait_on_two_words()) {
        RUN(no_handler_is_slept_over);
    }
#endif
    RUN(park_is_interrupted);
    RUN(threads_have_room);
    RUN(join_times_out);
    RUN(wakefd_flags);
    RUN(pinned_threads_know_of_each_other);
    return 0;
}
