/* A job: bytes that go to an interpreter's owner thread, and bytes that come back.
 *
 * Made by any thread, queued by at_interpreter_post(), run by the owner and waited for
 * by whoever holds a reference. Both payloads are raw memory; what they say is the
 * business of atoll._remote.
 */
#ifndef AT_INTERP_JOB_H
#define AT_INTERP_JOB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/contexts.h"
#include "base/error.h"
#include "base/shared.h"
#include "chan/message.h"
#include "chan/spin.h"

/* The values of at_job.state, in the order in which they come. */
enum {
    AT_JOB_QUEUED,
    AT_JOB_RUNNING,
    AT_JOB_DONE,      /* `reply` is there */
    AT_JOB_CANCELLED, /* its interpreter closed before it could run */
};

typedef struct at_job {
    at_shared shared;
    struct at_interpreter *target; /* fixed after post, a reference; NULL before */
    struct at_job *parent;         /* the job whose code waits for this one, or NULL;
                                    * a reference, fixed after post */
    struct at_job *next;           /* guarded: the target's lock */
    at_message *request;           /* fixed after init; a reference, or NULL */
    at_message *reply;             /* writer: the owner, before the state is DONE; a
                                    * reference, or NULL: not even the error could be
                                    * told */
    atomic_uint state;             /* the release in at_job_finish pairs with the
                                    * acquire in at_job_is_over */
    at_wake_note note;             /* of its end */
    atomic_int listener; /* a descriptor that at_job_finish sets and closes, or -1; who
                          * takes it out owns it */
} at_job;

/* A job with a reference to `request` (or NULL) and one reference, the caller's; NULL:
 * out of memory. ctx: any */
at_job *at_job_new(at_message *request);

/* ctx: any; NULL is allowed */
void at_job_unref(at_job *job);

/* Done or cancelled? ctx: any */
bool at_job_is_over(const at_job *job);

/* Say that it is over, and wake those who wait. ctx: the owner, or who takes the job
 * off the queue; never under a lock */
void at_job_finish(at_job *job, unsigned state);

/* Make a descriptor readable when the job is over, for a wait that poll() does. One at
 * a time. Returns the descriptor. ctx:  any owns: the caller closes it with
 * at_wakefd_close errs: as at_error_from_errno() */
int at_job_listen(at_job *job, at_fault *fault);

/* Wait until it is over.
 * ctx:  detached
 * errs: AT_ETIMEOUT; AT_EINTERRUPTED when a signal handler ran */
int at_job_wait(at_job *job, int64_t deadline_ns) AT_DETACHED;

#endif
