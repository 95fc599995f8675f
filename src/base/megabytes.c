/* Blocks in each megabyte; see megabytes.h. */
#include "base/megabytes.h"

#include "base/error.h"
#include "base/memory.h"

static int make_leaf(at_megabytes *megabytes, uintptr_t number)
{
    if (number >> (AT_MEGABYTES_LEAF_BITS + AT_MEGABYTES_TOP_BITS) != 0) {
        return AT_ELIMIT;
    }
    at_megabytes_leaf *fresh = at_calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        return AT_ENOMEM;
    }
    at_megabytes_leaf *none = NULL;
    if (!atomic_compare_exchange_strong(
            &megabytes->leaves[number >> AT_MEGABYTES_LEAF_BITS], &none, fresh)) {
        at_free(fresh); /* another thread was faster */
    }
    return 0;
}

int at_megabytes_add(at_megabytes *megabytes, const void *address)
{
    atomic_uint *count = at_megabytes_count(megabytes, address);
    if (count == NULL) {
        int result = make_leaf(megabytes, (uintptr_t)address >> AT_MEGABYTE_BITS);
        if (result < 0) {
            return result;
        }
        count = at_megabytes_count(megabytes, address);
    }
    atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
    return 0;
}

void at_megabytes_remove(at_megabytes *megabytes, const void *address)
{
    atomic_fetch_sub_explicit(at_megabytes_count(megabytes, address), 1,
                              memory_order_relaxed);
}
