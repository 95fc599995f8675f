/* Spares: the memory of objects that every request makes anew, kept for the next one.
 *
 * A request lives for microseconds; taking its objects from the allocator and the
 * collector each time costs more than filling them. Each type has a few spares, which
 * belong to a worker: what is in them is untracked and holds no references.
 *
 * ctx: attached, on the worker's thread. Without a GIL an application may let go of an
 * object on any thread, so there nothing is kept.
 */
#ifndef AT_SERVE_SPARE_H
#define AT_SERVE_SPARE_H

#include <Python.h>

enum { AT_SPARES_MAX = 16 };

typedef struct at_spares {
    int count;
    PyObject *objects[AT_SPARES_MAX];
} at_spares;

/* A zeroed, tracked object of `type`, as tp_alloc gives.
 * errs: NULL with MemoryError. */
PyObject *at_spare_take(at_spares *spares, PyTypeObject *type);

/* Instead of tp_free, at the end of a tp_dealloc: `object` is untracked and empty. Its
 * reference to its type stays the caller's to drop. */
void at_spare_give(at_spares *spares, PyObject *object);

/* Free what is kept; the type may be gone. */
void at_spare_drop(at_spares *spares);

#endif
