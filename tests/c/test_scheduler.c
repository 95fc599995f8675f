/* pool/scheduler: every task runs once, results come in batches, nobody sleeps over
 * work. Threads stand for workers. */
#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "chan/message.h"
#include "check.h"
#include "pool/scheduler.h"
#include "sys/clock.h"

enum { WORKERS = 4, TASKS = 20000, SUBMITTERS = 3 };

static at_scheduler *scheduler;

static at_message *message_of(uint64_t value)
{
    at_message *message;
    CHECK(at_message_new(&value, sizeof value, 0, &message) == 0);
    return message;
}

static uint64_t value_of(const at_message *message)
{
    uint64_t value;
    CHECK(message != NULL && message->size_bytes == sizeof value);
    memcpy(&value, message->data, sizeof value);
    return value;
}

static void *worker_main(void *argument)
{
    unsigned number = (unsigned)(uintptr_t)argument;
    at_task *task;
    int result;
    while ((result = at_scheduler_take(scheduler, number, AT_NEVER, &task)) == 0) {
        uint64_t value = value_of(task->payload);
        CHECK(at_scheduler_finish(scheduler, task, AT_OUTCOME_VALUE,
                                  message_of(value * 2)) == 0);
    }
    CHECK(result == AT_ECLOSED);
    return NULL;
}

static void *submitter_main(void *argument)
{
    uint64_t first = (uint64_t)(uintptr_t)argument;
    for (uint64_t i = 0; i < TASKS; i++) {
        uint64_t id = first * TASKS + i + 1;
        int worker = i % 16 == 0 ? (int)(i / 16 % WORKERS) : AT_POOL_ANY_WORKER;
        CHECK(at_scheduler_submit(scheduler, id, message_of(id), worker) == 0);
    }
    return NULL;
}

static void every_task_runs_once(void)
{
    static unsigned char seen[SUBMITTERS * TASKS + 1];
    pthread_t workers[WORKERS], submitters[SUBMITTERS];
    scheduler = at_scheduler_new(WORKERS);
    CHECK(scheduler != NULL);
    for (uintptr_t i = 0; i < WORKERS; i++) {
        CHECK(pthread_create(&workers[i], NULL, worker_main, (void *)i) == 0);
    }
    for (uintptr_t i = 0; i < SUBMITTERS; i++) {
        CHECK(pthread_create(&submitters[i], NULL, submitter_main, (void *)i) == 0);
    }
    size_t done = 0;
    while (done < SUBMITTERS * TASKS) {
        at_task *task;
        CHECK(at_results_collect(at_scheduler_results(scheduler), AT_NEVER, &task) ==
              0);
        while (task != NULL) {
            at_task *next = task->next;
            CHECK(task->outcome == AT_OUTCOME_VALUE);
            CHECK(value_of(task->result) == task->id * 2);
            CHECK(seen[task->id]++ == 0);
            at_task_free(task);
            task = next;
            done++;
        }
    }
    at_scheduler_close(scheduler);
    for (unsigned i = 0; i < SUBMITTERS; i++) {
        pthread_join(submitters[i], NULL);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(workers[i], NULL);
    }
    CHECK(at_scheduler_queued(scheduler) == 0);
    at_shared_unref((at_shared *)scheduler);
}

static void stealing_and_pinning(void)
{
    scheduler = at_scheduler_new(2);
    at_task *task;
    CHECK(at_scheduler_try_take(scheduler, 0, &task) == AT_EEMPTY);
    for (uint64_t id = 1; id <= 4; id++) {
        CHECK(at_scheduler_submit(scheduler, id, NULL, AT_POOL_ANY_WORKER) == 0);
    }
    CHECK(at_scheduler_submit(scheduler, 5, NULL, 1) == 0);
    for (int i = 0; i < 4; i++) {
        CHECK(at_scheduler_try_take(scheduler, 0, &task) == 0 && task->id != 5);
        CHECK(at_scheduler_running(scheduler, task->id, false) == 0);
        CHECK(at_scheduler_finish(scheduler, task, AT_OUTCOME_VALUE, NULL) == 0);
    }
    CHECK(at_scheduler_try_take(scheduler, 0, &task) == AT_EEMPTY);
    CHECK(at_scheduler_try_take(scheduler, 1, &task) == 0 && task->id == 5);
    CHECK(at_scheduler_finish(scheduler, task, AT_OUTCOME_VALUE, NULL) == 0);
    at_shared_unref((at_shared *)scheduler); /* with results that nobody took */
}

