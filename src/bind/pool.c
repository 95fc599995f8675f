/* The scheduler of pool/scheduler.h for Python, and the loop that a worker runs.
 *
 * atoll._pool.executor drives it: it makes the workers, gives each task its future, and
 * collects results in batches. A task carries its call as a message (interpreters,
 * processes) or only its number (threads: the call is an object of the same
 * interpreter). */
#define PY_SSIZE_T_CLEAN
#include "pool/scheduler.h"

#include "bind/bind.h"
#include "bind/error.h"
#include "bind/pool.h"
#include "bind/type.h"
#include "bind/wait.h"
#include "interp/attach.h"
#include "interp/heap.h"
#include "parcel/parcel.h"
#include "sys/clock.h"

AT_UNCHECKED static PyObject *scheduler_new(PyTypeObject *type, PyObject *arguments,
                                            PyObject *keywords)
{
    static char *names[] = {"workers", "address", NULL};
    unsigned workers;
    unsigned long long address = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "I|K:Scheduler", names,
                                     &workers, &address)) {
        return NULL;
    }
    if (workers == 0 || workers > AT_POOL_WORKERS) {
        return PyErr_Format(PyExc_ValueError, "workers must be from 1 to %d",
                            AT_POOL_WORKERS);
    }
    at_pool_object *self = (at_pool_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->worker_count = workers;
    self->scheduler =
        address != 0 ? (at_scheduler *)(uintptr_t)address : at_scheduler_new(workers);
    if (self->scheduler == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void scheduler_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    at_shared_unref((at_shared *)at_pool_scheduler(self));
    type->tp_free(self);
    Py_DECREF(type);
}

int at_pool_submit(at_scheduler *scheduler, uint64_t id, at_message *payload,
                   int worker)
{
    int result = at_scheduler_submit(scheduler, id, payload, worker);
    if (result < 0) {
        at_message_unref(payload);
        at_raise(result);
        return -1;
    }
    return 0;
}

int at_pool_pack_call(PyObject *function, PyObject *args, PyObject *kwargs,
                      at_message **payload)
{
    static const char *const names[] = {"function", "args", "kwargs"};
    PyObject *const objects[] = {function, args, kwargs};
    /* Exactly, so that they arrive as such: the worker calls with what it gets. */
    if (!PyTuple_CheckExact(args) || !PyDict_CheckExact(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "a call has a tuple and a dict of arguments");
        return -1;
    }
    return at_parcel_pack_many(objects, names, 3, payload);
}

/* A worker's number, or AT_POOL_ANY_WORKER. */
static int worker_argument(PyObject *self, PyObject *argument, int *worker) AT_ATTACHED
{
    long number = PyLong_AsLong(argument);
    if (number == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (number < AT_POOL_ANY_WORKER ||
        number >= (long)((at_pool_object *)self)->worker_count) {
        PyErr_SetString(PyExc_IndexError, "no such worker");
        return -1;
    }
    *worker = (int)number;
    return 0;
}

AT_UNCHECKED static PyObject *submit(PyObject *self, PyObject *const *arguments,
                                     Py_ssize_t count)
{
    if (count != 5) {
        return PyErr_Format(PyExc_TypeError, "submit() takes 5 arguments");
    }
    uint64_t id = PyLong_AsUnsignedLongLong(arguments[0]);
    int worker;
    at_message *payload;
    if ((id == UINT64_MAX && PyErr_Occurred()) ||
        worker_argument(self, arguments[4], &worker) < 0 ||
        at_pool_pack_call(arguments[1], arguments[2], arguments[3], &payload) < 0 ||
        at_pool_submit(at_pool_scheduler(self), id, payload, worker) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *submit_number(PyObject *self, PyObject *const *arguments,
                                            Py_ssize_t count)
{
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "submit_number() takes 2 arguments");
    }
    uint64_t id = PyLong_AsUnsignedLongLong(arguments[0]);
    int worker;
    if ((id == UINT64_MAX && PyErr_Occurred()) ||
        worker_argument(self, arguments[1], &worker) < 0 ||
        at_pool_submit(at_pool_scheduler(self), id, NULL, worker) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* The next task, waiting for it. 0, AT_ECLOSED, or a positive number with an exception
 * set. */
static int next_task(at_scheduler *scheduler, unsigned worker,
                     at_task **task) AT_ATTACHED
{
    int result = at_scheduler_try_take(scheduler, worker, task);
    while (result == AT_EEMPTY) {
        PyThreadState *thread_state = at_detach();
        result = at_scheduler_take(scheduler, worker, AT_NEVER, task);
        at_attach(thread_state);
        if (result == AT_EINTERRUPTED) {
            result = at_run_signal_handlers() < 0 ? 1 : AT_EEMPTY;
        }
    }
    return result;
}

/* What the task's call returns, or NULL: with an exception set, or with none where an
 * interrupt came before it began. */
static PyObject *run_task(at_scheduler *scheduler, const at_task *task,
                          PyObject *runner) AT_ATTACHED
{
    PyObject *result = NULL;
    if (task->payload == NULL) {
        PyObject *number = PyLong_FromUnsignedLongLong(task->id);
        if (number != NULL && at_scheduler_begin(scheduler, task) == 0) {
            result = PyObject_CallOneArg(runner, number);
        }
        Py_XDECREF(number);
        return result;
    }
    PyObject *call = at_parcel_unpack(task->payload);
    /* submit() made it a tuple of three. */
    if (call != NULL && at_scheduler_begin(scheduler, task) == 0) {
        result = PyObject_Call(PyTuple_GET_ITEM(call, 0), PyTuple_GET_ITEM(call, 1),
                               PyTuple_GET_ITEM(call, 2));
    }
    Py_XDECREF(call);
    return result;
}

/* The exception that is set, as the message that `report` makes of it; NULL where even
 * that fails. Nothing is set afterwards. */
static at_message *error_message(PyObject *report) AT_ATTACHED
{
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *words = PyObject_CallOneArg(report, exception);
    at_message *message = NULL;
    if (words == NULL || at_parcel_pack(words, &message) < 0) {
        message = NULL;
        PyErr_Clear();
    }
    Py_XDECREF(words);
    Py_DECREF(exception);
    return message;
}

/* Run one task; what became of it. */
static at_outcome do_task(at_scheduler *scheduler, const at_task *task,
                          PyObject *runner, PyObject *report,
                          at_message **result) AT_ATTACHED
{
    static const char *const names[] = {"result"};
    bool in_place = task->payload == NULL;
    PyObject *value = run_task(scheduler, task, runner);
    at_outcome outcome = AT_OUTCOME_VALUE;
    *result = NULL;
    if (value != NULL && !in_place &&
        at_parcel_pack_many(&value, names, 1, result) < 0) {
        outcome = AT_OUTCOME_REFUSED;
    } else if (value == NULL) {
        outcome = AT_OUTCOME_ERROR;
    }
    if (outcome != AT_OUTCOME_VALUE && PyErr_Occurred()) {
        *result = error_message(report);
    }
    /* Objects of a task go before its result is seen, not while the next one runs. */
    Py_XDECREF(value);
    return outcome;
}

/* Send the result of a task, and take the next one, if that is to be waited for, in
 * `*next`. As at_scheduler_finish(). */
static int finish_task(at_scheduler *scheduler, at_task *task, at_outcome outcome,
                       at_message *result, at_task **next) AT_ATTACHED
{
    if (task->payload != NULL || at_scheduler_queued(scheduler) != 0) {
        return at_scheduler_finish(scheduler, task, outcome, result);
    }
    /* It ran in place, and who waits for it needs this very GIL: it would be woken only
     * to sleep again. So it hears of it when the GIL is let go, and not taken again. */
    unsigned worker = task->worker;
    PyThreadState *thread_state = at_detach();
    int status = at_scheduler_finish(scheduler, task, outcome, result);
    if (status == 0 && at_scheduler_take(scheduler, worker, AT_NEVER, next) < 0) {
        *next = NULL; /* next_task() finds out why */
    }
    at_attach(thread_state);
    return status;
}

/* Does this interpreter hold more than `limit` bytes (0: no limit)? */
static bool heap_is_over(Py_ssize_t limit) AT_ATTACHED
{
    if (limit == 0) {
        return false;
    }
    int64_t id = PyInterpreterState_GetID(PyInterpreterState_Get());
    return at_heap_bytes(id) > (int64_t)limit;
}

/* work(worker, limit, runner, report, settle, heap_limit) -> how many tasks it ran */
AT_UNCHECKED static PyObject *work(PyObject *self, PyObject *arguments)
{
    unsigned worker;
    Py_ssize_t limit, heap_limit = 0, done = 0;
    PyObject *runner, *report, *settle;
    if (!PyArg_ParseTuple(arguments, "InOOO|n:work", &worker, &limit, &runner, &report,
                          &settle, &heap_limit)) {
        return NULL;
    }
    if (worker >= ((at_pool_object *)self)->worker_count) {
        return PyErr_Format(PyExc_IndexError, "no such worker");
    }
    at_scheduler *scheduler = at_pool_scheduler(self);
    at_task *next = NULL;
    while (limit == 0 || done < limit) {
        at_task *task = next;
        next = NULL;
        int result = task != NULL ? 0 : next_task(scheduler, worker, &task);
        if (result > 0) {
            return NULL;
        }
        if (result < 0) {
            break;
        }
        done++;
        at_message *message;
        at_outcome outcome = do_task(scheduler, task, runner, report, &message);
        /* The last one of this worker takes no other. */
        result = done == limit ? at_scheduler_finish(scheduler, task, outcome, message)
                               : finish_task(scheduler, task, outcome, message, &next);
        if (result == AT_ECLOSED) {
            break; /* somebody else has this worker's number by now */
        }
        if (result == AT_EINTERRUPTED) {
            PyObject *settled = PyObject_CallNoArgs(settle);
            if (settled == NULL) {
                /* The interrupt itself, at the first step of settle(), which has not
                 * counted it: the next one would be taken for this one. */
                PyErr_Clear();
                settled = PyObject_CallNoArgs(settle);
            }
            if (settled == NULL) {
                PyErr_Clear();
            }
            Py_XDECREF(settled);
        }
        if (heap_is_over(heap_limit)) {
            break;
        }
    }
    return PyLong_FromSsize_t(done);
}

/* ---- results --------------------------------------------------------------------- */

AT_UNCHECKED static PyObject *lead_release(PyObject *self, PyObject *number)
{
    uint64_t id = PyLong_AsUnsignedLongLong(number);
    if (id == UINT64_MAX && PyErr_Occurred()) {
        return NULL;
    }
    at_results_lead_release(at_scheduler_results(at_pool_scheduler(self)), id);
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *notice(PyObject *self, PyObject *arguments)
{
    unsigned worker;
    PyObject *object;
    at_message *word;
    if (!PyArg_ParseTuple(arguments, "IO:notice", &worker, &object) ||
        at_parcel_pack(object, &word) < 0) {
        return NULL;
    }
    int result = at_scheduler_notice(at_pool_scheduler(self), worker, word);
    if (result < 0) {
        at_message_unref(word);
        return at_raise(result);
    }
    Py_RETURN_NONE;
}

/* ---- control --------------------------------------------------------------------- */

AT_UNCHECKED static PyObject *cancel(PyObject *self, PyObject *number)
{
    uint64_t id = PyLong_AsUnsignedLongLong(number);
    if (id == UINT64_MAX && PyErr_Occurred()) {
        return NULL;
    }
    return PyBool_FromLong(at_scheduler_cancel(at_pool_scheduler(self), id) == 0);
}

AT_UNCHECKED static PyObject *running(PyObject *self, PyObject *arguments)
{
    unsigned long long id;
    int interrupt = 0;
    if (!PyArg_ParseTuple(arguments, "K|p:running", &id, &interrupt)) {
        return NULL;
    }
    int worker = at_scheduler_running(at_pool_scheduler(self), id, interrupt != 0);
    return PyLong_FromLong(worker >= 0 ? worker : worker == AT_EAGAIN ? -2 : -1);
}

AT_UNCHECKED static PyObject *running_seconds(PyObject *self, PyObject *number)
{
    uint64_t id = PyLong_AsUnsignedLongLong(number);
    if (id == UINT64_MAX && PyErr_Occurred()) {
        return NULL;
    }
    int64_t taken_ns = at_scheduler_running_ns(at_pool_scheduler(self), id);
    return PyFloat_FromDouble(taken_ns >= 0 ? (double)taken_ns * 1e-9 : -1.0);
}

AT_UNCHECKED static PyObject *abandon(PyObject *self, PyObject *number)
{
    uint64_t id = PyLong_AsUnsignedLongLong(number);
    if (id == UINT64_MAX && PyErr_Occurred()) {
        return NULL;
    }
    int worker = at_scheduler_abandon(at_pool_scheduler(self), id);
    return PyLong_FromLong(worker >= 0 ? worker : -1);
}

AT_UNCHECKED static PyObject *wait_room(PyObject *self, PyObject *argument)
{
    size_t limit = PyLong_AsSize_t(argument);
    if (limit == (size_t)-1 && PyErr_Occurred()) {
        return NULL;
    }
    int result;
    do {
        PyThreadState *thread_state = at_detach();
        result = at_scheduler_wait_room(at_pool_scheduler(self), limit, AT_NEVER);
        at_attach(thread_state);
        if (result == AT_EINTERRUPTED && at_run_signal_handlers() < 0) {
            return NULL;
        }
    } while (result == AT_EINTERRUPTED);
    Py_RETURN_NONE;
}

/* What `look` says of the worker whose number is the argument. */
static PyObject *tell_of_worker(PyObject *self, PyObject *argument,
                                uint64_t (*look)(at_scheduler *scheduler,
                                                 unsigned worker)) AT_ATTACHED
{
    int worker;
    if (worker_argument(self, argument, &worker) < 0) {
        return NULL;
    }
    if (worker < 0) {
        return PyErr_Format(PyExc_IndexError, "no such worker");
    }
    return PyLong_FromUnsignedLongLong(look(at_pool_scheduler(self), (unsigned)worker));
}

AT_UNCHECKED static PyObject *current(PyObject *self, PyObject *argument)
{
    return tell_of_worker(self, argument, at_scheduler_current);
}

AT_UNCHECKED static PyObject *done(PyObject *self, PyObject *argument)
{
    return tell_of_worker(self, argument, at_scheduler_done);
}

AT_UNCHECKED static PyObject *stop_worker(PyObject *self, PyObject *arguments)
{
    unsigned worker;
    int stop;
    if (!PyArg_ParseTuple(arguments, "Ip:stop_worker", &worker, &stop)) {
        return NULL;
    }
    if (worker >= ((at_pool_object *)self)->worker_count) {
        return PyErr_Format(PyExc_IndexError, "no such worker");
    }
    at_scheduler_stop_worker(at_pool_scheduler(self), worker, stop != 0);
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *share_gil(PyObject *self, PyObject *Py_UNUSED(unused))
{
#ifndef Py_GIL_DISABLED
    at_scheduler_share_gil(at_pool_scheduler(self));
#else
    (void)self;
#endif
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *cancel_all(PyObject *self, PyObject *Py_UNUSED(unused))
{
    return PyLong_FromSize_t(at_scheduler_cancel_all(at_pool_scheduler(self)));
}

AT_UNCHECKED static PyObject *scheduler_close(PyObject *self,
                                              PyObject *Py_UNUSED(unused))
{
    at_scheduler_close(at_pool_scheduler(self));
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *nudge(PyObject *self, PyObject *Py_UNUSED(unused))
{
    at_results_nudge(at_scheduler_results(at_pool_scheduler(self)));
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *queued(PyObject *self, PyObject *Py_UNUSED(unused))
{
    return PyLong_FromSize_t(at_scheduler_queued(at_pool_scheduler(self)));
}

/* An address with a reference of its own, for Scheduler(workers, address) elsewhere in
 * the process, which takes that over. */
AT_UNCHECKED static PyObject *share(PyObject *self, PyObject *Py_UNUSED(unused))
{
    at_shared *thing = at_shared_ref((at_shared *)at_pool_scheduler(self));
    return PyLong_FromUnsignedLongLong((uintptr_t)thing);
}

static PyMethodDef scheduler_methods[] = {
    {"submit", (PyCFunction)(void (*)(void))submit, METH_FASTCALL,
     "submit(id, function, args, kwargs, worker)"},
    {"submit_number", (PyCFunction)(void (*)(void))submit_number, METH_FASTCALL,
     "submit_number(id, worker)"},
    {"submit_bytes", at_pool_submit_bytes, METH_VARARGS,
     "submit_bytes(id, data, worker, beside=False): whether more goes beside them"},
    {"work", work, METH_VARARGS,
     "work(worker, limit, runner, report, settle, heap_limit=0)"},
    {"feed", at_pool_feed, METH_VARARGS,
     "feed(worker, socket, limit) -> (state, done, task, id, data, descriptor)"},
    {"finish_bytes", at_pool_finish_bytes, METH_VARARGS,
     "finish_bytes(task, outcome, data)"},
    {"put_back", at_pool_put_back, METH_O, "put_back(task) -> bool"},
    {"lead_release", lead_release, METH_O, "lead_release(id)"},
    {"notice", notice, METH_VARARGS, "notice(worker, object)"},
    {"cancel", cancel, METH_O, "cancel(id) -> bool"},
    {"cancel_all", cancel_all, METH_NOARGS, "cancel_all() -> int"},
    {"running", running, METH_VARARGS,
     "running(id, interrupt=False) -> worker; -1: none; -2: it will not begin"},
    {"running_seconds", running_seconds, METH_O,
     "running_seconds(id) -> since when, or -1"},
    {"abandon", abandon, METH_O, "abandon(id) -> worker or -1"},
    {"wait_room", wait_room, METH_O, "wait_room(limit)"},
    {"current", current, METH_O, "current(worker) -> id"},
    {"done", done, METH_O, "done(worker) -> how many tasks ended on it"},
    {"stop_worker", stop_worker, METH_VARARGS, "stop_worker(worker, stop)"},
    {"share_gil", share_gil, METH_NOARGS, "share_gil()"},
    {"close", scheduler_close, METH_NOARGS, "close()"},
    {"nudge", nudge, METH_NOARGS, "nudge()"},
    {"queued", queued, METH_NOARGS, "queued() -> int"},
    {"share", share, METH_NOARGS, "share() -> address"},
    {NULL},
};

static PyType_Slot scheduler_slots[] = {
    {Py_tp_doc, "Tasks to workers, results back; atoll.Pool drives it."},
    {Py_tp_new, scheduler_new},
    {Py_tp_dealloc, scheduler_dealloc},
    {Py_tp_methods, scheduler_methods},
    {0, NULL},
};

static PyType_Spec scheduler_spec = {
    .name = "atoll._atoll.Scheduler",
    .basicsize = sizeof(at_pool_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = scheduler_slots,
};

AT_UNCHECKED int at_bind_pool(PyObject *module)
{
    PyTypeObject *type = at_bind_add_type(module, &scheduler_spec);
    Py_XDECREF(type);
    return type != NULL ? 0 : -1;
}
