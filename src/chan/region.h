/* Regions and views: shared memory, and the shapes in which it is looked at.
 *
 * A region is a run of memory that every interpreter of this process and any process
 * that gets its descriptor sees. A view is a part of a region with a shape: it never
 * changes, many objects may stand for one, and it keeps its region. What the bytes mean
 * is a format of the struct module's, as PEP 3118 has it.
 */
#ifndef AT_CHAN_REGION_H
#define AT_CHAN_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/shared.h"
#include "chan/mapped.h"
#include "sys/memfd.h"

enum { AT_VIEW_DIMENSIONS = 32, AT_VIEW_FORMAT_BYTES = 8 };

typedef struct at_region {
    at_shared shared;
    at_memfd memory;  /* fixed after new */
    at_mapped mapped; /* by which it is found again */
} at_region;

/* ctx:  any
 * owns: the caller's one reference
 * errs: fault: AT_ENOMEM, AT_EINVALID for a size of 0, AT_ESYSTEM */
int at_region_new(const char *label, size_t size_bytes, at_region **region,
                  at_fault *fault);

/* The region of `descriptor`: of one memory there is one region in a process.
 * ctx:  any
 * owns: the caller gets one reference; the descriptor stays the caller's
 * errs: fault: those of at_memfd_look() and at_memfd_join() */
int at_region_adopt(int descriptor, at_region **region, at_fault *fault);

/* The unit of every count is an item; row-major, the last dimension is dense. */
typedef struct at_view {
    at_shared shared;
    at_region *region; /* a reference; fixed after new, as all below */
    size_t offset_bytes;
    size_t size_bytes;
    bool readonly;
    char format[AT_VIEW_FORMAT_BYTES];
    size_t item_bytes;
    int dimension_count;                   /* at least 1 */
    ptrdiff_t shape[AT_VIEW_DIMENSIONS];   /* items */
    ptrdiff_t strides[AT_VIEW_DIMENSIONS]; /* bytes */
} at_view;

/* A buffer of bytes and an array travel as handles of different Python types. */
extern const at_shared_kind at_view_buffer_kind;
extern const at_shared_kind at_view_array_kind;

/* A dense view of `region` that begins at `offset_bytes`. The layout must lie inside.
 * ctx:  any
 * owns: takes a reference of its own to the region; the caller gets one to the view
 * errs: AT_ENOMEM; AT_EINVALID where it does not fit */
int at_view_new(const at_shared_kind *kind, at_region *region, size_t offset_bytes,
                const char *format, size_t item_bytes, int dimension_count,
                const ptrdiff_t *shape, bool readonly, at_view **view);

/* The items `start` to `stop` of the first dimension of `view`.
 * ctx:  any
 * owns: the caller gets a reference to the new view
 * errs: AT_ENOMEM; AT_EINVALID where they are not in it */
int at_view_slice(const at_view *view, ptrdiff_t start, ptrdiff_t stop, bool readonly,
                  at_view **slice);

/* Do both look at the same items of the same memory, in the same way? ctx: any */
bool at_view_equal(const at_view *a, const at_view *b);

/* Equal views have equal ones, which stay when a view has gone. ctx: any */
uint64_t at_view_hash(const at_view *view);

static inline void *at_view_data(const at_view *view)
{
    return (char *)view->region->memory.data + view->offset_bytes;
}

#endif
