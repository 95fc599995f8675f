/* Notices threads and drops destructors; see threads.h.
 *
 * An image in whose code a thread stands must never be unmapped or used again. Whose
 * thread it is, the caller's address tells; a compiler may have made the call a jump,
 * and then the thread's function does. One that is in no image (a trampoline) goes
 * unnoticed: it is a thread of somebody else's code.
 */
#include "elf/threads.h"

#include <dlfcn.h>
#include <string.h>
#include <threads.h>

/* std::thread::_M_start_thread(std::unique_ptr<_State>, void (*)()): every std::thread
 * starts here, inside libstdc++, where pthread_create is not ours to see. */
#define START_THREAD                                                                   \
    "_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_"   \
    "EEPFvvE"

typedef void (*start_thread_function)(void *thread, void *state, void (*depend)(void));

/* Where libstdc++ has it. There is one libstdc++ in the process: every writer writes
 * the same value. */
static _Atomic(start_thread_function) start_thread;

static void note_thread(const void *caller, const void *function)
{
    if (!at_image_mark_thread(caller)) {
        (void)at_image_mark_thread(function);
    }
}

static int create_pthread(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument)
{
    note_thread(__builtin_return_address(0), (const void *)function);
    return pthread_create(thread, attributes, function, argument);
}

static int create_thrd(thrd_t *thread, thrd_start_t function, void *argument)
{
    note_thread(__builtin_return_address(0), (const void *)function);
    return thrd_create(thread, function, argument);
}

/* An exception of the real one passes through here: unwind tables are always there. */
static void start_std_thread(void *thread, void *state, void (*depend)(void))
{
    note_thread(__builtin_return_address(0), (const void *)depend);
    atomic_load_explicit(&start_thread, memory_order_acquire)(thread, state, depend);
}

/* __cxa_atexit: destructors of C++ statics, and what C libraries give to atexit(). They
 * would run when the interpreter that they belong to is gone, at the exit of the
 * process even while its threads still run; torch and onnxruntime crash there. */
static int drop_destructor(void (*function)(void *), void *argument, void *object)
{
    (void)function;
    (void)argument;
    (void)object;
    return 0;
}

void *at_thread_replacement(const at_image *image, const char *symbol)
{
    if (strcmp(symbol, "pthread_create") == 0) {
        return (void *)create_pthread;
    }
    if (strcmp(symbol, "thrd_create") == 0) {
        return (void *)create_thrd;
    }
    if (strcmp(symbol, "__cxa_atexit") == 0) {
        return (void *)drop_destructor;
    }
    if (strcmp(symbol, START_THREAD) == 0) {
        start_thread_function real =
            (start_thread_function)dlsym(image->handle, START_THREAD);
        if (real != NULL) {
            /* Pairs with the acquire in start_std_thread. */
            atomic_store_explicit(&start_thread, real, memory_order_release);
            return (void *)start_std_thread;
        }
    }
    return NULL;
}
