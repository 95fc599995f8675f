/* The scheduler of a pool: tasks to workers, results back.
 *
 * Each worker has a deque; a submitted task goes to the next worker's in turn, and a
 * worker whose own is empty steals the oldest of another. A worker without work looks
 * about for a moment (one at a time does), then parks. Results gather in results.h.
 *
 * A worker is a number: what runs on it (an interpreter's owner thread, a thread, a
 * thread that feeds a process) is its owner's affair, and it may be replaced while
 * tasks wait.
 *
 * Locks: one for each deque, one for what each worker runs, one for the results; held
 * for a few instructions, and never while waking, allocating or letting a message go.
 * Only a worker's run_lock is taken under another, a deque's: a task is always found in
 * one of the two.
 */
#ifndef AT_POOL_SCHEDULER_H
#define AT_POOL_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/contexts.h"
#include "base/shared.h"
#include "chan/message.h"
#include "pool/results.h"
#include "pool/task.h"

enum { AT_POOL_WORKERS = 1024, AT_POOL_ANY_WORKER = -1 };

typedef struct at_scheduler at_scheduler;

/* A scheduler for up to `worker_count` workers, with one reference, the caller's.
 * ctx:  any
 * errs: NULL when out of memory, or for 0 or too many workers */
at_scheduler *at_scheduler_new(unsigned worker_count);

/* Queue a task; wakes a worker if that is needed. `worker` is its number, or
 * AT_POOL_ANY_WORKER; a task for one worker is not stolen.
 * ctx:  any
 * owns: takes `payload` (may be NULL) on success
 * errs: AT_ENOMEM, AT_ECLOSED */
int at_scheduler_submit(at_scheduler *scheduler, uint64_t id, at_message *payload,
                        int worker);

/* The next task for `worker`; it runs from now on.
 * ctx:  detached
 * owns: the caller ends it with at_scheduler_finish()
 * errs: AT_ECLOSED when closed and nothing is queued, or this worker was told to stop;
 *       AT_ETIMEOUT, AT_EINTERRUPTED */
int at_scheduler_take(at_scheduler *scheduler, unsigned worker, int64_t deadline_ns,
                      at_task **task) AT_DETACHED;

/* The same if there is one now; AT_EEMPTY otherwise. ctx: any */
int at_scheduler_try_take(at_scheduler *scheduler, unsigned worker, at_task **task);

/* The task's own code runs from now on: until this, an interrupt is only noted, so that
 * it does not hit the imports that the call needs and leave modules half made.
 * ctx:  any, the worker
 * errs: AT_EINTERRUPTED: it is not wanted any more; finish it without running it */
int at_scheduler_begin(at_scheduler *scheduler, const at_task *task);

/* `task` is over.
 * ctx:  any
 * owns: takes `result` (may be NULL) and the task
 * errs: AT_EINTERRUPTED where it was asked to be interrupted while it ran: then an
 *       exception is on its way to the worker, which must meet it before it takes
 *       another; AT_ECLOSED where the worker was abandoned: it takes no more */
int at_scheduler_finish(at_scheduler *scheduler, at_task *task, at_outcome outcome,
                        at_message *result);

/* `task` was taken and never ran, because what was to run it died before: it is queued
 * again, before all others. One that is not wanted any more ends instead, as by
 * at_scheduler_finish() with an error and no result.
 * ctx:  any
 * owns: takes the task
 * errs: as at_scheduler_finish() */
int at_scheduler_put_back(at_scheduler *scheduler, at_task *task);

/* Send the collector a word that belongs to no task.
 * ctx: any; owns: takes `word` on success; errs: AT_ENOMEM */
int at_scheduler_notice(at_scheduler *scheduler, unsigned worker, at_message *word);

/* Where the results go. ctx: any; good as long as the scheduler is */
at_results *at_scheduler_results(at_scheduler *scheduler);

/* Take the task off its queue, if it has not begun.
 * ctx: any; errs: AT_ENOTFOUND */
int at_scheduler_cancel(at_scheduler *scheduler, uint64_t id);

/* Take every queued task that may run anywhere off; they become results of outcome
 * CANCELLED. Returns how many. ctx: any */
size_t at_scheduler_cancel_all(at_scheduler *scheduler);

/* The number of the worker that runs the task. With `interrupt` the task is marked:
 * the caller will now send that worker an exception; but for AT_EAGAIN, which says that
 * it has not begun and will not.
 * ctx: any; errs: AT_ENOTFOUND; AT_EAGAIN */
int at_scheduler_running(at_scheduler *scheduler, uint64_t id, bool interrupt);

/* Nanoseconds since the task began to run. ctx: any; errs: AT_ENOTFOUND */
int64_t at_scheduler_running_ns(at_scheduler *scheduler, uint64_t id);

/* Give up the worker that runs the task, and that will not end: its number is free for
 * another. When it comes back after all, the task is dropped and it is told to go.
 * Returns the number. ctx: any; errs: AT_ENOTFOUND */
int at_scheduler_abandon(at_scheduler *scheduler, uint64_t id);

/* The task that `worker` runs, or 0. ctx: any */
uint64_t at_scheduler_current(at_scheduler *scheduler, unsigned worker);

/* How many tasks ended on `worker`, its predecessors included. ctx: any */
uint64_t at_scheduler_done(at_scheduler *scheduler, unsigned worker);

/* How many tasks are queued. ctx: any */
size_t at_scheduler_queued(const at_scheduler *scheduler);

/* Wait until fewer than `limit` tasks are queued, or the scheduler is closed.
 * ctx:  detached
 * errs: AT_ETIMEOUT, AT_EINTERRUPTED */
int at_scheduler_wait_room(at_scheduler *scheduler, size_t limit,
                           int64_t deadline_ns) AT_DETACHED;

/* The workers' tasks need what the submitting threads hold: the GIL of one interpreter.
 * From now on a worker that looks about lets a task be for a moment, until somebody
 * waits for a result without it. Taken before that, both would sleep and be woken.
 * ctx: any */
void at_scheduler_share_gil(at_scheduler *scheduler);

/* Accept no more tasks; workers end when the queue is empty. ctx: any */
void at_scheduler_close(at_scheduler *scheduler);

/* Tell `worker` to take no more tasks (or, with `stop` false, to take them again).
 * What it has queued can be stolen. ctx: any */
void at_scheduler_stop_worker(at_scheduler *scheduler, unsigned worker, bool stop);

#endif
