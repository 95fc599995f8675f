/* Results of a pool on their way back: one list, which a collector takes as a whole, so
 * that a batch costs it one wake-up.
 *
 * A thread that waits for one result may lead. As long as it looks (it spins), it takes
 * whatever comes in the collector's place, who sleeps on: nobody is woken then. When it
 * parks, its own result still comes straight to it, and all others go to the collector.
 * It does not look where the last result was made on the CPU that it is on itself: the
 * worker needs that to come to the next one.
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
    atomic_uint_fast64_t led_id; /* written under the lock; the task whose result
                                  * somebody leads for, or 0 */
    at_task *led;                /* guarded: lock; that one's result, or NULL */
    bool leader_looks;           /* guarded: lock; it takes from `list` */
    bool leader_released;        /* guarded: lock; it is to go without */
    atomic_uint leader_word;     /* what it parks on; changed before a wake */
    atomic_int leader_cpu;       /* where it was last seen; a hint */
    atomic_int pusher_cpu;       /* where the last result came from; a hint */
} at_results;

/* Zeroed storage. ctx: any */
void at_results_init(at_results *results);
/* ctx: any; frees what nobody took */
void at_results_fini(at_results *results);

/* True when a leader that slept was woken for it. ctx: any; owns: takes the task */
bool at_results_push(at_results *results, at_task *task);

/* Take every result there is, oldest first, waiting for the first one.
 * ctx:  detached
 * owns: the caller frees each with at_task_free()
 * errs: AT_ETIMEOUT, AT_EINTERRUPTED */
int at_results_collect(at_results *results, int64_t deadline_ns,
                       at_task **tasks) AT_DETACHED;

/* Put results that at_results_collect() gave before all others: the next call gives
 * them again. ctx: any; owns: takes `tasks` */
void at_results_give_back(at_results *results, at_task *tasks);

/* End the collector's wait, now or the next time, with AT_EINTERRUPTED. ctx: any */
void at_results_nudge(at_results *results);

/* Lead for the result of one task, and look for others' meanwhile. First this, then a
 * look whether it is over already; at_results_lead_end() must follow.
 * ctx:  any
 * errs: AT_EBUSY: another thread leads; wait for the collector */
int at_results_lead(at_results *results, uint64_t id);

/* Wait for results: until `look_until_ns` any that come, then the own one alone.
 * ctx:  detached
 * owns: the caller frees each with at_task_free()
 * errs: AT_ETIMEOUT, AT_EINTERRUPTED: also when released */
int at_results_lead_wait(at_results *results, int64_t look_until_ns,
                         int64_t deadline_ns, at_task **tasks) AT_DETACHED;

/* What has come since, if the caller looks. ctx: any; owns: as above; NULL: nothing */
at_task *at_results_lead_take(at_results *results);

/* Look no more: all but the own result go to the collector, `tasks` before the others.
 * ctx: any; owns: takes `tasks`, which may be NULL */
void at_results_lead_blindly(at_results *results, at_task *tasks);

/* Lead no more; what has come goes to the collector. ctx: any */
void at_results_lead_end(at_results *results);

/* Does a thread lead? ctx: any */
bool at_results_is_led(at_results *results);

/* Does one, on the CPU that the caller is on? It cannot run then before the caller
 * sleeps. A hint. ctx: any */
bool at_results_is_led_here(at_results *results);

/* The task is over: end the wait of whoever leads for it. ctx: any */
void at_results_lead_release(at_results *results, uint64_t id);

#endif
