/* Queues: messages that are found by number and know who put them there.
 *
 * What PEP 734 asks of a queue and a channel (channel.h) does not give: no bound where
 * none is wanted, a number by which any interpreter of the process finds it, and items
 * that are withdrawn, or lose their content, when the interpreter that put them closes.
 * An item in the middle may have to go: so it is a list under a mutex, not a ring.
 *
 * A queue lives as long as somebody has a reference; its number is never used again.
 *
 * Locks: the table's mutex, a queue's mutex, a peer's; a peer's may be taken under a
 * queue's. Nothing is woken, allocated or freed under the first two.
 */
#ifndef AT_CHAN_QUEUE_H
#define AT_CHAN_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/contexts.h"
#include "base/shared.h"
#include "chan/message.h"
#include "chan/peer.h"
#include "chan/wait.h"

typedef struct at_queue at_queue;

extern const at_shared_kind at_queue_kind;

/* What becomes of an item whose interpreter closes. The numbers are PEP 734's. */
typedef enum at_fate {
    AT_FATE_NONE,    /* its interpreter is there */
    AT_FATE_REMOVE,  /* it goes */
    AT_FATE_ERROR,   /* its place stays, and who gets it gets an error */
    AT_FATE_REPLACE, /* its place stays, and who gets it gets a stand-in */
} at_fate;

/* A queue for `limit` items, or without a bound where that is not positive; `fate` and
 * `tag` are kept for its users.
 * ctx:  any
 * owns: the caller holds one reference; an at_queue begins with its at_shared
 * errs: AT_ENOMEM */
int at_queue_new(int64_t limit, at_fate fate, int tag, at_queue **queue);

/* The queue called `number`: a reference, or NULL. ctx: any */
at_queue *at_queue_find(int64_t number);

/* References to up to `capacity` queues, oldest first; how many there are in all.
 * ctx: any */
size_t at_queue_list(at_queue **queues, size_t capacity);

int64_t at_queue_number(const at_queue *queue);
int64_t at_queue_limit(const at_queue *queue);
at_fate at_queue_default_fate(const at_queue *queue);
int at_queue_tag(const at_queue *queue);
size_t at_queue_count(at_queue *queue);
/* How many sleep in at_queue_get(). A moment's truth. ctx: any */
size_t at_queue_waiting(at_queue *queue);

/* Nothing can be put any more; what is there can be got, unless `drop` says that it
 * goes as well. ctx: any */
void at_queue_close(at_queue *queue, bool drop);
bool at_queue_is_closed(at_queue *queue);

/* Put `message` behind the others, for `sender`.
 * ctx:  any
 * owns: takes message on 0; otherwise the caller keeps it
 * errs: AT_EFULL, AT_ECLOSED, AT_ENOMEM, AT_EENDING when the sender is closing */
int at_queue_try_put(at_queue *queue, at_message *message, at_peer *sender,
                     at_fate fate);

/* The same, waiting for room.
 * ctx:  detached
 * errs: AT_ECLOSED, AT_ENOMEM, and those of at_wait() */
int at_queue_put(at_queue *queue, at_message *message, at_peer *sender, at_fate fate,
                 const at_patience *patience) AT_DETACHED;

/* Take the first item: its message, or NULL with the fate of what was there.
 * ctx:  any
 * owns: the caller gets the message
 * errs: AT_EEMPTY; AT_ECLOSED when it is closed and nothing is left */
int at_queue_try_get(at_queue *queue, at_message **message, at_fate *fate);

/* The same, waiting for one.
 * ctx:  detached
 * errs: AT_ECLOSED, and those of at_wait() */
int at_queue_get(at_queue *queue, at_message **message, at_fate *fate,
                 const at_patience *patience) AT_DETACHED;

#endif
