/* Item types; see item_type.h. */
#define PY_SSIZE_T_CLEAN
#include "bind/item_type.h"

#include <stdlib.h>
#include <string.h>

#include "chan/region.h"

static const at_item_type item_types[] = {
    {"bool", "?", 1},       {"int8", "b", 1},         {"uint8", "B", 1},
    {"int16", "h", 2},      {"uint16", "H", 2},       {"int32", "i", 4},
    {"uint32", "I", 4},     {"int64", "q", 8},        {"uint64", "Q", 8},
    {"float16", "e", 2},    {"float32", "f", 4},      {"float64", "d", 8},
    {"complex64", "Zf", 8}, {"complex128", "Zd", 16},
};

const at_item_type *at_item_type_find(const char *name)
{
    for (size_t i = 0; i < sizeof item_types / sizeof *item_types; i++) {
        if (strcmp(item_types[i].name, name) == 0 ||
            strcmp(item_types[i].format, name) == 0) {
            return &item_types[i];
        }
    }
    return NULL;
}

/* As numpy's array interface has it: the kind, and how many bytes ("f8"); "b1" is the
 * boolean. */
static bool has_code(const at_item_type *type, const char *code)
{
    char *end;
    return code[0] == type->name[0] && code[1] >= '1' && code[1] <= '9' &&
           strtoul(code + 1, &end, 10) == type->item_bytes && *end == '\0';
}

static const at_item_type *find_as_numpy(const char *name)
{
    const at_item_type *found = at_item_type_find(name);
    if (found != NULL) {
        return found;
    }
    if (name[0] == '<' || name[0] == '=' || name[0] == '|') {
        name++; /* the byte order of every machine that atoll runs on */
    }
    for (size_t i = 0; i < sizeof item_types / sizeof *item_types; i++) {
        if (has_code(&item_types[i], name)) {
            return &item_types[i];
        }
    }
    return NULL;
}

const at_item_type *at_item_type_of(PyObject *dtype)
{
    PyObject *name = NULL;
    if (PyUnicode_Check(dtype)) {
        name = Py_NewRef(dtype);
    } else if (dtype == (PyObject *)&PyFloat_Type) {
        return at_item_type_find("float64");
    } else if (dtype == (PyObject *)&PyLong_Type) {
        return at_item_type_find("int64");
    } else if (dtype == (PyObject *)&PyComplex_Type) {
        return at_item_type_find("complex128");
    } else if (PyObject_GetOptionalAttrString(
                   dtype, PyType_Check(dtype) ? "__name__" : "name", &name) < 0) {
        return NULL;
    }
    const char *text =
        name != NULL && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
    const at_item_type *found = text != NULL ? find_as_numpy(text) : NULL;
    if (found == NULL && !PyErr_Occurred()) {
        PyErr_Format(
            PyExc_TypeError,
            "%R is no item type that can be shared: bool, int8 to int64, "
            "uint8 to uint64, float16 to float64, complex64 and complex128 are",
            dtype);
    }
    Py_XDECREF(name);
    return found;
}

int at_item_shape(PyObject *object, ptrdiff_t *shape)
{
    if (PyLong_Check(object)) {
        shape[0] = PyLong_AsSsize_t(object);
        return shape[0] == -1 && PyErr_Occurred() ? -1 : 1;
    }
    PyObject *sizes = PySequence_Tuple(object);
    if (sizes == NULL) {
        return -1;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(sizes);
    if (count < 1 || count > AT_VIEW_DIMENSIONS) {
        PyErr_Format(PyExc_ValueError, "an array has 1 to %d dimensions, not %zd",
                     AT_VIEW_DIMENSIONS, count);
        count = -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        shape[i] = PyNumber_AsSsize_t(PyTuple_GET_ITEM(sizes, i), PyExc_OverflowError);
        if (shape[i] == -1 && PyErr_Occurred()) {
            count = -1;
        }
    }
    Py_DECREF(sizes);
    return (int)count;
}
