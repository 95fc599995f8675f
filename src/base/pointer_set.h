/* A set of pointers, for telling in a few nanoseconds whether a block is one of ours.
 *
 * Open addressing with linear probing and no tombstones: removing closes the gap, so a
 * set that lives for days is as quick as a new one. NULL is not an element. One thread
 * at a time.
 */
#ifndef AT_BASE_POINTER_SET_H
#define AT_BASE_POINTER_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct at_pointer_set {
    void **slots;    /* capacity of them, NULL where free; NULL while capacity is 0 */
    size_t count;    /* at most three quarters of capacity */
    size_t capacity; /* 0 or a power of two */
} at_pointer_set;

void at_pointer_set_init(at_pointer_set *set);
void at_pointer_set_fini(at_pointer_set *set);

/* Put `pointer`, which is not in yet, into the set.
 * errs: AT_ENOMEM, and then it is not in */
int at_pointer_set_add(at_pointer_set *set, void *pointer);

/* Where `pointer` is looked for first. Blocks are aligned to 16 bytes and often lie a
 * power of two apart: drop the low bits and let the multiplication carry the rest into
 * the high ones. */
static inline size_t at_pointer_set_home(const at_pointer_set *set, const void *pointer)
{
    uint64_t mixed = ((uint64_t)(uintptr_t)pointer >> 4) * 0x9E3779B97F4A7C15U;
    return (size_t)(mixed >> 32) & (set->capacity - 1);
}

/* Is `pointer` in? Inline: it is asked for each free() of an interpreter. */
static inline bool at_pointer_set_has(const at_pointer_set *set, const void *pointer)
{
    if (set->count == 0) {
        return false;
    }
    size_t slot = at_pointer_set_home(set, pointer);
    while (set->slots[slot] != pointer) {
        if (set->slots[slot] == NULL) {
            return false;
        }
        slot = (slot + 1) & (set->capacity - 1);
    }
    return true;
}

/* Take `pointer` out; says whether it was in. Never allocates. */
bool at_pointer_set_remove(at_pointer_set *set, const void *pointer);

#endif
