/* Readiness of many descriptors: epoll, and the timer that ends a wait. *
 * Not poll.h: the system's own sys/poll.h would be hidden by it.
 */
#ifndef AT_SYS_POLLSET_H
#define AT_SYS_POLLSET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/contexts.h"
#include "base/error.h"

/* What may be asked for, and what may be told. */
enum {
    AT_POLL_READABLE = 1 << 0,
    AT_POLL_WRITABLE = 1 << 1,
    AT_POLL_PEER_SHUT = 1 << 2, /* the peer will send no more */
    AT_POLL_HANGUP = 1 << 3,    /* both ways are over, or an error; always told */
    AT_POLL_EDGE = 1 << 4,      /* ask: tell changes, not states */
    AT_POLL_EXCLUSIVE = 1 << 5, /* ask: of several sets that wait, wake one */
};

typedef struct at_poll_event {
    unsigned ready; /* AT_POLL_* */
    void *user;     /* what was given to at_poll_add */
} at_poll_event;

enum { AT_POLL_BATCH = 128, AT_POLL_ANY_MAX = 258 };

/* Open a set; it is itself a descriptor that another set can watch.
 * ctx:  any
 * owns: the caller closes it with at_poll_close
 * errs: as at_error_from_errno() */
int at_poll_open(at_fault *fault);

/* ctx:  any
 * errs: as at_error_from_errno() */
int at_poll_add(int set, int descriptor, unsigned interest, void *user);

/* Never fails for a descriptor that is in the set.
 * ctx: any */
void at_poll_remove(int set, int descriptor);

/* What is ready now, or within `timeout_ms` (0: now; negative: whenever). At most
 * AT_POLL_BATCH events.
 * ctx:   any with timeout 0; otherwise detached
 * gives: how many events were written
 * errs:  AT_EINTERRUPTED */
int at_poll_wait(int set, at_poll_event *events, int timeout_ms);

/* Wait until at_poll_wait would give something; may return early.
 * ctx: detached */
void at_poll_await(int set) AT_DETACHED;

/* Is one of `descriptors` readable, now or within `timeout_ms` (0: now; negative:
 * whenever)? Nothing is taken out of a set among them.
 * ctx: any with timeout 0; otherwise detached */
bool at_poll_any(const int *descriptors, int count, int timeout_ms);

/* ctx: any */
void at_poll_close(int set);

/* A descriptor that becomes readable at a moment of at_clock_ns().
 * ctx:  any
 * owns: the caller closes it with at_poll_close
 * errs: as at_error_from_errno() */
int at_timerfd_open(at_fault *fault);

/* Set the moment, AT_NEVER for none; what was set before is forgotten, and the
 * descriptor is not readable until the new moment.
 * ctx: any */
void at_timerfd_set(int descriptor, int64_t deadline_ns);

#endif
