/* What is seen of interpreters from outside, for atoll.top and the pool: what their
 * heaps hold, and how much of the time their GIL is taken. No interpreter is asked. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/memory.h"
#include "bind/bind.h"
#include "bind/error.h"
#include "interp/attach.h"
#include "interp/gil.h"
#include "interp/heap.h"
#include "interp/interpreter.h"
#include "interp/runtime.h"
#include "sys/clock.h"
#include "sys/park.h"

enum { SAMPLE_NS = 1000 * 1000 };

AT_UNCHECKED static PyObject *heap_bytes(PyObject *module, PyObject *argument)
{
    long long id = PyLong_AsLongLong(argument);
    if (id == -1 && PyErr_Occurred()) {
        return NULL;
    }
    int64_t bytes = at_heap_bytes(id);
    return bytes >= 0 ? PyLong_FromLongLong(bytes) : Py_NewRef(Py_None);
}

typedef struct sampled {
    long long id;
    PyInterpreterState *state;   /* NULL: it is not to be had */
    at_interpreter *interpreter; /* a reference that is visited; NULL for main */
    unsigned held_count;
} sampled;

static void sampled_init(sampled *one, long long id)
{
    *one = (sampled){.id = id};
    if (id == 0) {
        one->state = PyInterpreterState_Main();
        return;
    }
    at_interpreter *interpreter = at_runtime_find(id);
    if (interpreter != NULL && at_interpreter_visit(interpreter)) {
        one->interpreter = interpreter;
        one->state = interpreter->interpreter;
    } else {
        at_interpreter_unref(interpreter);
    }
}

static void sampled_fini(sampled *one)
{
    if (one->interpreter != NULL) {
        at_interpreter_leave(one->interpreter);
        at_interpreter_unref(one->interpreter);
    }
}

/* Look once a millisecond until the deadline; how often. */
static unsigned sample(sampled *all, Py_ssize_t count, int64_t deadline_ns) AT_DETACHED
{
    atomic_uint never = 0;
    unsigned rounds = 0;
    int64_t next_ns = at_clock_ns();
    do {
        for (Py_ssize_t i = 0; i < count; i++) {
            if (all[i].state != NULL) {
                all[i].held_count += at_gil_is_held(all[i].state);
            }
        }
        rounds++;
        next_ns += SAMPLE_NS;
        while (at_clock_ns() < next_ns) {
            (void)at_park_wait(&never, 0, next_ns, AT_PARK_PRIVATE);
        }
    } while (at_clock_ns() < deadline_ns);
    return rounds;
}

static PyObject *shares(const sampled *all, Py_ssize_t count,
                        unsigned rounds) AT_ATTACHED
{
    PyObject *result = PyList_New(count);
    for (Py_ssize_t i = 0; result != NULL && i < count; i++) {
        PyObject *share = all[i].state != NULL
                              ? PyFloat_FromDouble((double)all[i].held_count / rounds)
                              : Py_NewRef(Py_None);
        if (share == NULL) {
            Py_CLEAR(result);
        } else {
            PyList_SET_ITEM(result, i, share);
        }
    }
    return result;
}

/* gil_shares([id, ...], seconds) -> [share or None, ...] */
AT_UNCHECKED static PyObject *gil_shares(PyObject *module, PyObject *arguments)
{
    PyObject *ids;
    double seconds;
    if (!PyArg_ParseTuple(arguments, "O!d:gil_shares", &PyList_Type, &ids, &seconds)) {
        return NULL;
    }
    if (!(seconds >= 0 && seconds <= 10)) {
        return PyErr_Format(PyExc_ValueError, "seconds must be from 0 to 10");
    }
    Py_ssize_t count = PyList_GET_SIZE(ids), ready = 0;
    sampled *all = at_calloc((size_t)count + 1, sizeof *all);
    if (all == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *result = NULL;
    bool known = at_gil_is_known();
    for (; ready < count; ready++) {
        long long id = PyLong_AsLongLong(PyList_GET_ITEM(ids, ready));
        if (id == -1 && PyErr_Occurred()) {
            goto done;
        }
        sampled_init(&all[ready], known ? id : -1);
    }
    unsigned rounds = 1;
    if (known) {
        PyThreadState *thread_state = at_detach();
        rounds = sample(all, count, at_clock_deadline((int64_t)(seconds * 1e9)));
        at_attach(thread_state);
    }
    result = shares(all, count, rounds);
done:
    for (Py_ssize_t i = 0; i < ready; i++) {
        sampled_fini(&all[i]);
    }
    at_free(all);
    return result;
}

static PyMethodDef functions[] = {
    {"heap_bytes", heap_bytes, METH_O, "heap_bytes(interpreter id) -> int or None"},
    {"gil_shares", gil_shares, METH_VARARGS,
     "gil_shares([interpreter id, ...], seconds) -> [share of the time or None, ...]"},
    {NULL, NULL, 0, NULL},
};

AT_UNCHECKED int at_bind_watch(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
