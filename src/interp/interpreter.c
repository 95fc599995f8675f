/* Interpreters as other threads see them; see interpreter.h. The owner's side is in
 * owner.c. */
#include "interp/interpreter.h"

#include <string.h>

#include "base/memory.h"
#include "chan/peer.h"
#include "interp/attach.h"
#include "interp/extension.h"
#include "interp/heap.h"
#include "interp/owner.h"
#include "interp/runtime.h"
#include "sys/clock.h"
#include "sys/park.h"

#define GATE_CLOSED 0x80000000u

static _Thread_local at_interpreter *owned_by_this_thread;

static void interpreter_free(at_shared *thing)
{
    at_interpreter *interpreter = (at_interpreter *)thing;
    at_free(interpreter->name);
    at_bytes_fini(&interpreter->start);
    at_bytes_fini(&interpreter->path);
    at_bytes_fini(&interpreter->report);
    at_job_unref(interpreter->end);
    (void)pthread_mutex_destroy(&interpreter->lock);
    at_free(interpreter);
}

static const at_shared_kind interpreter_kind = {"interpreter", interpreter_free};

at_interpreter *at_interpreter_ref(at_interpreter *interpreter)
{
    if (interpreter != NULL) {
        at_shared_ref(&interpreter->shared);
    }
    return interpreter;
}

void at_interpreter_unref(at_interpreter *interpreter)
{
    at_shared_unref((at_shared *)interpreter);
}

void at_interpreter_set_of_thread(at_interpreter *interpreter)
{
    owned_by_this_thread = interpreter;
}

at_interpreter_state at_interpreter_state_now(const at_interpreter *interpreter)
{
    return (at_interpreter_state)atomic_load_explicit(&interpreter->state,
                                                      memory_order_acquire);
}

const char *at_interpreter_state_name(at_interpreter_state state)
{
    static const char *const names[] = {
        [AT_INTERPRETER_NEW] = "new",         [AT_INTERPRETER_IDLE] = "idle",
        [AT_INTERPRETER_RUNNING] = "running", [AT_INTERPRETER_CLOSING] = "closing",
        [AT_INTERPRETER_CLOSED] = "closed",   [AT_INTERPRETER_LEFT] = "left",
        [AT_INTERPRETER_FAILED] = "failed",
    };
    return names[state];
}

/* ---- create --------------------------------------------------------------------- */

static at_interpreter *interpreter_alloc(const char *name, at_bytes *path,
                                         at_bytes *start)
{
    at_interpreter *interpreter = at_calloc(1, sizeof *interpreter);
    if (interpreter == NULL) {
        return NULL;
    }
    at_shared_init(&interpreter->shared, &interpreter_kind);
    (void)pthread_mutex_init(&interpreter->lock, NULL);
    at_spin_init(&interpreter->jobs);
    at_spin_init(&interpreter->calls);
    at_bytes_init(&interpreter->report);
    interpreter->id = -1;
    interpreter->path = *path;
    interpreter->start = *start;
    at_bytes_init(path);
    at_bytes_init(start);
    interpreter->end = at_job_new(NULL);
    if (interpreter->end == NULL ||
        (name != NULL && (interpreter->name = at_strdup(name)) == NULL)) {
        at_interpreter_unref(interpreter);
        return NULL;
    }
    return interpreter;
}

