/* Sleeping on a word: how locks, conditions, events, semaphores, barriers and atomic
 * ints wait.
 *
 * The word says itself whether there is something to wait for, and may lie in memory
 * that processes share, where there can be no queue of waiters: one of them may die in
 * the middle of it. So these sleep on the word, by the kernel's futex, and what a
 * waiter leaves behind is nothing.
 *
 * The close of an interpreter ends the sleeps of its threads without changing the
 * words, which say something else to others: every sleeper of the word is woken, and
 * this until the interpreter's have left, since one of them may have been about to
 * sleep. So does an interrupt of a thread, with the one that it is meant for.
 */
#ifndef AT_CHAN_SLEEP_H
#define AT_CHAN_SLEEP_H

#include <pthread.h>
#include <stdint.h>

#include "base/contexts.h"
#include "chan/wait.h"
#include "sys/park.h"

/* Sleep while `*word == expected`.
 * ctx:  detached
 * errs: 0 says only that it is time to look again; AT_ETIMEOUT; AT_EINTERRUPTED after a
 *       signal or an interrupt of the thread, and the caller may call again; AT_EENDING
 * when the peer closes */
int at_sleep_on(atomic_uint *word, unsigned expected, at_park_scope scope,
                const at_patience *patience) AT_DETACHED;

/* One thread's sleep, in the list of its peer; lies on its stack. */
typedef struct at_dozer {
    atomic_uint *word; /* only an address: the memory may be gone */
    at_park_scope scope;
    pthread_t thread;
    uint64_t number; /* guarded: the peer's mutex, as the next two */
    struct at_dozer *next;
    struct at_dozer *previous;
} at_dozer;

/* Wake every sleeper of `peer`, which is closing, until all have left. For peer.c.
 * ctx: any; waits for the threads to be scheduled, and for nothing else */
void at_dozers_end(struct at_peer *peer);

/* Wake the sleep of `thread`, if it sleeps for `peer`, until it has left. For peer.c.
 * ctx: any; waits for that thread to be scheduled, and for nothing else */
void at_dozer_interrupt(struct at_peer *peer, pthread_t thread);

#endif
