/* Constants of code that interpreters share.
 *
 * Every interpreter unmarshals the same .pyc files, so every one has the same
 * docstrings and tables of lines, of exceptions and of kinds of variables: an eighth of
 * what a worker with FastAPI costs. Here the process has one of each.
 */
#ifndef AT_INTERP_CONSTANTS_H
#define AT_INTERP_CONSTANTS_H

#include <Python.h>

#include "base/contexts.h"

/* From now on code objects that come into being in the interpreter of the caller take
 * such constants from the process. Where that cannot be, each keeps its own.
 * ctx: attached, to an interpreter other than main, once, before code of files runs */
void at_constants_share_here(void) AT_ATTACHED;

#endif
