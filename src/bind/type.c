/* Small things that every type needs; see type.h. */
#include "bind/type.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

PyTypeObject *at_bind_add_type(PyObject *module, PyType_Spec *spec)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    if (type != NULL && PyModule_AddType(module, type) < 0) {
        Py_CLEAR(type);
    }
    return type;
}

static int place_of(const char *function, const char *const *names, size_t limit,
                    PyObject *name) AT_ATTACHED
{
    for (size_t i = 0; i < limit; i++) {
        if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0) {
            return (int)i;
        }
    }
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R",
                 function, name);
    return -1;
}

int at_bind_arguments(const char *function, const char *const *names, size_t required,
                      size_t limit, PyObject *const *arguments, Py_ssize_t count,
                      PyObject *keyword_names, PyObject **values)
{
    if ((size_t)count > limit) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zu arguments (%zd given)",
                     function, limit, count);
        return -1;
    }
    bool given[8] = {false};
    for (Py_ssize_t i = 0; i < count; i++) {
        values[i] = arguments[i];
        given[i] = true;
    }
    Py_ssize_t keyword_count =
        keyword_names != NULL ? PyTuple_GET_SIZE(keyword_names) : 0;
    for (Py_ssize_t i = 0; i < keyword_count; i++) {
        PyObject *name = PyTuple_GET_ITEM(keyword_names, i);
        int place = place_of(function, names, limit, name);
        if (place < 0) {
            return -1;
        }
        if (given[place]) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument %R",
                         function, name);
            return -1;
        }
        values[place] = arguments[count + i];
        given[place] = true;
    }
    for (size_t i = 0; i < required; i++) {
        if (!given[i]) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'",
                         function, names[i]);
            return -1;
        }
    }
    return 0;
}

int at_bind_count(const char *function, Py_ssize_t count, Py_ssize_t least,
                  Py_ssize_t most)
{
    if (count >= least && count <= most) {
        return 0;
    }
    if (least == most) {
        PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments (%zd given)", function,
                     most, count);
    } else {
        PyErr_Format(PyExc_TypeError, "%s() takes %zd to %zd arguments (%zd given)",
                     function, least, most, count);
    }
    return -1;
}

PyObject *at_bind_compare(PyObject *left, PyObject *right, int operation,
                          const void *(*thing_of)(PyObject *object))
{
    if ((operation != Py_EQ && operation != Py_NE) || Py_TYPE(left) != Py_TYPE(right)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return PyBool_FromLong((thing_of(left) == thing_of(right)) == (operation == Py_EQ));
}

Py_hash_t at_bind_hash_pointer(const void *pointer)
{
    uintptr_t bits = (uintptr_t)pointer;
    Py_hash_t hash = (Py_hash_t)(bits >> 4 | bits << (sizeof bits * 8 - 4));
    return hash != -1 ? hash : -2;
}

AT_UNCHECKED PyObject *at_bind_no_pickle(PyObject *object, PyObject *unused)
{
    const char *dot = strrchr(Py_TYPE(object)->tp_name, '.');
    const char *name = dot != NULL ? dot + 1 : Py_TYPE(object)->tp_name;
    return PyErr_Format(PyExc_TypeError,
                        "this %s cannot be pickled or copied: it belongs to this "
                        "process, whose interpreters and threads it can be sent to",
                        name);
}
