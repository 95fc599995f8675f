/* The methods of atoll._atoll.Scheduler for threads that feed a process: a task is
 * taken as bytes with a capsule, which then ends it, or puts it back where the process
 * died before it had it. */
#define PY_SSIZE_T_CLEAN
#include "bind/error.h"
#include "bind/pool.h"

static const char task_capsule[] = "atoll.pool.task";

AT_UNCHECKED PyObject *at_pool_take_bytes(PyObject *self, PyObject *argument)
{
    int worker;
    if (at_pool_worker_argument(self, argument, &worker) < 0) {
        return NULL;
    }
    if (worker < 0) {
        return PyErr_Format(PyExc_IndexError, "no such worker");
    }
    at_task *task;
    int result = at_pool_next_task(at_pool_scheduler(self), (unsigned)worker, &task);
    if (result != 0) {
        return result > 0 ? NULL : Py_NewRef(Py_None);
    }
    /* The process itself puts an interrupt off until it has loaded the call. */
    if (at_scheduler_begin(at_pool_scheduler(self), task) < 0) {
        (void)at_scheduler_finish(at_pool_scheduler(self), task, AT_OUTCOME_ERROR,
                                  NULL);
        return at_pool_take_bytes(self, argument);
    }
    PyObject *capsule = PyCapsule_New(task, task_capsule, NULL);
    PyObject *data = PyBytes_FromStringAndSize(task->payload->data,
                                               (Py_ssize_t)task->payload->size_bytes);
    PyObject *pair = NULL;
    if (capsule != NULL && data != NULL) {
        pair = Py_BuildValue("OKO", capsule, (unsigned long long)task->id, data);
    }
    if (pair == NULL) {
        (void)at_scheduler_finish(at_pool_scheduler(self), task, AT_OUTCOME_ERROR,
                                  NULL);
    }
    Py_XDECREF(capsule);
    Py_XDECREF(data);
    return pair;
}

/* The task of a capsule, which is good for one end. */
static at_task *task_of(PyObject *capsule) AT_ATTACHED
{
    at_task *task = PyCapsule_GetPointer(capsule, task_capsule);
    if (task != NULL) {
        (void)PyCapsule_SetName(capsule, "atoll.pool.task that is over");
    }
    return task;
}

AT_UNCHECKED PyObject *at_pool_finish_bytes(PyObject *self, PyObject *arguments)
{
    PyObject *capsule;
    int outcome;
    Py_buffer data;
    if (!PyArg_ParseTuple(arguments, "O!iy*:finish_bytes", &PyCapsule_Type, &capsule,
                          &outcome, &data)) {
        return NULL;
    }
    at_task *task = task_of(capsule);
    at_message *result = NULL;
    int code = 0;
    if (task != NULL) {
        code = at_message_new(data.buf, (size_t)data.len, -1, &result);
    }
    PyBuffer_Release(&data);
    if (task == NULL) {
        return NULL;
    }
    int met = at_scheduler_finish(at_pool_scheduler(self), task,
                                  code < 0 ? AT_OUTCOME_ERROR : outcome,
                                  code < 0 ? NULL : result);
    return PyBool_FromLong(met == 0);
}

AT_UNCHECKED PyObject *at_pool_put_back(PyObject *self, PyObject *capsule)
{
    at_task *task = task_of(capsule);
    if (task == NULL) {
        return NULL;
    }
    return PyBool_FromLong(at_scheduler_put_back(at_pool_scheduler(self), task) == 0);
}
