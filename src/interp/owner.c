/* The owner thread; see owner.h.
 *
 * Its thread state is attached only while a job runs: between two jobs the thread parks
 * on the bell, and threads of the interpreter's own have the GIL to themselves.
 *
 * User code is entered and left in C, so that its `phase` can be moved on, and an
 * exception that is set but not yet raised withdrawn, with no bytecode in between where
 * it could still go off: an interrupt hits the job it was meant for or nothing.
 */
#include "interp/owner.h"

#include <marshal.h>
#include <stdio.h>

#include "interp/attach.h"
#include "interp/close.h"
#include "interp/install.h"
#include "interp/interpreter.h"
#include "interp/runtime.h"
#include "sys/clock.h"
#include "sys/park.h"

static void set_state(at_interpreter *interpreter, at_interpreter_state state)
{
    atomic_store_explicit(&interpreter->state, state, memory_order_release);
    at_park_wake(&interpreter->state, AT_PARK_ALL, AT_PARK_PRIVATE);
}

/* ---- start ---------------------------------------------------------------------- */

static int set_path(at_interpreter *interpreter) AT_ATTACHED
{
    PyObject *path = PyMarshal_ReadObjectFromString(interpreter->path.data,
                                                    (Py_ssize_t)interpreter->path.size);
    if (path == NULL) {
        return -1;
    }
    int failed = PySys_SetObject("path", path);
    Py_DECREF(path);
    return failed;
}

