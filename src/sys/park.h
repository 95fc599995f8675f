/* Parking: a thread sleeps on a 32-bit word until another changes it and wakes it.
 *
 * The kernel's futex, with absolute deadlines. Who parks re-checks its condition after
 * every return, whatever the code: wakes may be spurious. The waker changes the word
 * first and wakes after, holding no lock.
 */
#ifndef AT_SYS_PARK_H
#define AT_SYS_PARK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/contexts.h"

/* Who can see the word. */
typedef enum at_park_scope {
    AT_PARK_PRIVATE, /* threads of this process */
    AT_PARK_SHARED,  /* every process that maps the page */
} at_park_scope;

enum { AT_PARK_ALL = INT32_MAX };

/* Sleep while `*word == expected`, until at_park_wake() or `deadline_ns` (at_clock_ns()
 * time, or AT_NEVER).
 * ctx:  detached
 * errs: AT_ETIMEOUT; AT_EINTERRUPTED when a signal handler ran. 0 says only that it is
 *       time to look again. */
int at_park_wait(atomic_uint *word, uint32_t expected, int64_t deadline_ns,
                 at_park_scope scope) AT_DETACHED;

/* What ends the watching sleeps of a thread beside their own word: a bit of `bits` in
 * `*word`, which lives until the watch is changed. Signal handlers set it: one that ran
 * before the sleep would not end it otherwise. A bit of `told_bits` is set by another
 * thread, which then wakes those sleeps that ask at_park_is_told() first. */
typedef struct at_park_watch {
    const atomic_uint *word; /* or NULL: nothing is watched */
    uint32_t bits;
    uint32_t told_bits;
} at_park_watch;

/* Watch `watch` on the calling thread; returns what was watched before. ctx: any */
at_park_watch at_park_set_watch(at_park_watch watch);

/* at_park_wait(), and AT_EINTERRUPTED at once where a watched bit is set. No moment is
 * left between the look at the bits and the sleep in which a handler on this thread
 * could set one unseen, from Linux 5.16 on. For waits that hand the interruption on to
 * whoever clears the bit. ctx: detached errs: as at_park_wait() */
int at_park_wait_watching(atomic_uint *word, uint32_t expected, int64_t deadline_ns,
                          at_park_scope scope) AT_DETACHED;

/* Whether a bit of the `told_bits` that this thread watches is set. ctx: any */
bool at_park_is_told(void);

/* Wake up to `count` of the threads that sleep on `word`. The word may be gone by now:
 * its address is only a name. Returns how many were woken.
 * ctx: any */
int at_park_wake(atomic_uint *word, int count, at_park_scope scope);

/* Tell the processor that this is a spin loop. */
static inline void at_park_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

/* True where the calling thread and those that have asked of late together may run on
 * more than one CPU, so that spinning can be worth it: the other side may be running at
 * this moment.
 * ctx: any */
bool at_park_can_spin(void);

/* The CPU that the calling thread runs on, as of now; -1 where that is not known. Two
 * threads that wait for each other on one CPU should not spin.
 * ctx: any */
int at_park_cpu(void);

/* Look at `*word` for up to `budget_ns` while it is `expected`, where that can help;
 * true when it has changed. For waits that are mostly over at once: the sleep and the
 * wake of at_park_wait() cost more than such a spin. ctx: detached */
bool at_park_spin(atomic_uint *word, uint32_t expected, int64_t budget_ns) AT_DETACHED;

#endif
