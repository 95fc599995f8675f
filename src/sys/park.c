/* Parking on futexes; see park.h. */
#include "sys/park.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "sys/clock.h"

enum {
    NS_PER_SECOND = 1000000000,
    /* A thread's affinity is asked for again after so many questions. */
    AFFINITY_IS_FRESH_FOR = 128,
    PERIOD_NS = 1 << 25,
};

static int operation(int command, at_park_scope scope)
{
    return scope == AT_PARK_PRIVATE ? command | FUTEX_PRIVATE_FLAG : command;
}

/* `*deadline` as the kernel wants it; NULL for AT_NEVER. */
static struct timespec *timespec_of(int64_t deadline_ns, struct timespec *deadline)
{
    if (deadline_ns == AT_NEVER) {
        return NULL;
    }
    /* The kernel refuses negative times; any moment in the past does. */
    int64_t moment_ns = deadline_ns > 0 ? deadline_ns : 0;
    deadline->tv_sec = moment_ns / NS_PER_SECOND;
    deadline->tv_nsec = moment_ns % NS_PER_SECOND;
    return deadline;
}

static int why_awake(void)
{
    switch (errno) {
    case ETIMEDOUT:
        return AT_ETIMEOUT;
    case EINTR:
        return AT_EINTERRUPTED;
    default: /* EAGAIN: a word had changed */
        return 0;
    }
}

int at_park_wait(atomic_uint *word, uint32_t expected, int64_t deadline_ns,
                 at_park_scope scope)
{
    struct timespec deadline;
    /* FUTEX_WAIT_BITSET, because FUTEX_WAIT takes a relative time. */
    long result =
        syscall(SYS_futex, word, operation(FUTEX_WAIT_BITSET, scope), expected,
                timespec_of(deadline_ns, &deadline), NULL, FUTEX_BITSET_MATCH_ANY);
    return result == 0 ? 0 : why_awake();
}

/* ---- watching ----------------------------------------------------------------
 *
 * A handler that runs between the last look at the watched word and the sleep changes
 * that word, so the kernel is asked to compare it too: it does so once the thread
 * counts as asleep, when a signal ends the call by itself. */

/* Of linux/futex.h since 5.16, under the names that it has there. */
enum { WAITV_NUMBER = 449, WAITV_32_BITS = 2 };

typedef struct waited_word {
    uint64_t expected;
    uint64_t address;
    uint32_t flags;
    uint32_t reserved;
} waited_word;

static _Thread_local at_park_watch watched;
static atomic_bool no_waitv; /* the kernel has none, or a sandbox forbids it */

at_park_watch at_park_set_watch(at_park_watch watch)
{
    at_park_watch before = watched;
    watched = watch;
    return before;
}

bool at_park_is_told(void)
{
    return watched.word != NULL && (atomic_load(watched.word) & watched.told_bits) != 0;
}

int at_park_wait_watching(atomic_uint *word, uint32_t expected, int64_t deadline_ns,
                          at_park_scope scope)
{
    if (watched.word == NULL || watched.bits == 0) {
        return at_park_wait(word, expected, deadline_ns, scope);
    }
    uint32_t seen = atomic_load(watched.word);
    if ((seen & watched.bits) != 0) {
        return AT_EINTERRUPTED;
    }
    if (atomic_load_explicit(&no_waitv, memory_order_relaxed)) {
        return at_park_wait(word, expected, deadline_ns, scope);
    }
    uint32_t private_flag = FUTEX_PRIVATE_FLAG;
    waited_word words[] = {
        {expected, (uintptr_t)word,
         WAITV_32_BITS | (scope == AT_PARK_PRIVATE ? private_flag : 0), 0},
        {seen, (uintptr_t)watched.word, WAITV_32_BITS | private_flag, 0},
    };
    struct timespec deadline;
    long result = syscall(WAITV_NUMBER, words, sizeof words / sizeof *words, 0,
                          timespec_of(deadline_ns, &deadline), CLOCK_MONOTONIC);
    if (result >= 0) {
        return 0;
    }
    if (errno == ENOSYS || errno == EPERM) {
        atomic_store_explicit(&no_waitv, true, memory_order_relaxed);
        return 0; /* time to look again */
    }
    return why_awake();
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
    uint64_t words[sizeof allowed / sizeof(uint64_t)];
    memcpy(words, &allowed, sizeof words);
    uint64_t cpus = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        cpus |= words[i];
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

int at_park_cpu(void)
{
    return sched_getcpu(); /* no system call */
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
