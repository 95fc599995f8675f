/* Peers: the interpreters, as the shared things of one process know them.
 *
 * A shared thing holds no Python object and never asks Python anything. What it must
 * know of an interpreter is two things: which of its threads sleep here, and which
 * things it has in its hands. When the interpreter closes, its sleepers are woken with
 * AT_EENDING, and each of its things is told, so that a channel whose last sender has
 * gone tells its receivers, and a lock whose holder has gone tells the next one.
 *
 * Peers are found by interpreter ID, which is never used again. A thread that belongs
 * to no interpreter has the peer NULL everywhere.
 *
 * Locks: the table's mutex before a peer's; nothing is called out under either.
 */
#ifndef AT_CHAN_PEER_H
#define AT_CHAN_PEER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/shared.h"

struct at_waiter;
typedef struct at_membership at_membership;

typedef struct at_peer {
    at_shared shared;
    int64_t interpreter_id; /* fixed after init */
    atomic_bool closing;    /* set once, under mutex */
    pthread_mutex_t mutex;
    struct at_waiter *sleepers; /* guarded: mutex */
    struct at_dozer *dozers;    /* guarded: mutex; those that sleep on words */
    uint64_t doze_count;        /* guarded: mutex; how many there have been */
    atomic_uint all_awake;      /* set by the last dozer of a closing peer */
    at_membership *memberships; /* guarded: mutex */
    struct at_peer *next;       /* guarded: the table's mutex */
} at_peer;

/* What a peer and a thing have to do with each other: embedded in a struct of the
 * thing's, one for each peer that has it. */
struct at_membership {
    at_peer *peer;    /* fixed after init, not counted */
    at_shared *thing; /* fixed after init, not counted: leave before it is freed */
    /* The interpreter closes. Called with a reference on `thing`, under no lock, at
     * most once. ctx: any; must not block */
    void (*closing)(at_membership *membership);
    at_membership *next; /* guarded: the peer's mutex, as the rest */
    at_membership *previous;
    bool linked;
};

/* The peer of interpreter `interpreter_id`, made on first use.
 * ctx:  any
 * owns: the caller unrefs it
 * errs: AT_ENOMEM */
int at_peer_join(int64_t interpreter_id, at_peer **peer);

/* Interpreter `interpreter_id` closes: wake its sleepers, refuse its further sleeps
 * with AT_EENDING, and tell its things. Unknown and closed ones are ignored. ctx: any,
 * best before waiting for the interpreter's threads */
void at_channels_interpreter_closing(int64_t interpreter_id);

/* An exception was set for `thread`, of interpreter `interpreter_id`, so that
 * at_park_is_told() is true there: end its wait at a channel or a lock, if it waits,
 * with AT_EINTERRUPTED. ctx: any; waits for that thread to be scheduled */
void at_channels_thread_interrupted(int64_t interpreter_id, pthread_t thread);

/* Link `membership`, whose fields are filled in.
 * ctx:  any
 * errs: AT_EENDING when the interpreter is closing */
int at_membership_enter(at_membership *membership);

/* Unlink it, if it is linked. After this `closing` will not begin.
 * ctx: any */
void at_membership_leave(at_membership *membership);

#endif
