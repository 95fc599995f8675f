/* Blocks of shared memory; see block.h. */
#include "chan/block.h"

#include <stdint.h>

#include "base/memory.h"

enum { ALIGNMENT_BYTES = 64 };

static void block_free(at_shared *thing)
{
    at_block *block = (at_block *)thing;
    if (block->release != NULL) {
        block->release(block->context);
    }
    at_free(block);
}

const at_shared_kind at_block_kind = {.name = "block", .free = block_free};

static at_block *block_make(size_t extra_bytes)
{
    at_block *block = at_alloc(sizeof *block + extra_bytes);
    if (block != NULL) {
        *block = (at_block){0};
        at_shared_init(&block->shared, &at_block_kind);
    }
    return block;
}

at_block *at_block_new(size_t size_bytes)
{
    if (size_bytes > SIZE_MAX / 2) {
        return NULL;
    }
    at_block *block = block_make(size_bytes + ALIGNMENT_BYTES);
    if (block != NULL) {
        uintptr_t start = (uintptr_t)(block + 1);
        size_t gap = (size_t)(-start & (ALIGNMENT_BYTES - 1));
        block->data = (char *)(block + 1) + gap;
        block->size_bytes = size_bytes;
    }
    return block;
}

at_block *at_block_borrow(void *data, size_t size_bytes, void (*release)(void *context),
                          void *context)
{
    at_block *block = block_make(0);
    if (block != NULL) {
        block->data = data;
        block->size_bytes = size_bytes;
        block->readonly = true;
        block->release = release;
        block->context = context;
    }
    return block;
}
