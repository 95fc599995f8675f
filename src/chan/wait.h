/* Waiting: queues of sleepers, and the one loop in which everything here waits.
 *
 * A thing that can be waited for has an at_wait_queue and an attempt, a function that
 * tries without blocking. at_wait() attempts, spins for a moment, links a waiter into
 * the queue (or into several: select), attempts again, and sleeps. Whoever changes the
 * thing calls at_wait_notify(), which costs one load while nobody waits.
 *
 * Nothing is missed: the waiter counts itself in and then attempts, the notifier
 * changes the thing and then reads the count, all sequentially consistent. Nothing is
 * lost: a waiter that leaves with a notification it did not use gives it to the next
 * one.
 *
 * A waiter sleeps on a word of its own, so that closing its interpreter, a notification
 * and a deadline can each end the sleep. It lies on the stack of its thread: a notifier
 * touches it under the queue's mutex alone, the waiter takes that mutex before it
 * leaves, and waking a word that is gone does no harm (sys/park.h).
 *
 * Locks: a queue's mutex or a peer's, never both; nothing is woken or called under one.
 */
#ifndef AT_CHAN_WAIT_H
#define AT_CHAN_WAIT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/contexts.h"
#include "base/shared.h"
#include "chan/spin.h"

struct at_peer;
typedef struct at_waiter at_waiter;
typedef struct at_wait_link at_wait_link;

typedef struct at_wait_queue {
    atomic_uint count; /* of links; pairs with the attempt that follows linking */
    pthread_mutex_t mutex;
    at_wait_link *first; /* guarded: mutex */
    at_wait_link *last;  /* guarded: mutex */
} at_wait_queue;

/* The place of one waiter in one queue. */
struct at_wait_link {
    at_wait_queue *queue; /* set by the user of at_wait() */
    at_waiter *waiter;    /* guarded: the queue's mutex, as the rest */
    at_wait_link *next;
    at_wait_link *previous;
    bool linked;
};

/* Waiting is left once: AT_WAITER_NOTIFIED + i says by the queue of link i. */
enum {
    AT_WAITER_WAITING,
    AT_WAITER_ENDING,
    AT_WAITER_INTERRUPTED,
    AT_WAITER_NOTIFIED,
};

struct at_waiter {
    atomic_uint state;       /* the word to sleep on */
    at_wait_link *links;     /* fixed while linked, as the next */
    struct at_peer *peer;    /* or NULL */
    pthread_t thread;        /* that sleeps; fixed, unless there is a `call` */
    at_waiter *next_sleeper; /* guarded: the peer's mutex, as the next two */
    at_waiter *previous_sleeper;
    bool sleeping;
    at_wake_note note;
    /* Instead of waking a thread: called by the notifier under no lock, with a
     * reference on `owner`. ctx: any; must not block */
    void (*call)(at_waiter *waiter);
    at_shared *owner; /* what keeps a waiter with `call` alive, else NULL */
};

/* How long, and on whose behalf, a wait may last. */
typedef struct at_patience {
    int64_t deadline_ns;  /* at_clock_ns() time, or AT_NEVER */
    struct at_peer *peer; /* the caller's interpreter, or NULL */
} at_patience;

void at_wait_queue_init(at_wait_queue *queue);

/* Nobody waits any more. */
void at_wait_queue_fini(at_wait_queue *queue);

/* Attempt until it is no longer AT_EAGAIN, and return what it was. `links` name the
 * `count` queues whose notifications make a new attempt worth it; only their `queue`
 * need be filled in. `spin` may be NULL: then there is no spinning.
 * ctx:  detached
 * errs: AT_ETIMEOUT; AT_EINTERRUPTED after a signal or an interrupt of the thread, and
 *       the caller may call again; AT_EENDING when the peer closes; and the attempt's
 * own */
int at_wait(at_wait_link *links, size_t count, at_attempt *attempt, void *context,
            at_spin *spin, const at_patience *patience) AT_DETACHED;

/* The thing behind `queue` has changed: let up to `count` waiters attempt again.
 * ctx: any */
void at_wait_notify(at_wait_queue *queue, unsigned count);

/* Let all of them.
 * ctx: any */
void at_wait_notify_all(at_wait_queue *queue);

/* For waiters that call instead of sleeping: link `waiter`, of which `call` and `owner`
 * are filled in, with the `count` links; then attempt, because a change before this is
 * not told.
 * ctx: any */
void at_wait_arm(at_waiter *waiter, at_wait_link *links, size_t count);

/* Unlink. Unless `used`, a notification that came is given to the next one. The caller
 * holds a reference on the waiter's owner.
 * ctx: any */
void at_wait_disarm(at_waiter *waiter, at_wait_link *links, size_t count, bool used);

/* Wake every sleeper of `peer` for good. For peer.c.
 * ctx: any */
void at_waiters_end(struct at_peer *peer);

/* Wake the sleep of `thread`, if it sleeps for `peer`, with AT_EINTERRUPTED. For
 * peer.c.
 * ctx: any */
void at_waiter_interrupt(struct at_peer *peer, pthread_t thread);

#endif
