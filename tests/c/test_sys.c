/* Clock, park, threads, eventfd. */
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "sys/clock.h"
#include "sys/park.h"
#include "sys/thread.h"
#include "sys/wakefd.h"

enum { MILLISECOND = 1000000 };

static void deadlines(void)
{
    int64_t before_ns = at_clock_ns();
    CHECK(at_clock_deadline(-5) >= before_ns);
    CHECK(at_clock_deadline(AT_NEVER) == AT_NEVER);
    CHECK(at_clock_deadline(MILLISECOND) >= before_ns + MILLISECOND);
    CHECK(at_clock_thread_cpu_ns() >= 0);
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

int main(void)
{
    RUN(deadlines);
    RUN(park_times_out);
    RUN(park_is_woken);
    RUN(park_is_interrupted);
    RUN(threads_have_room);
    RUN(join_times_out);
    RUN(wakefd_flags);
    return 0;
}