int at_interpreter_new(const char *name, at_bytes *path, at_bytes *start,
                       at_interpreter **result, at_fault *fault)
{
    at_interpreter *interpreter = interpreter_alloc(name, path, start);
    if (interpreter == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "creating an interpreter: out of memory");
    }
    if (!at_runtime_add(interpreter)) {
        at_interpreter_unref(interpreter);
        return at_fault_set(fault, AT_EBUSY,
                            "the process is exiting: no more interpreters are created");
    }
    at_interpreter_ref(interpreter); /* the owner's */
    int failed = at_thread_start(&interpreter->thread, "atoll-new", at_owner_main,
                                 interpreter, fault);
    if (failed < 0) {
        at_runtime_remove(interpreter);
        at_interpreter_unref(interpreter);
        at_interpreter_unref(interpreter);
        return failed;
    }
    while (at_interpreter_state_now(interpreter) == AT_INTERPRETER_NEW) {
        (void)at_park_wait(&interpreter->state, AT_INTERPRETER_NEW, AT_NEVER,
                           AT_PARK_PRIVATE);
    }
    if (at_interpreter_state_now(interpreter) == AT_INTERPRETER_FAILED) {
        at_thread_join(&interpreter->thread);
        at_extensions_closed(interpreter->id);
        failed =
            at_fault_set(fault, AT_EINVALID, "%.*s", (int)interpreter->report.size,
                         interpreter->report.size > 0 ? interpreter->report.data : "");
        at_interpreter_unref(interpreter);
        return failed;
    }
    *result = interpreter;
    return 0;
}

/* ---- jobs ----------------------------------------------------------------------- */

static void ring(at_interpreter *interpreter)
{
    at_wake_note_write(&interpreter->rung, at_clock_ns());
    atomic_fetch_add_explicit(&interpreter->bell, 1, memory_order_release);
    at_spin_wake(&interpreter->bell, 1, AT_PARK_PRIVATE);
}

/* The job that runs there, as a reference, or NULL. */
static at_job *running_job(at_interpreter *interpreter)
{
    (void)pthread_mutex_lock(&interpreter->lock);
    at_job *job = interpreter->running;
    if (job != NULL) {
        at_shared_ref(&job->shared);
    }
    (void)pthread_mutex_unlock(&interpreter->lock);
    return job;
}

/* The job whose code this thread runs, as a reference, or NULL. */
static at_job *job_of_thread(void)
{
    at_interpreter *here = owned_by_this_thread;
    return here != NULL ? running_job(here) : NULL;
}

/* The end of both kinds of post. `alone`: only where nothing runs or is queued. */
static int enqueue(at_interpreter *interpreter, at_job *job, at_job *parent, bool alone,
                   at_fault *fault)
{
    job->target = at_interpreter_ref(interpreter);
    job->parent = parent;
    at_shared_ref(&job->shared); /* the queue's */
    (void)pthread_mutex_lock(&interpreter->lock);
    at_interpreter_state state = at_interpreter_state_now(interpreter);
    bool open = state <= AT_INTERPRETER_RUNNING;
    bool busy = alone && (interpreter->first != NULL || interpreter->running != NULL);
    if (open && !busy) {
        if (interpreter->last != NULL) {
            interpreter->last->next = job;
        } else {
            interpreter->first = job;
        }
        interpreter->last = job;
    }
    (void)pthread_mutex_unlock(&interpreter->lock);
    if (!open || busy) {
        at_job_unref(job);
    }
    if (!open) {
        return at_fault_set(fault, AT_ECLOSED, "interpreter %lld is %s",
                            (long long)interpreter->id,
                            state == AT_INTERPRETER_CLOSING ? "closing" : "closed");
    }
    if (busy) {
        return at_fault_set(fault, AT_EBUSY, "interpreter already running");
    }
    ring(interpreter);
    return 0;
}

int at_interpreter_post(at_interpreter *interpreter, at_job *job, bool waits,
                        at_fault *fault)
{
    at_job *parent = waits ? job_of_thread() : NULL;
    for (at_job *above = parent; above != NULL; above = above->parent) {
        if (above->target == interpreter) {
            at_job_unref(parent);
            return at_fault_set(
                fault, AT_EBUSY,
                "interpreter %lld waits for the code that makes this call, and would "
                "wait for ever: call the function directly, or from another "
                "interpreter",
                (long long)interpreter->id);
        }
    }
    return enqueue(interpreter, job, parent, false, fault);
}

