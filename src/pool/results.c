/* Results on their way back; see results.h. */
#include "pool/results.h"

#include "base/error.h"
#include "sys/clock.h"
#include "sys/park.h"

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

static void wake_collector(at_results *results)
{
    if (atomic_exchange(&results->collector_idle, 0) != 0) {
        atomic_fetch_add(&results->word, 1);
        at_park_wake(&results->word, 1, AT_PARK_PRIVATE);
    }
}

bool at_results_push(at_results *results, at_task *task)
{
    atomic_store_explicit(&results->pusher_cpu, at_park_cpu(), memory_order_relaxed);
    pthread_mutex_lock(&results->lock);
    bool looks = results->leader_looks;
    bool is_led =
        !looks && task->id != 0 &&
        task->id == atomic_load_explicit(&results->led_id, memory_order_relaxed);
    if (is_led) {
        results->led = task;
    } else {
        at_task_list_push(&results->list, task);
    }
    if (looks) {
        /* It spins on this, and parks only after it has looked under the lock. */
        atomic_fetch_add(&results->leader_word, 1);
    }
    pthread_mutex_unlock(&results->lock);
    if (is_led) {
        wake_leader(results);
    } else if (!looks) {
        wake_collector(results);
    }
    return is_led;
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
    bool busy = atomic_load_explicit(&results->led_id, memory_order_relaxed) != 0;
    if (!busy) {
        /* Sequentially consistent, as is at_results_lead_release()'s look: either that
         * sees this, or the caller's look at the task sees that it is over. */
        atomic_store(&results->led_id, id);
        results->leader_looks = true;
        results->leader_released = false;
    }
    pthread_mutex_unlock(&results->lock);
    return busy ? AT_EBUSY : 0;
}

/* What there is for the leader, who looks on unless `park`. 1: something, in `*tasks`;
 * 0: nothing; AT_EINTERRUPTED: it is released. */
static int leader_take(at_results *results, bool park, at_task **tasks)
{
    pthread_mutex_lock(&results->lock);
    *tasks = results->led;
    results->led = NULL;
    if (*tasks == NULL && results->leader_looks) {
        *tasks = results->list.first;
        at_task_list_init(&results->list);
    }
    int result = *tasks != NULL ? 1 : results->leader_released ? AT_EINTERRUPTED : 0;
    if (result == 0 && park) {
        results->leader_looks = false;
    }
    pthread_mutex_unlock(&results->lock);
    return result;
}

int at_results_lead_wait(at_results *results, int64_t look_until_ns,
                         int64_t deadline_ns, at_task **tasks)
{
    int here = at_park_cpu();
    atomic_store_explicit(&results->leader_cpu, here, memory_order_relaxed);
    if (here == atomic_load_explicit(&results->pusher_cpu, memory_order_relaxed)) {
        look_until_ns = 0;
    }
    for (;;) {
        uint32_t word = atomic_load(&results->leader_word);
        int64_t look_ns = look_until_ns - at_clock_ns();
        int result = leader_take(results, look_ns <= 0, tasks);
        if (result == 0 && look_ns > 0) {
            if (!at_park_spin(&results->leader_word, word, look_ns)) {
                look_until_ns = 0; /* also where spinning is no use */
            }
            continue;
        }
        if (result == 0) {
            result = at_park_wait_watching(&results->leader_word, word, deadline_ns,
                                           AT_PARK_PRIVATE);
        }
        if (result != 0) {
            return result > 0 ? 0 : result;
        }
    }
}

at_task *at_results_lead_take(at_results *results)
{
    at_task *tasks;
    (void)leader_take(results, false, &tasks);
    return tasks;
}

/* Before what is in the list, under the lock. */
static void put_first(at_results *results, at_task *tasks)
{
    if (tasks == NULL) {
        return;
    }
    at_task *last = tasks;
    while (last->next != NULL) {
        last = last->next;
    }
    last->next = results->list.first;
    if (results->list.first == NULL) {
        results->list.last = &last->next;
    }
    results->list.first = tasks;
}

void at_results_give_back(at_results *results, at_task *tasks)
{
    pthread_mutex_lock(&results->lock);
    put_first(results, tasks);
    pthread_mutex_unlock(&results->lock);
}

void at_results_lead_blindly(at_results *results, at_task *tasks)
{
    pthread_mutex_lock(&results->lock);
    results->leader_looks = false;
    put_first(results, tasks);
    bool some = results->list.first != NULL;
    pthread_mutex_unlock(&results->lock);
    if (some) {
        wake_collector(results);
    }
}

void at_results_lead_end(at_results *results)
{
    pthread_mutex_lock(&results->lock);
    at_task *led = results->led;
    results->led = NULL;
    atomic_store(&results->led_id, 0);
    pthread_mutex_unlock(&results->lock);
    at_results_lead_blindly(results, led);
}

bool at_results_is_led(at_results *results)
{
    return atomic_load_explicit(&results->led_id, memory_order_relaxed) != 0;
}

bool at_results_is_led_here(at_results *results)
{
    return at_results_is_led(results) &&
           atomic_load_explicit(&results->leader_cpu, memory_order_relaxed) ==
               at_park_cpu();
}

void at_results_lead_release(at_results *results, uint64_t id)
{
    if (atomic_load(&results->led_id) != id) {
        return;
    }
    pthread_mutex_lock(&results->lock);
    bool leads = atomic_load(&results->led_id) == id;
    if (leads) {
        results->leader_released = true;
    }
    pthread_mutex_unlock(&results->lock);
    if (leads) {
        wake_leader(results);
    }
}

void at_results_nudge(at_results *results)
{
    atomic_store(&results->nudged, true);
    wake_collector(results);
}
