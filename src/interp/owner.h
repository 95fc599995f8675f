/* The owner thread of an interpreter: creates it, runs its jobs, ends it. */
#ifndef AT_INTERP_OWNER_H
#define AT_INTERP_OWNER_H

#include <Python.h>

#include "base/contexts.h"

/* The body of the thread; `data` is the at_interpreter, a reference that it takes.
 * ctx: a new thread */
void at_owner_main(void *data) AT_UNCHECKED;

#endif
