/* The GIL's door; see attach.h. */
#include "interp/attach.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "interp/compat.h"
#include "sys/park.h"

/* Is this the thread that Python's signal handlers run on, as far as can be told: the
 * first of the process? Where it is another, a signal that comes just before a sleep
 * ends it only with the next one, as everywhere in CPython. */
static bool is_signal_thread(void)
{
    enum { UNKNOWN, YES, NO };
    static _Thread_local int known __attribute__((tls_model("initial-exec")));
    if (known == UNKNOWN) {
        known = syscall(SYS_gettid) == getpid() ? YES : NO;
    }
    return known == YES;
}

AT_UNCHECKED PyThreadState *at_detach(void)
{
    PyThreadState *state = PyEval_SaveThread();
    (void)at_park_set_watch((at_park_watch){
        at_compat_eval_breaker(state), is_signal_thread() ? AT_SIGNALS_PENDING_BIT : 0,
        AT_ASYNC_EXCEPTION_BIT});
    return state;
}

AT_UNCHECKED void at_attach(PyThreadState *thread_state)
{
    (void)at_park_set_watch((at_park_watch){.word = NULL});
    PyEval_RestoreThread(thread_state);
}

int at_run_signal_handlers(void)
{
    /* Not PyErr_CheckSignals(), which leaves the watched bit set. */
    return Py_MakePendingCalls();
}

int at_take_interrupt(void)
{
    PyObject *class = at_compat_take_async_exception(PyThreadState_Get());
    if (class == NULL) {
        return 0;
    }
    PyErr_SetNone(class);
    Py_DECREF(class);
    return -1;
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
