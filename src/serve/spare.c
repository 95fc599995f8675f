/* Spares; see spare.h. */
#include "serve/spare.h"

#include <string.h>

PyObject *at_spare_take(at_spares *spares, PyTypeObject *type)
{
    if (spares->count == 0) {
        return type->tp_alloc(type, 0);
    }
    PyObject *object = spares->objects[--spares->count];
    memset((char *)object + sizeof *object, 0,
           (size_t)type->tp_basicsize - sizeof *object);
    (void)PyObject_Init(object, type);
    PyObject_GC_Track(object);
    return object;
}

void at_spare_give(at_spares *spares, PyObject *object)
{
#ifndef Py_GIL_DISABLED
    if (spares->count < AT_SPARES_MAX) {
        spares->objects[spares->count++] = object;
        return;
    }
#endif
    PyObject_GC_Del(object);
}

void at_spare_drop(at_spares *spares)
{
    while (spares->count > 0) {
        PyObject_GC_Del(spares->objects[--spares->count]);
    }
}
