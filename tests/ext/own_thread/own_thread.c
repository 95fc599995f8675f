/* Threads of its own that call back into Python through PyGILState_Ensure. */
#include "sin.h"

#include <pthread.h>

typedef struct job {
    PyObject *callback;
    int times;
    int failures;
} job;

static void *work(void *argument)
{
    job *mine = argument;
    for (int i = 0; i < mine->times; i++) {
        PyGILState_STATE outer = PyGILState_Ensure();
        PyGILState_STATE inner = PyGILState_Ensure();
        PyObject *result =
            PyGILState_Check() ? PyObject_CallFunction(mine->callback, "i", i) : NULL;
        if (result == NULL) {
            PyErr_Clear();
            mine->failures++;
        }
        Py_XDECREF(result);
        PyGILState_Release(inner);
        PyThreadState *saved = PyEval_SaveThread();
        PyEval_RestoreThread(saved);
        PyGILState_Release(outer);
        if (PyGILState_Check()) {
            mine->failures += 1000;
        }
    }
    return NULL;
}

/* call(callback, times): from a thread of the extension; returns how many calls failed.
 */
SIN_FUNCTION(call)
{
    job mine = {0};
    if (!PyArg_ParseTuple(arg, "Oi", &mine.callback, &mine.times)) {
        return NULL;
    }
    pthread_t thread;
    int error;
    Py_BEGIN_ALLOW_THREADS error = pthread_create(&thread, NULL, work, &mine);
    if (error == 0) {
        error = pthread_join(thread, NULL);
    }
    Py_END_ALLOW_THREADS return PyLong_FromLong(error != 0 ? -error : mine.failures);
}

typedef struct late {
    PyObject *callback;
    int ready;
} late;

static void *work_for_ever(void *argument)
{
    PyObject *callback = argument;
    for (;;) {
        PyGILState_STATE state = PyGILState_Ensure();
        Py_XDECREF(PyObject_CallNoArgs(callback));
        PyErr_Clear();
        PyGILState_Release(state);
    }
    return NULL;
}

/* start(callback): call it again and again, never stopping, as thread pools do. */
SIN_FUNCTION(start)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, work_for_ever, Py_NewRef(arg));
    if (error == 0) {
        error = pthread_detach(thread);
    }
    return PyLong_FromLong(error);
}

static PyMethodDef methods[] = {SIN_METHOD(call, METH_VARARGS),
                                SIN_METHOD(start, METH_O), SIN_END};

SIN_SINGLE_PHASE(own_thread, methods)
