/* Attach and detach: the only place where a thread takes or drops a GIL, but for the
 * callbacks of extensions (gilstate.h).
 *
 * clang's thread-safety analysis follows these through every function of the parts
 * below the Python line: a block while attached, a Python call while detached and a way
 * out of a function that forgets to attach again are compile-time warnings.
 */
#ifndef AT_INTERP_ATTACH_H
#define AT_INTERP_ATTACH_H

#include <Python.h>

#include "base/contexts.h"

/* Drop the GIL of the attached thread state, which is returned for at_attach(). On the
 * thread that runs Python's signal handlers a signal that comes from now on ends the
 * watching sleeps (sys/park.h): after AT_EINTERRUPTED call at_run_signal_handlers(), or
 * they end at once again. An exception that another thread leaves for this one ends its
 * waits at channels and locks: then at_take_interrupt() is called too.
 * ctx: attached */
PyThreadState *at_detach(void) AT_DETACHES;

/* Take the GIL of `thread_state`, which belongs to this thread. While the process
 * finalizes Python this does not return on any thread but the finalizing one.
 * ctx: detached */
void at_attach(PyThreadState *thread_state) AT_ATTACHES;

/* Run the Python handlers of the signals that have come, where this thread runs them.
 * -1 with the exception of the one that raised. ctx: attached */
int at_run_signal_handlers(void) AT_ATTACHED;

/* Raise the exception that another thread has left for this one
 * (PyThreadState_SetAsyncExc): -1 where there is one, and it is set. ctx: attached */
int at_take_interrupt(void) AT_ATTACHED;

/* Attach this thread, which is detached from any interpreter it knows, to `interpreter`
 * with a new thread state. Whoever calls this keeps `interpreter` alive meanwhile
 * (at_interpreter_visit).
 * ctx:  detached
 * errs: NULL when out of memory, and then nothing is attached */
PyThreadState *at_attach_new(PyInterpreterState *interpreter) AT_UNCHECKED;

/* Delete the thread state of at_attach_new().
 * ctx: attached, the same thread */
void at_detach_delete(PyThreadState *thread_state) AT_UNCHECKED;

/* Destroy the interpreter of `thread_state`, which must be its only one.
 * ctx: attached, its owner; nothing is attached afterwards */
void at_attach_end(PyThreadState *thread_state) AT_DETACHES;

#endif
