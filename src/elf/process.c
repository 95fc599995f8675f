/* Exit functions, environment and signals; see process.h. */
#include "elf/process.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* ---- exit ----------------------------------------------------------------------- */

/* __cxa_atexit. Destructors of C++ statics, which come with their object, are dropped:
 * they would run when the interpreter that they belong to is gone; torch and
 * onnxruntime crash there. Functions that C code gave to atexit() come without. They
 * need no Python, since the process would run them after Python's end, and what they
 * put away is worth it: HDF5 flushes its files, OpenSSL frees its tables. */
static int exit_with_image(void (*function)(void *), void *argument, void *object)
{
    at_image *image = argument == NULL ? at_image_at(object) : NULL;
    if (image == NULL) {
        return 0;
    }
    at_exit_function *added = at_alloc(sizeof *added);
    if (added == NULL) {
        return -1;
    }
    added->function = function;
    added->next = atomic_load_explicit(&image->exit_functions, memory_order_relaxed);
    /* Pairs with the acquire in at_image_run_exit_functions. */
    while (!atomic_compare_exchange_weak_explicit(&image->exit_functions, &added->next,
                                                  added, memory_order_release,
                                                  memory_order_relaxed)) {
    }
    return 0;
}

void at_image_run_exit_functions(at_image *image)
{
    at_exit_function *each;
    while ((each = atomic_exchange_explicit(&image->exit_functions, NULL,
                                            memory_order_acquire)) != NULL) {
        while (each != NULL) {
            at_exit_function *next = each->next;
            each->function(NULL);
            at_free(each);
            each = next;
        }
    }
}

/* ---- environment ---------------------------------------------------------------- */

/* jemalloc, of which libraries have their own (pyarrow), starts a thread that nothing
 * ends, and the image would have to be kept for it. It does the same work without, if
 * asked: in <PREFIX>MALLOC_CONF, where whoever set it has the last word. */
static const char *without_background_thread(const char *name, const char *value)
{
    static const char suffix[] = "MALLOC_CONF";
    const size_t length = strlen(name);
    const bool is_asked = value == NULL && length >= sizeof suffix - 1 &&
                          strcmp(name + length - (sizeof suffix - 1), suffix) == 0;
    return is_asked ? "background_thread:false" : value;
}

static const char *get_environment(const char *name)
{
    return without_background_thread(name, getenv(name));
}

static const char *get_environment_securely(const char *name)
{
    return without_background_thread(name, secure_getenv(name));
}

/* putenv() makes its argument a part of the environment, which every getenv() of the
 * process reads long after the image is gone. The environment gets a copy. */
static int put_environment(char *definition)
{
    char *copy = strdup(definition); /* the environment's from then on, never freed */
    if (copy == NULL) {
        return -1;
    }
    if (putenv(copy) != 0) {
        free(copy);
        return -1;
    }
    return 0; /* NOLINT(clang-analyzer-unix.Malloc): the environment has the copy */
}

static const struct {
    const char *symbol;
    void *function;
} replacements[] = {
    {"__cxa_atexit", (void *)exit_with_image},
    {"getenv", (void *)get_environment},
    {"secure_getenv", (void *)get_environment_securely},
    {"putenv", (void *)put_environment},
};

void *at_process_replacement(const char *symbol)
{
    for (size_t i = 0; i < sizeof replacements / sizeof replacements[0]; i++) {
        if (strcmp(symbol, replacements[i].symbol) == 0) {
            return replacements[i].function;
        }
    }
    return NULL;
}

/* ---- signals -------------------------------------------------------------------- */

/* Asked at the end instead of seen at the call: most handlers are set for a while and
 * taken away again, and the ways to set one are many. */
bool at_process_has_handler_in(const at_image *images)
{
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) != 0 || action.sa_handler == SIG_DFL ||
            action.sa_handler == SIG_IGN) {
            continue;
        }
        /* sa_handler and sa_sigaction are one address. */
        const void *handler = (const void *)action.sa_sigaction;
        for (const at_image *image = images; image != NULL; image = image->next) {
            if (at_image_holds(image, handler)) {
                return true;
            }
        }
    }
    return false;
}
