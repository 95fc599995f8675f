/* A set of pointers, for telling quickly whether a block is one of ours.
 *
 * Open addressing with linear probing and no tombstones: removing closes the gap, so a
 * set that lives for days is as quick as a new one. NULL is not an element. One thread
 * at a time.
 */
#ifndef AT_BASE_POINTER_SET_H
#define AT_BASE_POINTER_SET_H

#include <stdbool.h>
#include <stddef.h>

/* All zero at first, which is an empty set. */
typedef struct at_pointer_set {
    void **slots;    /* capacity of them, NULL where free; NULL while capacity is 0 */
    size_t count;    /* at most three quarters of capacity */
    size_t capacity; /* 0 or a power of two */
} at_pointer_set;

/* Leave it empty, and without memory. */
void at_pointer_set_fini(at_pointer_set *set);

/* Put `pointer`, which is not in yet, into the set.
 * errs: AT_ENOMEM, and then it is not in */
int at_pointer_set_add(at_pointer_set *set, void *pointer);

/* Take `pointer` out; says whether it was in. Never allocates. */
bool at_pointer_set_remove(at_pointer_set *set, const void *pointer);

#endif