int at_interpreter_post_alone(at_interpreter *interpreter, at_job *job, at_fault *fault)
{
    /* What runs there has not ended, so no circle of waits can come about. */
    return enqueue(interpreter, job, job_of_thread(), true, fault);
}

/* ---- close ---------------------------------------------------------------------- */

void at_interpreter_close_begin(at_interpreter *interpreter, int64_t deadline_ns)
{
    (void)pthread_mutex_lock(&interpreter->lock);
    at_interpreter_state state = at_interpreter_state_now(interpreter);
    if (state <= AT_INTERPRETER_RUNNING) {
        atomic_store_explicit(&interpreter->state, AT_INTERPRETER_CLOSING,
                              memory_order_release);
        interpreter->close_deadline_ns = deadline_ns;
    } else if (deadline_ns < interpreter->close_deadline_ns) {
        interpreter->close_deadline_ns = deadline_ns;
    }
    (void)pthread_mutex_unlock(&interpreter->lock);
    ring(interpreter);
}

/* The first who sees the end joins the owner. Only when that thread is gone, with its
 * thread-local destructors, may the images and the heap of the interpreter go. */
static void put_away(at_interpreter *interpreter) AT_DETACHED
{
    (void)pthread_mutex_lock(&interpreter->lock);
    bool mine = !interpreter->thread_taken;
    interpreter->thread_taken = true;
    (void)pthread_mutex_unlock(&interpreter->lock);
    if (!mine) {
        return;
    }
    at_thread_join(&interpreter->thread);
    if (at_interpreter_state_now(interpreter) == AT_INTERPRETER_CLOSED) {
        at_extensions_closed(interpreter->id);
        (void)at_heap_drop(interpreter->id);
        at_runtime_remove(interpreter);
    }
}

int at_interpreter_close_wait(at_interpreter *interpreter, int64_t deadline_ns)
{
    int result = at_job_wait(interpreter->end, deadline_ns);
    if (result == 0) {
        put_away(interpreter);
    }
    return result;
}

static void reaper_main(void *data)
{
    at_interpreter *interpreter = data;
    (void)at_interpreter_close_wait(interpreter, AT_NEVER);
    at_interpreter_unref(interpreter);
}

int at_interpreter_reap(at_interpreter *interpreter, at_fault *fault)
{
    at_thread thread;
    at_interpreter_ref(interpreter);
    int failed =
        at_thread_start(&thread, "atoll-reaper", reaper_main, interpreter, fault);
    if (failed < 0) {
        at_interpreter_unref(interpreter);
        return failed;
    }
    at_thread_detach(&thread);
    return 0;
}

/* ---- visitors ------------------------------------------------------------------- */

bool at_interpreter_visit(at_interpreter *interpreter)
{
    unsigned gate = atomic_load_explicit(&interpreter->gate, memory_order_relaxed);
    do {
        if ((gate & GATE_CLOSED) != 0) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&interpreter->gate, &gate, gate + 1,
                                                    memory_order_acquire,
                                                    memory_order_relaxed));
    return true;
}

void at_interpreter_leave(at_interpreter *interpreter)
{
    /* Pairs with the acquire in at_interpreter_gate_close. */
    unsigned before =
        atomic_fetch_sub_explicit(&interpreter->gate, 1, memory_order_release);
    if (before == (GATE_CLOSED | 1)) {
        at_park_wake(&interpreter->gate, AT_PARK_ALL, AT_PARK_PRIVATE);
    }
}

int at_interpreter_gate_close(at_interpreter *interpreter, int64_t deadline_ns)
{
    (void)atomic_fetch_or_explicit(&interpreter->gate, GATE_CLOSED,
                                   memory_order_relaxed);
    for (;;) {
        unsigned gate = atomic_load_explicit(&interpreter->gate, memory_order_acquire);
        if (gate == GATE_CLOSED) {
            return 0;
        }
        if (at_park_wait(&interpreter->gate, gate, deadline_ns, AT_PARK_PRIVATE) ==
            AT_ETIMEOUT) {
            return AT_ETIMEOUT;
        }
    }
}

