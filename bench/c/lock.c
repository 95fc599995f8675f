/* The limit for a lock: a mutex of one futex word, as plain as they come, that spins
 * for a moment and then sleeps. Prints nanoseconds for one acquire and release, of all
 * parties together.
 *
 *     cc -O3 -D_GNU_SOURCE -Isrc -pthread bench/c/lock.c src/sys/park.c src/sys/clock.c
 *     ./a.out alone|threads|processes ROUNDS [CPU CPU]
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/clock.h"
#include "sys/park.h"

enum { FREE, HELD, SLEEPERS, SPINS = 200 };

typedef struct field {
    _Alignas(64) atomic_uint lock;
    _Alignas(64) volatile long counter; /* guarded: lock */
    _Alignas(64) atomic_uint ready;
} field;

static field *shared;
static long rounds;
static at_park_scope scope = AT_PARK_SHARED;
static int cpus[2] = {-1, -1};

static void acquire(atomic_uint *lock)
{
    unsigned seen = FREE;
    if (atomic_compare_exchange_strong(lock, &seen, HELD)) {
        return;
    }
    for (int i = 0; i < SPINS && at_park_can_spin(); i++) {
        seen = FREE;
        if (atomic_load(lock) == FREE &&
            atomic_compare_exchange_strong(lock, &seen, HELD)) {
            return;
        }
        at_park_relax();
    }
    while (atomic_exchange(lock, SLEEPERS) != FREE) {
        (void)at_park_wait(lock, SLEEPERS, AT_NEVER, scope);
    }
}

static void release(atomic_uint *lock)
{
    if (atomic_exchange(lock, FREE) == SLEEPERS) {
        at_park_wake(lock, 1, scope);
    }
}

static void *party(void *place)
{
    int cpu = cpus[(size_t)place];
    if (cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        (void)sched_setaffinity(0, sizeof set, &set);
    }
    atomic_fetch_add(&shared->ready, 1);
    while (atomic_load(&shared->ready) < 2) {
        (void)sched_yield();
    }
    for (long i = 0; i < rounds; i++) {
        acquire(&shared->lock);
        shared->counter++;
        release(&shared->lock);
    }
    return NULL;
}

int main(int count, char **arguments)
{
    const char *how = count > 1 ? arguments[1] : "alone";
    rounds = count > 2 ? strtol(arguments[2], NULL, 10) : 1000000;
    if (count > 4) {
        cpus[0] = (int)strtol(arguments[3], NULL, 10);
        cpus[1] = (int)strtol(arguments[4], NULL, 10);
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        return 1;
    }
    int parties = 2;
    int64_t begin_ns = at_clock_ns();
    if (strcmp(how, "processes") == 0) {
        if (fork() == 0) {
            (void)party((void *)1);
            _exit(0);
        }
        (void)party(NULL);
        (void)wait(NULL);
    } else if (strcmp(how, "threads") == 0) {
        scope = AT_PARK_PRIVATE;
        pthread_t thread;
        if (pthread_create(&thread, NULL, party, (void *)1) != 0) {
            return 1;
        }
        (void)party(NULL);
        (void)pthread_join(thread, NULL);
    } else {
        parties = 1;
        atomic_store(&shared->ready, 1);
        (void)party(NULL);
    }
    printf("%.1f\n", (double)(at_clock_ns() - begin_ns) / (double)(rounds * parties));
    return shared->counter == rounds * parties ? 0 : 2;
}
