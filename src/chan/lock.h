/* Locks between threads, interpreters and processes.
 *
 * One word decides who has a lock: 0, or the number of the holder's process, with a bit
 * that somebody sleeps and one that the last holder died. Who waits spins for a moment,
 * then sleeps on the word (sleep.h).
 *
 * A lock belongs to a process and in it to an interpreter; any thread may let go of it,
 * and of a recursive one the thread that took it. When the interpreter closes, or the
 * process ends by whatever cause, the next to take the lock has it and is told
 * AT_EOWNERDEAD: what it guards may be half done. Unless that one says that it is whole
 * again (at_lock_mark_consistent), the one after is told the same.
 */
#ifndef AT_CHAN_LOCK_H
#define AT_CHAN_LOCK_H

#include <stdbool.h>

#include "base/contexts.h"
#include "base/error.h"
#include "base/shared.h"
#include "chan/peer.h"
#include "chan/place.h"
#include "chan/wait.h"

typedef struct at_lock at_lock;

extern const at_shared_kind at_lock_kind;
extern const at_shared_kind at_rlock_kind;

/* ctx:  any
 * owns: the caller gets one reference
 * errs: fault: those of at_place_init */
int at_lock_new(bool recursive, const at_origin *origin, at_lock **lock,
                at_fault *fault);

/* A lock over the words of `place`, which is initialised before the lock is used and
 * outlives it: a condition's own.
 * errs: AT_ENOMEM */
int at_lock_new_in(at_place *place, bool recursive, at_lock **lock);

/* `peer` has the lock in its hands, and is watched for the rest of the lock's life.
 * ctx:  any
 * errs: AT_ENOMEM, AT_EENDING */
int at_lock_watch(at_lock *lock, at_peer *peer);

/* Take it for `peer` (or NULL).
 * ctx:  any
 * errs: AT_EAGAIN; AT_EENDING when the peer closes; AT_EOWNERDEAD, with the lock: see
 *       at_lock_settle_death */
int at_lock_try_acquire(at_lock *lock, at_peer *peer);

/* The same, waiting for it.
 * ctx:  detached
 * errs: AT_EOWNERDEAD, with the lock; those of at_sleep_on() */
int at_lock_acquire(at_lock *lock, const at_patience *patience) AT_DETACHED;

/* After AT_EOWNERDEAD from at_lock_try_acquire: wait until the last thread of the dead
 * process has ended, which may outlive the lock's word for a moment.
 * ctx: detached */
void at_lock_settle_death(at_lock *lock) AT_DETACHED;

/* What the lock guards is whole again. For the holder.
 * ctx:  any
 * errs: AT_EPERMISSION when it is not held so */
int at_lock_mark_consistent(at_lock *lock);

/* A lock may be released by any thread of the process that has it, a recursive one by
 * the thread that has it. `peer` is the caller's interpreter, or NULL: one that closes
 * does not let go of what the next has taken since.
 * ctx:  any
 * errs: AT_EPERMISSION when it is not held so */
int at_lock_release(at_lock *lock, at_peer *peer);

bool at_lock_is_held(const at_lock *lock);
/* Held, in shared memory, by a process that is not there: as no death leaves it, but
 * who wrote over the word. */
bool at_lock_is_orphaned(const at_lock *lock);
/* By the calling thread; for a lock that is not recursive, by its process. */
bool at_lock_is_mine(const at_lock *lock);

/* For conditions: let go of it however often it was taken, and take it back so, for as
 * long as that takes.
 * errs: AT_EOWNERDEAD, with the lock; AT_EENDING, without */
unsigned at_lock_let_go(at_lock *lock);
int at_lock_take_back(at_lock *lock, unsigned depth, at_peer *peer) AT_DETACHED;

#endif
