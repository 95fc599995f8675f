/* Slabs; see slab.h. */
#include "chan/slab.h"

#include <assert.h>
#include <stddef.h>

#include "base/memory.h"

enum {
    LEAST_BYTES = 512,
    MOST_BYTES = 16384, /* of a slab, apart from its head */
};

static_assert(sizeof(at_shared) % AT_PIECE_ALIGNMENT == 0,
              "the first piece is aligned");
static_assert((offsetof(at_piece, data) + 4) % AT_PIECE_ALIGNMENT == 0,
              "so is what it says");

static void slab_free(at_shared *thing)
{
    at_free(thing);
}

static const at_shared_kind slab_kind = {.name = "slab", .free = slab_free};

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

char *at_slab_writer_next(at_slab_writer *writer, size_t size_bytes, size_t following)
{
    assert(size_bytes <= AT_PIECE_BYTES_MOST);
    at_slab_writer_finish(writer);
    if (!begin(writer, at_piece_footprint(size_bytes), following)) {
        return NULL;
    }
    return at_slab_writer_place(writer)->data;
}
