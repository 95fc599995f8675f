/* What every type that waits needs; see wait.h. */
#include "bind/wait.h"

#include <math.h>

#include "base/error.h"
#include "bind/bind.h"
#include "bind/error.h"
#include "interp/attach.h"
#include "sys/clock.h"

#define PEER_KEY "atoll._atoll.peer"

/* More nanoseconds than that do not fit. */
#define FOR_EVER_SECONDS 9e9

static void peer_capsule_free(PyObject *capsule)
{
    at_peer *peer = PyCapsule_GetPointer(capsule, PEER_KEY);
    at_shared_unref(&peer->shared);
}

static at_peer *peer_make(PyObject *dict) AT_ATTACHED
{
    at_peer *peer;
    int64_t id = PyInterpreterState_GetID(PyInterpreterState_Get());
    int result = at_peer_join(id, &peer);
    if (result < 0) {
        at_raise(result);
        return NULL;
    }
    PyObject *capsule = PyCapsule_New(peer, PEER_KEY, peer_capsule_free);
    if (capsule == NULL) {
        at_shared_unref(&peer->shared);
        return NULL;
    }
    /* Another thread may have made one meanwhile: the first is everybody's. */
    PyObject *key = PyUnicode_FromString(PEER_KEY);
    PyObject *kept = NULL;
    if (key != NULL && PyDict_SetDefaultRef(dict, key, capsule, &kept) >= 0) {
        peer = PyCapsule_GetPointer(kept, PEER_KEY);
        Py_DECREF(kept); /* the dict has it */
    } else {
        peer = NULL;
    }
    Py_XDECREF(key);
    Py_DECREF(capsule);
    return peer;
}

at_peer *at_bind_peer(void)
{
    PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get());
    if (dict == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the interpreter is being destroyed");
        return NULL;
    }
    PyObject *capsule = PyDict_GetItemString(dict, PEER_KEY);
    if (capsule == NULL) {
        return peer_make(dict);
    }
    return PyCapsule_GetPointer(capsule, PEER_KEY);
}

int at_bind_seconds(PyObject *timeout, double *seconds)
{
    const PyNumberMethods *number = Py_TYPE(timeout)->tp_as_number;
    if (number == NULL || (number->nb_float == NULL && number->nb_index == NULL)) {
        PyErr_Format(PyExc_TypeError,
                     "timeout must be a number of seconds or None, not %.100s",
                     Py_TYPE(timeout)->tp_name);
        return -1;
    }
    *seconds = PyFloat_AsDouble(timeout);
    if (*seconds == -1.0 && PyErr_Occurred()) {
        if (!PyLong_Check(timeout) || !PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear();
        int sign;
        (void)PyLong_AsLongLongAndOverflow(timeout, &sign);
        *seconds = sign * (double)INFINITY;
    }
    if (*seconds != *seconds) {
        PyErr_SetString(PyExc_ValueError,
                        "timeout must be a number of seconds, not nan");
        return -1;
    }
    return 0;
}

int at_bind_deadline(PyObject *timeout, int64_t *deadline_ns)
{
    double seconds;
    *deadline_ns = AT_NEVER;
    if (timeout == NULL || timeout == Py_None) {
        return 0;
    }
    if (at_bind_seconds(timeout, &seconds) < 0) {
        return -1;
    }
    if (seconds < FOR_EVER_SECONDS) {
        *deadline_ns = at_clock_deadline(seconds > 0 ? (int64_t)(seconds * 1e9) : 0);
    }
    return 0;
}

/* seconds(timeout) -> float or None */
AT_UNCHECKED static PyObject *seconds_of(PyObject *Py_UNUSED(module), PyObject *timeout)
{
    double seconds;
    if (timeout == Py_None) {
        return Py_NewRef(Py_None);
    }
    if (at_bind_seconds(timeout, &seconds) < 0) {
        return NULL;
    }
    return seconds < FOR_EVER_SECONDS ? PyFloat_FromDouble(seconds > 0 ? seconds : 0.0)
                                      : Py_NewRef(Py_None);
}

bool at_bind_wait_again(int *result)
{
    if (*result != AT_EINTERRUPTED) {
        return false;
    }
    if (at_run_signal_handlers() < 0 || at_take_interrupt() < 0) {
        *result = AT_WAIT_RAISED;
        return false;
    }
    return true;
}

PyObject *at_bind_wait_failed(int result)
{
    return result == AT_WAIT_RAISED ? NULL : at_raise(result);
}

PyObject *at_bind_coroutine(const char *name, PyObject *object, PyObject *arguments,
                            PyObject *keywords)
{
    PyObject *module = PyImport_ImportModule("atoll._aio");
    if (module == NULL) {
        return NULL;
    }
    PyObject *function = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    if (function == NULL) {
        return NULL;
    }
    PyObject *method = PyMethod_New(function, object);
    Py_DECREF(function);
    if (method == NULL) {
        return NULL;
    }
    PyObject *coroutine = PyObject_Call(method, arguments, keywords);
    Py_DECREF(method);
    return coroutine;
}

/* interrupt_thread(ident, exception class) -> bool */
AT_UNCHECKED static PyObject *interrupt_thread(PyObject *Py_UNUSED(module),
                                               PyObject *arguments)
{
    unsigned long ident;
    PyObject *class;
    if (!PyArg_ParseTuple(arguments, "kO:interrupt_thread", &ident, &class)) {
        return NULL;
    }
    int64_t id = PyInterpreterState_GetID(PyInterpreterState_Get());
    int found = PyThreadState_SetAsyncExc(ident, class);
    PyThreadState *state = at_detach();
    at_channels_thread_interrupted(id, (pthread_t)ident);
    at_attach(state);
    return PyBool_FromLong(found);
}

static PyMethodDef functions[] = {
    {"interrupt_thread", interrupt_thread, METH_VARARGS,
     "interrupt_thread($module, ident, exception, /)\n--\n\n"
     "Raise the exception in that thread, also where it waits at a channel or a lock.\n"
     "False where there is no such thread in this interpreter."},
    {"seconds", seconds_of, METH_O,
     "seconds($module, timeout, /)\n--\n\n"
     "A timeout as every wait takes it: seconds that are not negative, or None."},
    {NULL, NULL, 0, NULL},
};

AT_UNCHECKED int at_bind_wait(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
