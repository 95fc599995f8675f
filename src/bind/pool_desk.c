/* atoll._atoll.Desk: where a pool's tasks are handed in and their results come out.
 *
 * What every task goes through, in C: its future, its place in the table of the
 * unfinished, its call as a message; and back, the value and the finished future. What
 * is not every task's (errors, notices, who is to be told) goes to
 * atoll._pool.executor.
 *
 * Results are handed out by the collector, a thread, or by a thread that waits for one
 * (`lead`). That may be the main thread, where a signal handler can raise between any
 * two bytecodes: so from taking a result to finishing its future it is one call, and of
 * others' results it hands out only those that run no code of Python. */
#define PY_SSIZE_T_CLEAN
#include <stdatomic.h>
#include <stddef.h>

#include "bind/bind.h"
#include "bind/error.h"
#include "bind/pool.h"
#include "bind/pool_future.h"
#include "bind/type.h"
#include "bind/wait.h"
#include "interp/attach.h"
#include "parcel/parcel.h"
#include "sys/clock.h"

enum {
    /* How long a leader looks before it sleeps: a short task takes less. */
    LOOK_NS = 30 * 1000,
    /* A leader leaves larger results of others to the collector. */
    SMALL_BYTES = 4096,
    /* How often it takes what came while it handed out what it took before: more would
     * only make its own result late. */
    ROUNDS = 4,
};

typedef struct desk {
    PyObject_HEAD
        /* fixed after new */
        PyObject *scheduler,
        *pool, *futures, *values, *type, *pending, *finished;
    atomic_ullong last_id;
} desk;

