/* Item types; see item_type.h. */
#define PY_SSIZE_T_CLEAN
#include "bind/item_type.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bind/argument.h"
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

/* The other names and codes that Python, the struct module and numpy have for them. */
static const char *const synonyms[][2] = {
    {"int", "int64"},      {"float", "float64"},    {"complex", "complex128"},
    {"l", "int64"},        {"L", "uint64"},         {"n", "int64"},
    {"N", "uint64"},       {"F", "complex64"},      {"D", "complex128"},
    {"longlong", "int64"}, {"ulonglong", "uint64"}, /* numpy's, of types */
    {"bool_", "bool"},
};

static const at_item_type *find_in_any_language(const char *name)
{
    const at_item_type *found = at_item_type_find(name);
    for (size_t i = 0; i < sizeof item_types / sizeof *item_types; i++) {
        found =
            found == NULL && has_code(&item_types[i], name) ? &item_types[i] : found;
    }
    for (size_t i = 0; i < sizeof synonyms / sizeof *synonyms; i++) {
        found = found == NULL && strcmp(synonyms[i][0], name) == 0
                    ? at_item_type_find(synonyms[i][1])
                    : found;
    }
    return found;
}

/* The byte order of every machine that atoll runs on is little-endian. */
enum order { NATIVE, FOREIGN };

/* What `name` says; NULL where it is nothing that is known here. */
static const at_item_type *find_text(const char *name, enum order *order)
{
    *order = NATIVE;
    if (name[0] == '\0' || strchr("<>=|@!", name[0]) == NULL) {
        return find_in_any_language(name);
    }
    *order = name[0] == '>' || name[0] == '!' ? FOREIGN : NATIVE;
    /* "<l" has 4 bytes for the struct module, and 8 for numpy. */
    if (name[1] != '\0' && strchr("lLnN", name[1]) != NULL) {
        return NULL;
    }
    return find_in_any_language(name + 1);
}

static const at_item_type *find_string(PyObject *name, enum order *order) AT_ATTACHED
{
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(name, &length);
    if (text == NULL) {
        PyErr_Clear(); /* a lone surrogate: it is the name of nothing */
        return NULL;
    }
    return strlen(text) == (size_t)length ? find_text(text, order) : NULL;
}

/* An attribute of a dtype: 1 with a new reference, 0 where there is none, or it is
 * None; or -1 with an exception set. */
static int attribute(PyObject *dtype, const char *name, PyObject **value) AT_ATTACHED
{
    int status = PyObject_GetOptionalAttrString(dtype, name, value);
    if (status > 0 && *value == Py_None) {
        Py_CLEAR(*value);
        return 0;
    }
    return status;
}

/* A numpy.dtype is its name and more: the order of the bytes, and fields in them. */
static const at_item_type *find_dtype(PyObject *dtype, enum order *order) AT_ATTACHED
{
    PyObject *name = NULL;
    PyObject *size = NULL;
    PyObject *byte_order = NULL;
    PyObject *fields = NULL;
    const at_item_type *found = NULL;
    enum order unused;
    if (attribute(dtype, "name", &name) > 0 && PyUnicode_Check(name) &&
        attribute(dtype, "itemsize", &size) > 0 && PyLong_Check(size) &&
        attribute(dtype, "byteorder", &byte_order) >= 0 &&
        attribute(dtype, "fields", &fields) == 0) {
        found = find_string(name, &unused);
        if (found != NULL && PyLong_AsSize_t(size) != found->item_bytes) {
            found = NULL;
        }
        if (byte_order != NULL && PyUnicode_Check(byte_order) &&
            PyUnicode_EqualToUTF8(byte_order, ">")) {
            *order = FOREIGN;
        }
    }
    Py_XDECREF(name);
    Py_XDECREF(size);
    Py_XDECREF(byte_order);
    Py_XDECREF(fields);
    return found;
}

enum { SHORTEST_NAME = 3 };

static const at_item_type *find_class(PyObject *class, enum order *order) AT_ATTACHED
{
    PyObject *name = PyType_GetName((PyTypeObject *)class);
    /* A class that is called "d" is no number for that. */
    bool is_word = name != NULL && PyUnicode_GET_LENGTH(name) >= SHORTEST_NAME;
    const at_item_type *found = is_word ? find_string(name, order) : NULL;
    Py_XDECREF(name);
    return found;
}

/* NULL, with an exception set where one was raised. */
static const at_item_type *find(PyObject *dtype, enum order *order) AT_ATTACHED
{
    *order = NATIVE;
    if (PyUnicode_Check(dtype)) {
        return find_string(dtype, order);
    }
    return PyType_Check(dtype) ? find_class(dtype, order) : find_dtype(dtype, order);
}

const at_item_type *at_item_type_of(PyObject *dtype)
{
    enum order order;
    const at_item_type *found = find(dtype, &order);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (found == NULL) {
        PyErr_Format(
            PyExc_TypeError,
            "%R is no item type that can be shared: bool, int8 to int64, "
            "uint8 to uint64, float16 to float64, complex64 and complex128 are. "
            "Others lie in a SharedBuffer: numpy.frombuffer(buffer, dtype)",
            dtype);
    } else if (order == FOREIGN && found->item_bytes > 1) {
        PyErr_Format(PyExc_TypeError,
                     "%R has the other byte order, and a SharedArray the machine's: "
                     "take %s for the dtype and assign, which converts, or look at a "
                     "SharedBuffer: numpy.frombuffer(buffer, dtype)",
                     dtype, found->name);
        found = NULL;
    }
    return found;
}

int at_item_shape(PyObject *object, ptrdiff_t *shape)
{
    if (PyIndex_Check(object) && !PySequence_Check(object)) { /* an array is both */
        at_int_argument size = {"shape", 0};
        if (!at_bind_int(object, &size)) {
            return -1;
        }
        shape[0] = (ptrdiff_t)size.value;
        return 1;
    }
    if (PyUnicode_Check(object) ||
        (Py_TYPE(object)->tp_iter == NULL && !PySequence_Check(object))) {
        PyErr_Format(PyExc_TypeError,
                     "shape must be an int or a tuple of ints, not %.100s",
                     Py_TYPE(object)->tp_name);
        return -1;
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
        at_int_argument size = {"each item of shape", 0};
        if (!at_bind_int(PyTuple_GET_ITEM(sizes, i), &size)) {
            count = -1;
        }
        shape[i] = (ptrdiff_t)size.value;
    }
    Py_DECREF(sizes);
    return (int)count;
}

/* item_format(dtype): its format, behind ">" where it has the other byte order, or
 * None.
 */
AT_UNCHECKED static PyObject *item_format(PyObject *Py_UNUSED(module), PyObject *dtype)
{
    enum order order;
    const at_item_type *found = find(dtype, &order);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (found == NULL) {
        Py_RETURN_NONE;
    }
    bool foreign = order == FOREIGN && found->item_bytes > 1;
    return PyUnicode_FromFormat("%s%s", foreign ? ">" : "", found->format);
}

PyMethodDef at_item_type_functions[] = {
    {"item_format", item_format, METH_O,
     "item_format($module, dtype, /)\n--\n\nThe struct module's format, or None."},
    {NULL, NULL, 0, NULL},
};
