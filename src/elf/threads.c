/* Counts threads; see threads.h.
 *
 * An image in whose code a thread stands must never be unmapped. Whose
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
#include <stdlib.h>
#include <string.h>
#include <threads.h>

#include "base/memory.h"

/* std::thread::_M_start_thread(std::unique_ptr<_State>, void (*)()): every std::thread
 * starts here, inside libstdc++, where pthread_create is not ours to see. */
#define START_THREAD                                                                   \
    "_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_"   \
    "EEPFvvE"

typedef struct cxx_state cxx_state;
typedef void (*start_thread_function)(void *thread, cxx_state **state,
                                      void (*depend)(void));

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

static void begin_counting(at_thread_count *threads)
{
    /* Where there is no room for the key, the thread counts as alive for ever. */
    if (has_ended_key) {
        (void)pthread_setspecific(ended_key, threads);
    }
}

static started_thread begin_thread(started_thread *started)
{
    const started_thread copy = *started;
    at_free(started);
    begin_counting(copy.threads);
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

/* What is known of a thread until it runs, zeroed; the thread counts as alive from now
 * on. NULL if memory is short; takes the reference to `threads` otherwise. */
static void *new_record(at_thread_count *threads, size_t size_bytes)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, make_key);
    void *record = at_calloc(1, size_bytes);
    if (record != NULL) {
        atomic_fetch_add_explicit(&threads->alive, 1, memory_order_relaxed);
    }
    return record;
}

static started_thread *new_thread(at_thread_count *threads, void *argument)
{
    started_thread *started = new_record(threads, sizeof *started);
    if (started != NULL) {
        started->threads = threads;
        started->argument = argument;
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

/* ---- std::thread --------------------------------------------------------------- */

/* A std::thread::_State as the C++ ABI lays it out (libstdc++ since GCC 6): a table
 * with its two destructors and _M_run(). Ours stands in for the image's. */
typedef struct cxx_table {
    void (*destruct)(cxx_state *state);
    void (*free)(cxx_state *state);
    void (*run)(cxx_state *state);
} cxx_table;

struct cxx_state {
    const cxx_table *table;
};

typedef struct counted_state {
    cxx_state head;
    cxx_state *inner; /* the image's, owned */
    at_thread_count *threads;
    bool has_begun; /* writer: the new thread */
} counted_state;

static void counted_destruct(cxx_state *state)
{
    counted_state *counted = (counted_state *)state;
    counted->inner->table->free(counted->inner);
    if (!counted->has_begun) {
        one_thread_less(counted->threads); /* the thread could not be started */
    }
}

static void counted_free(cxx_state *state)
{
    counted_destruct(state);
    at_free(state);
}

static void counted_run(cxx_state *state)
{
    counted_state *counted = (counted_state *)state;
    counted->has_begun = true;
    begin_counting(counted->threads);
    counted->inner->table->run(counted->inner);
}

/* What libstdc++ expects before the functions of a table: offset to top, type. */
static const struct {
    const void *before[2];
    cxx_table table;
} counted_class = {{NULL, NULL}, {counted_destruct, counted_free, counted_run}};

/* `state` is the unique_ptr, which the callee empties when the thread has started. An
 * exception of it passes through here: unwind tables are always there. */
static void start_std_thread(void *thread, cxx_state **state, void (*depend)(void))
{
    start_thread_function start =
        atomic_load_explicit(&start_thread, memory_order_acquire);
    at_thread_count *threads =
        threads_of(__builtin_return_address(0), (const void *)(*state)->table->run);
    if (threads != NULL) {
        counted_state *counted = new_record(threads, sizeof *counted);
        if (counted != NULL) {
            counted->head.table = &counted_class.table;
            counted->inner = *state;
            counted->threads = threads;
            *state = &counted->head;
        } else {
            /* Not seen to end, it counts as alive for ever. */
            atomic_fetch_add_explicit(&threads->alive, 1, memory_order_relaxed);
            at_thread_count_unref(threads);
        }
    }
    start(thread, state, depend);
}

static const struct {
    const char *symbol;
    void *function;
} replacements[] = {
    {"pthread_create", (void *)create_pthread},
    {"thrd_create", (void *)create_thrd},
};

void *at_thread_replacement(const at_image *image, const char *symbol)
{
    for (size_t i = 0; i < sizeof replacements / sizeof replacements[0]; i++) {
        if (strcmp(symbol, replacements[i].symbol) == 0) {
            return replacements[i].function;
        }
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
