/* Who has the GIL, as seen from outside: for samples, not for decisions.
 *
 * CPython publishes where it keeps that, for debuggers and profilers of other processes
 * (_Py_DebugOffsets, at the start of _PyRuntime, with a magic word and a version).
 */
#ifndef AT_INTERP_GIL_H
#define AT_INTERP_GIL_H

#include <Python.h>
#include <stdbool.h>

/* Can this CPython be asked? Not without a GIL, nor where the layout is none that is
 * known here. ctx: any */
bool at_gil_is_known(void);

/* Does any thread have that interpreter's GIL at this moment? Only where it is known.
 * ctx: any; the interpreter must be kept, by a visit for one */
bool at_gil_is_held(const PyInterpreterState *interpreter);

/* In a forked child, of which CPython was not told: forget the threads that wait for
 * the GIL of this one, which has it. They are not there, and to give the GIL up to them
 * would take forever. Only where it is known.
 * ctx: attached, in the only thread of the child */
void at_gil_forget_waiters(void);

#endif
