/* From a loaded file to a module object: what CPython's importer does after dlopen, in
 * the interpreter itself.
 *
 * CPython runs an extension's init function in the main interpreter first, to learn
 * whether it is single-phase, and waits for main's GIL. An image belongs to one
 * interpreter, so its init runs there, and its objects come from that interpreter's
 * heap.
 */
#ifndef AT_INTERP_MODULE_H
#define AT_INTERP_MODULE_H

#include <Python.h>

#include "base/contexts.h"
#include "interp/compat.h"
#include "interp/slot.h"

/* How to find an init function: `symbol` in what the caller loaded. ctx: any */
typedef void *(*at_module_lookup)(void *context, const char *symbol);

/* The extension module that `spec` describes, from its init function; `slot` is NULL
 * for a file that is not an image, which must be multi-phase then. ctx:  attached, in
 * the interpreter that imports owns: a new reference errs: NULL with ImportError or
 * SystemError, worded as CPython's own, or what the init function raised */
PyObject *at_module_import(PyObject *spec, PyObject *name, PyObject *path,
                           at_module_lookup lookup, void *context,
                           at_slot *slot) AT_ATTACHED;

/* The module `name` that is compiled into CPython, or NULL without an exception where
 * there is none, or where it is one that CPython makes itself (sys, builtins).
 * `refuses`: it says that it does not support this interpreter, and does all the same.
 * ctx: attached. owns: a new reference. errs: as above */
PyObject *at_module_builtin(PyObject *spec, PyObject *name, bool refuses) AT_ATTACHED;

/* Has `module`, which this thread imported last, declared that it needs no GIL? */
bool at_module_needs_no_gil(PyObject *module) AT_ATTACHED;

/* A single-phase module that was imported before in this interpreter and then removed
 * from sys.modules: NULL without an exception where there is none, or where its init
 * function has to run again. As CPython, which keeps a copy of the dict of a module
 * that has global state (m_size -1) and never runs its init function twice. ctx:
 * attached. owns: a new reference */
PyObject *at_module_again(PyObject *name, PyObject *path) AT_ATTACHED;

/* Stand-ins for PyModule_Create2, PyModule_FromDefAndSpec2, PyUnstable_Module_SetGIL
 * and (3.15) PyModule_FromSlotsAndSpec in an image. ctx: attached */
#ifdef Py_GIL_DISABLED
int at_module_set_gil(PyObject *module, void *gil) AT_UNCHECKED;
#endif
PyObject *at_module_create(PyModuleDef *def, int api_version) AT_UNCHECKED;
PyObject *at_module_from_def(PyModuleDef *def, PyObject *spec,
                             int api_version) AT_UNCHECKED;
#if AT_HAVE_MODULE_EXPORT
PyObject *at_module_from_slots(const PySlot *slots, PyObject *spec) AT_UNCHECKED;
#endif

#endif
