/* Locks, conditions, events, semaphores and barriers between interpreters and threads.
 *
 * Each is a few words, an attempt on them and a queue (wait.h): whoever waits does so
 * detached, spins for a moment and then sleeps, and is woken when its interpreter
 * closes. What threading promises of its namesakes holds here, across interpreters.
 *
 * A lock remembers the interpreter that holds it. When that closes, the lock is free
 * again, and the next to take it is told AT_EOWNERDEAD, once and without getting it:
 * what the lock guards may be half done.
 */
#ifndef AT_CHAN_SYNC_H
#define AT_CHAN_SYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/contexts.h"
#include "base/shared.h"
#include "chan/peer.h"
#include "chan/wait.h"

typedef struct at_lock at_lock;
typedef struct at_condition at_condition;
typedef struct at_event at_event;
typedef struct at_semaphore at_semaphore;
typedef struct at_barrier at_barrier;

extern const at_shared_kind at_lock_kind;
extern const at_shared_kind at_rlock_kind;
extern const at_shared_kind at_condition_kind;
extern const at_shared_kind at_event_kind;
extern const at_shared_kind at_semaphore_kind;
extern const at_shared_kind at_barrier_kind;

/* Every _new: ctx: any; the caller gets one reference; errs: AT_ENOMEM */

/* ---- locks -------------------------------------------------------------------- */

int at_lock_new(bool recursive, at_lock **lock);

/* `peer` has the lock in its hands, and is watched for the rest of the lock's life.
 * ctx:  any
 * errs: AT_ENOMEM, AT_EENDING */
int at_lock_watch(at_lock *lock, at_peer *peer);

/* Take it for `peer` (or NULL).
 * ctx:  any
 * errs: AT_EAGAIN, AT_EOWNERDEAD */
int at_lock_try_acquire(at_lock *lock, at_peer *peer);

/* The same, waiting for it.
 * ctx:  detached
 * errs: AT_EOWNERDEAD and those of at_wait() */
int at_lock_acquire(at_lock *lock, const at_patience *patience) AT_DETACHED;

/* A lock may be released by any thread, a recursive one by the thread that has it.
 * ctx:  any
 * errs: AT_EPERMISSION when it is not held so */
int at_lock_release(at_lock *lock);

bool at_lock_is_held(const at_lock *lock);
/* By the calling thread; for a lock that is not recursive, by anyone. */
bool at_lock_is_mine(const at_lock *lock);

/* ---- conditions --------------------------------------------------------------- */

/* Over `lock`, of which it takes a reference. */
int at_condition_new(at_lock *lock, at_condition **condition);
at_lock *at_condition_lock(at_condition *condition);

/* Let the lock go, wait to be notified, and take the lock again, however long that
 * takes. A recursive lock is let go as often as it was taken.
 * ctx:  detached; the lock is held by this thread
 * errs: those of at_wait(), with the lock held again all the same; AT_EPERMISSION when
 *       it was not held. AT_EOWNERDEAD and AT_EENDING while taking it again: then it is
 *       not held */
int at_condition_wait(at_condition *condition, const at_patience *patience) AT_DETACHED;

/* Wake up to `count` of the waiters, those that wait longest first.
 * ctx:  any; the lock is held
 * errs: AT_EPERMISSION when it is not */
int at_condition_notify(at_condition *condition, unsigned count);

/* ---- events ------------------------------------------------------------------- */

int at_event_new(at_event **event);
void at_event_set(at_event *event);
void at_event_clear(at_event *event);
bool at_event_is_set(const at_event *event);
/* ctx: detached; errs: those of at_wait() */
int at_event_wait(at_event *event, const at_patience *patience) AT_DETACHED;

/* ---- semaphores --------------------------------------------------------------- */

/* `limit` is what the value may not pass, or INT64_MAX. */
int at_semaphore_new(int64_t value, int64_t limit, at_semaphore **semaphore);
/* ctx: any; errs: AT_EAGAIN */
int at_semaphore_try_acquire(at_semaphore *semaphore);
/* ctx: detached; errs: those of at_wait() */
int at_semaphore_acquire(at_semaphore *semaphore,
                         const at_patience *patience) AT_DETACHED;
/* ctx: any; errs: AT_ELIMIT, and then nothing was released */
int at_semaphore_release(at_semaphore *semaphore, int64_t count);

/* ---- barriers ----------------------------------------------------------------- */

int at_barrier_new(unsigned parties, at_barrier **barrier);

/* Wait for the others; `*place` is 0 to parties - 1, another for each. A wait that
 * fails breaks the barrier for all. ctx:  detached errs: AT_EBROKEN; those of at_wait()
 * but AT_ETIMEOUT, which is AT_EBROKEN too */
int at_barrier_wait(at_barrier *barrier, unsigned *place,
                    const at_patience *patience) AT_DETACHED;

/* Break it, or make it whole: those who wait get AT_EBROKEN. ctx: any */
void at_barrier_abort(at_barrier *barrier);
void at_barrier_reset(at_barrier *barrier);

unsigned at_barrier_parties(const at_barrier *barrier);
unsigned at_barrier_waiting(at_barrier *barrier);
bool at_barrier_is_broken(at_barrier *barrier);

#endif
