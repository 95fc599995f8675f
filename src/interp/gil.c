/* Who has the GIL; see gil.h. */
#include "interp/gil.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "interp/compat.h"

/* _Py_DebugOffsets is a row of 64-bit words; these are the numbers of some. */
enum {
    WORD_VERSION = 1,
    WORD_FREE_THREADED = 2,
    /* 3.14 put `threads_main` before it. */
    WORD_CEVAL_GIL = PY_VERSION_HEX < 0x030e0000 ? 14 : 15,
    WORD_GIL_STATE = WORD_CEVAL_GIL + 1,
    WORD_GIL_LOCKED = WORD_CEVAL_GIL + 3,
};

/* The words, or NULL where they are not what this was written for. */
static const uint64_t *offsets(void)
{
    const uint64_t *words = dlsym(RTLD_DEFAULT, "_PyRuntime");
    /* The upper half: major and minor version. */
    if (words == NULL || memcmp(words, "xdebugpy", 8) != 0 ||
        words[WORD_VERSION] >> 16 != PY_VERSION_HEX >> 16 ||
        words[WORD_FREE_THREADED] != 0) {
        return NULL;
    }
    return words;
}

bool at_gil_is_known(void)
{
    return offsets() != NULL;
}

bool at_gil_is_held(const PyInterpreterState *interpreter)
{
    const uint64_t *words = offsets();
    const char *gil;
    memcpy(&gil, (const char *)interpreter + words[WORD_CEVAL_GIL], sizeof gil);
    if (gil == NULL) {
        return false; /* it is being made */
    }
    uint64_t locked = words[WORD_GIL_LOCKED] - words[WORD_GIL_STATE];
    return atomic_load_explicit((const atomic_int *)(const void *)(gil + locked),
                                memory_order_relaxed) == 1;
}
