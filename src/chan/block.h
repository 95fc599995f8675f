/* A block of memory that several interpreters look at.
 *
 * What a large buffer becomes when it crosses: the bytes lie here, and every receiver's
 * view keeps a reference. The memory is the block's own, or somebody else's that
 * `release` gives back.
 */
#ifndef AT_CHAN_BLOCK_H
#define AT_CHAN_BLOCK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/shared.h"

typedef struct at_block {
    at_shared shared; /* first */
    void *data;       /* fixed after new, as all below */
    size_t size_bytes;
    bool readonly; /* nobody may write through a view of it */
    /* Gives borrowed memory back, with the last reference; NULL for the block's own.
     * ctx: any; must not call out or block */
    void (*release)(void *context);
    void *context;
} at_block;

extern const at_shared_kind at_block_kind;

/* A block of `size_bytes` uninitialised bytes of its own, aligned to 64.
 * ctx:  any
 * owns: the caller's one reference, let go of with at_shared_unref(&block->shared)
 * errs: NULL when out of memory */
at_block *at_block_new(size_t size_bytes);

/* A block that stands for memory of another owner, which stays valid until `release`.
 * ctx:  any
 * owns: the caller's one reference; on NULL `release` is not called
 * errs: NULL when out of memory */
at_block *at_block_borrow(void *data, size_t size_bytes, void (*release)(void *context),
                          void *context);

#endif
