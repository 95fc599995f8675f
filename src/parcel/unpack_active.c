/* Unpacking what makes Python code run: globals, calls, and objects that were reduced
 * the way that pickle's protocol 5 defines. Only for bytes that this program wrote; see
 * parcel.h. */
#define PY_SSIZE_T_CLEAN
#include "base/contexts.h"
#include "parcel/format.h"
#include "parcel/known.h"
#include "parcel/unpacker.h"

/* A global of a module that is there, under a name without dots. NULL without an
 * exception where it takes more than that. */
static PyObject *find_quickly(PyObject *module_name, PyObject *name) AT_ATTACHED
{
    PyObject *module = PyImport_GetModule(module_name);
    PyObject *found = NULL;
    if (module != NULL && PyUnicode_GET_LENGTH(name) != 0) {
        (void)PyObject_GetOptionalAttr(module, name, &found);
    }
    Py_XDECREF(module);
    PyErr_Clear();
    return found;
}

static PyObject *find_global(at_unpacker *in, PyObject *module_name,
                             PyObject *name) AT_ATTACHED
{
    if (!PyUnicode_CheckExact(module_name) || !PyUnicode_CheckExact(name)) {
        return at_unpacker_malformed("a name that is no str");
    }
    PyObject *found = find_quickly(module_name, name);
    return found != NULL ? found
                         : PyObject_CallFunctionObjArgs(in->state->find_global,
                                                        module_name, name, NULL);
}

static PyObject *read_global(at_unpacker *in) AT_ATTACHED
{
    PyObject *module = at_unpacker_object(in);
    PyObject *name = module != NULL ? at_unpacker_object(in) : NULL;
    PyObject *found = name != NULL ? find_global(in, module, name) : NULL;
    Py_XDECREF(module);
    Py_XDECREF(name);
    return found;
}

/* The callable and its arguments: a new object. */
static PyObject *read_call(at_unpacker *in) AT_ATTACHED
{
    PyObject *callable = at_unpacker_object(in);
    PyObject *arguments = callable != NULL ? at_unpacker_object(in) : NULL;
    PyObject *object = NULL;
    if (arguments != NULL) {
        object = PyTuple_CheckExact(arguments)
                     ? PyObject_Call(callable, arguments, NULL)
                     : at_unpacker_malformed("arguments that are no tuple");
    }
    Py_XDECREF(callable);
    Py_XDECREF(arguments);
    return object;
}

static bool at_stream_end(at_unpacker *in)
{
    if (in->at < in->end && *in->at == AT_TAG_END) {
        in->at++;
        return true;
    }
    return false;
}

static int read_items(at_unpacker *in, PyObject *object) AT_ATTACHED
{
    while (!at_stream_end(in)) {
        PyObject *item = at_unpacker_object(in);
        int status = -1;
        if (item != NULL && PyList_Check(object) &&
            Py_TYPE(object)->tp_iter == PyList_Type.tp_iter) {
            status = PyList_Append(object, item);
        } else if (item != NULL) {
            PyObject *result = PyObject_CallMethod(object, "append", "O", item);
            status = result != NULL ? 0 : -1;
            Py_XDECREF(result);
        }
        Py_XDECREF(item);
        if (status < 0) {
            return -1;
        }
    }
    return 0;
}

static int read_pairs(at_unpacker *in, PyObject *object) AT_ATTACHED
{
    while (!at_stream_end(in)) {
        PyObject *key = at_unpacker_object(in);
        PyObject *value = key != NULL ? at_unpacker_object(in) : NULL;
        int status = value != NULL ? PyObject_SetItem(object, key, value) : -1;
        Py_XDECREF(key);
        Py_XDECREF(value);
        if (status < 0) {
            return -1;
        }
    }
    return 0;
}

static int update_dict(PyObject *object, PyObject *attributes) AT_ATTACHED
{
    PyObject *dict = PyObject_GetAttrString(object, "__dict__");
    int status = dict != NULL ? PyDict_Update(dict, attributes) : -1;
    Py_XDECREF(dict);
    return status;
}

static int set_attributes(PyObject *object, PyObject *attributes) AT_ATTACHED
{
    PyObject *key, *value;
    Py_ssize_t position = 0;
    int status = 0;
    while (status == 0 && PyDict_Next(attributes, &position, &key, &value)) {
        status = PyObject_SetAttr(object, key, value);
    }
    return status;
}

/* What pickle's BUILD does. */
static int apply_state(PyObject *object, PyObject *state) AT_ATTACHED
{
    PyObject *apply;
    if (PyObject_GetOptionalAttrString(object, "__setstate__", &apply) < 0) {
        return -1;
    }
    if (apply != NULL) {
        PyObject *result = PyObject_CallOneArg(apply, state);
        Py_DECREF(apply);
        Py_XDECREF(result);
        return result != NULL ? 0 : -1;
    }
    PyObject *attributes = state, *slots = NULL;
    if (PyTuple_Check(state) && PyTuple_GET_SIZE(state) == 2) {
        attributes = PyTuple_GET_ITEM(state, 0);
        slots = PyTuple_GET_ITEM(state, 1);
    }
    if ((attributes != Py_None && !PyDict_Check(attributes)) ||
        (slots != NULL && slots != Py_None && !PyDict_Check(slots))) {
        PyErr_SetString(PyExc_TypeError, "the state of an object is no dict");
        return -1;
    }
    if (attributes != Py_None && PyDict_GET_SIZE(attributes) != 0 &&
        update_dict(object, attributes) < 0) {
        return -1;
    }
    return slots != NULL && slots != Py_None ? set_attributes(object, slots) : 0;
}

static int read_state(at_unpacker *in, PyObject *object, int parts) AT_ATTACHED
{
    PyObject *apply = NULL;
    if ((parts & AT_PART_SETTER) != 0 && (apply = at_unpacker_object(in)) == NULL) {
        return -1;
    }
    PyObject *state = at_unpacker_object(in);
    int status = -1;
    if (state != NULL && apply != NULL) {
        PyObject *result = PyObject_CallFunctionObjArgs(apply, object, state, NULL);
        status = result != NULL ? 0 : -1;
        Py_XDECREF(result);
    } else if (state != NULL) {
        status = apply_state(object, state);
    }
    Py_XDECREF(apply);
    Py_XDECREF(state);
    return status;
}

static PyObject *read_reduced(at_unpacker *in, bool again) AT_ATTACHED
{
    PyObject *object = at_unpacker_complete(in, read_call(in), again);
    const char *parts = object != NULL ? at_unpacker_take(in, 1) : NULL;
    if (parts == NULL ||
        ((*parts & AT_PART_ITEMS) != 0 && read_items(in, object) < 0) ||
        ((*parts & AT_PART_PAIRS) != 0 && read_pairs(in, object) < 0) ||
        ((*parts & AT_PART_STATE) != 0 && read_state(in, object, *parts) < 0)) {
        Py_XDECREF(object);
        return NULL;
    }
    return object;
}

/* What makes Python code run. */
PyObject *at_unpacker_active(at_unpacker *in, int tag, bool again)
{
    if (!in->trusted) {
        return at_unpacker_malformed(
            "only plain data is read from outside this program");
    }
    if (at_parcel_state_complete(in->state) < 0) {
        return NULL;
    }
    switch (tag) {
    case AT_TAG_GLOBAL:
        return at_unpacker_complete(in, read_global(in), again);
    case AT_TAG_KNOWN:
        return at_unpacker_complete(in, at_unpacker_known(in), again);
    case AT_TAG_REDUCE:
        return read_reduced(in, again);
    default:
        return at_unpacker_inside(in, read_call(in));
    }
}
