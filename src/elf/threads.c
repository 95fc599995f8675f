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

/* ---- thread-local destructors ---------------------------------------------------- */

/* A thread-local object of C++ or Rust. The C library calls run_thread_exit at the end
 * of the thread; the record is in the list of its thread until it has run. */
typedef struct thread_exit {
    struct thread_exit *next;
    void (*destructor)(void *object); /* NULL once it ran */
    void *object;
    at_thread_count *threads;
} thread_exit;

static _Thread_local thread_exit *exits_here; /* the last first */

int __cxa_thread_atexit_impl(void (*function)(void *), void *argument, void *object);

static void run_now(thread_exit *exit)
{
    void (*destructor)(void *) = exit->destructor;
    exit->destructor = NULL;
    if (destructor != NULL) {
        destructor(exit->object);
        atomic_fetch_sub_explicit(&exit->threads->thread_exit_count, 1,
                                  memory_order_release);
    }
}

static void run_thread_exit(void *argument)
{
    thread_exit *exit = argument;
    thread_exit **link = &exits_here;
    while (*link != NULL && *link != exit) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        *link = exit->next;
    }
    run_now(exit);
    at_thread_count_unref(exit->threads);
    at_free(exit);
}

/* __cxa_thread_atexit_impl, and libstdc++'s __cxa_thread_atexit. `module` lies in the
 * image, which the C library would keep mapped until the thread ends: it gets ours. */
static int at_thread_exit(void (*destructor)(void *), void *object, void *module)
{
    static const char here;
    at_thread_count *threads = at_image_threads_at(module);
    if (threads == NULL) {
        return __cxa_thread_atexit_impl(destructor, object, module);
    }
    thread_exit *exit = at_calloc(1, sizeof *exit);
    atomic_fetch_add_explicit(&threads->thread_exit_count, 1, memory_order_relaxed);
    if (exit == NULL) {
        /* Not seen to run, it waits for ever. */
        at_thread_count_unref(threads);
        return __cxa_thread_atexit_impl(destructor, object, module);
    }
    *exit = (thread_exit){exits_here, destructor, object, threads};
    exits_here = exit;
    return __cxa_thread_atexit_impl(run_thread_exit, exit, (void *)&here);
}

bool at_thread_exits_run(at_thread_count *threads)
{
    for (thread_exit *exit = exits_here; exit != NULL;) {
        if (exit->threads == threads && exit->destructor != NULL) {
            run_now(exit);
            exit = exits_here; /* a destructor may have made another object */
        } else {
            exit = exit->next;
        }
    }
    return atomic_load_explicit(&threads->thread_exit_count, memory_order_acquire) == 0;
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
    {"__cxa_thread_atexit", (void *)at_thread_exit},
    {"__cxa_thread_atexit_impl", (void *)at_thread_exit},
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