AT_UNCHECKED static PyObject *desk_new(PyTypeObject *type, PyObject *arguments,
                                       PyObject *keywords)
{
    static char *names[] = {"scheduler", "pool",     "type", "values",
                            "pending",   "finished", NULL};
    PyObject *scheduler, *pool, *future_type, *values, *pending, *finished;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "OOO!OUU:Desk", names,
                                     &scheduler, &pool, &PyType_Type, &future_type,
                                     &values, &pending, &finished)) {
        return NULL;
    }
    if (values != Py_None && !PyDict_Check(values)) {
        return PyErr_Format(PyExc_TypeError, "values must be a dict or None");
    }
    desk *self = (desk *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->scheduler = Py_NewRef(scheduler);
    self->pool = Py_NewRef(pool);
    self->type = Py_NewRef(future_type);
    self->values = values != Py_None ? Py_NewRef(values) : NULL;
    self->pending = Py_NewRef(pending);
    self->finished = Py_NewRef(finished);
    self->futures = PyDict_New();
    if (self->futures == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int desk_traverse(PyObject *object, visitproc visit, void *arg)
{
    desk *self = (desk *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->scheduler);
    Py_VISIT(self->pool);
    Py_VISIT(self->type);
    Py_VISIT(self->values);
    Py_VISIT(self->futures);
    return 0;
}

static int desk_clear(PyObject *object)
{
    desk *self = (desk *)object;
    Py_CLEAR(self->pool);
    Py_CLEAR(self->values);
    Py_CLEAR(self->futures);
    return 0;
}

static void desk_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    desk *self = (desk *)object;
    PyObject_GC_UnTrack(object);
    (void)desk_clear(object);
    Py_CLEAR(self->scheduler);
    Py_CLEAR(self->type);
    Py_CLEAR(self->pending);
    Py_CLEAR(self->finished);
    type->tp_free(object);
    Py_DECREF(type);
}

/* Without a complaint where it is not there. */
static int forget(PyObject *table, PyObject *number) AT_ATTACHED
{
    return table != NULL && PyDict_Pop(table, number, NULL) < 0 ? -1 : 0;
}

/* ---- in -------------------------------------------------------------------------- */

/* A new future, which is among the unfinished from now on. `*number` is the key. */
static at_pool_future *enter(desk *self, PyObject *function,
                             PyObject **number) AT_ATTACHED
{
    unsigned long long id =
        atomic_fetch_add_explicit(&self->last_id, 1, memory_order_relaxed) + 1;
    *number = PyLong_FromUnsignedLongLong(id);
    if (*number == NULL) {
        return NULL;
    }
    at_pool_future *future = at_pool_future_new((PyTypeObject *)self->type, id,
                                                self->pool, function, self->pending);
    if (future == NULL ||
        PyDict_SetItem(self->futures, *number, (PyObject *)future) < 0) {
        Py_CLEAR(*number);
        Py_CLEAR(future);
    }
    return future;
}

AT_UNCHECKED static PyObject *desk_future(PyObject *object, PyObject *function)
{
    PyObject *number;
    at_pool_future *future = enter((desk *)object, function, &number);
    Py_XDECREF(number);
    return (PyObject *)future;
}

AT_UNCHECKED static PyObject *desk_submit(PyObject *object, PyObject *const *arguments,
                                          Py_ssize_t count)
{
    if (count != 3) {
        return PyErr_Format(PyExc_TypeError, "submit() takes 3 arguments");
    }
    desk *self = (desk *)object;
    PyObject *number;
    at_pool_future *future = enter(self, arguments[0], &number);
    if (future == NULL) {
        return NULL;
    }
    at_message *payload;
    if (at_pool_pack_call(arguments[0], arguments[1], arguments[2], &payload) < 0 ||
        at_pool_submit(at_pool_scheduler(self->scheduler), future->id, payload,
                       AT_POOL_ANY_WORKER) < 0) {
        PyObject *error = PyErr_GetRaisedException();
        (void)forget(self->futures,
                     number); /* a pool that broke has ended it already */
        PyErr_SetRaisedException(error);
        Py_CLEAR(future);
    }
    Py_DECREF(number);
    return (PyObject *)future;
}

/* ---- out ------------------------------------------------------------------------- */

/* (id, outcome, worker, what the message says) of a task that gave no value. */
static PyObject *report_of(const at_task *task) AT_ATTACHED
{
    PyObject *report =
        task->result != NULL ? at_parcel_unpack(task->result) : Py_NewRef(Py_None);
    if (report == NULL) {
        report = PyErr_GetRaisedException();
    }
    return Py_BuildValue("KiIN", (unsigned long long)task->id, (int)task->outcome,
                         task->worker, report);
}

/* Is the value of the task an object already, among `values`? */
static bool in_place(const desk *self, const at_task *task)
{
    return self->values != NULL && task->result == NULL;
}

/* The value of a task: a new reference, or NULL with an exception set, which is what
 * the task ended with: it cannot be rebuilt here, or (in place) the call raised it. */
static PyObject *value_of(desk *self, const at_task *task, PyObject *number) AT_ATTACHED
{
    PyObject *value = NULL, *all = NULL;
    bool is_object = in_place(self, task);
    if (is_object) {
        int there = PyDict_Pop(self->values, number, &all);
        if (there == 0) {
            return Py_NewRef(Py_None); /* the call was interrupted, and not told */
        }
    } else if (task->result == NULL) {
        return Py_NewRef(Py_None);
    } else {
        all = at_parcel_unpack(task->result);
    }
    if (all != NULL) {
        /* In place it is (value, exception or None); else a message of one. */
        PyObject *error = is_object ? PyTuple_GET_ITEM(all, 1) : Py_None;
        if (error == Py_None) {
            value = Py_NewRef(PyTuple_GET_ITEM(all, 0));
        } else {
            PyErr_SetRaisedException(Py_NewRef(error));
        }
        Py_DECREF(all);
    }
    return value;
}

/* Finish a future that was found among the unfinished; true when its end is to be told,
 * also that of a try before. */
static bool settle(desk *self, PyObject *object, PyObject *value,
                   PyObject *error) AT_ATTACHED
{
    at_pool_future *future = (at_pool_future *)object;
    if (at_pool_future_finish(future, self->finished, value, error) == AT_FUTURE_TELL) {
        future->untold = true;
    }
    return future->untold;
}

/* This and treat() may be tried again where they fail, for want of memory.
 *
 * The end of a task that gave a value: `made`, or NULL where it is still to be made of
 * the message. What Python has still to do about it is added to `left`: tell of the
 * future, or finish it with an exception: (future, exception). */
static int hand_out(desk *self, const at_task *task, PyObject *made,
                    PyObject *left) AT_ATTACHED
{
    PyObject *number = PyLong_FromUnsignedLongLong(task->id), *future = NULL;
    int status = -1;
    if (number == NULL || PyDict_GetItemRef(self->futures, number, &future) < 0) {
        goto done;
    }
    if (future == NULL) { /* it ended before; nobody wants it */
        status = forget(self->values, number);
        goto done;
    }
    PyObject *value = made != NULL ? Py_NewRef(made) : value_of(self, task, number);
    if (value == NULL) {
        PyObject *error = PyErr_GetRaisedException();
        PyObject *pair = PyTuple_Pack(2, future, error);
        status = pair != NULL ? PyList_Append(left, pair) : -1;
        if (status < 0) { /* at least it is not lost: the next try tells of it */
            (void)settle(self, future, Py_None, error);
        }
        Py_XDECREF(pair);
        Py_DECREF(error);
    } else {
        bool tell = settle(self, future, value, Py_None);
        at_results_lead_release(
            at_scheduler_results(at_pool_scheduler(self->scheduler)), task->id);
        status = tell ? PyList_Append(left, future) : 0;
        if (status == 0) {
            ((at_pool_future *)future)->untold = false;
            status = forget(self->futures, number);
        }
        Py_DECREF(value);
    }
done:
    Py_XDECREF(number);
    Py_XDECREF(future);
    return status;
}

/* Hand out one result, or add it to `left`: see collect(). */
static int treat(desk *self, const at_task *task, PyObject *left) AT_ATTACHED
{
    if (task->outcome == AT_OUTCOME_VALUE) {
        return hand_out(self, task, NULL, left);
    }
    PyObject *report = report_of(task);
    int status = report != NULL ? PyList_Append(left, report) : -1;
    Py_XDECREF(report);
    return status;
}

/* collect(timeout) -> what is left to do: (id, outcome, worker, report) of a task that
 * gave no value, or a notice; (future, exception) to finish it with; or a future whose
 * end is to be told. */
AT_UNCHECKED static PyObject *desk_collect(PyObject *object, PyObject *timeout)
{
    desk *self = (desk *)object;
    int64_t deadline_ns;
    if (at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    PyObject *left = PyList_New(0);
    if (left == NULL) {
        return NULL;
    }
    at_task *task = NULL;
    at_results *results = at_scheduler_results(at_pool_scheduler(self->scheduler));
    PyThreadState *thread_state = at_detach();
    int result = at_results_collect(results, deadline_ns, &task);
    at_attach(thread_state);
    if (result < 0) {
        return left; /* nothing: the caller looks at what it waits for and comes back */
    }
    while (task != NULL && treat(self, task, left) == 0) {
        at_task *next = task->next;
        at_task_free(task);
        task = next;
    }
    if (task == NULL) {
        return left;
    }
    /* No memory for the step: the rest is for the next call. */
    at_results_give_back(results, task);
    if (PyList_GET_SIZE(left) == 0) {
        Py_CLEAR(left);
    } else {
        PyErr_Clear();
    }
    return left;
}

/* ---- a result for who waits for it ----------------------------------------------- */

/* A result of somebody else, if that is a step that runs no code of Python: the value
 * is small and plain, and nobody is to be told. Else false, and nothing has changed. */
static bool hand_out_quietly(desk *self, const at_task *task) AT_ATTACHED
{
    if (task->outcome != AT_OUTCOME_VALUE) {
        return false;
    }
    PyObject *number = PyLong_FromUnsignedLongLong(task->id);
    PyObject *future = NULL, *all = NULL;
    bool done = false;
    if (number == NULL || PyDict_GetItemRef(self->futures, number, &future) <= 0) {
        goto out;
    }
    if (in_place(self, task)) {
        if (PyDict_GetItemRef(self->values, number, &all) <= 0 ||
            PyTuple_GET_ITEM(all, 1) != Py_None) {
            goto out;
        }
    } else if (task->result == NULL || task->result->attachment_count != 0 ||
               task->result->size_bytes > SMALL_BYTES) {
        goto out;
    } else {
        /* Read as if it came from outside: what is not plain is an error then. */
        all = at_parcel_load(task->result->data, task->result->size_bytes, false);
        if (all == NULL) {
            goto out;
        }
    }
    if (at_pool_future_finish_quietly((at_pool_future *)future, self->finished,
                                      PyTuple_GET_ITEM(all, 0)) != AT_FUTURE_TELL) {
        done = true;
        (void)forget(self->futures, number);
        (void)forget(self->values, number);
    }
out:
    PyErr_Clear();
    Py_XDECREF(number);
    Py_XDECREF(future);
    Py_XDECREF(all);
    return done;
}

/* Hand out `tasks`, but what needs Python to the collector; the one of number `id` is
 * returned. 0: none of them is one's own. */
static at_task *hand_out_others(desk *self, at_results *results, at_task *task,
                                uint64_t id) AT_ATTACHED
{
    at_task_list others;
    at_task_list_init(&others);
    at_task *own = NULL;
    while (task != NULL) {
        at_task *next = task->next;
        if (id != 0 && task->id == id) { /* a notice's is 0 too */
            own = task;
            own->next = NULL;
        } else if (hand_out_quietly(self, task)) {
            at_task_free(task);
        } else {
            at_task_list_push(&others, task);
        }
        task = next;
    }
    if (others.first != NULL) {
        at_results_lead_blindly(results, others.first);
    }
    return own;
}

/* The end of one's own task. To make its value may run code of Python, and on the main
 * thread any handler of a signal in it: what is raised there may not be the task's. It
 * is given in `*raised`, and the task goes to the collector, whom no handler interrupts
 * and who makes the value again. */
static int finish_own(desk *self, at_results *results, at_task *own, PyObject *left,
                      PyObject **raised) AT_ATTACHED
{
    if (hand_out_quietly(self, own)) {
        at_task_free(own);
        return 0;
    }
    /* Its code may take its time: others' results are not to wait for it. */
    at_results_lead_blindly(results, NULL);
    PyObject *made = NULL;
    if (own->outcome == AT_OUTCOME_VALUE && !in_place(self, own)) {
        made = value_of(self, own, NULL);
        if (made == NULL) {
            *raised = PyErr_GetRaisedException();
            at_results_lead_blindly(results, own);
            return 0;
        }
    }
    int status =
        made != NULL ? hand_out(self, own, made, left) : treat(self, own, left);
    Py_XDECREF(made);
    if (status < 0) { /* no memory: the collector tries again */
        at_results_lead_blindly(results, own);
    } else {
        at_task_free(own);
    }
    return status;
}

/* lead(future, timeout, left) -> bool: wait for the future's task, handing out results
 * meanwhile. True when it is over, or what is left to do about it is in the list
 * `left`, as from collect(). In one call, with no bytecode between the taking and the
 * adding where a signal handler could raise and the result be lost. None where another
 * thread leads. An exception, returned, was raised as the value was made (finish_own).
 */
AT_UNCHECKED static PyObject *desk_lead(PyObject *object, PyObject *arguments)
{
    desk *self = (desk *)object;
    PyObject *timeout, *left;
    at_pool_future *future;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(arguments, "O!OO!:lead", self->type, &future, &timeout,
                          &PyList_Type, &left) ||
        at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    at_results *results = at_scheduler_results(at_pool_scheduler(self->scheduler));
    if (at_results_lead(results, future->id) < 0) {
        Py_RETURN_NONE;
    }
    int64_t look_until_ns = deadline_ns != 0 ? at_clock_ns() + LOOK_NS : 0;
    at_task *own = NULL;
    int result = 0;
    while (own == NULL && result == 0 && !at_pool_future_is_over(future)) {
        at_task *tasks = NULL;
        PyThreadState *thread_state = at_detach();
        result = at_results_lead_wait(results, look_until_ns, deadline_ns, &tasks);
        at_attach(thread_state);
        own = hand_out_others(self, results, tasks, future->id);
    }
    bool over = own != NULL || at_pool_future_is_over(future);
    PyObject *raised = NULL;
    int status = own != NULL ? finish_own(self, results, own, left, &raised) : 0;
    for (int i = 0; own != NULL && raised == NULL && i < ROUNDS; i++) {
        at_task *tasks = at_results_lead_take(results);
        if (tasks == NULL) {
            break;
        }
        (void)hand_out_others(self, results, tasks, 0);
    }
    at_results_lead_end(results);
    return status < 0 ? NULL : raised != NULL ? raised : PyBool_FromLong(over);
}

static PyMemberDef desk_members[] = {
    {"futures", Py_T_OBJECT_EX, offsetof(desk, futures), Py_READONLY, NULL},
    {NULL},
};

static PyMethodDef desk_methods[] = {
    {"future", desk_future, METH_O, "future(function) -> PoolFuture"},
    {"submit", (PyCFunction)(void (*)(void))desk_submit, METH_FASTCALL,
     "submit(function, args, kwargs) -> PoolFuture"},
    {"collect", desk_collect, METH_O, "collect(timeout) -> what is left to do"},
    {"lead", desk_lead, METH_VARARGS, "lead(future, timeout, left) -> bool or None"},
    {NULL},
};

static PyType_Slot desk_slots[] = {
    {Py_tp_doc, "Where a pool's tasks are handed in, and results come out."},
    {Py_tp_new, desk_new},
    {Py_tp_dealloc, desk_dealloc},
    {Py_tp_traverse, desk_traverse},
    {Py_tp_clear, desk_clear},
    {Py_tp_members, desk_members},
    {Py_tp_methods, desk_methods},
    {0, NULL},
};

static PyType_Spec desk_spec = {
    .name = "atoll._atoll.Desk",
    .basicsize = sizeof(desk),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = desk_slots,
};

AT_UNCHECKED int at_bind_pool_desk(PyObject *module)
{
    PyTypeObject *type = at_bind_add_type(module, &desk_spec);
    Py_XDECREF(type);
    return type != NULL ? 0 : -1;
}
