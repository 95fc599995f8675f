/* Events, semaphores and barriers between threads, interpreters and processes.
 *
 * What threading promises of its namesakes holds here. Each is a word or two and what
 * sleeps on them (sleep.h); nobody holds one, so the death of a process leaves them as
 * they are.
 */
#ifndef AT_CHAN_SYNC_H
#define AT_CHAN_SYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/contexts.h"
#include "base/error.h"
#include "base/shared.h"
#include "chan/lock.h"
#include "chan/place.h"
#include "chan/wait.h"

typedef struct at_event at_event;
typedef struct at_semaphore at_semaphore;
typedef struct at_barrier at_barrier;

extern const at_shared_kind at_event_kind;
extern const at_shared_kind at_semaphore_kind;
extern const at_shared_kind at_bounded_semaphore_kind;
extern const at_shared_kind at_barrier_kind;

/* Every _new:
 * ctx:  any
 * owns: the caller gets one reference
 * errs: fault: those of at_place_init */

/* The lock, condition, event, semaphore, barrier, atomic int or dict behind a
 * descriptor that another process passed: `lock` is what a condition stands on that has
 * no lock of its own, else NULL.
 * ctx:  any
 * owns: takes the descriptor on success; the caller gets one reference
 * errs: fault: AT_EINVALID where it is none; those of at_place_init */
int at_sync_adopt(int descriptor, at_lock *lock, at_shared **thing, at_fault *fault);

/* ---- events ------------------------------------------------------------------- */

int at_event_new(const at_origin *origin, at_event **event, at_fault *fault);
void at_event_set(at_event *event);
void at_event_clear(at_event *event);
bool at_event_is_set(const at_event *event);
/* Who waits when it is set is let through, though it be cleared at once.
 * ctx: detached; errs: those of at_sleep_on() */
int at_event_wait(at_event *event, const at_patience *patience) AT_DETACHED;

/* ---- semaphores --------------------------------------------------------------- */

enum { AT_SEMAPHORE_MOST = INT32_MAX };

/* `value` is 0 to AT_SEMAPHORE_MOST; a bounded one cannot be released above it. */
int at_semaphore_new(unsigned value, bool bounded, const at_origin *origin,
                     at_semaphore **semaphore, at_fault *fault);
/* ctx: any; errs: AT_EAGAIN */
int at_semaphore_try_acquire(at_semaphore *semaphore);
/* ctx: detached; errs: those of at_sleep_on() */
int at_semaphore_acquire(at_semaphore *semaphore,
                         const at_patience *patience) AT_DETACHED;
/* ctx: any; errs: AT_ELIMIT, and then nothing was released */
int at_semaphore_release(at_semaphore *semaphore, unsigned count);

/* ---- barriers ----------------------------------------------------------------- */

enum { AT_BARRIER_MOST = 0xffff };

/* For 1 to AT_BARRIER_MOST parties. */
int at_barrier_new(unsigned parties, const at_origin *origin, at_barrier **barrier,
                   at_fault *fault);

/* One party's coming; zeros at first, but for `has_action`. */
typedef struct at_arrival {
    bool has_action; /* something to do when all have come, before any leaves */
    bool acts;       /* set: it is for this party to act, and to say so */
    bool arrived;
    unsigned round;
    unsigned place; /* 0 to parties - 1, another for each party of a round */
} at_arrival;

/* Wait for the others. A wait that fails breaks the barrier for all, but for one that a
 * signal interrupted: the caller goes on with the same arrival, or at_barrier_leave().
 * In a round in which parties have an action, one of those has arrival->acts then: the
 * others wait until it has called at_barrier_acted().
 * ctx:  detached
 * errs: AT_EBROKEN; those of at_sleep_on() but AT_ETIMEOUT, which is AT_EBROKEN too */
int at_barrier_wait(at_barrier *barrier, at_arrival *arrival,
                    const at_patience *patience) AT_DETACHED;

/* The action was done, `well` or not: the others leave, or the barrier is broken.
 * ctx:  any
 * errs: AT_EBROKEN, also where another broke it meanwhile */
int at_barrier_acted(at_barrier *barrier, const at_arrival *arrival, bool well);

/* A party whose wait was interrupted does not go on with it: breaks the barrier for the
 * others, unless its round has ended by now. ctx: any */
void at_barrier_leave(at_barrier *barrier, const at_arrival *arrival);

/* Break it, or make it whole: those who wait get AT_EBROKEN. ctx: any */
void at_barrier_abort(at_barrier *barrier);
void at_barrier_reset(at_barrier *barrier);

unsigned at_barrier_parties(const at_barrier *barrier);
unsigned at_barrier_waiting(const at_barrier *barrier);
bool at_barrier_is_broken(const at_barrier *barrier);

#endif
