/* Putting the importer into an interpreter.
 *
 * A new interpreter knows CPython's importer only, and importing _atoll through that
 * would wait for main's GIL. So _atoll is made from its definition directly, and
 * atoll/_importer.py, which needs nothing else, is run from its file; imports of
 * extensions after that go through at_extensions_load().
 */
#ifndef AT_INTERP_INSTALL_H
#define AT_INTERP_INSTALL_H

#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/contexts.h"

/* Install the importer in the interpreter of the caller, for good. `at_exit` registers
 * at_extensions_prepare_close with the interpreter's atexit: for interpreters that
 * atoll did not create and does not close. Main is left alone; a second call changes
 * nothing. ctx:  attached, at best before anything else was imported errs: -1 with an
 * exception */
int at_install_here(bool at_exit) AT_ATTACHED;

/* The same in interpreter `interpreter_id`, which must be idle.
 * ctx:  attached, to any interpreter
 * errs: -1 with an exception */
int at_install_in(int64_t interpreter_id, bool at_exit) AT_ATTACHED;

#endif
