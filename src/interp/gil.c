/* Who has the GIL; see gil.h. */
#include "interp/gil.h"

#include <dlfcn.h>
#include <pthread.h>
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

/* The end of a GIL (_gil_runtime_state of pycore_gil.h), from `locked` on: the same in
 * 3.13, 3.14 and 3.15. */
typedef struct gil_end {
    atomic_int locked;
    unsigned long switch_number;
    pthread_cond_t given_up;
    pthread_mutex_t mutex;
    pthread_cond_t switched;
    pthread_mutex_t switch_mutex;
} gil_end;

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

/* NULL while the interpreter is being made. */
static gil_end *end_of_gil(const PyInterpreterState *interpreter)
{
    const uint64_t *words = offsets();
    char *gil;
    memcpy(&gil, (const char *)interpreter + words[WORD_CEVAL_GIL], sizeof gil);
    uint64_t locked = words[WORD_GIL_LOCKED] - words[WORD_GIL_STATE];
    return gil != NULL ? (gil_end *)(void *)(gil + locked) : NULL;
}

bool at_gil_is_held(const PyInterpreterState *interpreter)
{
    const gil_end *gil = end_of_gil(interpreter);
    return gil != NULL && atomic_load_explicit(&gil->locked, memory_order_relaxed) == 1;
}

/* As CPython makes them, whose waits end by the monotonic clock. */
static void renew(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    pthread_condattr_t monotonic;
    if (pthread_condattr_init(&monotonic) == 0) {
        (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        (void)pthread_cond_init(condition, &monotonic);
        (void)pthread_condattr_destroy(&monotonic);
    }
    (void)pthread_mutex_init(mutex, NULL);
}

void at_gil_forget_waiters(void)
{
    PyThreadState *state = PyThreadState_Get();
    gil_end *gil = at_gil_is_known() ? end_of_gil(state->interp) : NULL;
    if (gil == NULL) {
        return;
    }
    /* Their marks in the condition variables: glibc waits in pthread_cond_signal()
     * until those that it has woken are gone. */
    renew(&gil->given_up, &gil->mutex);
    renew(&gil->switched, &gil->switch_mutex);
    /* And the wish of one of them, whose turn would be waited for. */
    const atomic_uint *bits = at_compat_eval_breaker(state);
    (void)atomic_fetch_and((atomic_uint *)(uintptr_t)bits, ~AT_GIL_WANTED_BIT);
}