/* atoll._remote.start(path of the module, what the creator sent). */
static int call_start(at_interpreter *interpreter) AT_ATTACHED
{
    PyObject *remote = PyImport_ImportModule("atoll._remote");
    if (remote == NULL) {
        return -1;
    }
    PyObject *done = PyObject_CallMethod(remote, "start", "y#", interpreter->start.data,
                                         (Py_ssize_t)interpreter->start.size);
    Py_DECREF(remote);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* The exception that is set goes into the report, in words. */
static void report_exception(at_interpreter *interpreter) AT_ATTACHED
{
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *text = PyUnicode_FromFormat("the new interpreter could not start: %s: %S",
                                          Py_TYPE(exception)->tp_name, exception);
    Py_ssize_t size = 0;
    const char *words = text != NULL ? PyUnicode_AsUTF8AndSize(text, &size) : NULL;
    if (words != NULL) {
        (void)at_bytes_append(&interpreter->report, words, (size_t)size);
    }
    PyErr_Clear();
    Py_XDECREF(text);
    Py_DECREF(exception);
}

/* Create the interpreter; attached to it with 0, attached to nothing with a code. */
static int owner_start(at_interpreter *interpreter) AT_UNCHECKED
{
    PyInterpreterConfig config = {
        .use_main_obmalloc = 0,
        .allow_fork = 0,
        .allow_exec = 0,
        .allow_threads = 1,
        .allow_daemon_threads = 1,
        .check_multi_interp_extensions = 1,
        .gil = PyInterpreterConfig_OWN_GIL,
    };
    PyThreadState *thread_state = NULL;
    PyStatus status = Py_NewInterpreterFromConfig(&thread_state, &config);
    if (PyStatus_Exception(status)) {
        const char *reason = status.err_msg != NULL ? status.err_msg : "unknown error";
        (void)at_bytes_append(&interpreter->report, reason, strlen(reason));
        return AT_ESYSTEM;
    }
    interpreter->interpreter = PyThreadState_GetInterpreter(thread_state);
    interpreter->id = PyInterpreterState_GetID(interpreter->interpreter);
    interpreter->owner_ident = PyThread_get_thread_ident();
    char name[32];
    (void)snprintf(name, sizeof name, "atoll-%lld", (long long)interpreter->id);
    at_thread_rename(name);
    if (set_path(interpreter) < 0 || at_install_here(false) < 0 ||
        call_start(interpreter) < 0) {
        report_exception(interpreter);
        Py_EndInterpreter(thread_state);
        return AT_EINVALID;
    }
    return 0;
}

/* ---- jobs ----------------------------------------------------------------------- */

static at_job *queue_take(at_interpreter *interpreter)
{
    (void)pthread_mutex_lock(&interpreter->lock);
    at_job *job = interpreter->first;
    if (job != NULL) {
        interpreter->first = job->next;
        if (interpreter->first == NULL) {
            interpreter->last = NULL;
        }
        interpreter->running = job;
        interpreter->phase = AT_JOB_BEFORE;
        unsigned idle = AT_INTERPRETER_IDLE;
        (void)atomic_compare_exchange_strong(&interpreter->state, &idle,
                                             AT_INTERPRETER_RUNNING);
    }
    (void)pthread_mutex_unlock(&interpreter->lock);
    return job;
}

/* Move the job on; what is pending, which is the caller's from now on, or NULL. An
 * exception that was set and not yet raised is withdrawn when the job is over. */
static PyObject *set_phase(at_interpreter *interpreter, at_job_phase phase) AT_ATTACHED
{
    PyMutex_Lock(&interpreter->turn);
    (void)pthread_mutex_lock(&interpreter->lock);
    interpreter->phase = phase;
    (void)pthread_mutex_unlock(&interpreter->lock);
    PyObject *pending = interpreter->pending;
    interpreter->pending = NULL;
    if (phase == AT_JOB_AFTER) {
        (void)PyThreadState_SetAsyncExc(interpreter->owner_ident, NULL);
    }
    PyMutex_Unlock(&interpreter->turn);
    return pending;
}

/* remote.name(argument); PyObject_CallMethod() would spread out a tuple. */
static PyObject *call_with(PyObject *remote, const char *name,
                           PyObject *argument) AT_ATTACHED
{
    PyObject *method = PyObject_GetAttrString(remote, name);
    PyObject *result = method != NULL ? PyObject_CallOneArg(method, argument) : NULL;
    Py_XDECREF(method);
    return result;
}

/* Begin the job's code; -1 where it was interrupted before: that is set then. */
static int begin(at_interpreter *interpreter) AT_ATTACHED
{
    PyObject *pending = set_phase(interpreter, AT_JOB_INSIDE);
    if (pending == NULL) {
        return 0;
    }
    PyErr_SetNone(pending);
    Py_DECREF(pending);
    return -1;
}

/* From here on the job cannot be interrupted. */
static void end(at_interpreter *interpreter) AT_ATTACHED
{
    Py_XDECREF(set_phase(interpreter, AT_JOB_AFTER));
}

/* Run what the request asks for: its result, or NULL with its exception set. */
static PyObject *run_request(at_interpreter *interpreter, PyObject *remote,
                             at_job *job) AT_ATTACHED
{
    PyObject *result = NULL;
    if (begin(interpreter) == 0) {
        PyObject *request = at_runtime_messages()->wrap(job->request);
        PyObject *call = request != NULL ? call_with(remote, "load", request) : NULL;
        Py_XDECREF(request);
        if (call != NULL) {
            result = PyObject_CallNoArgs(call);
            Py_DECREF(call);
        }
    }
    end(interpreter);
    return result;
}

/* The reply as a message object, or NULL with an exception set. */
static PyObject *make_reply(PyObject *remote, PyObject *result) AT_ATTACHED
{
    if (result != NULL) {
        return call_with(remote, "reply", result);
    }
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *reply = call_with(remote, "error", exception);
    Py_DECREF(exception);
    return reply;
}

static void run_job(at_interpreter *interpreter, at_job *job) AT_ATTACHED
{
    PyObject *reply = NULL;
    PyObject *remote = PyImport_ImportModule("atoll._remote");
    if (remote != NULL) {
        PyObject *result = run_request(interpreter, remote, job);
        reply = make_reply(remote, result);
        Py_XDECREF(result);
        if (reply == NULL) {
            reply = make_reply(remote, NULL);
        }
        Py_DECREF(remote);
    } else {
        end(interpreter); /* or an interrupt that is under way waits for the next job */
    }
    at_message *message = reply != NULL ? at_runtime_messages()->unwrap(reply) : NULL;
    if (message != NULL) {
        job->reply = at_message_ref(message);
    }
    PyErr_Clear();
    Py_XDECREF(reply);
}

static void job_over(at_interpreter *interpreter, at_job *job, unsigned state)
{
    (void)pthread_mutex_lock(&interpreter->lock);
    interpreter->running = NULL;
    unsigned running = AT_INTERPRETER_RUNNING;
    (void)atomic_compare_exchange_strong(&interpreter->state, &running,
                                         AT_INTERPRETER_IDLE);
    (void)pthread_mutex_unlock(&interpreter->lock);
    at_job_finish(job, state);
    at_job_unref(job);
}

static bool past_close(at_interpreter *interpreter)
{
    (void)pthread_mutex_lock(&interpreter->lock);
    bool past = at_interpreter_state_now(interpreter) == AT_INTERPRETER_CLOSING &&
                at_clock_ns() >= interpreter->close_deadline_ns;
    (void)pthread_mutex_unlock(&interpreter->lock);
    return past;
}

typedef struct listening {
    at_interpreter *interpreter;
    unsigned bell;
} listening;

static int attempt_bell(void *context)
{
    const listening *mine = context;
    /* Pairs with the release in ring(), as the look at the queue that follows. */
    unsigned bell =
        atomic_load_explicit(&mine->interpreter->bell, memory_order_acquire);
    return bell != mine->bell ? 0 : AT_EAGAIN;
}

/* Until the bell is no longer `bell`, or a moment earlier. */
static void await_bell(at_interpreter *interpreter, unsigned bell) AT_DETACHED
{
    listening mine = {interpreter, bell};
    if (at_spin_for(&interpreter->jobs, attempt_bell, &mine) == AT_EAGAIN &&
        at_park_wait(&interpreter->bell, bell, AT_NEVER, AT_PARK_PRIVATE) == 0) {
        at_spin_was_woken(&interpreter->jobs, &interpreter->rung);
    }
}

/* Run jobs until the interpreter closes and none is left. Detached in between. */
static void owner_serve(at_interpreter *interpreter,
                        PyThreadState *thread_state) AT_DETACHED
{
    for (;;) {
        /* Pairs with the release in ring(): what was queued before is seen below. */
        unsigned bell = atomic_load_explicit(&interpreter->bell, memory_order_acquire);
        at_job *job = queue_take(interpreter);
        if (job != NULL && past_close(interpreter)) {
            job_over(interpreter, job, AT_JOB_CANCELLED);
        } else if (job != NULL) {
            atomic_store_explicit(&job->state, AT_JOB_RUNNING, memory_order_relaxed);
            at_attach(thread_state);
            run_job(interpreter, job);
            (void)at_detach();
            job_over(interpreter, job, AT_JOB_DONE);
        } else if (at_interpreter_state_now(interpreter) == AT_INTERPRETER_CLOSING) {
            return;
        } else {
            await_bell(interpreter, bell);
        }
    }
}

/* ---- the thread ----------------------------------------------------------------- */

void at_owner_main(void *data)
{
    at_interpreter *interpreter = data;
    at_thread_unblock_signals();
    at_interpreter_set_of_thread(interpreter);
    if (owner_start(interpreter) < 0) {
        at_runtime_remove(interpreter);
        set_state(interpreter, AT_INTERPRETER_FAILED);
        at_interpreter_unref(interpreter);
        return;
    }
    PyThreadState *thread_state = at_detach();
    set_state(interpreter, AT_INTERPRETER_IDLE);
    owner_serve(interpreter, thread_state);
    bool ended = at_close_interpreter(interpreter, thread_state);
    set_state(interpreter, ended ? AT_INTERPRETER_CLOSED : AT_INTERPRETER_LEFT);
    at_job_finish(interpreter->end, AT_JOB_DONE);
    at_interpreter_unref(interpreter);
}
