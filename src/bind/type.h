/* Small things that every type of the module needs. */
#ifndef AT_BIND_TYPE_H
#define AT_BIND_TYPE_H

#include <Python.h>
#include <stddef.h>

#include "base/contexts.h"

/* Make the type of `spec` for this interpreter and add it to `module`. A new reference,
 * or NULL with an exception set.
 * ctx: attached */
PyTypeObject *at_bind_add_type(PyObject *module, PyType_Spec *spec) AT_ATTACHED;

/* The arguments of a METH_FASTCALL | METH_KEYWORDS function into `values`, borrowed, by
 * position or by one of the `limit` names; those not given stay as they are.
 * ctx:  attached
 * errs: -1 with TypeError */
int at_bind_arguments(const char *function, const char *const *names, size_t required,
                      size_t limit, PyObject *const *arguments, Py_ssize_t count,
                      PyObject *keyword_names, PyObject **values) AT_ATTACHED;

/* Are there `least` to `most` positional arguments? 0, or -1 with TypeError.
 * ctx: attached */
int at_bind_count(const char *function, Py_ssize_t count, Py_ssize_t least,
                  Py_ssize_t most) AT_ATTACHED;

/* The comparison of handles, which are equal when they are of one thing: `thing_of`
 * says of which, for objects of one type. ctx: attached */
PyObject *at_bind_compare(PyObject *left, PyObject *right, int operation,
                          const void *(*thing_of)(PyObject *object)) AT_ATTACHED;

/* The method __reduce__ of what stays in its process: TypeError, which says so.
 * ctx: attached */
PyObject *at_bind_no_pickle(PyObject *object, PyObject *unused);

#define AT_BIND_NO_PICKLE                                                              \
    {                                                                                  \
        "__reduce__", at_bind_no_pickle, METH_NOARGS,                                  \
            "__reduce__($self)\n--\n\nTypeError: it belongs to this process."          \
    }

/* The members of a type whose objects can be referred to weakly: `object_type` has a
 * field weak_references, and its dealloc calls PyObject_ClearWeakRefs() where that is
 * not NULL. */
#define AT_BIND_WEAK_MEMBERS(object_type)                                              \
    {                                                                                  \
        {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(object_type, weak_references),  \
         Py_READONLY, NULL},                                                           \
            {NULL, 0, 0, 0, NULL},                                                     \
    }

/* A hash of an address, whose low bits say nothing. ctx: any */
Py_hash_t at_bind_hash_pointer(const void *pointer);

#endif
