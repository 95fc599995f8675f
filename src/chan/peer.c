/* Peers; see peer.h. */
#include "chan/peer.h"

#include "base/error.h"
#include "base/memory.h"
#include "chan/sleep.h"
#include "chan/wait.h"

/* Every peer of the process: peers come and go with interpreters, so a list will do. */
static struct {
    pthread_mutex_t mutex;
    at_peer *first; /* guarded: mutex; not counted */
} peers = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void peer_free(at_shared *thing)
{
    at_peer *peer = (at_peer *)thing;
    (void)pthread_mutex_lock(&peers.mutex);
    for (at_peer **link = &peers.first; *link != NULL; link = &(*link)->next) {
        if (*link == peer) {
            *link = peer->next;
            break;
        }
    }
    (void)pthread_mutex_unlock(&peers.mutex);
    (void)pthread_mutex_destroy(&peer->mutex);
    at_free(peer);
}

static const at_shared_kind peer_kind = {"peer", peer_free};

/* A counted reference to the peer in the table, or NULL. Caller holds the table. */
static at_peer *find(int64_t interpreter_id)
{
    for (at_peer *peer = peers.first; peer != NULL; peer = peer->next) {
        /* One that is on its way to peer_free() cannot be had any more. */
        if (peer->interpreter_id == interpreter_id &&
            at_shared_try_ref(&peer->shared)) {
            return peer;
        }
    }
    return NULL;
}

int at_peer_join(int64_t interpreter_id, at_peer **joined)
{
    at_peer *fresh = at_calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        return AT_ENOMEM;
    }
    at_shared_init(&fresh->shared, &peer_kind);
    fresh->interpreter_id = interpreter_id;
    (void)pthread_mutex_init(&fresh->mutex, NULL);

    (void)pthread_mutex_lock(&peers.mutex);
    *joined = find(interpreter_id);
    if (*joined == NULL) {
        fresh->next = peers.first;
        peers.first = fresh;
        *joined = fresh;
        fresh = NULL;
    }
    (void)pthread_mutex_unlock(&peers.mutex);
    if (fresh != NULL) {
        at_shared_unref(&fresh->shared);
    }
    return 0;
}

int at_membership_enter(at_membership *membership)
{
    at_peer *peer = membership->peer;
    (void)pthread_mutex_lock(&peer->mutex);
    bool closing = atomic_load(&peer->closing);
    if (!closing) {
        membership->previous = NULL;
        membership->next = peer->memberships;
        if (membership->next != NULL) {
            membership->next->previous = membership;
        }
        peer->memberships = membership;
        membership->linked = true;
    }
    (void)pthread_mutex_unlock(&peer->mutex);
    return closing ? AT_EENDING : 0;
}

/* Caller holds the peer's mutex. */
static void unlink_membership(at_membership *membership)
{
    if (membership->previous != NULL) {
        membership->previous->next = membership->next;
    } else {
        membership->peer->memberships = membership->next;
    }
    if (membership->next != NULL) {
        membership->next->previous = membership->previous;
    }
    membership->linked = false;
}

void at_membership_leave(at_membership *membership)
{
    (void)pthread_mutex_lock(&membership->peer->mutex);
    if (membership->linked) {
        unlink_membership(membership);
    }
    (void)pthread_mutex_unlock(&membership->peer->mutex);
}

/* The next thing to tell, with a reference, or NULL. */
static at_membership *take_membership(at_peer *peer)
{
    (void)pthread_mutex_lock(&peer->mutex);
    at_membership *taken = NULL;
    while (peer->memberships != NULL && taken == NULL) {
        at_membership *candidate = peer->memberships;
        unlink_membership(candidate);
        /* A thing that is being freed waits for our mutex in leave: pass it by. */
        if (at_shared_try_ref(candidate->thing)) {
            taken = candidate;
        }
    }
    (void)pthread_mutex_unlock(&peer->mutex);
    return taken;
}

static at_peer *find_unlocked(int64_t interpreter_id)
{
    (void)pthread_mutex_lock(&peers.mutex);
    at_peer *peer = find(interpreter_id);
    (void)pthread_mutex_unlock(&peers.mutex);
    return peer;
}

void at_channels_thread_interrupted(int64_t interpreter_id, pthread_t thread)
{
    at_peer *peer = find_unlocked(interpreter_id);
    if (peer != NULL) {
        at_waiter_interrupt(peer, thread);
        at_dozer_interrupt(peer, thread);
        at_shared_unref(&peer->shared);
    }
}

void at_channels_interpreter_closing(int64_t interpreter_id)
{
    at_peer *peer = find_unlocked(interpreter_id);
    if (peer == NULL) {
        return;
    }
    at_waiters_end(peer);
    at_dozers_end(peer);
    for (at_membership *told; (told = take_membership(peer)) != NULL;) {
        at_shared *thing = told->thing;
        told->closing(told);
        at_shared_unref(thing);
    }
    at_shared_unref(&peer->shared);
}
