/* Jobs; see job.h. */
#include "interp/job.h"

#include "base/error.h"
#include "base/memory.h"
#include "interp/interpreter.h"
#include "sys/clock.h"
#include "sys/park.h"
#include "sys/wakefd.h"

/* Take the listener out: told that the job is over, or only closed. */
static void listener_drop(at_job *job, bool over)
{
    int descriptor = atomic_exchange(&job->listener, -1);
    if (descriptor >= 0) {
        if (over) {
            at_wakefd_set(descriptor);
        }
        at_wakefd_close(descriptor);
    }
}

static void job_free(at_shared *thing)
{
    at_job *job = (at_job *)thing;
    at_message_unref(job->request);
    at_message_unref(job->reply);
    at_interpreter_unref(job->target);
    at_job_unref(job->parent);
    listener_drop(job, false);
    at_free(job);
}

static const at_shared_kind job_kind = {"job", job_free};

at_job *at_job_new(at_message *request)
{
    at_job *job = at_calloc(1, sizeof *job);
    if (job == NULL) {
        return NULL;
    }
    at_shared_init(&job->shared, &job_kind);
    atomic_init(&job->listener, -1);
    job->request = request != NULL ? at_message_ref(request) : NULL;
    return job;
}

void at_job_unref(at_job *job)
{
    at_shared_unref((at_shared *)job);
}

bool at_job_is_over(const at_job *job)
{
    return atomic_load_explicit(&job->state, memory_order_acquire) >= AT_JOB_DONE;
}

void at_job_finish(at_job *job, unsigned state)
{
    at_wake_note_write(&job->note, at_clock_ns());
    atomic_store_explicit(&job->state, state, memory_order_release);
    at_spin_wake(&job->state, AT_PARK_ALL, AT_PARK_PRIVATE);
    /* Sequentially consistent, as in at_job_listen: one of the two sees the other. */
    atomic_thread_fence(memory_order_seq_cst);
    listener_drop(job, true);
}

int at_job_listen(at_job *job, at_fault *fault)
{
    int mine = at_wakefd_open(fault);
    if (mine < 0) {
        return mine;
    }
    int theirs = at_wakefd_copy(mine, fault);
    if (theirs < 0) {
        at_wakefd_close(mine);
        return theirs;
    }
    listener_drop(job, false);
    atomic_store(&job->listener, theirs);
    atomic_thread_fence(memory_order_seq_cst);
    if (at_job_is_over(job)) {
        listener_drop(job, true);
    }
    return mine;
}

static int attempt_end(void *context)
{
    return at_job_is_over(context) ? 0 : AT_EAGAIN;
}

int at_job_wait(at_job *job, int64_t deadline_ns)
{
    at_spin *spin = job->target != NULL ? &job->target->calls : NULL;
    int result = at_spin_for(spin, attempt_end, job);
    while (result == AT_EAGAIN) {
        unsigned state = atomic_load_explicit(&job->state, memory_order_acquire);
        if (state >= AT_JOB_DONE) {
            return 0;
        }
        int slept =
            at_park_wait_watching(&job->state, state, deadline_ns, AT_PARK_PRIVATE);
        result = attempt_end(job);
        if (slept < 0) {
            return result == 0 ? 0 : slept;
        }
        if (result == 0) {
            at_spin_was_woken(spin, &job->note);
        }
    }
    return result;
}
