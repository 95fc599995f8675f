/* The table of thunks; see thunks.h. */
#include "interp/thunks.h"

#include "base/each.h"
#include "interp/gilstate.h"
#include "interp/hooks.h"
#include "interp/slot.h"

#define SLOT(n) (&at_slots[0##n])

#define DEFINE(n)                                                                      \
    static PyGILState_STATE ensure_##n(void)                                           \
    {                                                                                  \
        return at_gilstate_ensure(SLOT(n));                                            \
    }                                                                                  \
    static int check_##n(void)                                                         \
    {                                                                                  \
        return at_gilstate_check(SLOT(n));                                             \
    }                                                                                  \
    static PyInterpreterState *main_##n(void)                                          \
    {                                                                                  \
        return at_hook_main(SLOT(n));                                                  \
    }                                                                                  \
    static int at_exit_##n(void (*function)(void))                                     \
    {                                                                                  \
        return at_hook_at_exit(SLOT(n), function);                                     \
    }                                                                                  \
    static int pending_call_##n(int (*function)(void *), void *argument)               \
    {                                                                                  \
        return at_hook_pending_call(SLOT(n), function, argument);                      \
    }                                                                                  \
    static int is_initialized_##n(void)                                                \
    {                                                                                  \
        return at_hook_is_initialized(SLOT(n));                                        \
    }                                                                                  \
    static int is_finalizing_##n(void)                                                 \
    {                                                                                  \
        return at_hook_is_finalizing(SLOT(n));                                         \
    }                                                                                  \
    static void *dlopen_##n(const char *name, int flags)                               \
    {                                                                                  \
        return at_hook_dlopen(SLOT(n), name, flags, __builtin_return_address(0));      \
    }

#define ROW(n)                                                                         \
    {                                                                                  \
        [AT_THUNK_ENSURE] = (void *)ensure_##n,                                        \
        [AT_THUNK_CHECK] = (void *)check_##n,                                          \
        [AT_THUNK_MAIN] = (void *)main_##n,                                            \
        [AT_THUNK_AT_EXIT] = (void *)at_exit_##n,                                      \
        [AT_THUNK_PENDING_CALL] = (void *)pending_call_##n,                            \
        [AT_THUNK_IS_INITIALIZED] = (void *)is_initialized_##n,                        \
        [AT_THUNK_IS_FINALIZING] = (void *)is_finalizing_##n,                          \
        [AT_THUNK_DLOPEN] = (void *)dlopen_##n,                                        \
    },

// clang-format off
AT_EACH_512(DEFINE)

static void *const rows[][AT_THUNK_COUNT] = {AT_EACH_512(ROW)};
// clang-format on

_Static_assert(sizeof rows / sizeof rows[0] == AT_SLOT_COUNT, "one row for each slot");

void *at_thunk_address(size_t slot_index, at_thunk which)
{
    return rows[slot_index][which];
}
