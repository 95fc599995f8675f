/* What every type that waits needs; see wait.h. */
#include "bind/wait.h"

#include "base/error.h"
#include "bind/error.h"
#include "interp/attach.h"
#include "sys/clock.h"

#define PEER_KEY "atoll._atoll.peer"

/* A signal handler raised, and its exception is set. */
enum { SIGNAL_RAISED = 1 };

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

int at_bind_deadline(PyObject *timeout, int64_t *deadline_ns)
{
    *deadline_ns = AT_NEVER;
    if (timeout == NULL || timeout == Py_None) {
        return 0;
    }
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (seconds != seconds) {
        PyErr_SetString(PyExc_ValueError, "timeout is not a number");
        return -1;
    }
    if (seconds < 9e9) { /* more nanoseconds than that do not fit */
        *deadline_ns = at_clock_deadline(seconds > 0 ? (int64_t)(seconds * 1e9) : 0);
    }
    return 0;
}

bool at_bind_wait_again(int *result)
{
    if (*result != AT_EINTERRUPTED) {
        return false;
    }
    if (at_run_signal_handlers() < 0) {
        *result = SIGNAL_RAISED;
        return false;
    }
    return true;
}

PyObject *at_bind_wait_failed(int result)
{
    return result == SIGNAL_RAISED ? NULL : at_raise(result);
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
