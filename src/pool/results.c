/* Results on their way back; see results.h. */
#include "pool/results.h"

#include "base/error.h"
#include "sys/park.h"

/* How long a leader looks before it sleeps: a short task takes less. */
enum { LEAD_SPIN_NS = 30 * 1000 };

void at_results_init(at_results *results)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&results->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    at_task_list_init(&results->list);
}

void at_results_fini(at_results *results)
{
    at_task_list_fini(&results->list);
    if (results->led != NULL) {
        at_task_free(results->led);
    }
    pthread_mutex_destroy(&results->lock);
}

static void wake_leader(at_results *results)
{
    atomic_fetch_add(&results->leader_word, 1);
    at_park_wake(&results->leader_word, 1, AT_PARK_PRIVATE);
}

void at_results_push(at_results *results, at_task *task)
{
    pthread_mutex_lock(&results->lock);
    bool is_led = task->id != 0 && task->id == results->led_id;
    if (is_led) {
        results->led = task;
    } else {
        at_task_list_push(&results->list, task);
    }
    pthread_mutex_unlock(&results->lock);
    if (is_led) {
        wake_leader(results);
        return;
    }
    if (atomic_exchange(&results->collector_idle, 0) != 0) {
        atomic_fetch_add(&results->word, 1);
        at_park_wake(&results->word, 1, AT_PARK_PRIVATE);
    }
}

static at_task *take_all(at_results *results)
{
    pthread_mutex_lock(&results->lock);
    at_task *first = results->list.first;
    at_task_list_init(&results->list);
    pthread_mutex_unlock(&results->lock);
    return first;
}

int at_results_collect(at_results *results, int64_t deadline_ns, at_task **tasks)
{
    for (;;) {
        uint32_t word = atomic_load(&results->word);
        atomic_store(&results->collector_idle, 1); /* pairs with at_results_push */
        *tasks = take_all(results);
        int result = 0;
        if (*tasks == NULL && atomic_exchange(&results->nudged, false)) {
            result = AT_EINTERRUPTED;
        } else if (*tasks == NULL) {
            result = at_park_wait(&results->word, word, deadline_ns, AT_PARK_PRIVATE);
        }
        atomic_store(&results->collector_idle, 0);
        if (*tasks != NULL) {
            return 0;
        }
        if (result < 0) {
            return result;
        }
    }
}

/* ---- a result that its own waiter takes ------------------------------------------ */

int at_results_lead(at_results *results, uint64_t id)
{
    pthread_mutex_lock(&results->lock);
    bool busy = results->led_id != 0;
    if (!busy) {
        results->led_id = id;
        results->led = at_task_list_remove(&results->list, id);
        results->leader_released = false;
    }
    pthread_mutex_unlock(&results->lock);
    return busy ? AT_EBUSY : 0;
}

/* Is there something for the leader? */
static bool leader_has(at_results *results)
{
    pthread_mutex_lock(&results->lock);
    bool has = results->led != NULL || results->leader_released;
    pthread_mutex_unlock(&results->lock);
    return has;
}

at_task *at_results_lead_wait(at_results *results, int64_t deadline_ns)
{
    bool spun = false;
    for (;;) {
        uint32_t word = atomic_load(&results->leader_word);
        if (deadline_ns == 0 || leader_has(results)) {
            break;
        }
        if (!spun) {
            spun = true;
            (void)at_park_spin(&results->leader_word, word, LEAD_SPIN_NS);
        } else if (at_park_wait(&results->leader_word, word, deadline_ns,
                                AT_PARK_PRIVATE) < 0) {
            break;
        }
    }
    pthread_mutex_lock(&results->lock);
    at_task *task = results->led;
    results->led = NULL;
    results->led_id = 0;
    pthread_mutex_unlock(&results->lock);
    return task;
}

void at_results_lead_release(at_results *results)
{
    pthread_mutex_lock(&results->lock);
    bool leads = results->led_id != 0;
    results->leader_released = leads;
    pthread_mutex_unlock(&results->lock);
    if (leads) {
        wake_leader(results);
    }
}

void at_results_nudge(at_results *results)
{
    atomic_store(&results->nudged, true);
    if (atomic_exchange(&results->collector_idle, 0) != 0) {
        atomic_fetch_add(&results->word, 1);
        at_park_wake(&results->word, 1, AT_PARK_PRIVATE);
    }
}