static void cancelling(void)
{
    scheduler = at_scheduler_new(1);
    at_task *task;
    for (uint64_t id = 1; id <= 4; id++) {
        CHECK(at_scheduler_submit(scheduler, id, message_of(id), AT_POOL_ANY_WORKER) ==
              0);
    }
    CHECK(at_scheduler_cancel(scheduler, 4) == 0);
    CHECK(at_scheduler_cancel(scheduler, 4) == AT_ENOTFOUND);
    CHECK(at_scheduler_submit(scheduler, 5, message_of(5), 0) == 0);
    CHECK(at_scheduler_cancel(scheduler, 5) == 0);
    CHECK(at_scheduler_cancel(scheduler, 5) == AT_ENOTFOUND);
    CHECK(at_scheduler_submit(scheduler, 6, NULL, AT_POOL_ANY_WORKER) == 0);
    CHECK(at_scheduler_try_take(scheduler, 0, &task) == 0 && task->id == 1);
    CHECK(at_scheduler_cancel(scheduler, 1) == AT_ENOTFOUND);
    CHECK(at_scheduler_begin(scheduler, task) == 0);
    CHECK(at_scheduler_running(scheduler, 1, true) == 0);
    CHECK(at_scheduler_finish(scheduler, task, AT_OUTCOME_ERROR, NULL) ==
          AT_EINTERRUPTED);
    CHECK(at_scheduler_running(scheduler, 1, true) == AT_ENOTFOUND);
    CHECK(at_scheduler_submit(scheduler, 7, NULL, 0) == 0);
    CHECK(at_scheduler_try_take(scheduler, 0, &task) == 0 && task->id == 7);
    CHECK(at_scheduler_running(scheduler, 7, true) == AT_EAGAIN);
    CHECK(at_scheduler_begin(scheduler, task) == AT_EINTERRUPTED);
    CHECK(at_scheduler_finish(scheduler, task, AT_OUTCOME_ERROR, NULL) == 0);
    CHECK(at_scheduler_cancel_all(scheduler) == 3);
    CHECK(at_scheduler_queued(scheduler) == 0);
    CHECK(at_results_collect(at_scheduler_results(scheduler), AT_NEVER, &task) == 0);
    size_t cancelled = 0;
    while (task != NULL) {
        at_task *next = task->next;
        cancelled += task->outcome == AT_OUTCOME_CANCELLED;
        at_task_free(task);
        task = next;
    }
    CHECK(cancelled == 3);
    at_shared_unref((at_shared *)scheduler);
}

static void putting_back(void)
{
    scheduler = at_scheduler_new(2);
    at_task *task, *other;
    for (uint64_t id = 1; id <= 3; id++) {
        int worker = id == 3 ? 0 : AT_POOL_ANY_WORKER;
        CHECK(at_scheduler_submit(scheduler, id, message_of(id), worker) == 0);
    }
    /* What is for one worker stays its own. */
    CHECK(at_scheduler_try_take(scheduler, 0, &task) == 0 && task->id == 3);
    CHECK(at_scheduler_put_back(scheduler, task) == 0);
    CHECK(at_scheduler_current(scheduler, 0) == 0);
    CHECK(at_scheduler_try_take(scheduler, 1, &task) == 0 && task->id == 2);
    CHECK(at_scheduler_try_take(scheduler, 0, &other) == 0 && other->id == 3);
    CHECK(at_scheduler_finish(scheduler, other, AT_OUTCOME_VALUE, NULL) == 0);
    /* Another worker takes it, before what was behind it. */
    CHECK(at_scheduler_submit(scheduler, 4, NULL, AT_POOL_ANY_WORKER) == 0);
    CHECK(at_scheduler_submit(scheduler, 5, NULL, AT_POOL_ANY_WORKER) == 0);
    CHECK(at_scheduler_begin(scheduler, task) == 0);
    CHECK(at_scheduler_put_back(scheduler, task) == 0);
    CHECK(at_scheduler_queued(scheduler) == 4);
    CHECK(at_scheduler_running(scheduler, 2, true) == AT_ENOTFOUND);
    CHECK(at_scheduler_cancel(scheduler, 1) == 0);
    CHECK(at_scheduler_try_take(scheduler, 1, &task) == 0 && task->id == 2);
    CHECK(value_of(task->payload) == 2);
    /* One that is not wanted any more ends. */
    CHECK(at_scheduler_begin(scheduler, task) == 0);
    CHECK(at_scheduler_running(scheduler, 2, true) == 1);
    CHECK(at_scheduler_put_back(scheduler, task) == AT_EINTERRUPTED);
    CHECK(at_scheduler_queued(scheduler) == 2);
    /* So does one whose worker was given up. */
    CHECK(at_scheduler_try_take(scheduler, 0, &task) == 0);
    CHECK(at_scheduler_abandon(scheduler, task->id) == 0);
    CHECK(at_scheduler_put_back(scheduler, task) == AT_ECLOSED);
    CHECK(at_scheduler_queued(scheduler) == 1);
    CHECK(at_scheduler_try_take(scheduler, 0, &task) == 0);
    CHECK(at_scheduler_put_back(scheduler, task) == 0);
    at_shared_unref((at_shared *)scheduler); /* with a task and results in it */
}

