/* The types of items that shared memory can hold, and the shapes of arrays of them. */
#ifndef AT_BIND_ITEM_TYPE_H
#define AT_BIND_ITEM_TYPE_H

#include <Python.h>
#include <stddef.h>

#include "base/contexts.h"

typedef struct at_item_type {
    const char *name;   /* numpy's */
    const char *format; /* the struct module's */
    size_t item_bytes;
} at_item_type;

/* By its name or format, or NULL. ctx: any */
const at_item_type *at_item_type_find(const char *name);

/* The type that `dtype` names, and no other than that: a name, a format character, a
 * code such as "f8" or "<f8", a numpy.dtype, or a class with such a name, as
 * numpy.float64 and float. NULL with TypeError, also for the other byte order.
 * ctx: attached */
const at_item_type *at_item_type_of(PyObject *dtype) AT_ATTACHED;

/* A number or a sequence of numbers into `shape`, which has room for
 * AT_VIEW_DIMENSIONS; returns how many, or -1 with an exception set. ctx: attached */
int at_item_shape(PyObject *object, ptrdiff_t *shape) AT_ATTACHED;

/* item_format(), for the module. */
extern PyMethodDef at_item_type_functions[];

#endif
