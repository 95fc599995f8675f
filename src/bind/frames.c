/* sys._current_frames() and sys._current_exceptions() for one interpreter.
 *
 * CPython's own walk the threads of every interpreter of the process. For each it makes
 * a frame object, or takes a reference to an exception, of an interpreter whose GIL the
 * caller does not hold, out of the caller's heap: the other interpreter frees a block
 * that is not its own ("double free or corruption"), here in frame_dealloc(). Profilers
 * (distributed's samples every 10 ms), debuggers and pytest-timeout call them all the
 * time. These see the threads of the caller's interpreter, whose GIL keeps them still.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/contexts.h"
#include "bind/bind.h"

/* What there is to tell of a thread: a new reference, or NULL without an exception. */
typedef PyObject *(*thread_view)(PyThreadState *thread);

static PyObject *frame_of(PyThreadState *thread)
{
    return (PyObject *)PyThreadState_GetFrame(thread);
}

static PyObject *exception_of(PyThreadState *thread)
{
    const _PyErr_StackItem *item = thread->exc_info;
    while ((item->exc_value == NULL || item->exc_value == Py_None) &&
           item->previous_item != NULL) {
        item = item->previous_item;
    }
    return Py_NewRef(item->exc_value != NULL ? item->exc_value : Py_None);
}

static int enter(PyObject *views, PyThreadState *thread, thread_view view) AT_ATTACHED
{
    PyObject *seen = view(thread);
    if (seen == NULL) {
        return 0;
    }
    PyObject *ident = PyLong_FromUnsignedLong(thread->thread_id);
    int failed = ident != NULL ? PyDict_SetItem(views, ident, seen) : -1;
    Py_XDECREF(ident);
    Py_DECREF(seen);
    return failed;
}

static PyObject *each_thread(thread_view view) AT_ATTACHED
{
    PyObject *views = PyDict_New();
    if (views == NULL) {
        return NULL;
    }
    PyThreadState *thread = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    for (; thread != NULL; thread = PyThreadState_Next(thread)) {
        if (enter(views, thread, view) < 0) {
            Py_DECREF(views);
            return NULL;
        }
    }
    return views;
}

AT_UNCHECKED static PyObject *current_frames(PyObject *module, PyObject *ignored)
{
    return each_thread(frame_of);
}

AT_UNCHECKED static PyObject *current_exceptions(PyObject *module, PyObject *ignored)
{
    return each_thread(exception_of);
}

static PyMethodDef functions[] = {
    {"current_frames", current_frames, METH_NOARGS,
     "current_frames()\n--\n\n"
     "The topmost frame of each thread of this interpreter, by thread identifier."},
    {"current_exceptions", current_exceptions, METH_NOARGS,
     "current_exceptions()\n--\n\n"
     "What each thread of this interpreter handles, or None, by thread identifier."},
    {NULL, NULL, 0, NULL},
};

int at_bind_frames(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
