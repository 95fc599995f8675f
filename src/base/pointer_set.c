/* A set of pointers; see pointer_set.h. */
#include "base/pointer_set.h"

#include <assert.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"

enum { FIRST_CAPACITY = 64 };

/* Where `pointer` is looked for first. Blocks are aligned to 16 bytes and often lie a
 * power of two apart: drop the low bits and let the multiplication carry the rest into
 * the high ones. */
static size_t home_of(const at_pointer_set *set, const void *pointer)
{
    uint64_t mixed = ((uint64_t)(uintptr_t)pointer >> 4) * 0x9E3779B97F4A7C15U;
    return (size_t)(mixed >> 32) & (set->capacity - 1);
}

static void place(at_pointer_set *set, void *pointer)
{
    size_t slot = home_of(set, pointer);
    while (set->slots[slot] != NULL) {
        slot = (slot + 1) & (set->capacity - 1);
    }
    set->slots[slot] = pointer;
}

static int grow(at_pointer_set *set)
{
    at_pointer_set bigger = {
        .count = set->count,
        .capacity = set->capacity != 0 ? set->capacity * 2 : FIRST_CAPACITY,
    };
    bigger.slots = at_calloc(bigger.capacity, sizeof *bigger.slots);
    if (bigger.slots == NULL) {
        return AT_ENOMEM;
    }
    for (size_t i = 0; i < set->capacity; i++) {
        if (set->slots[i] != NULL) {
            place(&bigger, set->slots[i]);
        }
    }
    at_free(set->slots);
    *set = bigger;
    return 0;
}

void at_pointer_set_fini(at_pointer_set *set)
{
    at_free(set->slots);
    *set = (at_pointer_set){0};
}

int at_pointer_set_add(at_pointer_set *set, void *pointer)
{
    assert(pointer != NULL);
    if (set->count >= set->capacity / 4 * 3) {
        int result = grow(set);
        if (result < 0) {
            return result;
        }
    }
    place(set, pointer);
    set->count++;
    return 0;
}

bool at_pointer_set_remove(at_pointer_set *set, const void *pointer)
{
    if (set->count == 0) {
        return false;
    }
    size_t mask = set->capacity - 1;
    size_t hole = home_of(set, pointer);
    while (set->slots[hole] != pointer) {
        if (set->slots[hole] == NULL) {
            return false;
        }
        hole = (hole + 1) & mask;
    }
    /* Move back every later element of the run that may stand in the hole: those whose
     * home does not lie between the hole and where they are. */
    for (size_t slot = (hole + 1) & mask; set->slots[slot] != NULL;
         slot = (slot + 1) & mask) {
        size_t home = home_of(set, set->slots[slot]);
        if (((slot - home) & mask) >= ((slot - hole) & mask)) {
            set->slots[hole] = set->slots[slot];
            hole = slot;
        }
    }
    set->slots[hole] = NULL;
    set->count--;
    return true;
}
