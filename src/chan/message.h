/* Messages: what crosses from one interpreter to another.
 *
 * A message is one run of raw bytes, and references to the shared things (at_shared:
 * blocks of memory, channels, locks) that the bytes name by position. It is written
 * once and read by any number of holders at once, and holds no PyObject.
 *
 * Header, bytes and list of attachments lie in one block of memory: a small message is
 * written on its writer's stack and costs one allocation of its size, a large one those
 * of a doubling buffer. What the bytes mean is
 * the sender's and the receiver's affair; `origin` says who wrote them.
 */
#ifndef AT_CHAN_MESSAGE_H
#define AT_CHAN_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/shared.h"
#include "chan/slab.h"

/* Who chose the bytes. What executes code on decoding (functions by value, pickles)
 * is decoded only from AT_MESSAGE_LOCAL. */
typedef enum at_message_origin {
    AT_MESSAGE_LOCAL,   /* code of this process, or of one that it started and trusts */
    AT_MESSAGE_FOREIGN, /* a file, a socket, a caller of the public decoder */
} at_message_origin;

typedef struct at_message at_message;

struct at_message {
    at_shared shared; /* first: a message is a shared thing itself */
    at_message *next; /* guarded: whoever holds the only reference, e.g. a queue */
    int64_t sender;   /* interpreter ID, or -1: sent without one; fixed after finish */
    const char *data; /* fixed after finish, as all below */
    size_t size_bytes;
    at_shared *const *attachments; /* one reference each */
    size_t attachment_count;
    at_message_origin origin;
};

enum { AT_MESSAGE_FIRST_BYTES = 256 };

/* A message being written; embedded by its user, one thread at a time, never moved. */
typedef struct at_message_writer {
    at_message *block; /* NULL while `first` is enough */
    char *data;        /* `first` or inside block, moves when it grows */
    size_t size_bytes;
    size_t capacity_bytes;
    at_shared **attachments; /* NULL until the first; one reference each */
    size_t attachment_count;
    size_t attachment_capacity;
    char first[AT_MESSAGE_FIRST_BYTES]; /* not initialised */
} at_message_writer;

void at_message_writer_init(at_message_writer *writer);

/* Give up what was written; drops the attachments' references. Also fine after
 * finish. */
void at_message_writer_fini(at_message_writer *writer);

/* The slow half of at_message_writer_room(). */
int at_message_writer_grow(at_message_writer *writer, size_t extra_bytes);

/* Room for `extra_bytes` more at writer->data + writer->size_bytes.
 * ctx:  any
 * errs: AT_ENOMEM, and then nothing changed */
static inline int at_message_writer_room(at_message_writer *writer, size_t extra_bytes)
{
    if (extra_bytes <= writer->capacity_bytes - writer->size_bytes) {
        return 0;
    }
    return at_message_writer_grow(writer, extra_bytes);
}

/* Append a copy of `data`.
 * ctx:  any
 * errs: AT_ENOMEM, and then nothing changed */
int at_message_writer_append(at_message_writer *writer, const void *data,
                             size_t size_bytes);

/* Attach `thing` and say its position in `*position`. Attaching a thing again gives it
 * another position.
 * ctx:  any
 * owns: takes a reference of its own; the caller keeps the one it has
 * errs: AT_ENOMEM, and then nothing changed */
int at_message_writer_attach(at_message_writer *writer, at_shared *thing,
                             size_t *position);

/* The message that was written; the writer is empty then and can be used again. With
 * one reference, the caller's; let go of with at_message_unref().
 * ctx:  any
 * errs: AT_ENOMEM, and then the writer is as it was */
int at_message_writer_finish(at_message_writer *writer, int64_t sender,
                             at_message **message);

/* A message of the bytes `data` alone, from code that has no thread state.
 * ctx:  any
 * errs: AT_ENOMEM */
int at_message_new(const void *data, size_t size_bytes, int64_t sender,
                   at_message **message);

/* ctx: any */
static inline at_message *at_message_ref(at_message *message)
{
    at_shared_ref(&message->shared);
    return message;
}

/* NULL is allowed.
 * ctx: any */
static inline void at_message_unref(at_message *message)
{
    at_shared_unref(message != NULL ? &message->shared : NULL);
}

/* What stands in a queue of messages, an item, may instead be a piece of a slab
 * (slab.h), whose low three bits are all set, or a word: a value in the place of the
 * pointer, with one or two of these bits set. What a word means is parcel's affair
 * (parcel/word.h).
 * ctx: any */
static inline bool at_item_is_word(const void *item)
{
    uintptr_t mark = (uintptr_t)item & AT_PIECE_MARK;
    return mark != 0 && mark != AT_PIECE_MARK;
}

/* Let go of an item.
 * ctx: any */
static inline void at_item_drop(void *item)
{
    if (at_item_is_piece(item)) {
        at_shared_unref(at_piece_slab(item));
    } else if (!at_item_is_word(item)) {
        at_message_unref((at_message *)item);
    }
}

/* The same item for `count` more holders.
 * ctx: any */
static inline void at_item_share_many(void *item, size_t count)
{
    if (at_item_is_piece(item)) {
        at_shared_ref_many(at_piece_slab(item), count);
    } else if (!at_item_is_word(item)) {
        at_shared_ref_many(&((at_message *)item)->shared, count);
    }
}

/* The same item, for one more holder.
 * ctx: any */
static inline void *at_item_share(void *item)
{
    at_item_share_many(item, 1);
    return item;
}

/* What an attachment that is a message compares with. */
extern const at_shared_kind at_message_kind;

#endif
