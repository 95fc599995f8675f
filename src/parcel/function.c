/* Functions by value that are known; see function.h.
 *
 * atoll._parcel.functions keeps what it found in its dict _simple: function -> (code,
 * globals that the code names, names that are no globals, token, bytes). A function can
 * change, and so can its globals: each use looks again, without running any code. */
#define PY_SSIZE_T_CLEAN
#include "parcel/function.h"

#include <string.h>

static bool is_empty(PyObject *tuple_or_dict)
{
    return tuple_or_dict == NULL || tuple_or_dict == Py_None ||
           (PyTuple_Check(tuple_or_dict) && PyTuple_GET_SIZE(tuple_or_dict) == 0) ||
           (PyDict_Check(tuple_or_dict) && PyDict_GET_SIZE(tuple_or_dict) == 0);
}

/* Do the globals that the code names mean what they did? */
static bool names_hold(PyObject *globals, PyObject *used, PyObject *unused) AT_ATTACHED
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(used); i += 2) {
        PyObject *found;
        if (PyDict_GetItemRef(globals, PyTuple_GET_ITEM(used, i), &found) <= 0) {
            return false;
        }
        Py_DECREF(found); /* the entry holds what it is compared with */
        if (found != PyTuple_GET_ITEM(used, i + 1)) {
            return false;
        }
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(unused); i++) {
        if (PyDict_Contains(globals, PyTuple_GET_ITEM(unused, i)) != 0) {
            return false;
        }
    }
    return true;
}

static bool holds(PyObject *object, PyObject *entry) AT_ATTACHED
{
    const PyFunctionObject *function = (PyFunctionObject *)object;
    return function->func_code == PyTuple_GET_ITEM(entry, 0) &&
           is_empty(function->func_closure) && is_empty(function->func_defaults) &&
           is_empty(function->func_kwdefaults) && is_empty(function->func_dict) &&
           is_empty(function->func_typeparams) &&
           names_hold(function->func_globals, PyTuple_GET_ITEM(entry, 1),
                      PyTuple_GET_ITEM(entry, 2));
}

int at_packer_function(at_packer *packer, PyObject *object)
{
    PyObject *entry;
    if (!PyFunction_Check(object) ||
        PyDict_GetItemRef(packer->state->simple, object, &entry) <= 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int status = 0;
    if (holds(object, entry)) {
        PyObject *token = PyTuple_GET_ITEM(entry, 3),
                 *data = PyTuple_GET_ITEM(entry, 4);
        uint32_t size = (uint32_t)PyBytes_GET_SIZE(data);
        status = at_packer_tag(packer, AT_TAG_FUNCTION | AT_TAG_MEMO) == 0 &&
                         at_packer_append(packer, PyBytes_AS_STRING(token),
                                          AT_FUNCTION_TOKEN_BYTES) == 0 &&
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

PyObject *at_unpacker_function(at_unpacker *in)
{
    uint32_t size;
    const char *token = at_unpacker_take(in, AT_FUNCTION_TOKEN_BYTES);
    const char *head = token != NULL ? at_unpacker_take(in, sizeof size) : NULL;
    if (head == NULL) {
        return NULL;
    }
    memcpy(&size, head, sizeof size);
    const char *data = at_unpacker_take(in, size);
    PyObject *key =
        data != NULL ? PyBytes_FromStringAndSize(token, AT_FUNCTION_TOKEN_BYTES) : NULL;
    PyObject *function = NULL;
    if (key != NULL && PyDict_GetItemRef(in->state->received, key, &function) == 0) {
        function = PyObject_CallFunction(in->state->shared_function, "Oy#", key, data,
                                         (Py_ssize_t)size);
    }
    Py_XDECREF(key);
    return function;
}
