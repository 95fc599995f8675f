/* Regions and views; see region.h. */
#include "chan/region.h"

#include <stdint.h>
#include <string.h>

#include "base/memory.h"

static void region_free(at_shared *thing)
{
    at_region *region = (at_region *)thing;
    at_mapped_leave(&region->mapped);
    at_memfd_close(&region->memory);
    at_free(region);
}

static const at_shared_kind region_kind = {"region", region_free};

static int region_begin(at_region **region, at_fault *fault)
{
    *region = at_calloc(1, sizeof **region);
    if (*region == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory");
    }
    at_shared_init(&(*region)->shared, &region_kind);
    return 0;
}

/* Make `region` known, or let it go for the one that another thread was first to make
 * known. */
static at_region *publish(at_region *region)
{
    at_shared *found = at_mapped_enter(&region->mapped, AT_MAPPED_REGION,
                                       &region->memory, &region->shared);
    if (found != &region->shared) {
        at_shared_unref(&region->shared);
    }
    return (at_region *)found;
}

int at_region_new(const char *label, size_t size_bytes, at_region **made,
                  at_fault *fault)
{
    if (size_bytes == 0 || size_bytes > PTRDIFF_MAX) {
        return at_fault_set(fault, AT_EINVALID, "shared memory has at least one byte");
    }
    at_region *region;
    int result = region_begin(&region, fault);
    if (result < 0) {
        return result;
    }
    result = at_memfd_open(&region->memory, label, size_bytes, fault);
    if (result < 0) {
        at_free(region);
        return result;
    }
    *made = publish(region); /* another thread may have found it by its label */
    return 0;
}

int at_region_adopt(int descriptor, at_region **made, at_fault *fault)
{
    at_memfd memory;
    int result = at_memfd_look(&memory, descriptor, fault);
    if (result < 0) {
        return result;
    }
    *made = (at_region *)at_mapped_find(AT_MAPPED_REGION, &memory);
    if (*made != NULL) {
        return 0;
    }
    at_region *region;
    result = region_begin(&region, fault);
    if (result < 0) {
        return result;
    }
    result = at_memfd_join(&memory, fault);
    if (result < 0) {
        at_free(region);
        return result;
    }
    region->memory = memory;
    *made = publish(region);
    return 0;
}

static void view_free(at_shared *thing)
{
    at_view *view = (at_view *)thing;
    at_shared_unref(&view->region->shared);
    at_free(view);
}

const at_shared_kind at_view_buffer_kind = {"shared buffer", view_free};
const at_shared_kind at_view_array_kind = {"shared array", view_free};

int at_view_new(const at_shared_kind *kind, at_region *region, size_t offset_bytes,
                const char *format, size_t item_bytes, int dimension_count,
                const ptrdiff_t *shape, bool readonly, at_view **made)
{
    if (dimension_count < 1 || dimension_count > AT_VIEW_DIMENSIONS ||
        item_bytes == 0 || item_bytes > PTRDIFF_MAX ||
        strlen(format) >= AT_VIEW_FORMAT_BYTES) {
        return AT_EINVALID;
    }
    at_view *view = at_calloc(1, sizeof *view);
    if (view == NULL) {
        return AT_ENOMEM;
    }
    size_t size_bytes = item_bytes;
    for (int i = dimension_count - 1; i >= 0; i--) {
        view->shape[i] = shape[i];
        view->strides[i] = (ptrdiff_t)size_bytes;
        if (shape[i] < 0 ||
            __builtin_mul_overflow(size_bytes, (size_t)shape[i], &size_bytes) ||
            size_bytes > PTRDIFF_MAX) {
            at_free(view);
            return AT_EINVALID;
        }
    }
    size_t all_bytes = region->memory.size_bytes;
    if (offset_bytes > all_bytes || size_bytes > all_bytes - offset_bytes) {
        at_free(view);
        return AT_EINVALID;
    }
    at_shared_init(&view->shared, kind);
    view->region = (at_region *)at_shared_ref(&region->shared);
    view->offset_bytes = offset_bytes;
    view->size_bytes = size_bytes;
    view->readonly = readonly;
    memcpy(view->format, format, strlen(format));
    view->item_bytes = item_bytes;
    view->dimension_count = dimension_count;
    *made = view;
    return 0;
}

int at_view_slice(const at_view *view, ptrdiff_t start, ptrdiff_t stop, bool readonly,
                  at_view **slice)
{
    if (start < 0 || stop < start || stop > view->shape[0]) {
        return AT_EINVALID;
    }
    ptrdiff_t shape[AT_VIEW_DIMENSIONS];
    memcpy(shape, view->shape, sizeof shape);
    shape[0] = stop - start;
    size_t offset_bytes = view->offset_bytes + (size_t)(start * view->strides[0]);
    return at_view_new(view->shared.kind, view->region, offset_bytes, view->format,
                       view->item_bytes, view->dimension_count, shape,
                       readonly || view->readonly, slice);
}

bool at_view_equal(const at_view *a, const at_view *b)
{
    /* What is not used of the shape is zeros, and the strides follow from it. */
    return a->region == b->region && a->offset_bytes == b->offset_bytes &&
           a->readonly == b->readonly && a->dimension_count == b->dimension_count &&
           memcmp(a->shape, b->shape, sizeof a->shape) == 0 &&
           memcmp(a->format, b->format, sizeof a->format) == 0;
}

uint64_t at_view_hash(const at_view *view)
{
    uint64_t mixed = view->region->memory.identity[1] * UINT64_C(0x9E3779B97F4A7C15);
    mixed = (mixed ^ mixed >> 32 ^ view->offset_bytes) * UINT64_C(0xC2B2AE3D27D4EB4F);
    return mixed ^ mixed >> 32 ^ view->size_bytes;
}
