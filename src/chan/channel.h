/* Channels: bounded queues between interpreters and threads.
 *
 * A channel carries items, raw pointers that it knows how to drop. Any thread may send
 * and receive, with a thread state or without; the functions that block are for
 * detached threads, and the try_ ones, which come first, for any.
 *
 * Accepted is delivered: an item that a send took is received once, or dropped with the
 * channel. The order of each sender is kept.
 *
 * The ends. A channel remembers which interpreters sent and which received. When one
 * closes, and none is left that has sent or may yet send, the channel closes: receivers
 * get what was accepted and then AT_ECLOSED. So does it for senders when the last
 * receiver goes. An interpreter that holds the channel and has done neither may yet do
 * both, as may a reference that belongs to no member: a message under way, a C thread.
 * A channel that is to outlive its users is made with `keep_open`.
 *
 * A channel may be fed instead, by one source that calls at_channel_feed_item() and
 * keeps no reference: then the channel closes when no living interpreter has a handle.
 *
 * Locks: the members' own; lag_mutex, which makes a drop of the oldest item and its
 * count one step for receivers. Nothing is called under it.
 */
#ifndef AT_CHAN_CHANNEL_H
#define AT_CHAN_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/contexts.h"
#include "base/shared.h"
#include "chan/members.h"
#include "chan/wait.h"

typedef struct at_channel at_channel;

/* A channel that members send on, and one that is fed: the receiving end of a
 * broadcast. */
extern const at_shared_kind at_channel_kind;
extern const at_shared_kind at_subscription_kind;

/* What becomes of a receiver that a feed has no room at. */
typedef enum at_slow {
    AT_SLOW_WAITS,  /* it is waited for */
    AT_SLOW_DROPS,  /* its oldest item goes, and it is told how many have */
    AT_SLOW_CLOSES, /* it is closed: it gets what is there, is told, and ends */
} at_slow;

/* What sends on a channel instead of members. */
typedef struct at_channel_feed {
    at_shared *source; /* the channel takes a reference of its own */
    at_wait_queue
        *senders; /* of the source: told of room that is awaited, and the end */
    /* The channel is being freed, and must not be fed any more. ctx: any; must not
     * block */
    void (*ended)(at_shared *source, at_channel *channel);
    at_slow slow;
} at_channel_feed;

typedef struct at_channel_options {
    size_t capacity; /* items, at least 1 */
    /* Destroy an item nobody received. ctx: any */
    void (*drop)(void *item);
    bool keep_open;              /* does not close when an interpreter does */
    const at_channel_feed *feed; /* or NULL: members send */
} at_channel_options;

/* ctx:  any
 * owns: the caller holds one reference; an at_channel begins with its at_shared
 * errs: AT_ENOMEM, AT_EINVALID, AT_ELIMIT */
int at_channel_new(const at_channel_options *options, at_channel **channel);

/* Send `item` if there is room.
 * ctx:  any
 * owns: takes item on 0; otherwise the caller keeps it
 * errs: AT_EFULL, AT_ECLOSED */
int at_channel_try_send(at_channel *channel, void *item);

/* Send `item`, waiting for room.
 * ctx:  detached
 * owns: takes item on 0; otherwise the caller keeps it
 * errs: AT_ECLOSED, and those of at_wait() */
int at_channel_send(at_channel *channel, void *item,
                    const at_patience *patience) AT_DETACHED;

/* Send the first of the `count` items that there is room for, and wake receivers once.
 * ctx:  any
 * owns: takes the items it returns the count of
 * errs: AT_EFULL, AT_ECLOSED when none was taken */
int at_channel_try_send_many(at_channel *channel, void **items, size_t count);

/* Receive the first item.
 * ctx:  any
 * owns: the caller gets it
 * errs: AT_EEMPTY; AT_ECLOSED when it is closed and drained; from all that receive,
 *       AT_ELAGGED when items were missed before the next one: how many is in the place
 *       of the item, and the next call goes on behind them */
int at_channel_try_recv(at_channel *channel, void **item);

/* The same, looking again for a microsecond where that has helped of late. For those
 * who have just found nothing and hold a GIL: to give it up and take it again costs as
 * much. ctx:  any errs: AT_EEMPTY, AT_ECLOSED */
int at_channel_brief_recv(at_channel *channel, void **item);

/* The same, waiting for one.
 * ctx:  detached
 * errs: AT_ECLOSED, and those of at_wait() */
int at_channel_recv(at_channel *channel, void **item,
                    const at_patience *patience) AT_DETACHED;

/* Receive what is there, up to `limit` items, and wake senders once.
 * ctx:  any
 * owns: the caller gets the items that it returns the count of
 * errs: AT_EEMPTY, AT_ECLOSED when there is none */
int at_channel_try_recv_many(at_channel *channel, void **items, size_t limit);

/* What is there behind an item that was just received, if anything is. What was missed
 * is left to the next receive to tell.
 * ctx:  any
 * owns: the caller gets the items that it returns the count of */
int at_channel_try_recv_more(at_channel *channel, void **items, size_t limit);

/* Receive from the first of `count` channels that has something; `*chosen` is its
 * index. Where several have, `start` says which is looked at first, so that a caller
 * who varies it starves none. Closed and drained channels are passed over. ctx:
 * detached errs: AT_ECLOSED when all are closed and drained; AT_ELIMIT above
 * AT_SELECT_LIMIT channels; those of at_wait() */
int at_channel_select(at_channel **channels, size_t count, size_t start, void **item,
                      size_t *chosen, const at_patience *patience) AT_DETACHED;

/* The same without waiting.
 * ctx:  any
 * errs: AT_EEMPTY, AT_ECLOSED */
int at_channel_try_select(at_channel **channels, size_t count, size_t start,
                          void **item, size_t *chosen);

enum { AT_SELECT_LIMIT = 256 };

/* No more sends; what was accepted can still be received. True for the call that
 * closed. ctx: any */
bool at_channel_close(at_channel *channel);

bool at_channel_is_closed(const at_channel *channel);
/* Closed because interpreters closed, and not by at_channel_close(). */
bool at_channel_is_orphaned(const at_channel *channel);
size_t at_channel_count(const at_channel *channel);
size_t at_channel_capacity(const at_channel *channel);

/* A call when the channel changes, for event loops: see at_wait_arm(). */
at_wait_queue *at_channel_receivers(at_channel *channel);
at_wait_queue *at_channel_senders(at_channel *channel);

/* `peer` has got a handle to the channel, with the caller's reference: see members.h.
 * ctx:  any
 * errs: AT_ENOMEM, AT_EENDING */
int at_channel_join(at_channel *channel, at_peer *peer, at_member **member);

/* ---- feeding ------------------------------------------------------------------
 * For the source of a feed, which calls the first two from one thread at a time. */

/* Would feeding not have to wait: is there room, or nobody any more? If not, the feed's
 * senders are told of the next room: once, and of no other channel's that nobody asked.
 * So a sender that leaves others waiting asks again. ctx: any */
bool at_channel_await_room(at_channel *channel);

/* Put `item` behind the others, and wake nobody. `*dropped` is the item that had to go
 * for it, or NULL: the caller's to destroy, also where this fails.
 * ctx:  any
 * owns: takes item on 0
 * errs: AT_EFULL, AT_ECLOSED */
int at_channel_feed_item(at_channel *channel, void *item, void **dropped);

/* Does a receiver sleep? It must be woken then, with a reference held. ctx: any */
bool at_channel_has_sleepers(const at_channel *channel);
void at_channel_wake(at_channel *channel);

#endif
