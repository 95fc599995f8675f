/* New shared memory, and copies of it in other memory; see buffer.h. */
#define PY_SSIZE_T_CLEAN
#include <string.h>

#include "base/error.h"
#include "bind/buffer.h"
#include "bind/claim.h"
#include "bind/error.h"

/* Copying less than this is quicker than letting another thread have the GIL. */
enum { DETACHED_BYTES = 1 << 20 };

static at_region *region_make(const char *name, size_t size_bytes) AT_ATTACHED
{
    PyObject *claim;
    if (at_bind_claim("atoll._buffer", name, &claim) < 0) {
        return NULL;
    }
    char label[256];
    (void)snprintf(label, sizeof label, "atoll:%s", name != NULL ? name : "");
    at_fault fault;
    at_region *region = NULL;
    /* An empty array still has an address. */
    if (at_region_new(label, size_bytes != 0 ? size_bytes : 1, &region, &fault) < 0) {
        if (fault.code == AT_ENOMEM) {
            PyErr_Format(PyExc_MemoryError, "no room for %zu bytes", size_bytes);
        } else {
            at_raise_fault(&fault);
        }
    }
    if (at_bind_claim_end(claim) < 0) {
        at_shared_unref(region != NULL ? &region->shared : NULL);
        return NULL;
    }
    return region;
}

at_view *at_buffer_make(const at_shared_kind *kind, const char *name,
                        const at_item_type *items, int dimension_count,
                        const ptrdiff_t *shape)
{
    size_t size_bytes = items->item_bytes;
    for (int i = 0; i < dimension_count; i++) {
        if (shape[i] < 0) {
            PyErr_Format(PyExc_ValueError, "a dimension has 0 or more items, not %zd",
                         shape[i]);
            return NULL;
        }
        if (__builtin_mul_overflow(size_bytes, (size_t)shape[i], &size_bytes) ||
            size_bytes > PY_SSIZE_T_MAX) {
            PyErr_SetString(PyExc_ValueError, "an array of that shape has more bytes "
                                              "than there are addresses");
            return NULL;
        }
    }
    at_region *region = region_make(name, size_bytes);
    if (region == NULL) {
        return NULL;
    }
    at_view *view;
    int result = at_view_new(kind, region, 0, items->format, items->item_bytes,
                             dimension_count, shape, false, &view);
    at_shared_unref(&region->shared);
    if (result < 0) {
        at_raise(result);
        return NULL;
    }
    return view;
}

at_view *at_buffer_duplicate(at_view *view)
{
    at_view *made =
        at_buffer_make(view->shared.kind, NULL, at_item_type_find(view->format),
                       view->dimension_count, view->shape);
    if (made == NULL) {
        return NULL;
    }
    if (view->size_bytes < DETACHED_BYTES) {
        memcpy(at_view_data(made), at_view_data(view), view->size_bytes);
    } else {
        at_shared_ref(&view->shared); /* its object may let it go meanwhile */
        Py_BEGIN_ALLOW_THREADS memcpy(at_view_data(made), at_view_data(view),
                                      view->size_bytes);
        Py_END_ALLOW_THREADS at_shared_unref(&view->shared);
    }
    return made;
}
