/* Counts threads and drops destructors; see threads.h.
 *
 * An image in whose code a thread stands must never be unmapped or used again. Whose
 * thread it is, the caller's address tells; a compiler may have made the call a jump,
 * and then the thread's function does. One that is in no image (a trampoline) goes
 * unnoticed: it is a thread of somebody else's code.
 *
 * A thread is alive until the destructors of its thread-local data have run, which are
 * code of the image, too: those of C++ run first, those of pthread keys after them in
 * rounds. So the end is noticed by the destructor of a key, in the last round but one:
 * in the last, a thread sanitizer has taken its own state of the thread away.
 */
#include "elf/threads.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <threads.h>

#include "base/memory.h"

/* std::thread::_M_start_thread(std::unique_ptr<_State>, void (*)()): every std::thread
 * starts here, inside libstdc++, where pthread_create is not ours to see. */
#define START_THREAD                                                                   \
    "_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_"   \
    "EEPFvvE"

typedef void (*start_thread_function)(void *thread, void *state, void (*depend)(void));

/* Where libstdc++ has it. There is one libstdc++ in the process: every writer writes
 * the same value. */
static _Atomic(start_thread_function) start_thread;

static at_thread_count *threads_of(const void *caller, const void *function)
{
    at_thread_count *threads = at_image_threads_at(caller);
    return threads != NULL ? threads : at_image_threads_at(function);
}

/* ---- threads with an end ------------------------------------------------------- */

typedef struct started_thread {
    void *(*run)(void *);
    thrd_start_t run_thrd;
    void *argument;
    at_thread_count *threads;
} started_thread;

static pthread_key_t ended_key;
static bool has_ended_key;

static void one_thread_less(at_thread_count *threads)
{
    atomic_fetch_sub_explicit(&threads->alive, 1, memory_order_release);
    at_thread_count_unref(threads);
}

static void thread_ended(void *threads)
{
    static _Thread_local int rounds;
    if (++rounds >= PTHREAD_DESTRUCTOR_ITERATIONS - 1 ||
        pthread_setspecific(ended_key, threads) != 0) {
        one_thread_less(threads);
    }
}

static void make_key(void)
{
    has_ended_key = pthread_key_create(&ended_key, thread_ended) == 0;
}

static started_thread begin_thread(started_thread *started)
{
    const started_thread copy = *started;
    at_free(started);
    /* Where there is no room for the key, the thread counts as alive for ever. */
    if (has_ended_key) {
        (void)pthread_setspecific(ended_key, copy.threads);
    }
    return copy;
}

static void *run_pthread(void *started)
{
    const started_thread thread = begin_thread(started);
    return thread.run(thread.argument);
}

static int run_thrd(void *started)
{
    const started_thread thread = begin_thread(started);
    return thread.run_thrd(thread.argument);
}

/* NULL if memory is short; takes the reference to `threads` otherwise. */
static started_thread *new_thread(at_thread_count *threads, void *argument)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, make_key);
    started_thread *started = at_calloc(1, sizeof *started);
    if (started != NULL) {
        started->threads = threads;
        started->argument = argument;
        atomic_fetch_add_explicit(&threads->alive, 1, memory_order_relaxed);
    }
    return started;
}

static int create_pthread(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument)
{
    at_thread_count *threads =
        threads_of(__builtin_return_address(0), (const void *)function);
    if (threads == NULL) {
        return pthread_create(thread, attributes, function, argument);
    }
    started_thread *started = new_thread(threads, argument);
    if (started == NULL) {
        at_thread_count_unref(threads);
        return EAGAIN;
    }
    started->run = function;
    int result = pthread_create(thread, attributes, run_pthread, started);
    if (result != 0) {
        at_free(started);
        one_thread_less(threads);
    }
    return result;
}

static int create_thrd(thrd_t *thread, thrd_start_t function, void *argument)
{
    at_thread_count *threads =
        threads_of(__builtin_return_address(0), (const void *)function);
    if (threads == NULL) {
        return thrd_create(thread, function, argument);
    }
    started_thread *started = new_thread(threads, argument);
    if (started == NULL) {
        at_thread_count_unref(threads);
        return thrd_nomem;
    }
    started->run_thrd = function;
    int result = thrd_create(thread, run_thrd, started);
    if (result != thrd_success) {
        at_free(started);
        one_thread_less(threads);
    }
    return result;
}

/* ---- others -------------------------------------------------------------------- */

/* An exception of the real one passes through here: unwind tables are always there. */
static void start_std_thread(void *thread, void *state, void (*depend)(void))
{
    at_thread_count *threads =
        threads_of(__builtin_return_address(0), (const void *)depend);
    if (threads != NULL) {
        atomic_store_explicit(&threads->is_endless, true, memory_order_relaxed);
        at_thread_count_unref(threads);
    }
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
