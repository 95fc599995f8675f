/* What stands in for which symbol; see hooks.h. */
#include "interp/hooks.h"

#include <dlfcn.h>
#include <string.h>

#include "interp/compat.h"
#include "interp/fork.h"
#include "interp/gilstate.h"
#include "interp/module.h"
#include "interp/module_index.h"
#include "interp/registration.h"
#include "interp/remedy.h"
#include "interp/thunks.h"

typedef struct hook {
    const char *symbol;
    void *address; /* the same for every interpreter, or NULL: */
    at_thunk thunk;
} hook;

/* The program's prompt calls through these, whichever interpreter set them: readline
 * does when it is imported, tkinter when it starts. An image sets a copy that nobody
 * calls, so that the prompt never runs in an image that is not main's, or is gone. */
static void *prompt_function, *prompt_hook;

static const hook hooks[] = {
    {"PyGILState_Ensure", NULL, AT_THUNK_ENSURE},
    {"PyGILState_Release", (void *)at_gilstate_release, 0},
    {"PyGILState_Check", NULL, AT_THUNK_CHECK},
    {"PyInterpreterState_Main", NULL, AT_THUNK_MAIN},
    {"Py_AtExit", NULL, AT_THUNK_AT_EXIT},
    {"Py_AddPendingCall", NULL, AT_THUNK_PENDING_CALL},
    {"Py_IsInitialized", NULL, AT_THUNK_IS_INITIALIZED},
    {"Py_IsFinalizing", NULL, AT_THUNK_IS_FINALIZING},
    {"_Py_IsFinalizing", NULL, AT_THUNK_IS_FINALIZING},
    {"PyModule_Create2", (void *)at_module_create, 0},
    {"PyModuleDef_Init", (void *)at_module_def_init, 0},
    {"PyModule_FromDefAndSpec2", (void *)at_module_from_def, 0},
#ifdef Py_GIL_DISABLED
    {"PyUnstable_Module_SetGIL", (void *)at_module_set_gil, 0},
#endif
#if AT_HAVE_MODULE_EXPORT
    {"PyModule_FromSlotsAndSpec", (void *)at_module_from_slots, 0},
#endif
    {"PyOS_AfterFork_Child", (void *)at_fork_child, 0},
    {"PyOS_ReadlineFunctionPointer", &prompt_function, 0},
    {"PyOS_InputHook", &prompt_hook, 0},
    {"PySys_AddAuditHook", (void *)at_hook_add_audit_hook, 0},
    {"PyMem_SetAllocator", (void *)at_hook_set_allocator, 0},
    {"PyObject_SetArenaAllocator", (void *)at_hook_set_arena_allocator, 0},
    {"PyRefTracer_SetTracer", (void *)at_hook_set_ref_tracer, 0},
    {"PyThread_tss_create", (void *)at_hook_tss_create, 0},
    {"PyThread_tss_delete", (void *)at_hook_tss_delete, 0},
    {"PyThread_create_key", (void *)at_hook_create_key, 0},
    {"PyThread_delete_key", (void *)at_hook_delete_key, 0},
    {"dlopen", NULL, AT_THUNK_DLOPEN},
};

void *at_hook_replacement(void *slot, const char *symbol)
{
    if (symbol[0] != 'P' && symbol[0] != '_' && symbol[0] != 'd') {
        return NULL;
    }
    if (at_remedy_is_left_out(AT_REMEDY_FOREIGN_THREADS) &&
        strncmp(symbol, "PyGILState_", 11) == 0) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof hooks / sizeof hooks[0]; i++) {
        if (strcmp(hooks[i].symbol, symbol) == 0) {
            return hooks[i].address != NULL
                       ? hooks[i].address
                       : at_thunk_address(at_slot_index(slot), hooks[i].thunk);
        }
    }
    return NULL;
}

PyInterpreterState *at_hook_main(at_slot *slot)
{
    return slot->interpreter;
}

int at_hook_at_exit(at_slot *slot, void (*function)(void))
{
    return at_slot_add_exit(slot, function) == 0 ? 0 : -1;
}

int at_hook_pending_call(at_slot *slot, int (*function)(void *), void *argument)
{
    if (_PyEval_AddPendingCall == NULL || !at_slot_enter(slot)) {
        return -1;
    }
    int result = _PyEval_AddPendingCall(slot->interpreter, function, argument, 0);
    at_slot_leave(slot);
    return result != 0 ? -1 : 0;
}

int at_hook_is_initialized(at_slot *slot)
{
    return !at_slot_is_closing(slot) || at_gilstate_check(slot);
}

int at_hook_is_finalizing(at_slot *slot)
{
    return at_slot_is_closing(slot) || Py_IsFinalizing();
}

void *at_hook_dlopen(at_slot *slot, const char *name, int flags, const void *caller)
{
    /* Inside the gate, so that the space cannot be ended meanwhile. A thread that is
     * left over from a closed interpreter gets the process's own libraries. */
    if (!at_slot_enter(slot)) {
        return dlopen(name, flags);
    }
    void *handle = at_image_dlopen(slot->space, name, flags, caller);
    at_slot_leave(slot);
    return handle;
}
