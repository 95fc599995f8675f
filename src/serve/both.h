/* What a worker of ASGI and one of WSGI do alike.
 * Every function: ctx: attached, on the worker's own interpreter */
#ifndef AT_SERVE_BOTH_H
#define AT_SERVE_BOTH_H

#include <Python.h>

#include "net/reactor.h"

/* Find the service of that number, and open a reactor in it for worker `index` of this
 * interpreter.
 * owns: the caller has a reference to *service, and closes *reactor first; what was not
 *       reached is left as it is
 * errs: -1 with LookupError or RuntimeError */
int at_serve_open(unsigned long long number, const at_hooks *hooks, void *worker,
                  int index, at_service **service, at_reactor **reactor);

/* The class RequestTimeout, a reference; NULL with an exception set. */
PyObject *at_serve_timeout_class(void);

/* Report what no caller can be told: on_error(scope or None, the exception that is set
 * or None, text). The exception is cleared; what on_error raises is unraisable. */
void at_serve_report(PyObject *on_error, PyObject *scope, const char *text);

#endif
