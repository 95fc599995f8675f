/* The end of an interpreter, and of the process that has some. */
#ifndef AT_INTERP_CLOSE_H
#define AT_INTERP_CLOSE_H

#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/contexts.h"
#include "interp/interpreter.h"

/* End the interpreter: its threads and atexit functions first, with its close deadline,
 * then Py_EndInterpreter(). False when something still runs in it: then it is left as
 * it is, and its report says what. Detached for good either way. ctx: detached, the
 * owner */
bool at_close_interpreter(at_interpreter *interpreter,
                          PyThreadState *thread_state) AT_DETACHED;

/* Hold an interpreter that could not be closed still, for the rest of the process: a
 * thread takes its GIL and never gives it back, and CPython forgets the interpreter.
 * Without this Py_FinalizeEx() would abort the process ("remaining subinterpreters"),
 * or end it under code that still runs. False when the GIL did not come by the
 * deadline. ctx: detached, while the process exits */
bool at_close_freeze(at_interpreter *interpreter, int64_t deadline_ns) AT_DETACHED;

#endif
