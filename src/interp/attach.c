/* The GIL's door; see attach.h. */
#include "interp/attach.h"

AT_UNCHECKED PyThreadState *at_detach(void)
{
    return PyEval_SaveThread();
}

AT_UNCHECKED void at_attach(PyThreadState *thread_state)
{
    PyEval_RestoreThread(thread_state);
}

PyThreadState *at_attach_new(PyInterpreterState *interpreter)
{
    /* A thread state belongs to the thread that makes it: on 3.13 and later one that is
     * used from another thread is never freed. */
    PyThreadState *thread_state = PyThreadState_New(interpreter);
    if (thread_state != NULL) {
        PyEval_RestoreThread(thread_state);
    }
    return thread_state;
}

void at_detach_delete(PyThreadState *thread_state)
{
    PyThreadState_Clear(thread_state);
    PyThreadState_DeleteCurrent();
}

AT_UNCHECKED void at_attach_end(PyThreadState *thread_state)
{
    Py_EndInterpreter(thread_state);
}
