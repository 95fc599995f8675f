/* Slabs; see slab.h. */
#include "chan/slab.h"

#include <assert.h>
#include <stddef.h>

#include "base/memory.h"

struct at_slab {
    at_shared shared; /* first */
    char data[];
};

enum {
    LEAST_BYTES = 512,
    MOST_BYTES = 16384, /* of a slab, apart from its head */
    AHEAD_BYTES = 512,
    ALIGNMENT = 8, /* leaves the low bits of a piece's address for the mark */
};

static_assert(sizeof(at_shared) % ALIGNMENT == 0, "the first piece is aligned");
static_assert((offsetof(at_piece, data) + 4) % ALIGNMENT == 0, "so is what it says");

static void slab_free(at_shared *thing)
{
    at_free(thing);
}

static const at_shared_kind slab_kind = {.name = "slab", .free = slab_free};

static size_t footprint(size_t size_bytes)
{
    return (offsetof(at_piece, data) + size_bytes + ALIGNMENT - 1) &
           ~(size_t)(ALIGNMENT - 1);
}

/* Begin a slab for one piece of `bytes` and `following` like it. */
static bool begin(at_slab_writer *writer, size_t bytes, size_t following)
{
    size_t capacity =
        following < MOST_BYTES / bytes ? bytes * (following + 1) : MOST_BYTES;
    capacity = capacity < LEAST_BYTES ? LEAST_BYTES : capacity;
    writer->slab = at_alloc(sizeof *writer->slab + capacity);
    if (writer->slab == NULL) {
        return false;
    }
    at_shared_init(&writer->slab->shared, &slab_kind);
    writer->used_bytes = 0;
    writer->capacity_bytes = capacity;
    writer->count = 0;
    return true;
}

void at_slab_writer_finish(at_slab_writer *writer)
{
    at_slab *slab = writer->slab;
    writer->slab = NULL;
    if (slab == NULL) {
        return;
    }
    /* It has one reference, the writer's. */
    if (writer->count > 1) {
        at_shared_ref_many(&slab->shared, writer->count - 1);
    } else if (writer->count == 0) {
        at_shared_unref(&slab->shared);
    }
}

static at_piece *next_piece(at_slab_writer *writer)
{
    return (at_piece *)(void *)(writer->slab->data + writer->used_bytes);
}

char *at_slab_writer_room(at_slab_writer *writer, size_t size_bytes, size_t following)
{
    assert(size_bytes <= AT_PIECE_BYTES_MOST);
    size_t bytes = footprint(size_bytes);
    if (writer->slab != NULL && bytes > writer->capacity_bytes - writer->used_bytes) {
        at_slab_writer_finish(writer);
    }
    if (writer->slab == NULL && !begin(writer, bytes, following)) {
        return NULL;
    }
    return next_piece(writer)->data;
}

void *at_slab_writer_add(at_slab_writer *writer, size_t size_bytes)
{
    at_piece *piece = next_piece(writer);
    piece->place_bytes = (uint32_t)(sizeof *writer->slab + writer->used_bytes);
    piece->size_bytes = (uint32_t)size_bytes;
    writer->used_bytes += footprint(size_bytes);
    writer->count++;
    /* Whoever read what was there before has the line. Beyond the slab it is a hint
     * about some other memory: harmless. */
    at_prefetch_write((const char *)piece + AHEAD_BYTES);
    return (char *)piece + AT_PIECE_MARK;
}