/* ---- interrupt ------------------------------------------------------------------ */

typedef struct interruption {
    at_interpreter *interpreter;
    at_job *job; /* a reference */
    char name[256];
} interruption;

static void interruption_free(interruption *call)
{
    at_interpreter_unref(call->interpreter);
    at_job_unref(call->job);
    at_free(call);
}

/* "module:Name" as a class of this interpreter, or NULL with an exception set. */
static PyObject *class_by_name(char *name) AT_ATTACHED
{
    char *colon = strchr(name, ':');
    if (colon == NULL) {
        return PyErr_Format(PyExc_ValueError, "%s is no name of a class", name);
    }
    *colon = '\0';
    PyObject *module = PyImport_ImportModule(name);
    PyObject *class = module != NULL ? PyObject_GetAttrString(module, colon + 1) : NULL;
    Py_XDECREF(module);
    return class;
}

static void interrupt_attached(interruption *call) AT_ATTACHED
{
    PyObject *class = class_by_name(call->name);
    if (class == NULL) {
        PyErr_Clear();
        class = Py_NewRef(PyExc_KeyboardInterrupt);
    }
    /* The phase that is seen here stays until the exception is set. */
    at_interpreter *interpreter = call->interpreter;
    PyObject *replaced = NULL;
    PyMutex_Lock(&interpreter->turn);
    (void)pthread_mutex_lock(&interpreter->lock);
    at_job_phase phase =
        interpreter->running == call->job ? interpreter->phase : AT_JOB_AFTER;
    (void)pthread_mutex_unlock(&interpreter->lock);
    if (phase == AT_JOB_INSIDE) {
        (void)PyThreadState_SetAsyncExc(interpreter->owner_ident, class);
    } else if (phase == AT_JOB_BEFORE) {
        /* An exception that is set now would go off in what leads to the job. */
        replaced = interpreter->pending;
        interpreter->pending = Py_NewRef(class);
    }
    PyMutex_Unlock(&interpreter->turn);
    Py_XDECREF(replaced);
    Py_DECREF(class);
}

static void interrupt_main(void *data) AT_UNCHECKED
{
    interruption *call = data;
    if (at_interpreter_visit(call->interpreter)) {
        PyThreadState *thread_state = at_attach_new(call->interpreter->interpreter);
        if (thread_state != NULL) {
            interrupt_attached(call);
            at_detach_delete(thread_state);
            at_channels_thread_interrupted(call->interpreter->id,
                                           (pthread_t)call->interpreter->owner_ident);
        }
        at_interpreter_leave(call->interpreter);
    }
    interruption_free(call);
}

int at_interpreter_interrupt(at_interpreter *interpreter, at_job *job,
                             const char *exception_name, at_fault *fault)
{
    /* Which job is settled here: the helper may come when the next one runs. */
    job =
        job != NULL ? (at_job *)at_shared_ref(&job->shared) : running_job(interpreter);
    if (job == NULL) {
        return 0;
    }
    interruption *call = at_calloc(1, sizeof *call);
    if (call == NULL) {
        at_job_unref(job);
        return at_fault_set(fault, AT_ENOMEM, "out of memory");
    }
    call->interpreter = at_interpreter_ref(interpreter);
    call->job = job;
    memcpy(call->name, exception_name, strnlen(exception_name, sizeof call->name - 1));
    at_thread thread;
    int failed =
        at_thread_start(&thread, "atoll-interrupt", interrupt_main, call, fault);
    if (failed < 0) {
        interruption_free(call);
        return failed;
    }
    at_thread_detach(&thread);
    return 0;
}

int at_interpreter_close_hurry(at_interpreter *interpreter, at_fault *fault)
{
    at_channels_interpreter_closing(interpreter->id);
    return at_interpreter_interrupt(interpreter, NULL, "builtins:KeyboardInterrupt",
                                    fault);
}
