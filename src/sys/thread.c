/* Threads; see thread.h.
 *
 * A join with a deadline waits for the word in at_thread_life that the thread sets as
 * its last act, and then joins: the C library's own timed joins are not seen by thread
 * sanitizers.
 */
#include "sys/thread.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/shared.h"
#include "sys/clock.h"
#include "sys/park.h"

enum { NAME_BYTES = 16 };

/* Two references: the thread's, and that of whoever joins or detaches it. */
struct at_thread_life {
    at_shared shared;
    void (*body)(void *);
    void *argument;
    char name[NAME_BYTES];
    atomic_uint ended; /* the release in thread_main pairs with at_thread_join_until */
};

static void life_free(at_shared *thing)
{
    at_free(thing);
}

static const at_shared_kind life_kind = {"thread", life_free};

static void *thread_main(void *data)
{
    struct at_thread_life *life = data;
    (void)pthread_setname_np(pthread_self(), life->name);
    life->body(life->argument);
    atomic_store_explicit(&life->ended, 1, memory_order_release);
    at_park_wake(&life->ended, AT_PARK_ALL, AT_PARK_PRIVATE);
    at_shared_unref(&life->shared);
    return NULL;
}

static int thread_create(pthread_t *handle, struct at_thread_life *life)
{
    pthread_attr_t attributes;
    int failed = pthread_attr_init(&attributes);
    if (failed != 0) {
        return failed;
    }
    (void)pthread_attr_setstacksize(&attributes, AT_THREAD_STACK_BYTES);
    /* A new thread inherits the mask of its maker: block here, so that it never runs an
     * instruction with signals open. */
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(handle, &attributes, thread_main, life);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return failed;
}

int at_thread_start(at_thread *thread, const char *name, void (*body)(void *),
                    void *argument, at_fault *fault)
{
    struct at_thread_life *life = at_calloc(1, sizeof *life);
    if (life == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "starting thread %s: out of memory",
                            name);
    }
    at_shared_init(&life->shared, &life_kind);
    life->body = body;
    life->argument = argument;
    memcpy(life->name, name, strnlen(name, NAME_BYTES - 1));
    thread->life = life;
    at_shared_ref(&life->shared);
    int failed = thread_create(&thread->handle, life);
    if (failed != 0) {
        thread->life = NULL;
        at_free(life);
        return at_fault_set_system(fault, failed, "starting thread %s", name);
    }
    return 0;
}

static void let_go(at_thread *thread)
{
    at_shared_unref(&thread->life->shared);
    thread->life = NULL;
}

void at_thread_join(at_thread *thread)
{
    (void)pthread_join(thread->handle, NULL);
    let_go(thread);
}

int at_thread_join_until(at_thread *thread, int64_t deadline_ns)
{
    atomic_uint *ended = &thread->life->ended;
    while (atomic_load_explicit(ended, memory_order_acquire) == 0) {
        int result = at_park_wait(ended, 0, deadline_ns, AT_PARK_PRIVATE);
        if (result == AT_ETIMEOUT) {
            return result;
        }
    }
    at_thread_join(thread);
    return 0;
}

void at_thread_detach(at_thread *thread)
{
    (void)pthread_detach(thread->handle);
    let_go(thread);
}

void at_thread_unblock_signals(void)
{
    sigset_t none;
    (void)sigemptyset(&none);
    (void)pthread_sigmask(SIG_SETMASK, &none, NULL);
}

void at_thread_rename(const char *name)
{
    char cut[NAME_BYTES] = {0};
    memcpy(cut, name, strnlen(name, NAME_BYTES - 1));
    (void)pthread_setname_np(pthread_self(), cut);
}

void at_thread_hurry(void)
{
    /* struct sched_attr as of its first version; glibc has none before 2.41. */
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime_ns, deadline_ns, period_ns;
    } attributes = {.size = 48};
    const uint32_t normal = 0; /* SCHED_OTHER */
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) == 0 &&
        attributes.policy == normal) {
        attributes.size = 48;
        attributes.runtime_ns = 100000;
        (void)syscall(SYS_sched_setattr, 0, &attributes, 0);
    }
}

bool at_thread_signal(int thread, int number)
{
    return tgkill(getpid(), thread, number) == 0;
}

int at_thread_number(void)
{
    return (int)gettid();
}
