/* What of shared memory is mapped in this process: one thing for each memory, however
 * often its descriptor comes in.
 *
 * So what is one thing for all is one object here too: handles can be compared by the
 * thing that they stand for, and memory that comes back, or comes again with each task,
 * takes no second mapping and no second descriptor.
 *
 * Locks: the table's mutex; nothing is called out, woken or allocated under it.
 */
#ifndef AT_CHAN_MAPPED_H
#define AT_CHAN_MAPPED_H

#include <stdint.h>

#include "base/shared.h"
#include "sys/memfd.h"

/* What the memory is looked at as: things of two families never are one. */
typedef enum at_mapped_family { AT_MAPPED_REGION, AT_MAPPED_PLACE } at_mapped_family;

/* Embedded by the thing, zeros until at_mapped_enter(); guarded: the table's mutex. */
typedef struct at_mapped {
    at_mapped_family family;
    uint64_t identity[2];
    at_shared *thing; /* not counted; NULL: it is not in the table */
    struct at_mapped *next;
    struct at_mapped **link; /* what points to this one */
} at_mapped;

/* The thing of this process over `memory`, with a reference, or NULL.
 * ctx: any */
at_shared *at_mapped_find(at_mapped_family family, const at_memfd *memory);

/* `thing` over `memory` is complete, and may be found by way of `self`. Returns it, or
 * the one that was found first, with a reference of the caller's; then the caller lets
 * its own go.
 * ctx: any */
at_shared *at_mapped_enter(at_mapped *self, at_mapped_family family,
                           const at_memfd *memory, at_shared *thing);

/* Its last reference has gone, or it never was entered. ctx: any */
void at_mapped_leave(at_mapped *self);

#endif
