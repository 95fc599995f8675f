/* Broadcasts: one to many. Each subscriber receives every item that was sent after it
 * subscribed, all of them in one order.
 *
 * A subscription is a channel (channel.h) that the broadcast feeds: receiving, waiting,
 * select and event loops work on it as on any. Each has a ring of its own, so a slow
 * subscriber holds up no other, and costs a sender nothing but a push. What happens
 * when its ring is full is the broadcast's policy (at_slow).
 *
 * A send that waits is all or nothing: it reaches every subscriber, or none before its
 * deadline. So the order is the same for all, whoever sends.
 *
 * The ends. Subscriptions know the broadcast's hub and keep it; the hub knows them and
 * keeps none of them. A subscription that nobody holds, or nobody in a living
 * interpreter, is fed no more, and holds up nobody. When nobody holds the broadcast,
 * its subscriptions close: they can be drained.
 *
 * Locks: the hub's mutex, held while an item is pushed to every ring, and nothing is
 * allocated, woken or destroyed under it; under it a channel's lag_mutex.
 */
#ifndef AT_CHAN_BROADCAST_H
#define AT_CHAN_BROADCAST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/contexts.h"
#include "base/shared.h"
#include "chan/channel.h"
#include "chan/members.h"
#include "chan/wait.h"

typedef struct at_broadcast at_broadcast;

extern const at_shared_kind at_broadcast_kind;

typedef struct at_broadcast_options {
    size_t capacity; /* items of each subscription, at least 1 */
    at_slow slow;
    /* `count` more references to an item, for as many further subscribers. ctx: any;
     * must not block or call out */
    void (*share)(void *item, size_t count);
    /* Give one back. ctx: any */
    void (*drop)(void *item);
} at_broadcast_options;

/* ctx:  any
 * owns: the caller holds one reference; an at_broadcast begins with its at_shared
 * errs: AT_ENOMEM, AT_EINVALID */
int at_broadcast_new(const at_broadcast_options *options, at_broadcast **broadcast);

/* A channel that gets what is sent from now on.
 * ctx:  any
 * owns: the caller gets a reference
 * errs: AT_ECLOSED, AT_ENOMEM, AT_ELIMIT */
int at_broadcast_subscribe(at_broadcast *broadcast, at_channel **subscription);

/* Send `item` to every subscriber, if there is room at each that is waited for. Returns
 * how many got it.
 * ctx:  any
 * owns: takes item unless it fails
 * errs: AT_EFULL, AT_ECLOSED, AT_ENOMEM */
int at_broadcast_try_send(at_broadcast *broadcast, void *item);

/* Send the first of the `count` items, at least one, that there is room for, next to
 * each other, and wake each subscriber once. Each reaches all or none, as in
 * at_broadcast_try_send(). Returns how many were sent, which may be fewer than there is
 * room for: the rest is for another call.
 * ctx:  any
 * owns: takes the items it returns the count of
 * errs: AT_EFULL, AT_ECLOSED, AT_ENOMEM when none was taken */
int at_broadcast_try_send_many(at_broadcast *broadcast, void **items, size_t count);

/* Send `item`, waiting for room. Returns how many got it.
 * ctx:  detached
 * owns: takes item unless it fails
 * errs: AT_ECLOSED, AT_ENOMEM, and those of at_wait() */
int at_broadcast_send(at_broadcast *broadcast, void *item,
                      const at_patience *patience) AT_DETACHED;

/* No more sends; what was sent can still be received. ctx: any */
void at_broadcast_close(at_broadcast *broadcast);

bool at_broadcast_is_closed(at_broadcast *broadcast);
size_t at_broadcast_capacity(const at_broadcast *broadcast);
at_slow at_broadcast_slow(const at_broadcast *broadcast);
/* How many subscriptions are open. ctx: any */
size_t at_broadcast_count(at_broadcast *broadcast);

/* Told of room, for event loops: see at_wait_arm(). */
at_wait_queue *at_broadcast_senders(at_broadcast *broadcast);

/* `peer` has got a handle to the broadcast, with the caller's reference.
 * ctx:  any
 * errs: AT_ENOMEM, AT_EENDING */
int at_broadcast_join(at_broadcast *broadcast, at_peer *peer, at_member **member);

#endif
