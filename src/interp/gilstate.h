/* PyGILState_Ensure, Release and Check for the code of one interpreter's images.
 *
 * CPython's own attach a thread that Python does not know to the main interpreter. Code
 * of an image must come to the interpreter that the image belongs to, whatever thread
 * it runs on and whatever that thread has attached.
 */
#ifndef AT_INTERP_GILSTATE_H
#define AT_INTERP_GILSTATE_H

#include <Python.h>

#include "interp/slot.h"

/* Attach this thread to the interpreter of `slot`. Never returns when the interpreter
 * is closing and the thread is not inside already: it sleeps for ever, detached, as
 * CPython's own does at exit (there is no way to say no).
 * ctx: any thread, attached to any interpreter, or none */
PyGILState_STATE at_gilstate_ensure(at_slot *slot) AT_UNCHECKED;

/* Undo this thread's last ensure. ctx: the thread of the ensure, attached */
void at_gilstate_release(PyGILState_STATE state) AT_UNCHECKED;

/* 1 when this thread is attached to the interpreter of `slot`. ctx: any */
int at_gilstate_check(at_slot *slot);

#endif
