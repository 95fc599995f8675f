/* What every type that waits needs: the peer of its interpreter, deadlines from
 * Python's timeouts, and what to do between two waits. */
#ifndef AT_BIND_WAIT_H
#define AT_BIND_WAIT_H

#include <Python.h>
#include <stdbool.h>

#include "base/contexts.h"
#include "chan/peer.h"
#include "chan/wait.h"

/* What a wait comes to whose signal handler raised, or whose thread was interrupted:
 * the exception is set. Negative, since some waits return counts, and none of the AT_E*
 * codes. */
enum { AT_WAIT_RAISED = -1000 };

/* The peer of the caller's interpreter: borrowed, good while the interpreter lives;
 * NULL with an exception set. ctx: attached */
at_peer *at_bind_peer(void) AT_ATTACHED;

/* A number of seconds; an integer too large for a double is an infinite number.
 * ctx:  attached
 * errs: -1 with TypeError or ValueError (not a number) */
int at_bind_seconds(PyObject *timeout, double *seconds) AT_ATTACHED;

/* Seconds (a number, or None or NULL for ever) into a deadline. A number that is not
 * positive is a moment that has come, and one of centuries is for ever.
 * ctx:  attached
 * errs: -1 with TypeError or ValueError */
int at_bind_deadline(PyObject *timeout, int64_t *deadline_ns) AT_ATTACHED;

/* A wait returned `result`: true when it must be begun again, because a signal came
 * whose handler raised nothing. Where one raised, or where another thread has left an
 * exception for this one, `*result` becomes AT_WAIT_RAISED.
 * ctx: attached */
bool at_bind_wait_again(int *result) AT_ATTACHED;

/* Set the exception for a `result` that is not 0, unless a handler has. Returns NULL.
 * ctx: attached */
PyObject *at_bind_wait_failed(int result) AT_ATTACHED;

/* The coroutine that `name` of atoll._aio makes for `object` and the arguments; NULL
 * with an exception set. ctx: attached */
PyObject *at_bind_coroutine(const char *name, PyObject *object, PyObject *arguments,
                            PyObject *keywords) AT_ATTACHED;

#endif
