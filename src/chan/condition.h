/* Conditions over a lock (lock.h), between threads, interpreters and processes.
 *
 * Every waiter has a slot with a word of its own to sleep on, so a notification goes to
 * those who wait longest, wakes nobody else, and is not lost on one that gave up or
 * whose process has died. The slots lie in the condition's place; in private memory
 * there are as many as it takes.
 */
#ifndef AT_CHAN_CONDITION_H
#define AT_CHAN_CONDITION_H

#include "chan/lock.h"

typedef struct at_condition at_condition;

extern const at_shared_kind at_condition_kind;

/* Over `lock`, of which it takes a reference; or, for NULL, over a recursive lock of
 * its own, in its own place.
 * ctx:  any
 * owns: the caller gets one reference
 * errs: fault: those of at_place_init */
int at_condition_new(at_lock *lock, const at_origin *origin, at_condition **condition,
                     at_fault *fault);

/* Whether the condition behind the facts of a page needs another's lock. */
bool at_condition_needs_lock(const at_place_facts *facts);

/* ctx: any; borrowed */
at_lock *at_condition_lock(at_condition *condition);

/* Let the lock go, wait to be notified, and take the lock again, however long that
 * takes. A recursive lock is let go as often as it was taken.
 * ctx:  detached; the lock is held by this thread
 * errs: those of at_sleep_on(), with the lock held again all the same; AT_EPERMISSION
 *       when it was not held; AT_ELIMIT when too many wait in other processes.
 *       AT_EOWNERDEAD while taking it again, with the lock; AT_EENDING, without */
int at_condition_wait(at_condition *condition, const at_patience *patience) AT_DETACHED;

/* Wake up to `count` of the waiters, those that wait longest first.
 * ctx:  any; the lock is held
 * errs: AT_EPERMISSION when it is not */
int at_condition_notify(at_condition *condition, unsigned count);

#endif
