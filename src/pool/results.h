/* Results of a pool on their way back: one list, which a collector takes as a whole, so
 * that a batch costs it one wake-up. A thread that waits for one result alone may lead:
 * then that one comes straight to it, past the collector, and saves a wake of each.
 *
 * Lock: `lock`, held for a few instructions, and never while waking or freeing.
 */
#ifndef AT_POOL_RESULTS_H
#define AT_POOL_RESULTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/contexts.h"
#include "pool/task.h"

typedef struct at_results {
    pthread_mutex_t lock;
    at_task_list list;          /* guarded: lock */
    atomic_bool nudged;         /* the collector is to return */
    atomic_uint word;           /* what the collector parks on; changed before a wake */
    atomic_uint collector_idle; /* 1: it sleeps, or is about to */
    uint64_t led_id;            /* guarded: lock; the task whose result somebody leads
                                 * for, or 0 */
    at_task *led;               /* guarded: lock; that one's result, or NULL */
    bool leader_released;       /* guarded: lock; it is to go without */
    atomic_uint leader_word;    /* what it parks on; changed before a wake */
} at_results;

/* Zeroed storage. ctx: any */
void at_results_init(at_results *results);
/* ctx: any; frees what nobody took */
void at_results_fini(at_results *results);

/* ctx: any; owns: takes the task */
void at_results_push(at_results *results, at_task *task);

/* Take every result there is, oldest first, waiting for the first one.
 * ctx:  detached
 * owns: the caller frees each with at_task_free()
 * errs: AT_ETIMEOUT, AT_EINTERRUPTED */
int at_results_collect(at_results *results, int64_t deadline_ns,
                       at_task **tasks) AT_DETACHED;

/* End the collector's wait, now or the next time, with AT_EINTERRUPTED. ctx: any */
void at_results_nudge(at_results *results);

/* Lead for the result of one task. First this, then a look whether it was delivered
 * before, then at_results_lead_wait(), which must follow.
 * ctx:  any
 * errs: AT_EBUSY: another thread leads; wait for the collector */
int at_results_lead(at_results *results, uint64_t id);

/* Wait for the result of the task that the calling thread leads for, and lead no more;
 * with a deadline of 0 it does not wait.
 * ctx:  detached
 * owns: the caller frees it with at_task_free(); NULL at the deadline, on a signal, or
 *       when released: then it comes by the collector, if it has not come that way */
at_task *at_results_lead_wait(at_results *results, int64_t deadline_ns) AT_DETACHED;

/* End the wait of whoever leads: what it waits for may have ended another way, or been
 * in the collector's hands before it led. ctx: any */
void at_results_lead_release(at_results *results);

#endif
