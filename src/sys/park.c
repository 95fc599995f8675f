/* Parking on futexes; see park.h. */
#include "sys/park.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "sys/clock.h"

enum {
    NS_PER_SECOND = 1000000000,
    /* A thread's affinity is asked for again after so many questions. */
    AFFINITY_IS_FRESH_FOR = 64,
    PERIOD_NS = 1 << 25,
};

static int operation(int command, at_park_scope scope)
{
    return scope == AT_PARK_PRIVATE ? command | FUTEX_PRIVATE_FLAG : command;
}

int at_park_wait(atomic_uint *word, uint32_t expected, int64_t deadline_ns,
                 at_park_scope scope)
{
    struct timespec deadline;
    struct timespec *until = NULL;
    if (deadline_ns != AT_NEVER) {
        /* The kernel refuses negative times; any moment in the past does. */
        int64_t moment_ns = deadline_ns > 0 ? deadline_ns : 0;
        deadline.tv_sec = moment_ns / NS_PER_SECOND;
        deadline.tv_nsec = moment_ns % NS_PER_SECOND;
        until = &deadline;
    }
    /* FUTEX_WAIT_BITSET, because FUTEX_WAIT takes a relative time. */
    long result = syscall(SYS_futex, word, operation(FUTEX_WAIT_BITSET, scope),
                          expected, until, NULL, FUTEX_BITSET_MATCH_ANY);
    if (result == 0) {
        return 0;
    }
    switch (errno) {
    case ETIMEDOUT:
        return AT_ETIMEOUT;
    case EINTR:
        return AT_EINTERRUPTED;
    default: /* EAGAIN: the word had changed */
        return 0;
    }
}

int at_park_wake(atomic_uint *word, int count, at_park_scope scope)
{
    long woken =
        syscall(SYS_futex, word, operation(FUTEX_WAKE, scope), count, NULL, NULL, 0);
    return woken > 0 ? (int)woken : 0;
}

/* Bit `cpu % 64` for each CPU that the calling thread may run on; all of them where the
 * machine has more than the set. */
static uint64_t allowed_cpus(void)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        return UINT64_MAX;
    }
    uint64_t cpus = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &allowed)) {
            cpus |= UINT64_C(1) << (cpu % 64);
        }
    }
    return cpus;
}

/* The CPUs of those who have asked in this period or the last. Threads that are pinned
 * to one CPU each can tell by this whether it is the same one. All relaxed: a hint. */
static struct {
    atomic_int_fast64_t period;
    atomic_uint_fast64_t this_one;
    atomic_uint_fast64_t last_one;
} asked;

static uint64_t cpus_of_all(uint64_t own)
{
    int64_t period = at_clock_ns() / PERIOD_NS;
    int64_t before =
        atomic_exchange_explicit(&asked.period, period, memory_order_relaxed);
    if (before != period) {
        uint64_t last =
            atomic_exchange_explicit(&asked.this_one, 0, memory_order_relaxed);
        atomic_store_explicit(&asked.last_one, before == period - 1 ? last : 0,
                              memory_order_relaxed);
    }
    uint64_t others =
        atomic_fetch_or_explicit(&asked.this_one, own, memory_order_relaxed);
    return own | others | atomic_load_explicit(&asked.last_one, memory_order_relaxed);
}

bool at_park_can_spin(void)
{
    static _Thread_local unsigned questions;
    static _Thread_local bool several_cpus;
    if (questions++ % AFFINITY_IS_FRESH_FOR == 0) {
        uint64_t cpus = cpus_of_all(allowed_cpus());
        several_cpus = (cpus & (cpus - 1)) != 0;
    }
    return several_cpus;
}

bool at_park_spin(atomic_uint *word, uint32_t expected, int64_t budget_ns)
{
    enum { LOOKS_PER_CLOCK = 32 };
    int64_t until_ns = at_park_can_spin() ? at_clock_ns() + budget_ns : 0;
    do {
        for (int i = 0; i < LOOKS_PER_CLOCK; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != expected) {
                return true;
            }
            at_park_relax();
        }
    } while (until_ns != 0 && at_clock_ns() < until_ns);
    return false;
}