static void *finish_main(void *task)
{
    CHECK(at_scheduler_finish(scheduler, task, AT_OUTCOME_VALUE, message_of(7)) == 0);
    return NULL;
}

static void *release_main(void *results)
{
    at_results_lead_release(results, 5);
    return NULL;
}

/* One more task, and its end. */
static void run_one(uint64_t id)
{
    at_task *task;
    CHECK(at_scheduler_submit(scheduler, id, NULL, AT_POOL_ANY_WORKER) == 0);
    CHECK(at_scheduler_try_take(scheduler, 0, &task) == 0 && task->id == id);
    CHECK(at_scheduler_finish(scheduler, task, AT_OUTCOME_VALUE, NULL) == 0);
}

static void free_expecting(at_task *task, uint64_t id, at_task **next)
{
    CHECK(task != NULL && task->id == id);
    *next = task->next;
    at_task_free(task);
}

static void looking(void)
{
    scheduler = at_scheduler_new(1);
    at_results *results = at_scheduler_results(scheduler);
    at_task *task;
    /* Who looks gets what is there and what comes, everybody's. */
    run_one(1);
    run_one(2);
    CHECK(at_results_lead(results, 2) == 0);
    CHECK(at_results_lead(results, 3) == AT_EBUSY);
    CHECK(at_results_lead_wait(results, AT_NEVER, AT_NEVER, &task) == 0);
    free_expecting(task, 1, &task);
    free_expecting(task, 2, &task);
    CHECK(task == NULL);
    run_one(3);
    task = at_results_lead_take(results);
    CHECK(task != NULL && task->id == 3);
    /* What it cannot see to goes to the collector, before what comes after it. */
    run_one(4);
    at_results_lead_blindly(results, task);
    run_one(5);
    CHECK(at_results_lead_take(results) == NULL);
    at_results_lead_end(results);
    run_one(6);
    CHECK(at_results_collect(results, AT_NEVER, &task) == 0);
    for (uint64_t id = 3; id <= 6; id++) {
        free_expecting(task, id, &task);
    }
    CHECK(task == NULL);
    at_shared_unref((at_shared *)scheduler);
}

