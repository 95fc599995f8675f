/* How extension modules are imported into interpreters, and out again.
 *
 * Each interpreter that imports an extension through here has a record: its private
 * images (elf/image.h), its slot in the thunk table (thunks.h), the foreign threads
 * that are inside it, and the functions it gave to Py_AtExit. A record is named by the
 * interpreter's ID, never by pointer, and is made by whichever import comes first: also
 * in interpreters that atoll did not create.
 *
 * An interpreter ends in this order:
 *   1. its atexit functions                           (the caller)
 *   2. at_extensions_prepare_close()                  attached, inside it
 *   3. Py_EndInterpreter()                            (the caller)
 *   4. at_extensions_closed()                         from anywhere else
 * An interpreter that somebody else created does 2 from its atexit and disowns its
 * record. Whoever destroys it through `_interpreters` calls at_extensions_ended(); of
 * others, the record is retired when another one is made.
 */
#ifndef AT_INTERP_EXTENSION_H
#define AT_INTERP_EXTENSION_H

#include <Python.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/contexts.h"

/* What at_extensions_prepare_close could not end. */
typedef struct at_extensions_left {
    size_t foreign_thread_count; /* still inside: their thread states still exist */
    size_t hung_thread_count;    /* came too late and sleep for ever, outside */
    bool started_threads;        /* code of the images has started threads */
} at_extensions_left;

/* How the file of an extension module is brought into the interpreter. */
typedef enum at_extension_way {
    AT_EXTENSION_SHARED, /* the file itself: it keeps nothing in C globals */
    AT_EXTENSION_IMAGE,  /* a private image of it */
} at_extension_way;

/* Import the extension module that `spec` describes (name, origin) into the interpreter
 * of the caller, as importlib's create_module does; the caller's loader executes it.
 * PyInit_NAME runs here and now, in this interpreter: main's GIL is not taken.
 * ctx:  attached, any interpreter but main; detaches while the file is loaded
 * owns: a new reference
 * errs: NULL with ImportError or SystemError, worded as CPython's own */
PyObject *at_extensions_load(PyObject *spec, at_extension_way way) AT_ATTACHED;

/* Import a module that is compiled into CPython; main's GIL is not taken either. None
 * where CPython's own importer has to make it.
 * ctx:  attached, any interpreter but main
 * owns: a new reference
 * errs: as at_extensions_load */
PyObject *at_extensions_load_builtin(PyObject *spec, bool refuses) AT_ATTACHED;

/* The interpreter of the caller is about to end: refuse foreign threads from now on,
 * wait for those inside until `deadline_ns` (at_clock_ns() time), then run its
 * Py_AtExit functions, last first. A second call waits again for those still inside.
 * Fine, and quick, where no extension was ever imported. ctx:  attached, inside the
 * interpreter `interpreter_id`; detaches while it waits errs: never; `left` (may be
 * NULL) says what is still there. With foreign threads left Py_EndInterpreter would
 * abort the process: do not call it */
void at_extensions_prepare_close(int64_t interpreter_id, int64_t deadline_ns,
                                 at_extensions_left *left) AT_ATTACHED;

/* Leave `state`, with which the caller is attached, in its interpreter until
 * at_extensions_prepare_close() (compat.h says why).
 * ctx:  attached
 * owns: takes `state` on 0
 * errs: -1 with an exception */
int at_extensions_anchor(PyThreadState *state) AT_ATTACHED;

/* Nobody will call at_extensions_closed() for this interpreter, which is about to end.
 * ctx: any */
void at_extensions_disown(int64_t interpreter_id);

/* The interpreter that somebody else created may have ended: if it did, what
 * at_extensions_closed() does. ctx: attached, to any other interpreter; detaches */
void at_extensions_ended(int64_t interpreter_id) AT_ATTACHED;

/* The interpreter is destroyed. Unmaps its images, or leaves them mapped for ever where
 * that is not safe; then its slot is free again unless something of it stays mapped. A
 * no-op for an ID that has no record.
 * ctx:  detached; runs destructors of the libraries. Best on a thread that never ran
 * the interpreter, when all that did are joined: thread-local objects that wait for the
 * end of another thread keep the images */
void at_extensions_closed(int64_t interpreter_id) AT_DETACHED;

#endif
