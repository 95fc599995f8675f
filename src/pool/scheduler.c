/* The scheduler of a pool; see scheduler.h.
 *
 * Nobody sleeps over work. Who submits raises `queued` and then looks at `sleepers`;
 * who goes to sleep raises `sleepers` and then looks at `queued`. All four are
 * sequentially consistent, so at least one sees the other. */
#include "pool/scheduler.h"

#include <pthread.h>

#include "base/error.h"
#include "base/memory.h"
#include "sys/clock.h"
#include "sys/park.h"

/* How long a worker looks about before it sleeps: longer than a pipelining submitter
 * takes between two tasks, shorter than anybody notices in CPU time. */
enum { SEARCH_NS = 30 * 1000 };

/* How long it looks about when its last result went to a thread that slept: longer than
 * that takes to wake up and to submit its next task. Where this is in vain, because no
 * task follows, it is done ever more seldom. */
enum { SEARCH_LONG_NS = 200 * 1000, PATIENCE_MAX = 64 };

/* How long a task is let be where the GIL is shared: longer than from its submission to
 * the wait for it, if that follows at once. */
enum { LET_BE_NS = 10 * 1000 };

typedef struct worker {
    pthread_mutex_t lock;
    pthread_mutex_t run_lock; /* may be taken under any worker's `lock` */
    at_task_list queue;       /* guarded: lock */
    at_task_list pinned;      /* guarded: lock; for this worker alone */
    uint64_t current;         /* guarded: run_lock; the task that runs, or 0 */
    int64_t began_ns;         /* guarded: run_lock; when `current` began */
    bool begun;               /* guarded: run_lock; it is in the task's own code */
    unsigned generation;      /* guarded: run_lock; how many were abandoned before */
    bool interrupted;         /* guarded: run_lock; `current` was asked to end */
    uint64_t done_count;      /* guarded: run_lock; tasks that ended here */
    bool woke_leader;         /* writer: the worker; its last result did */
    unsigned in_vain;         /* writer: the worker; doubled by each long search */
    unsigned skip;            /* writer: the worker; long ones not to be made yet */
    atomic_bool stopped;      /* takes no more */
    atomic_uint pinned_count; /* how many are in `pinned` */
} __attribute__((aligned(64))) worker;

struct at_scheduler {
    at_shared shared;
    unsigned worker_count; /* fixed after new */
    atomic_bool closed;
    atomic_bool shares_gil;
    atomic_uint turn;         /* whose queue gets the next task */
    atomic_size_t queued;     /* not pinned; pairs with `sleepers`: see above */
    atomic_uint sleepers;     /* workers that sleep, or are about to */
    atomic_uint searching;    /* workers that look about; at most one does */
    atomic_uint word;         /* what sleepers park on; changed before a wake */
    atomic_uint room_waiters; /* submitters that wait for `queued` to fall */
    atomic_uint room_word;    /* what they park on; changed before a wake */
    at_results results;
    worker workers[];
};

static void scheduler_free(at_shared *thing)
{
    at_scheduler *scheduler = (at_scheduler *)thing;
    for (unsigned i = 0; i < scheduler->worker_count; i++) {
        at_task_list_fini(&scheduler->workers[i].queue);
        at_task_list_fini(&scheduler->workers[i].pinned);
        pthread_mutex_destroy(&scheduler->workers[i].lock);
        pthread_mutex_destroy(&scheduler->workers[i].run_lock);
    }
    at_results_fini(&scheduler->results);
    at_free(scheduler);
}

static const at_shared_kind scheduler_kind = {.name = "scheduler",
                                              .free = scheduler_free};

