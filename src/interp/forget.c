/* Off CPython's list; see forget.h.
 *
 * _PyRuntime begins with a table of offsets into CPython's structures, there for
 * debuggers that look from outside (pycore_debug_offsets.h; in pycore_runtime.h on
 * 3.13). It says where the list is without our knowing the layout of the version.
 */
#include "interp/forget.h"

#include <string.h>

/* The head of _Py_DebugOffsets, the same in 3.13, 3.14 and 3.15. */
typedef struct debug_offsets {
    char cookie[8];
    uint64_t version;
    uint64_t free_threaded;
    uint64_t runtime_size;
    uint64_t runtime_finalizing;
    uint64_t runtime_interpreters_head;
    uint64_t interpreter_size;
    uint64_t interpreter_id;
    uint64_t interpreter_next;
} debug_offsets;

extern char _PyRuntime[] __attribute__((weak));

void at_compat_forget_interpreter(PyInterpreterState *interpreter)
{
    const debug_offsets *offsets = (const debug_offsets *)_PyRuntime;
    if (offsets == NULL || memcmp(offsets->cookie, "xdebugpy", 8) != 0) {
        return;
    }
    void **link = (void **)(_PyRuntime + offsets->runtime_interpreters_head);
    while (*link != NULL && *link != interpreter) {
        link = (void **)((char *)*link + offsets->interpreter_next);
    }
    if (*link != NULL) {
        *link = *(void **)((char *)*link + offsets->interpreter_next);
    }
}