static void leading(void)
{
    scheduler = at_scheduler_new(1);
    at_results *results = at_scheduler_results(scheduler);
    at_task *task;
    pthread_t thread;
    /* Once it looks no more its own alone comes, while it waits or before. */
    CHECK(at_scheduler_submit(scheduler, 4, NULL, AT_POOL_ANY_WORKER) == 0);
    CHECK(at_scheduler_try_take(scheduler, 0, &task) == 0 && task->id == 4);
    CHECK(at_results_lead(results, 4) == 0);
    at_results_lead_blindly(results, NULL);
    CHECK(pthread_create(&thread, NULL, finish_main, task) == 0);
    CHECK(at_results_lead_wait(results, 0, AT_NEVER, &task) == 0);
    CHECK(task != NULL && value_of(task->result) == 7);
    free_expecting(task, 4, &task);
    CHECK(task == NULL);
    pthread_join(thread, NULL);
    at_results_lead_end(results);
    /* Nothing comes: at the deadline, and when released before and while it waits. */
    CHECK(at_results_lead(results, 5) == 0);
    CHECK(at_results_lead_wait(results, 0, at_clock_ns() + 1000, &task) == AT_ETIMEOUT);
    CHECK(task == NULL);
    at_results_lead_release(results, 4); /* somebody else's */
    CHECK(at_results_lead_wait(results, 0, 0, &task) == AT_ETIMEOUT);
    at_results_lead_release(results, 5);
    CHECK(at_results_lead_wait(results, AT_NEVER, AT_NEVER, &task) == AT_EINTERRUPTED);
    at_results_lead_end(results);
    CHECK(at_results_lead(results, 5) == 0);
    CHECK(pthread_create(&thread, NULL, release_main, results) == 0);
    CHECK(at_results_lead_wait(results, 0, AT_NEVER, &task) == AT_EINTERRUPTED);
    pthread_join(thread, NULL);
    /* What came for it, and for others, is the collector's when it leads no more. It
     * may have been released before it stopped to look. */
    at_results_lead_blindly(results, NULL);
    run_one(7);
    run_one(5);
    at_results_lead_end(results);
    CHECK(at_results_collect(results, AT_NEVER, &task) == 0);
    free_expecting(task, 5, &task);
    free_expecting(task, 7, &task);
    CHECK(task == NULL);
    /* Nobody takes it. */
    CHECK(at_results_lead(results, 6) == 0);
    run_one(6);
    at_shared_unref((at_shared *)scheduler);
}

static void abandoning(void)
{
    scheduler = at_scheduler_new(1);
    at_task *stuck, *task;
    CHECK(at_scheduler_abandon(scheduler, 0) == AT_ENOTFOUND);
    CHECK(at_scheduler_submit(scheduler, 1, message_of(1), AT_POOL_ANY_WORKER) == 0);
    CHECK(at_scheduler_submit(scheduler, 2, NULL, AT_POOL_ANY_WORKER) == 0);
    CHECK(at_scheduler_running_ns(scheduler, 1) == AT_ENOTFOUND);
    CHECK(at_scheduler_try_take(scheduler, 0, &stuck) == 0 && stuck->id == 1);
    CHECK(at_scheduler_running_ns(scheduler, 1) >= 0);
    CHECK(at_scheduler_abandon(scheduler, 1) == 0);
    CHECK(at_scheduler_abandon(scheduler, 1) == AT_ENOTFOUND);
    /* The next of this number works, while the one before comes back. */
    CHECK(at_scheduler_try_take(scheduler, 0, &task) == 0 && task->id == 2);
    CHECK(at_scheduler_finish(scheduler, stuck, AT_OUTCOME_VALUE, message_of(3)) ==
          AT_ECLOSED);
    CHECK(at_scheduler_current(scheduler, 0) == 2);
    CHECK(at_scheduler_finish(scheduler, task, AT_OUTCOME_VALUE, NULL) == 0);
    CHECK(at_results_collect(at_scheduler_results(scheduler), AT_NEVER, &task) == 0);
    CHECK(task->id == 2 && task->next == NULL);
    at_task_free(task);
    at_shared_unref((at_shared *)scheduler);
}

static void *room_main(void *argument)
{
    (void)argument;
    CHECK(at_scheduler_wait_room(scheduler, 1, AT_NEVER) == 0);
    return NULL;
}

static void room(void)
{
    scheduler = at_scheduler_new(1);
    at_task *task;
    CHECK(at_scheduler_wait_room(scheduler, 1, AT_NEVER) == 0);
    CHECK(at_scheduler_submit(scheduler, 1, NULL, AT_POOL_ANY_WORKER) == 0);
    int64_t soon_ns = at_clock_deadline(1000000);
    CHECK(at_scheduler_wait_room(scheduler, 1, soon_ns) == AT_ETIMEOUT);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, room_main, NULL) == 0);
    CHECK(at_scheduler_try_take(scheduler, 0, &task) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(at_scheduler_finish(scheduler, task, AT_OUTCOME_VALUE, NULL) == 0);
    CHECK(at_scheduler_submit(scheduler, 2, NULL, AT_POOL_ANY_WORKER) == 0);
    at_scheduler_close(scheduler);
    CHECK(at_scheduler_wait_room(scheduler, 1, AT_NEVER) == 0);
    at_shared_unref((at_shared *)scheduler);
}

