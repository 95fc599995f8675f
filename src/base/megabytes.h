/* How many of a set of blocks begin in each megabyte of the address space.
 *
 * It answers "is this block certainly none of them?" with two loads from lines that
 * stay in the processor's first cache, for those who must ask with every free(): the
 * blocks that are asked about lie mostly in megabytes where none of the set does.
 *
 * Two levels, as a page table has them, over addresses of 48 bits. A leaf is made with
 * the first block that needs it and is kept. Any number of threads may count and ask at
 * once; who asks about a block that another thread has just added must have been told
 * of it in some way that orders the two.
 */
#ifndef AT_BASE_MEGABYTES_H
#define AT_BASE_MEGABYTES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    AT_MEGABYTE_BITS = 20,
    AT_MEGABYTES_LEAF_BITS = 14,
    AT_MEGABYTES_TOP_BITS = 48 - AT_MEGABYTE_BITS - AT_MEGABYTES_LEAF_BITS,
};

typedef struct at_megabytes_leaf {
    atomic_uint counts[1 << AT_MEGABYTES_LEAF_BITS];
} at_megabytes_leaf;

/* All zero at first; 128 KiB, of which what is touched counts. As old as the process:
 * nothing frees the leaves. */
typedef struct at_megabytes {
    _Atomic(at_megabytes_leaf *) leaves[1 << AT_MEGABYTES_TOP_BITS];
} at_megabytes;

/* One block more begins at `address`.
 * ctx:  any
 * errs: AT_ENOMEM, AT_ELIMIT for an address beyond 48 bits; it is not counted then */
int at_megabytes_add(at_megabytes *megabytes, const void *address);

/* One block less, which was counted. ctx: any */
void at_megabytes_remove(at_megabytes *megabytes, const void *address);

/* The count that `address` belongs to, or NULL where none was ever made. */
static inline atomic_uint *at_megabytes_count(at_megabytes *megabytes,
                                              const void *address)
{
    uintptr_t number = (uintptr_t)address >> AT_MEGABYTE_BITS;
    if (number >> (AT_MEGABYTES_LEAF_BITS + AT_MEGABYTES_TOP_BITS) != 0) {
        return NULL;
    }
    at_megabytes_leaf *leaf =
        atomic_load_explicit(&megabytes->leaves[number >> AT_MEGABYTES_LEAF_BITS],
                             memory_order_acquire); /* pairs with the exchange in add */
    size_t place = number & ((1U << AT_MEGABYTES_LEAF_BITS) - 1);
    return leaf != NULL ? &leaf->counts[place] : NULL;
}

/* Does a counted block begin in the megabyte of `address`? ctx: any */
static inline bool at_megabytes_has_any(at_megabytes *megabytes, const void *address)
{
    atomic_uint *count = at_megabytes_count(megabytes, address);
    return count != NULL && atomic_load_explicit(count, memory_order_relaxed) != 0;
}

#endif
