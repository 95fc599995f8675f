/* Which symbols of an image are pointed elsewhere, and to what.
 *
 * The image believes that it is alone in the process: its interpreter is the main one,
 * its exit is the process's exit, and what it opens is its own.
 */
#ifndef AT_INTERP_HOOKS_H
#define AT_INTERP_HOOKS_H

#include <Python.h>

#include "interp/slot.h"

/* What stands in for `symbol` in the images of `slot`, or NULL. The at_image_hooks
 * replacement. ctx: any */
void *at_hook_replacement(void *slot, const char *symbol);

/* The bodies of the thunks; each has the contract of the function that it stands for.
 */

/* PyInterpreterState_Main: the image's own interpreter. ctx: any */
PyInterpreterState *at_hook_main(at_slot *slot);

/* Py_AtExit: run when the interpreter closes. Returns -1 when out of memory. ctx: any
 */
int at_hook_at_exit(at_slot *slot, void (*function)(void));

/* Py_AddPendingCall: into the image's own interpreter; -1 when it is closing or its
 * queue is full. ctx: any */
int at_hook_pending_call(at_slot *slot, int (*function)(void *), void *argument);

/* Py_IsInitialized: 0 for a thread that could not come in any more. ctx: any */
int at_hook_is_initialized(at_slot *slot);

/* Py_IsFinalizing: true as soon as no foreign thread can come in. ctx: any */
int at_hook_is_finalizing(at_slot *slot);

/* dlopen, called from the code at `caller`. ctx: any; blocks on the loader's lock */
void *at_hook_dlopen(at_slot *slot, const char *name, int flags, const void *caller);

#endif
