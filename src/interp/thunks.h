/* Functions that know their interpreter: a compiled set for each slot.
 *
 * C has no closures, and executable memory made at run time is refused on hardened
 * systems. So there is one small function for each slot and each hook whose signature
 * leaves no room to say which interpreter is meant.
 */
#ifndef AT_INTERP_THUNKS_H
#define AT_INTERP_THUNKS_H

#include <stddef.h>

typedef enum at_thunk {
    AT_THUNK_ENSURE,         /* PyGILState_Ensure */
    AT_THUNK_CHECK,          /* PyGILState_Check */
    AT_THUNK_MAIN,           /* PyInterpreterState_Main */
    AT_THUNK_AT_EXIT,        /* Py_AtExit */
    AT_THUNK_PENDING_CALL,   /* Py_AddPendingCall */
    AT_THUNK_IS_INITIALIZED, /* Py_IsInitialized */
    AT_THUNK_IS_FINALIZING,  /* Py_IsFinalizing */
    AT_THUNK_DLOPEN,         /* dlopen */
    AT_THUNK_COUNT,
} at_thunk;

/* The function of slot number `slot_index` that stands in for `which`.
 * ctx: any */
void *at_thunk_address(size_t slot_index, at_thunk which);

#endif
