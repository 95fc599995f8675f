/* atoll.SharedBuffer and atoll.SharedArray, for the other files of bind/. */
#ifndef AT_BIND_BUFFER_H
#define AT_BIND_BUFFER_H

#include <Python.h>

#include "base/contexts.h"
#include "bind/item_type.h"
#include "chan/region.h"

/* What `object` looks at: borrowed; NULL with TypeError where it is no shared memory,
 * or ValueError where that was released. ctx: attached */
at_view *at_buffer_view(PyObject *object) AT_ATTACHED;

/* A new object of `type` over `view`, whose reference goes. NULL with an exception set.
 * ctx: attached */
PyObject *at_buffer_wrap(PyTypeObject *type, at_view *view) AT_ATTACHED;

/* ---- buffer_make.c -------------------------------------------------------------- */

/* A view of its own memory, zeros, which `name` (or NULL) names. A reference of the
 * caller's, or NULL with an exception set. ctx: attached */
at_view *at_buffer_make(const at_shared_kind *kind, const char *name,
                        const at_item_type *items, int dimension_count,
                        const ptrdiff_t *shape) AT_ATTACHED;

/* The same items in memory of their own, which can be written. ctx: attached, with the
 * object of `view` held; lets the GIL go for much */
at_view *at_buffer_duplicate(at_view *view) AT_ATTACHED;

/* ---- buffer_items.c: slots of the types -------------------------------------------
 */

PyObject *at_buffer_subscript(PyObject *object, PyObject *key);
int at_buffer_assign(PyObject *object, PyObject *key, PyObject *value);
PyObject *at_buffer_iterate(PyObject *object);

/* ---- buffer_process.c: NULL with an exception set; ctx: attached ----------------- */

/* The size in items of each dimension, as a tuple. */
PyObject *at_buffer_shape(const at_view *view) AT_ATTACHED;

/* _describe(): (descriptor, offset, format, shape, read-only), what _restore() takes.
 * The descriptor stays this object's. */
PyObject *at_buffer_describe(PyObject *object, PyObject *unused);

/* Type._restore(descriptor, offset, format, shape, readonly): the descriptor stays the
 * caller's. */
PyObject *at_buffer_restore(PyObject *type, PyObject *arguments,
                            const at_shared_kind *kind);

/* __reduce__(), for pickle. */
PyObject *at_buffer_reduce(PyObject *object, PyObject *unused);

#endif
