/* The guardian; see guardian.h.
 *
 * Locks: the guardian's mutex, for the list and for starting the thread. The list is
 * read by the kernel alone, when this process has no instruction left to run: so it
 * must be whole after each single store, and needs nothing else.
 */
#include "sys/guardian.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/clock.h"
#include "sys/park.h"
#include "sys/thread.h"

enum { NS_PER_MS = 1000000 };

/* What the thread says while it begins, and when it cannot. */
enum { NOT_STARTED = 0, REFUSED = -1 };

typedef struct entry {
    struct entry *_Atomic next;
} entry;

/* The kernel's struct robust_list_head, with the type of its links. */
typedef struct entry_list {
    entry first;
    long offset_bytes; /* from an entry to its word */
    entry *pending;
} entry_list;

_Static_assert(sizeof(entry_list) == sizeof(struct robust_list_head), "the kernel's");

static struct {
    pthread_mutex_t mutex;
    bool watches_fork; /* guarded: mutex, as the next */
    size_t count;
    entry_list list;     /* writer: under mutex */
    atomic_uint process; /* written before number */
    atomic_uint number;  /* of the thread; the store in body pairs with the loads */
} guardian = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* ---- the thread ------------------------------------------------------------------ */

static void body(void *unused)
{
    (void)unused;
    long failed = syscall(SYS_set_robust_list, &guardian.list, sizeof guardian.list);
    unsigned number = failed == 0 ? (unsigned)at_thread_number() : (unsigned)REFUSED;
    atomic_store(&guardian.process, (unsigned)getpid());
    atomic_store(&guardian.number, number);
    at_park_wake(&guardian.number, AT_PARK_ALL, AT_PARK_PRIVATE);
    if (failed != 0) {
        return;
    }
    for (;;) {
        (void)at_park_wait(&guardian.number, number, AT_NEVER, AT_PARK_PRIVATE);
    }
}

static void before_fork(void)
{
    (void)pthread_mutex_lock(&guardian.mutex);
}

static void after_fork_parent(void)
{
    (void)pthread_mutex_unlock(&guardian.mutex);
}

/* The child has the list, and no thread. */
static void after_fork_child(void)
{
    atomic_store(&guardian.number, NOT_STARTED);
    (void)pthread_mutex_unlock(&guardian.mutex);
}

/* Caller holds the mutex. */
static void begin_locked(void)
{
    if (!guardian.watches_fork) {
        guardian.watches_fork =
            pthread_atfork(before_fork, after_fork_parent, after_fork_child) == 0;
        atomic_store(&guardian.list.first.next, &guardian.list.first);
        guardian.list.offset_bytes = (long)at_page_bytes();
    }
}

uint32_t at_guardian_current(void)
{
    unsigned number = atomic_load_explicit(&guardian.number, memory_order_acquire);
    return number == (unsigned)REFUSED ? 0 : number;
}

uint32_t at_guardian_process(void)
{
    return atomic_load_explicit(&guardian.process, memory_order_relaxed);
}

uint32_t at_guardian_number(void)
{
    unsigned number = atomic_load_explicit(&guardian.number, memory_order_acquire);
    if (number != NOT_STARTED) {
        return number == (unsigned)REFUSED ? 0 : number;
    }
    (void)pthread_mutex_lock(&guardian.mutex);
    begin_locked();
    at_thread thread;
    if (atomic_load(&guardian.number) == NOT_STARTED &&
        at_thread_start(&thread, "atoll-guardian", body, NULL, NULL) == 0) {
        at_thread_detach(&thread);
        /* Under the mutex: nobody can do without the number, and the thread needs no
         * mutex to say it. */
        while (atomic_load(&guardian.number) == NOT_STARTED) {
            (void)at_park_wait(&guardian.number, NOT_STARTED, AT_NEVER,
                               AT_PARK_PRIVATE);
        }
    }
    number = atomic_load(&guardian.number);
    (void)pthread_mutex_unlock(&guardian.mutex);
    return number == (unsigned)REFUSED ? 0 : number;
}

/* ---- the list -------------------------------------------------------------------- */

static entry *entry_of(at_page *page, size_t offset_bytes)
{
    return (entry *)((char *)page->mirror + offset_bytes);
}

int at_guardian_enter(at_page *page, size_t offset_bytes, at_fault *fault)
{
    entry *fresh = entry_of(page, offset_bytes);
    (void)pthread_mutex_lock(&guardian.mutex);
    begin_locked();
    bool full = guardian.count == AT_GUARDIAN_WORDS;
    if (!full) {
        guardian.count++;
        atomic_store(&fresh->next, atomic_load(&guardian.list.first.next));
        atomic_store(&guardian.list.first.next, fresh);
    }
    (void)pthread_mutex_unlock(&guardian.mutex);
    return full ? at_fault_set(fault, AT_ELIMIT,
                               "more than %d locks shared with processes are open",
                               AT_GUARDIAN_WORDS)
                : 0;
}

void at_guardian_leave(at_page *page, size_t offset_bytes)
{
    entry *leaving = entry_of(page, offset_bytes);
    (void)pthread_mutex_lock(&guardian.mutex);
    entry *one = &guardian.list.first;
    while (atomic_load(&one->next) != leaving) {
        one = atomic_load(&one->next);
    }
    atomic_store(&one->next, atomic_load(&leaving->next));
    guardian.count--;
    (void)pthread_mutex_unlock(&guardian.mutex);
}

/* ---- others ---------------------------------------------------------------------- */

bool at_guardian_lives(uint32_t number)
{
    return syscall(SYS_tkill, (pid_t)number, 0) == 0 || errno != ESRCH;
}

void at_guardian_wait_end(uint32_t process_id, int64_t limit_ns)
{
    int descriptor = (int)syscall(SYS_pidfd_open, (pid_t)process_id, 0U);
    if (descriptor < 0) {
        return; /* gone, or a kernel before 5.3 */
    }
    /* Readable when all of its threads have ended. */
    struct pollfd ended = {.fd = descriptor, .events = POLLIN};
    (void)poll(&ended, 1, (int)(limit_ns / NS_PER_MS));
    (void)close(descriptor);
}

/* ---- pending operations ------------------------------------------------------------
 *
 * These use the list of the calling thread itself, the C library's: its field for the
 * operation under way, which the library sets for the time of an operation on one of
 * its robust mutexes and never looks at. No such operation is under way here. */

static struct robust_list_head *list_of_thread(void)
{
    static _Thread_local struct robust_list_head *list;
    size_t size_bytes;
    if (list == NULL) {
        (void)syscall(SYS_get_robust_list, 0, &list, &size_bytes);
    }
    return list;
}

void at_guardian_unsettle(atomic_uint *word)
{
    struct robust_list_head *list = list_of_thread();
    if (list != NULL) {
        list->list_op_pending =
            (struct robust_list *)((char *)word - list->futex_offset);
        atomic_signal_fence(memory_order_seq_cst);
    }
}

void at_guardian_settle(void)
{
    struct robust_list_head *list = list_of_thread();
    if (list != NULL) {
        atomic_signal_fence(memory_order_seq_cst);
        list->list_op_pending = NULL;
    }
}
