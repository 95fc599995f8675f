/* Members: which interpreters hold handles to a thing, and what they do with it.
 *
 * A thing that people wait for must know when those who could end the wait are gone. A
 * member is made for each interpreter with a handle and lives as long as the thing. It
 * counts the handles, and remembers whether its interpreter has sent or received. When
 * the interpreter closes, its member is gone, whatever handles were left behind, and
 * the thing is told who remains.
 *
 * Locks: the mutex of the members, for the list alone; a peer's may be taken under it.
 */
#ifndef AT_CHAN_MEMBERS_H
#define AT_CHAN_MEMBERS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/shared.h"
#include "chan/peer.h"

typedef struct at_member at_member;
typedef struct at_members at_members;

/* Who remains when an interpreter has closed. A reference that belongs to no member (a
 * message under way, a C thread) may yet do anything. */
typedef struct at_members_left {
    bool sent;        /* the one that closed did */
    bool received;    /* the same */
    bool may_send;    /* of those who remain: has, or has done neither */
    bool may_receive; /* the same */
    bool alive;       /* one remains that has a handle */
    bool others;      /* there are references of no member */
} at_members_left;

struct at_members {
    pthread_mutex_t mutex;
    at_member *first; /* guarded: mutex */
    at_shared *thing; /* what has them; fixed after init, as the next; not counted */
    /* ctx: any, under no lock, with a reference on `thing` */
    void (*left)(at_shared *thing, const at_members_left *left);
};

struct at_member {
    at_membership membership;
    at_members *members; /* fixed after init */
    at_member *next;     /* guarded: the members' mutex, as the next two */
    size_t handle_count;
    bool gone;         /* its interpreter has closed */
    atomic_bool sends; /* set once, as the next */
    atomic_bool receives;
};

void at_members_init(at_members *members, at_shared *thing,
                     void (*left)(at_shared *thing, const at_members_left *left));

/* The thing is being freed. */
void at_members_fini(at_members *members);

/* `peer` has got a handle to the thing, with the caller's reference.
 * ctx:  any
 * errs: AT_ENOMEM, AT_EENDING */
int at_members_join(at_members *members, at_peer *peer, at_member **member);

/* That handle goes, before the caller drops the reference. ctx: any */
void at_member_leave(at_member *member);

/* The peer sends, or receives. Cheap after the first time. ctx: any */
static inline void at_member_sends(at_member *member)
{
    if (!atomic_load_explicit(&member->sends, memory_order_relaxed)) {
        atomic_store(&member->sends, true);
    }
}

static inline void at_member_receives(at_member *member)
{
    if (!atomic_load_explicit(&member->receives, memory_order_relaxed)) {
        atomic_store(&member->receives, true);
    }
}

#endif
