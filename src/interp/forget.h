/* Making CPython forget an interpreter that could not be closed. */
#ifndef AT_INTERP_FORGET_H
#define AT_INTERP_FORGET_H

#include <Python.h>

/* Take `interpreter` off CPython's list of interpreters, so that Py_FinalizeEx() does
 * not abort over it. Nothing in it may run any more. ctx: any, while the process exits
 */
void at_compat_forget_interpreter(PyInterpreterState *interpreter);

#endif