static void closing_and_stopping(void)
{
    scheduler = at_scheduler_new(2);
    at_task *task;
    CHECK(at_scheduler_submit(scheduler, 1, NULL, AT_POOL_ANY_WORKER) == 0);
    at_scheduler_stop_worker(scheduler, 0, true);
    CHECK(at_scheduler_take(scheduler, 0, AT_NEVER, &task) == AT_ECLOSED);
    at_scheduler_close(scheduler);
    CHECK(at_scheduler_submit(scheduler, 2, NULL, AT_POOL_ANY_WORKER) == AT_ECLOSED);
    CHECK(at_scheduler_take(scheduler, 1, AT_NEVER, &task) == 0 && task->id == 1);
    CHECK(at_scheduler_finish(scheduler, task, AT_OUTCOME_VALUE, NULL) == 0);
    CHECK(at_scheduler_take(scheduler, 1, AT_NEVER, &task) == AT_ECLOSED);
    at_shared_unref((at_shared *)scheduler);
}

/* Submitters wake nobody while a worker looks about: one that is stopped meanwhile
 * takes nothing, and leaves what has come to those that sleep. */
static void stopping_who_looks_about(void)
{
    enum { ROUNDS = 1000, STEPS = 300, STEP_NS = 400 };
    for (int i = 0; i < ROUNDS; i++) {
        pthread_t workers[2];
        at_task *task;
        scheduler = at_scheduler_new(2);
        for (uintptr_t j = 0; j < 2; j++) {
            CHECK(pthread_create(&workers[j], NULL, worker_main, (void *)j) == 0);
        }
        for (uint64_t id = 1; id <= 2; id++) { /* the first one by the worker 0 */
            int worker = id == 1 ? 0 : AT_POOL_ANY_WORKER;
            CHECK(at_scheduler_submit(scheduler, id, message_of(id), worker) == 0);
            CHECK(at_results_collect(at_scheduler_results(scheduler),
                                     at_clock_deadline(60 * INT64_C(1000000000)),
                                     &task) == 0);
            CHECK(task->id == id && task->next == NULL);
            at_task_free(task);
            if (id == 1) {
                at_scheduler_stop_worker(scheduler, 0, true);
                int64_t until_ns = at_clock_ns() + i % STEPS * STEP_NS;
                while (at_clock_ns() < until_ns) {
                }
            }
        }
        at_scheduler_close(scheduler);
        CHECK(pthread_join(workers[0], NULL) == 0 &&
              pthread_join(workers[1], NULL) == 0);
        at_shared_unref((at_shared *)scheduler);
    }
}

static void waiting_has_an_end(void)
{
    scheduler = at_scheduler_new(1);
    at_task *task;
    int64_t soon_ns = at_clock_deadline(1000000);
    CHECK(at_scheduler_take(scheduler, 0, soon_ns, &task) == AT_ETIMEOUT);
    soon_ns = at_clock_deadline(1000000);
    CHECK(at_results_collect(at_scheduler_results(scheduler), soon_ns, &task) ==
          AT_ETIMEOUT);
    at_results_nudge(at_scheduler_results(scheduler));
    CHECK(at_results_collect(at_scheduler_results(scheduler), AT_NEVER, &task) ==
          AT_EINTERRUPTED);
    CHECK(at_scheduler_notice(scheduler, 0, NULL) == 0);
    CHECK(at_results_collect(at_scheduler_results(scheduler), AT_NEVER, &task) == 0);
    CHECK(task->outcome == AT_OUTCOME_NOTICE && task->next == NULL);
    at_task_free(task);
    at_shared_unref((at_shared *)scheduler);
}

static int survives_no_memory(void)
{
    at_scheduler *small = at_scheduler_new(1);
    if (small == NULL) {
        return AT_ENOMEM;
    }
    int result = at_scheduler_submit(small, 1, NULL, AT_POOL_ANY_WORKER);
    if (result == 0) {
        result = at_scheduler_notice(small, 0, NULL);
    }
    at_shared_unref((at_shared *)small);
    return result;
}

int main(void)
{
    CHECK(at_scheduler_new(0) == NULL);
    RUN(stealing_and_pinning);
    RUN(cancelling);
    RUN(putting_back);
    RUN(looking);
    RUN(leading);
    RUN(abandoning);
    RUN(room);
    RUN(closing_and_stopping);
    RUN(stopping_who_looks_about);
    RUN(waiting_has_an_end);
    RUN_FAILING(survives_no_memory);
    RUN(every_task_runs_once);
    return 0;
}