static void lock_init(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

at_scheduler *at_scheduler_new(unsigned worker_count)
{
    if (worker_count == 0 || worker_count > AT_POOL_WORKERS) {
        return NULL;
    }
    size_t size = sizeof(at_scheduler) + worker_count * sizeof(worker);
    at_scheduler *scheduler = at_calloc_aligned(_Alignof(worker), size);
    if (scheduler == NULL) {
        return NULL;
    }
    at_shared_init(&scheduler->shared, &scheduler_kind);
    scheduler->worker_count = worker_count;
    at_results_init(&scheduler->results);
    for (unsigned i = 0; i < worker_count; i++) {
        lock_init(&scheduler->workers[i].lock);
        lock_init(&scheduler->workers[i].run_lock);
        at_task_list_init(&scheduler->workers[i].queue);
        at_task_list_init(&scheduler->workers[i].pinned);
    }
    return scheduler;
}

static void wake_workers(at_scheduler *scheduler, int count)
{
    if (atomic_load(&scheduler->sleepers) != 0) {
        atomic_fetch_add(&scheduler->word, 1);
        at_park_wake(&scheduler->word, count, AT_PARK_PRIVATE);
    }
}

int at_scheduler_submit(at_scheduler *scheduler, uint64_t id, at_message *payload,
                        int number)
{
    if (atomic_load(&scheduler->closed)) {
        return AT_ECLOSED;
    }
    at_task *task = at_alloc(sizeof *task);
    if (task == NULL) {
        return AT_ENOMEM;
    }
    bool any = number < 0;
    *task = (at_task){.id = id, .payload = payload, .pinned = !any};
    unsigned turn =
        any ? atomic_fetch_add_explicit(&scheduler->turn, 1, memory_order_relaxed)
            : (unsigned)number;
    worker *to = &scheduler->workers[turn % scheduler->worker_count];
    /* Counted first: a count is never below what is queued. */
    if (any) {
        atomic_fetch_add(&scheduler->queued, 1);
    } else {
        atomic_fetch_add(&to->pinned_count, 1);
    }
    pthread_mutex_lock(&to->lock);
    at_task_list_push(any ? &to->queue : &to->pinned, task);
    pthread_mutex_unlock(&to->lock);
    if (!any) {
        wake_workers(scheduler, AT_PARK_ALL); /* the one that it is for is among them */
        return 0;
    }
    if (atomic_load(&scheduler->searching) == 0) {
        wake_workers(scheduler, 1);
    }
    return 0;
}

/* `count` fewer are queued. Pairs with at_scheduler_wait_room(), which raises
 * `room_waiters` and then looks at `queued`. */
static void less_queued(at_scheduler *scheduler, size_t count)
{
    atomic_fetch_sub(&scheduler->queued, count);
    if (atomic_load(&scheduler->room_waiters) != 0) {
        atomic_fetch_add(&scheduler->room_word, 1);
        at_park_wake(&scheduler->room_word, AT_PARK_ALL, AT_PARK_PRIVATE);
    }
}

int at_scheduler_wait_room(at_scheduler *scheduler, size_t limit, int64_t deadline_ns)
{
    int result = 0;
    atomic_fetch_add(&scheduler->room_waiters, 1);
    while (result == 0) {
        uint32_t word = atomic_load(&scheduler->room_word);
        if (atomic_load(&scheduler->queued) < limit ||
            atomic_load(&scheduler->closed)) {
            break;
        }
        result = at_park_wait_watching(&scheduler->room_word, word, deadline_ns,
                                       AT_PARK_PRIVATE);
    }
    atomic_fetch_sub(&scheduler->room_waiters, 1);
    return result;
}

/* guarded: the lock of the queue that the task was in, so that whoever does not find it
 * there finds it here. */
static void set_current(worker *self, unsigned number, at_task *task)
{
    int64_t now_ns = at_clock_ns();
    task->worker = number;
    pthread_mutex_lock(&self->run_lock);
    task->generation = self->generation;
    self->current = task->id;
    self->began_ns = now_ns;
    self->begun = false;
    self->interrupted = false;
    pthread_mutex_unlock(&self->run_lock);
}

/* Take the first of `from`'s tasks for worker `number`. */
static at_task *take_from(at_scheduler *scheduler, unsigned from, unsigned number)
{
    worker *owner = &scheduler->workers[from];
    pthread_mutex_lock(&owner->lock);
    at_task *task = NULL;
    if (from == number) {
        task = at_task_list_pop(&owner->pinned);
    }
    if (task == NULL) {
        task = at_task_list_pop(&owner->queue);
    }
    if (task != NULL) {
        set_current(&scheduler->workers[number], number, task);
    }
    pthread_mutex_unlock(&owner->lock);
    if (task == NULL) {
        return NULL;
    }
    if (task->pinned) {
        atomic_fetch_sub(&owner->pinned_count, 1);
    } else {
        less_queued(scheduler, 1);
    }
    return task;
}

static bool has_work(at_scheduler *scheduler, unsigned number)
{
    return atomic_load(&scheduler->queued) != 0 ||
           atomic_load(&scheduler->workers[number].pinned_count) != 0;
}

int at_scheduler_try_take(at_scheduler *scheduler, unsigned number, at_task **task)
{
    if (atomic_load_explicit(&scheduler->workers[number].stopped,
                             memory_order_relaxed)) {
        return AT_ECLOSED;
    }
    *task = NULL;
    for (unsigned i = 0; i < scheduler->worker_count && *task == NULL; i++) {
        if (!has_work(scheduler, number)) {
            break;
        }
        *task = take_from(scheduler, (number + i) % scheduler->worker_count, number);
    }
    if (*task == NULL) {
        return AT_EEMPTY;
    }
    return 0;
}

static void relax(void)
{
    for (int i = 0; i < 16; i++) {
        at_park_relax();
    }
}

/* Until there is work, the time is over, or it is the worker who keeps a thread that
 * waits for a result from running. */
static void look_about(at_scheduler *scheduler, unsigned number, int64_t until_ns)
{
    while (!has_work(scheduler, number) && at_clock_ns() < until_ns &&
           !at_results_is_led_here(&scheduler->results)) {
        relax();
    }
}

/* Is its next search a long one? */
static bool search_is_long(worker *self)
{
    bool woke = self->woke_leader;
    self->woke_leader = false;
    if (woke && self->skip != 0) {
        self->skip--;
        return false;
    }
    return woke;
}

/* One worker at a time looks about for a moment before it sleeps, so that a submitter
 * that is quick needs to wake nobody. */
static void search(at_scheduler *scheduler, unsigned number)
{
    worker *self = &scheduler->workers[number];
    bool is_long = search_is_long(self);
    unsigned nobody = 0;
    if (!at_park_can_spin() ||
        !atomic_compare_exchange_strong(&scheduler->searching, &nobody, 1)) {
        return;
    }
    int64_t until_ns = at_clock_ns() + (is_long ? SEARCH_LONG_NS : SEARCH_NS);
    look_about(scheduler, number, until_ns);
    if (is_long && has_work(scheduler, number)) {
        self->in_vain = 0;
    } else if (is_long && at_clock_ns() >= until_ns) {
        self->in_vain = self->in_vain == 0 ? 1 : 2 * self->in_vain;
        self->in_vain = self->in_vain < PATIENCE_MAX ? self->in_vain : PATIENCE_MAX;
        self->skip = self->in_vain;
    }
    if (atomic_load_explicit(&scheduler->shares_gil, memory_order_relaxed)) {
        until_ns = at_clock_ns() + LET_BE_NS;
        while (atomic_load(&scheduler->queued) == 1 &&
               !at_results_is_led(&scheduler->results) && at_clock_ns() < until_ns) {
            relax();
        }
    }
    atomic_store(&scheduler->searching, 0);
    /* While it looked, submitters woke nobody. One of the tasks it takes itself, unless
     * one that is for it alone comes before, or it takes no more. */
    bool takes_one =
        atomic_load(&self->pinned_count) == 0 && !atomic_load(&self->stopped);
    size_t left = atomic_load(&scheduler->queued);
    if (takes_one && left != 0) {
        left--;
    }
    if (left != 0) {
        wake_workers(scheduler, left < AT_POOL_WORKERS ? (int)left : AT_PARK_ALL);
    }
}

int at_scheduler_take(at_scheduler *scheduler, unsigned number, int64_t deadline_ns,
                      at_task **task)
{
    for (;;) {
        int result = at_scheduler_try_take(scheduler, number, task);
        if (result != AT_EEMPTY) {
            return result;
        }
        search(scheduler, number);
        result = at_scheduler_try_take(scheduler, number, task);
        if (result != AT_EEMPTY) {
            return result;
        }
        uint32_t word = atomic_load(&scheduler->word);
        atomic_fetch_add(&scheduler->sleepers, 1);
        result = 0;
        if (!has_work(scheduler, number) &&
            !atomic_load(&scheduler->workers[number].stopped)) {
            result = atomic_load(&scheduler->closed)
                         ? AT_ECLOSED
                         : at_park_wait_watching(&scheduler->word, word, deadline_ns,
                                                 AT_PARK_PRIVATE);
        }
        atomic_fetch_sub(&scheduler->sleepers, 1);
        if (result < 0) {
            return result;
        }
    }
}

int at_scheduler_begin(at_scheduler *scheduler, const at_task *task)
{
    worker *self = &scheduler->workers[task->worker];
    int result = 0;
    pthread_mutex_lock(&self->run_lock);
    if (task->generation == self->generation) {
        result = self->interrupted ? AT_EINTERRUPTED : 0;
        self->begun = !self->interrupted;
        self->interrupted = false;
    }
    pthread_mutex_unlock(&self->run_lock);
    return result;
}

int at_scheduler_finish(at_scheduler *scheduler, at_task *task, at_outcome outcome,
                        at_message *result)
{
    worker *self = &scheduler->workers[task->worker];
    pthread_mutex_lock(&self->run_lock);
    bool abandoned = task->generation != self->generation;
    bool interrupted = self->interrupted;
    if (!abandoned) {
        self->current = 0;
        self->interrupted = false;
        self->done_count++;
    }
    pthread_mutex_unlock(&self->run_lock);
    if (abandoned) {
        task->result = result;
        at_task_free(task);
        return AT_ECLOSED;
    }
    at_message *payload = task->payload;
    task->payload = NULL;
    task->result = result;
    task->outcome = outcome;
    self->woke_leader = at_results_push(&scheduler->results, task);
    at_message_unref(payload);
    return interrupted ? AT_EINTERRUPTED : 0;
}

int at_scheduler_put_back(at_scheduler *scheduler, at_task *task)
{
    worker *self = &scheduler->workers[task->worker];
    bool pinned = task->pinned;
    atomic_uint *pinned_count = &self->pinned_count;
    /* Counted first: a count is never below what is queued. */
    if (pinned) {
        atomic_fetch_add(pinned_count, 1);
    } else {
        atomic_fetch_add(&scheduler->queued, 1);
    }
    pthread_mutex_lock(&self->lock);
    pthread_mutex_lock(&self->run_lock);
    bool ours = task->generation == self->generation;
    bool wanted = ours && !self->interrupted;
    if (wanted) {
        self->current = 0;
        at_task_list_push_first(pinned ? &self->pinned : &self->queue, task);
    }
    pthread_mutex_unlock(&self->run_lock);
    pthread_mutex_unlock(&self->lock);
    if (wanted) {
        wake_workers(scheduler, pinned ? AT_PARK_ALL : 1);
        return 0;
    }
    if (pinned) {
        atomic_fetch_sub(pinned_count, 1);
    } else {
        less_queued(scheduler, 1);
    }
    return at_scheduler_finish(scheduler, task, AT_OUTCOME_ERROR, NULL);
}

at_results *at_scheduler_results(at_scheduler *scheduler)
{
    return &scheduler->results;
}

int at_scheduler_notice(at_scheduler *scheduler, unsigned number, at_message *word)
{
    at_task *task = at_alloc(sizeof *task);
    if (task == NULL) {
        return AT_ENOMEM;
    }
    *task = (at_task){.outcome = AT_OUTCOME_NOTICE, .worker = number, .result = word};
    (void)at_results_push(&scheduler->results, task);
    return 0;
}

int at_scheduler_cancel(at_scheduler *scheduler, uint64_t id)
{
    for (unsigned i = 0; i < scheduler->worker_count; i++) {
        worker *owner = &scheduler->workers[i];
        pthread_mutex_lock(&owner->lock);
        at_task *task = at_task_list_remove(&owner->queue, id);
        bool any = task != NULL;
        if (!any) {
            task = at_task_list_remove(&owner->pinned, id);
        }
        pthread_mutex_unlock(&owner->lock);
        if (task != NULL) {
            if (any) {
                less_queued(scheduler, 1);
            } else {
                atomic_fetch_sub(&owner->pinned_count, 1);
            }
            at_task_free(task);
            return 0;
        }
    }
    return AT_ENOTFOUND;
}

size_t at_scheduler_cancel_all(at_scheduler *scheduler)
{
    size_t count = 0;
    for (unsigned i = 0; i < scheduler->worker_count; i++) {
        worker *owner = &scheduler->workers[i];
        pthread_mutex_lock(&owner->lock);
        at_task *task = owner->queue.first;
        at_task_list_init(&owner->queue);
        pthread_mutex_unlock(&owner->lock);
        while (task != NULL) {
            at_task *next = task->next;
            less_queued(scheduler, 1);
            task->outcome = AT_OUTCOME_CANCELLED;
            (void)at_results_push(&scheduler->results, task);
            task = next;
            count++;
        }
    }
    return count;
}

int at_scheduler_running(at_scheduler *scheduler, uint64_t id, bool interrupt)
{
    for (unsigned i = 0; i < scheduler->worker_count; i++) {
        worker *owner = &scheduler->workers[i];
        pthread_mutex_lock(&owner->run_lock);
        bool found = owner->current == id;
        bool begun = owner->begun;
        if (found && interrupt) {
            owner->interrupted = true;
        }
        pthread_mutex_unlock(&owner->run_lock);
        if (found) {
            return begun || !interrupt ? (int)i : AT_EAGAIN;
        }
    }
    return AT_ENOTFOUND;
}

int64_t at_scheduler_running_ns(at_scheduler *scheduler, uint64_t id)
{
    int64_t now_ns = at_clock_ns();
    for (unsigned i = 0; i < scheduler->worker_count; i++) {
        worker *owner = &scheduler->workers[i];
        pthread_mutex_lock(&owner->run_lock);
        bool found = owner->current == id;
        int64_t began_ns = owner->began_ns;
        pthread_mutex_unlock(&owner->run_lock);
        if (found) {
            return now_ns > began_ns ? now_ns - began_ns : 0;
        }
    }
    return AT_ENOTFOUND;
}

int at_scheduler_abandon(at_scheduler *scheduler, uint64_t id)
{
    for (unsigned i = 0; i < scheduler->worker_count; i++) {
        worker *owner = &scheduler->workers[i];
        pthread_mutex_lock(&owner->run_lock);
        bool found = owner->current == id && id != 0;
        if (found) {
            owner->generation++;
            owner->current = 0;
            owner->interrupted = false;
        }
        pthread_mutex_unlock(&owner->run_lock);
        if (found) {
            return (int)i;
        }
    }
    return AT_ENOTFOUND;
}

uint64_t at_scheduler_current(at_scheduler *scheduler, unsigned number)
{
    worker *owner = &scheduler->workers[number];
    pthread_mutex_lock(&owner->run_lock);
    uint64_t id = owner->current;
    pthread_mutex_unlock(&owner->run_lock);
    return id;
}

uint64_t at_scheduler_done(at_scheduler *scheduler, unsigned number)
{
    worker *owner = &scheduler->workers[number];
    pthread_mutex_lock(&owner->run_lock);
    uint64_t count = owner->done_count;
    pthread_mutex_unlock(&owner->run_lock);
    return count;
}

size_t at_scheduler_queued(const at_scheduler *scheduler)
{
    return atomic_load(&scheduler->queued);
}

void at_scheduler_share_gil(at_scheduler *scheduler)
{
    atomic_store(&scheduler->shares_gil, true);
}

void at_scheduler_close(at_scheduler *scheduler)
{
    atomic_store(&scheduler->closed, true);
    atomic_fetch_add(&scheduler->word, 1);
    at_park_wake(&scheduler->word, AT_PARK_ALL, AT_PARK_PRIVATE);
    atomic_fetch_add(&scheduler->room_word, 1);
    at_park_wake(&scheduler->room_word, AT_PARK_ALL, AT_PARK_PRIVATE);
}

void at_scheduler_stop_worker(at_scheduler *scheduler, unsigned number, bool stop)
{
    atomic_store(&scheduler->workers[number].stopped, stop);
    atomic_fetch_add(&scheduler->word, 1);
    at_park_wake(&scheduler->word, AT_PARK_ALL, AT_PARK_PRIVATE);
}
