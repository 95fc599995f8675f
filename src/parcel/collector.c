/* Taking back what main lent; see collector.h. */
#define PY_SSIZE_T_CLEAN
#include "parcel/collector.h"

#include "interp/attach.h"
#include "parcel/buffer.h"
#include "sys/clock.h"
#include "sys/park.h"
#include "sys/process.h"
#include "sys/thread.h"

enum { MOMENT_NS = 100 * 1000 * 1000 };

/* at_parcel_home.collector */
enum {
    NOBODY,
    WAITS,  /* for the moment to be over */
    INSIDE, /* has, or is about to get, a thread state of main's */
    NO_MORE,
};

/* Let main have the moment. */
static void wait_a_moment(at_parcel_home *home) AT_DETACHED
{
    int64_t deadline_ns = at_clock_deadline(MOMENT_NS);
    while (atomic_load(&home->collector) == WAITS && at_clock_ns() < deadline_ns) {
        (void)at_park_wait(&home->collector, WAITS, deadline_ns, AT_PARK_PRIVATE);
    }
}

static void take_inside(at_parcel_home *home) AT_UNCHECKED
{
    PyThreadState *thread_state = at_attach_new(PyInterpreterState_Main());
    if (thread_state != NULL) {
        at_parcel_take_returned(home);
        at_detach_delete(thread_state);
    }
}

static bool move(at_parcel_home *home, unsigned from, unsigned to)
{
    return atomic_compare_exchange_strong(&home->collector, &from, to);
}

static bool has_much(at_parcel_home *home)
{
    return atomic_load(&home->returned) != NULL &&
           atomic_load(&home->returned_bytes) >= AT_PARCEL_RETURNED_BYTES;
}

static void collector_main(void *data) AT_UNCHECKED
{
    at_parcel_home *home = data;
    bool more = true;
    while (more) {
        wait_a_moment(home);
        if (atomic_load(&home->returned) != NULL && move(home, WAITS, INSIDE)) {
            take_inside(home);
            atomic_store(&home->collector, NOBODY);
            (void)at_park_wake(&home->collector, AT_PARK_ALL, AT_PARK_PRIVATE);
        } else {
            (void)move(home, WAITS, NOBODY);
        }
        /* Who pushed while this one was here has started no other. It pushed before it
         * looked at the collector, which was left before this looks at the stack. */
        more = has_much(home) && move(home, NOBODY, WAITS);
    }
    at_shared_unref(&home->shared);
}

void at_parcel_collect_later(at_parcel_home *home)
{
    unsigned now = atomic_load(&home->collector);
    int process = at_process_number();
    /* In a forked child it may be said of a thread that is not there. */
    bool is_here = atomic_load(&home->collector_process) == process;
    if (now == NO_MORE || (now != NOBODY && is_here)) {
        return;
    }
    atomic_store(&home->collector_process, process);
    if (!move(home, now, WAITS)) {
        return;
    }
    at_thread thread;
    at_shared_ref(&home->shared);
    if (at_thread_start(&thread, "atoll-lent", collector_main, home, NULL) < 0) {
        (void)move(home, WAITS, NOBODY);
        at_shared_unref(&home->shared);
        return;
    }
    at_thread_detach(&thread);
}

static void end(at_parcel_home *home) AT_DETACHED
{
    for (;;) {
        unsigned now = atomic_load(&home->collector);
        if (now != INSIDE ||
            atomic_load(&home->collector_process) != at_process_number()) {
            if (move(home, now, NO_MORE)) {
                break;
            }
        } else {
            (void)at_park_wait(&home->collector, INSIDE, AT_NEVER, AT_PARK_PRIVATE);
        }
    }
    (void)at_park_wake(&home->collector, AT_PARK_ALL, AT_PARK_PRIVATE);
}

int at_parcel_collect_no_more(void)
{
    at_parcel_state *own = at_parcel_state_get();
    if (own == NULL) {
        return -1;
    }
    PyThreadState *state = at_detach();
    end(own->home);
    at_attach(state);
    return 0;
}
