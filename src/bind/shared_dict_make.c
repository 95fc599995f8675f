/* atoll.SharedDict: how one is made, filled and copied.
 *
 * SharedDict() takes what dict() takes. What it is given beside items (shared, name,
 * size) has names of its own among the keywords, so an item of such a key goes in as a
 * dict. */
#define PY_SSIZE_T_CLEAN
#include "base/error.h"
#include "bind/argument.h"
#include "bind/claim.h"
#include "bind/error.h"
#include "bind/shared_dict.h"
#include "bind/sync.h"
#include "sys/map.h"

/* ---- filling --------------------------------------------------------------------- */

/* dict(*arguments, **keywords), which asks a SharedDict for each key again, when
 * another may have taken it: for that one its snapshot. */
static PyObject *plain_of(const char *function, PyObject *arguments,
                          PyObject *keywords) AT_ATTACHED
{
    PyObject *first = NULL;
    if (!PyArg_UnpackTuple(arguments, function, 0, 1, &first)) {
        return NULL;
    }
    if (first == NULL || Py_TYPE(first)->tp_dealloc != at_shared_dict_free) {
        return PyObject_Call((PyObject *)&PyDict_Type, arguments, keywords);
    }
    PyObject *plain = at_shared_dict_plain(first, NULL);
    if (plain != NULL && keywords != NULL && PyDict_Update(plain, keywords) < 0) {
        Py_CLEAR(plain);
    }
    return plain;
}

/* Of which of many items the exception is that is set, and stays. */
static void name_item(PyObject *key) AT_ATTACHED
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *note = PyUnicode_FromFormat(
        "This was the item of key %.100R; those before it are set.", key);
    PyObject *done =
        note != NULL ? PyObject_CallMethod(error, "add_note", "O", note) : NULL;
    PyErr_Clear();
    Py_XDECREF(note);
    Py_XDECREF(done);
    PyErr_SetRaisedException(error);
}

/* Set what dict(*arguments, **keywords) would have, for `function`. */
static int fill(PyObject *object, const char *function, PyObject *arguments,
                PyObject *keywords) AT_ATTACHED
{
    PyObject *plain = plain_of(function, arguments, keywords);
    int status = plain != NULL ? 0 : -1;
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (status == 0 && PyDict_Next(plain, &position, &key, &value)) {
        Py_INCREF(key); /* packing runs code */
        Py_INCREF(value);
        status = at_shared_dict_store(object, key, value);
        if (status < 0 && PyErr_ExceptionMatches(PyExc_Exception)) {
            name_item(key);
        }
        Py_DECREF(key);
        Py_DECREF(value);
    }
    Py_XDECREF(plain);
    return status;
}

