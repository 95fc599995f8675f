/* Slabs: the small messages of one batch, in one block of memory.
 *
 * To allocate and free a message of its own for each takes longer than all else that is
 * done with it, the more so as another thread frees it. So a batch puts its small
 * messages, as far as they are bytes alone, behind each other into slabs. Each is a
 * piece, which counts as one reference to its slab: the last that is let go of, by
 * whomever, frees it. A piece that nobody receives keeps its neighbours' memory, some
 * kilobytes.
 *
 * A piece stands in a queue as a pointer to it with all of the three low bits set
 * (message.h has the other two kinds of items).
 */
#ifndef AT_CHAN_SLAB_H
#define AT_CHAN_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/shared.h"

enum { AT_PIECE_MARK = 7, AT_PIECE_BYTES_MOST = 1024 };

typedef struct at_piece {
    uint32_t place_bytes; /* from the start of its slab */
    uint32_t size_bytes;
    uint32_t unused; /* so that what follows four bytes of head is aligned to eight */
    char data[];
} at_piece;

typedef struct at_slab {
    at_shared shared; /* first */
    char data[];
} at_slab;

/* Pieces on their way into slabs; embedded by its user, one thread at a time. All zero
 * at first. What it has made must not be let go of, or seen by others, before the
 * writer is finished. */
typedef struct at_slab_writer {
    at_slab *slab; /* NULL, or the one that is being filled */
    size_t used_bytes;
    size_t capacity_bytes;
    size_t count; /* of its pieces */
} at_slab_writer;

/* The slow half of the next one. */
char *at_slab_writer_next(at_slab_writer *writer, size_t size_bytes, size_t following);

enum { AT_PIECE_ALIGNMENT = 8 }; /* leaves the low bits of its address for the mark */

/* What a piece takes of its slab. */
static inline size_t at_piece_footprint(size_t size_bytes)
{
    size_t bytes = offsetof(at_piece, data) + size_bytes + AT_PIECE_ALIGNMENT - 1;
    return bytes & ~(size_t)(AT_PIECE_ALIGNMENT - 1);
}

/* Where the next piece will lie. */
static inline at_piece *at_slab_writer_place(at_slab_writer *writer)
{
    return (at_piece *)(void *)(writer->slab->data + writer->used_bytes);
}

/* Room for a piece of `size_bytes`, at most AT_PIECE_BYTES_MOST, to be written and then
 * added; it can also be left. NULL: out of memory. `following` is about how many will
 * come after it, as far as is known: for the size of a new slab.
 * ctx: any */
static inline char *at_slab_writer_room(at_slab_writer *writer, size_t size_bytes,
                                        size_t following)
{
    if (writer->slab == NULL ||
        at_piece_footprint(size_bytes) > writer->capacity_bytes - writer->used_bytes) {
        return at_slab_writer_next(writer, size_bytes, following);
    }
    return at_slab_writer_place(writer)->data;
}

/* The item of the piece that was written in the room for `size_bytes`.
 * ctx: any */
static inline void *at_slab_writer_add(at_slab_writer *writer, size_t size_bytes)
{
    enum { AHEAD_BYTES = 512 };
    at_piece *piece = at_slab_writer_place(writer);
    piece->place_bytes = (uint32_t)(sizeof *writer->slab + writer->used_bytes);
    piece->size_bytes = (uint32_t)size_bytes;
    writer->used_bytes += at_piece_footprint(size_bytes);
    writer->count++;
    /* Whoever read what was there before has the line. Beyond the slab it is a hint
     * about some other memory: harmless. */
    at_prefetch_write((const char *)piece + AHEAD_BYTES);
    return (char *)piece + AT_PIECE_MARK;
}

/* No more pieces: those that there are belong to whoever has their items.
 * ctx: any */
void at_slab_writer_finish(at_slab_writer *writer);

/* ctx: any */
static inline bool at_item_is_piece(const void *item)
{
    return ((uintptr_t)item & AT_PIECE_MARK) == AT_PIECE_MARK;
}

/* ctx: any */
static inline const at_piece *at_piece_of(const void *item)
{
    return (const at_piece *)((const char *)item - AT_PIECE_MARK);
}

/* A reader of many asks for the lines of later ones before it comes to them: they lie
 * in the sender's cache. */
enum { AT_PIECES_AHEAD = 8 };

/* The slab of a piece, for references to it. ctx: any */
static inline at_shared *at_piece_slab(const void *item)
{
    const at_piece *piece = at_piece_of(item);
    return (at_shared *)((uintptr_t)piece - piece->place_bytes);
}

#endif
