/* The limit for a round trip: two threads hand a word to and fro with nothing but
 * spin-then-park, as the channels wait. Prints nanoseconds for one round trip.
 *
 *     cc -O3 -D_GNU_SOURCE -Isrc -pthread bench/c/pingpong.c src/sys/park.c src/sys/clock.c
 *     ./a.out ROUNDS [CPU CPU]
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "sys/clock.h"
#include "sys/park.h"

enum { SPIN_NS = 20000 };

typedef struct ball {
    _Alignas(64) atomic_uint turn;
    atomic_uint sleepers;
} ball;

static ball there;
static ball back;
static long rounds;
static int cpus[2] = {-1, -1};

static void pin(int cpu)
{
    if (cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        (void)sched_setaffinity(0, sizeof set, &set);
    }
}

static void pass(ball *to, unsigned turn)
{
    atomic_store(&to->turn, turn);
    if (atomic_load(&to->sleepers) != 0) {
        at_park_wake(&to->turn, 1, AT_PARK_PRIVATE);
    }
}

static void await(ball *from, unsigned turn)
{
    if (at_park_can_spin()) {
        int64_t end_ns = at_clock_ns() + SPIN_NS;
        do {
            for (int i = 0; i < 8; i++) {
                if (atomic_load(&from->turn) == turn) {
                    return;
                }
                at_park_relax();
                at_park_relax();
            }
        } while (at_clock_ns() < end_ns);
    }
    atomic_fetch_add(&from->sleepers, 1);
    while (atomic_load(&from->turn) != turn) {
        (void)at_park_wait(&from->turn, turn - 1, AT_NEVER, AT_PARK_PRIVATE);
    }
    atomic_fetch_sub(&from->sleepers, 1);
}

static void *echo(void *unused)
{
    (void)unused;
    pin(cpus[1]);
    for (unsigned i = 1; i <= (unsigned)rounds; i++) {
        await(&there, i);
        pass(&back, i);
    }
    return NULL;
}

int main(int count, char **arguments)
{
    rounds = count > 1 ? strtol(arguments[1], NULL, 10) : 100000;
    if (count > 3) {
        cpus[0] = (int)strtol(arguments[2], NULL, 10);
        cpus[1] = (int)strtol(arguments[3], NULL, 10);
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, echo, NULL) != 0) {
        return 1;
    }
    pin(cpus[0]);
    int64_t begin_ns = at_clock_ns();
    for (unsigned i = 1; i <= (unsigned)rounds; i++) {
        pass(&there, i);
        await(&back, i);
    }
    printf("%.1f\n", (double)(at_clock_ns() - begin_ns) / (double)rounds);
    (void)pthread_join(thread, NULL);
    return 0;
}
