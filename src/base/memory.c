/* Raw memory; see memory.h. */
#include "base/memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef AT_DEBUG
#include <stdatomic.h>

static atomic_long allocations_left = -1;
static atomic_long allocations_asked;

long at_memory_fail_after(long count)
{
    atomic_store(&allocations_left, count);
    return atomic_exchange(&allocations_asked, 0);
}

static bool allocation_may_pass(void)
{
    atomic_fetch_add(&allocations_asked, 1);
    if (atomic_load(&allocations_left) < 0) {
        return true;
    }
    return atomic_fetch_sub(&allocations_left, 1) != 0;
}
#else
static bool allocation_may_pass(void)
{
    return true;
}
#endif

void *at_alloc(size_t size_bytes)
{
    return allocation_may_pass() ? malloc(size_bytes != 0 ? size_bytes : 1) : NULL;
}

void *at_calloc(size_t count, size_t size_bytes)
{
    if (!allocation_may_pass()) {
        return NULL;
    }
    return calloc(count != 0 ? count : 1, size_bytes != 0 ? size_bytes : 1);
}

void *at_calloc_aligned(size_t alignment, size_t size_bytes)
{
    if (!allocation_may_pass()) {
        return NULL;
    }
    void *block = NULL;
    if (posix_memalign(&block, alignment, size_bytes != 0 ? size_bytes : 1) != 0) {
        return NULL;
    }
    return memset(block, 0, size_bytes);
}

void *at_realloc(void *block, size_t size_bytes)
{
    if (!allocation_may_pass()) {
        return NULL;
    }
    return realloc(block, size_bytes != 0 ? size_bytes : 1);
}

void at_free(void *block)
{
    free(block);
}

char *at_strdup(const char *text)
{
    size_t size_bytes = strlen(text) + 1;
    char *copy = at_alloc(size_bytes);
    return copy != NULL ? memcpy(copy, text, size_bytes) : NULL;
}