AT_UNCHECKED PyObject *at_shared_dict_update(PyObject *object, PyObject *arguments,
                                             PyObject *keywords)
{
    if (fill(object, "update", arguments, keywords) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- making ---------------------------------------------------------------------- */

static PyObject *new_private(PyTypeObject *type) AT_ATTACHED
{
    at_dict *dict;
    int result = at_dict_new(&dict);
    if (result < 0) {
        return at_raise(result);
    }
    PyObject *self = at_shared_dict_wrap(type, (at_shared *)dict);
    at_shared_unref((at_shared *)dict);
    return self;
}

/* `size` in bytes: 0, or -1 with an exception set. */
static int size_of(PyObject *size, size_t *size_bytes) AT_ATTACHED
{
    if (!PyIndex_Check(size)) {
        PyErr_Format(PyExc_TypeError, "size must be an int, not %.100s",
                     Py_TYPE(size)->tp_name);
        return -1;
    }
    Py_ssize_t wanted = PyNumber_AsSsize_t(size, NULL); /* the nearest, if none */
    if (wanted == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (wanted < (Py_ssize_t)at_page_bytes() ||
        wanted > (Py_ssize_t)AT_COMMON_MOST_BYTES) {
        PyErr_Format(PyExc_ValueError, "size must be %zu to 2**37 bytes, not %R",
                     at_page_bytes(), size);
        return -1;
    }
    *size_bytes = (size_t)wanted;
    return 0;
}

static PyObject *new_common(PyTypeObject *type, PyObject *size,
                            const char *name) AT_ATTACHED
{
    size_t size_bytes = AT_SHARED_DICT_BYTES;
    if (size != NULL && size_of(size, &size_bytes) < 0) {
        return NULL;
    }
    at_origin origin;
    PyObject *claim;
    if (at_sync_origin(1, name, &origin, &claim) < 0) {
        return NULL;
    }
    at_fault fault;
    at_common_dict *dict;
    PyObject *self = NULL;
    if (at_common_dict_new(size_bytes, &origin, &dict, &fault) < 0) {
        (void)at_raise_fault(&fault);
    } else {
        at_shared *known = at_place_publish((at_placed *)dict);
        self = at_shared_dict_wrap(type, known);
        at_shared_unref(known);
    }
    if (at_bind_claim_end(claim) < 0) {
        Py_CLEAR(self);
    }
    return self;
}

/* What SharedDict() is given beside items: taken out of `keywords`. */
typedef struct options {
    PyObject *shared; /* references, or NULL, as all of these */
    PyObject *name;
    PyObject *size;
} options;

static int take_options(PyObject *keywords, options *given) AT_ATTACHED
{
    *given = (options){0};
    return PyDict_PopString(keywords, "shared", &given->shared) < 0 ||
                   PyDict_PopString(keywords, "name", &given->name) < 0 ||
                   PyDict_PopString(keywords, "size", &given->size) < 0
               ? -1
               : 0;
}

/* The bytes of a `name`, or NULL with an exception set. */
static const char *name_of(PyObject *name) AT_ATTACHED
{
    if (!PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError,
                     "name must be a str, not %.100s; an item of that key goes into a "
                     "dict: SharedDict({'name': ...})",
                     Py_TYPE(name)->tp_name);
        return NULL;
    }
    const char *text = NULL;
    return at_bind_name(name, &text) ? text : NULL;
}

static PyObject *new_as(PyTypeObject *type, const options *given) AT_ATTACHED
{
    const char *name = NULL;
    if (given->name != NULL && given->name != Py_None) {
        name = name_of(given->name);
        if (name == NULL) {
            return NULL;
        }
    }
    int shared = given->shared != NULL ? PyObject_IsTrue(given->shared) : 0;
    PyObject *size = given->size != Py_None ? given->size : NULL;
    if (shared < 0) {
        return NULL;
    }
    if (name != NULL || shared) {
        return new_common(type, size, name);
    }
    if (size != NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "size is of a dict between processes, which is made with "
                        "shared=True or name=; an item of that key goes into a dict: "
                        "SharedDict({'size': ...})");
        return NULL;
    }
    return new_private(type);
}

AT_UNCHECKED PyObject *at_shared_dict_new(PyTypeObject *type, PyObject *arguments,
                                          PyObject *keywords)
{
    PyObject *items = keywords != NULL ? PyDict_Copy(keywords) : PyDict_New();
    options given;
    PyObject *self = NULL;
    if (items != NULL && take_options(items, &given) == 0) {
        self = new_as(type, &given);
    }
    if (items != NULL) {
        Py_XDECREF(given.shared);
        Py_XDECREF(given.name);
        Py_XDECREF(given.size);
    }
    if (self != NULL && fill(self, "SharedDict", arguments, items) < 0) {
        Py_CLEAR(self);
    }
    Py_XDECREF(items);
    return self;
}

AT_UNCHECKED PyObject *at_shared_dict_deepcopy(PyObject *object, PyObject *memo)
{
    const at_common_dict *dict = at_shared_dict_common(object);
    PyObject *options = dict != NULL
                            ? Py_BuildValue("{s:O,s:n}", "shared", Py_True, "size",
                                            (Py_ssize_t)at_common_dict_bytes(dict))
                            : PyDict_New();
    PyObject *items = options != NULL ? PyTuple_Pack(1, object) : NULL;
    PyObject *copy = items != NULL
                         ? PyObject_Call((PyObject *)Py_TYPE(object), items, options)
                         : NULL;
    Py_XDECREF(items);
    Py_XDECREF(options);
    return copy;
}

/* _describe(): (descriptor, None), or None for a dict of this process alone. */
AT_UNCHECKED PyObject *at_shared_dict_describe(PyObject *object, PyObject *unused)
{
    at_shared *thing = at_shared_dict_thing(object);
    if (thing->kind != &at_common_dict_kind) {
        Py_RETURN_NONE;
    }
    const at_place *place = &((at_placed *)thing)->place;
    return Py_BuildValue("(iO)", place->page.memory.descriptor, Py_None);
}
