/* Functions and types by value that are known; see known.h.
 *
 * atoll._parcel.known keeps them in its dict _known: function or type -> (guards,
 * token, bytes). They can change, and so can what they refer to: each use checks the
 * guards, without running any code. */
#define PY_SSIZE_T_CLEAN
#include "parcel/known.h"

#include <string.h>

static bool is_empty(PyObject *tuple_or_dict)
{
    return tuple_or_dict == NULL || tuple_or_dict == Py_None ||
           (PyTuple_Check(tuple_or_dict) && PyTuple_GET_SIZE(tuple_or_dict) == 0) ||
           (PyDict_Check(tuple_or_dict) && PyDict_GET_SIZE(tuple_or_dict) == 0);
}

/* Does `dict` have these values under these names: (name, value, name, value ...)? */
static bool names_hold(PyObject *dict, PyObject *used) AT_ATTACHED
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(used); i += 2) {
        PyObject *found;
        if (PyDict_GetItemRef(dict, PyTuple_GET_ITEM(used, i), &found) <= 0) {
            return false;
        }
        Py_DECREF(found); /* the guard holds what it is compared with */
        if (found != PyTuple_GET_ITEM(used, i + 1)) {
            return false;
        }
    }
    return true;
}

static bool part_holds(PyObject *part, PyObject *guard, Py_ssize_t index)
{
    PyObject *was = PyTuple_GET_ITEM(guard, index);
    return was == Py_None ? is_empty(part) : part == was;
}

static bool function_holds(PyObject *object, PyObject *guard) AT_ATTACHED
{
    const PyFunctionObject *function = (PyFunctionObject *)object;
    if (function->func_code != PyTuple_GET_ITEM(guard, 1) ||
        !part_holds(function->func_closure, guard, 2) ||
        !part_holds(function->func_defaults, guard, 3) ||
        !part_holds(function->func_kwdefaults, guard, 4) ||
        !part_holds(function->func_dict, guard, 5) ||
        !part_holds(function->func_annotations, guard, 11) ||
        !is_empty(function->func_typeparams) ||
        function->func_name != PyTuple_GET_ITEM(guard, 8) ||
        function->func_qualname != PyTuple_GET_ITEM(guard, 9) ||
        (function->func_doc != NULL ? function->func_doc : Py_None) !=
            PyTuple_GET_ITEM(guard, 10) ||
        !names_hold(function->func_globals, PyTuple_GET_ITEM(guard, 6))) {
        return false;
    }
    PyObject *unused = PyTuple_GET_ITEM(guard, 7);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(unused); i++) {
        if (PyDict_Contains(function->func_globals, PyTuple_GET_ITEM(unused, i)) != 0) {
            return false;
        }
    }
    return true;
}

/* Is that which `guard` watches as it was? */
static bool guard_holds(PyObject *guard) AT_ATTACHED
{
    PyObject *watched = PyTuple_GET_ITEM(guard, 0), *was = PyTuple_GET_ITEM(guard, 1);
    if (PyFunction_Check(watched)) {
        return function_holds(watched, guard);
    }
    if (PyType_Check(watched)) {
        /* Any change of the type or a base of it takes the tag away. */
        unsigned tag = ((PyTypeObject *)watched)->tp_version_tag;
        const PyHeapTypeObject *type = (PyHeapTypeObject *)watched;
        return tag != 0 && PyLong_AsUnsignedLong(was) == tag &&
               type->ht_name == PyTuple_GET_ITEM(guard, 2) &&
               type->ht_qualname == PyTuple_GET_ITEM(guard, 3);
    }
    if (PyCell_Check(watched)) {
        PyObject *content = PyCell_Get(watched);
        Py_XDECREF(content);
        return content == was;
    }
    return PyDict_GET_SIZE(watched) * 2 == PyTuple_GET_SIZE(was) &&
           names_hold(watched, was);
}

static bool holds(PyObject *entry) AT_ATTACHED
{
    PyObject *guards = PyTuple_GET_ITEM(entry, 0);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(guards); i++) {
        if (!guard_holds(PyTuple_GET_ITEM(guards, i))) {
            return false;
        }
    }
    return true;
}

/* Only what hashes by identity, so that a lookup runs no code. */
static bool may_be_known(PyObject *object)
{
    return PyFunction_Check(object) ||
           (PyType_Check(object) && Py_TYPE(object)->tp_hash == PyType_Type.tp_hash &&
            Py_TYPE(object)->tp_richcompare == PyType_Type.tp_richcompare);
}

int at_packer_known(at_packer *packer, PyObject *object)
{
    PyObject *entry;
    if ((packer->whole && PyType_Check(object)) || !may_be_known(object) ||
        PyDict_GetItemRef(packer->state->known, object, &entry) <= 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int status = 0;
    if (holds(entry)) {
        PyObject *token = PyTuple_GET_ITEM(entry, 1),
                 *data = PyTuple_GET_ITEM(entry, 2);
        uint32_t size = (uint32_t)PyBytes_GET_SIZE(data);
        status = at_packer_tag(packer, AT_TAG_KNOWN | AT_TAG_MEMO) == 0 &&
                         at_packer_append(packer, PyBytes_AS_STRING(token),
                                          AT_KNOWN_TOKEN_BYTES) == 0 &&
                         at_packer_append(packer, &size, sizeof size) == 0 &&
                         at_packer_append(packer, PyBytes_AS_STRING(data), size) == 0 &&
                         at_packer_remember(packer, object) == 0
                     ? 1
                     : -1;
    } else if (PyErr_Occurred()) {
        status = -1;
    }
    Py_DECREF(entry);
    return status;
}

PyObject *at_unpacker_known(at_unpacker *in)
{
    uint32_t size;
    const char *token = at_unpacker_take(in, AT_KNOWN_TOKEN_BYTES);
    const char *head = token != NULL ? at_unpacker_take(in, sizeof size) : NULL;
    if (head == NULL) {
        return NULL;
    }
    memcpy(&size, head, sizeof size);
    const char *data = at_unpacker_take(in, size);
    PyObject *key =
        data != NULL ? PyBytes_FromStringAndSize(token, AT_KNOWN_TOKEN_BYTES) : NULL;
    PyObject *found = NULL;
    if (key != NULL && PyDict_GetItemRef(in->state->received, key, &found) == 0) {
        found = PyObject_CallFunction(in->state->make_received, "Oy#", key, data,
                                      (Py_ssize_t)size);
    }
    Py_XDECREF(key);
    return found;
}
