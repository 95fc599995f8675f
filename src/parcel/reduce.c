/* Packing what is no plain type: handles, buffers, types and functions by name, and all
 * else as pickle's protocol 5 takes it apart (PEP 307, PEP 574). */
#define PY_SSIZE_T_CLEAN
#include <string.h>

#include "base/contexts.h"
#include "parcel/buffer.h"
#include "parcel/known.h"
#include "parcel/packer.h"

/* 1 where the exception that is set means "this cannot be pickled". */
static bool refuses(at_packer *packer)
{
    return PyErr_ExceptionMatches(PyExc_TypeError) ||
           PyErr_ExceptionMatches(packer->state->pickling_error);
}

static int pack_handle(at_packer *packer, PyObject *object, bool again,
                       const at_parcel_handle *handle) AT_ATTACHED
{
    if (packer->bytes_only) {
        return at_packer_refuse(
            packer, object,
            handle->has_reduce
                ? "it is passed on by a process that has it, which may have ended when "
                  "this is read: give it a name, and put the name here"
                : "it belongs to this process");
    }
    at_shared *thing = handle->thing_of(object);
    size_t position;
    if (thing == NULL) {
        return -1;
    }
    if (at_message_writer_attach(&packer->writer, thing, &position) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    if (at_packer_tag(packer, again ? AT_TAG_HANDLE | AT_TAG_MEMO : AT_TAG_HANDLE) <
            0 ||
        at_packer_size(packer, position) < 0) {
        return -1;
    }
    return again ? at_packer_remember(packer, object) : 0;
}

int at_packer_block(at_packer *packer, int tag, PyObject *object, bool again,
                    const Py_buffer *view)
{
    at_block *block = at_parcel_block_of(packer->state, object, view);
    size_t position;
    if (block == NULL) {
        return -1;
    }
    int code = at_message_writer_attach(&packer->writer, &block->shared, &position);
    at_shared_unref(&block->shared);
    if (code < 0) {
        PyErr_NoMemory();
        return -1;
    }
    if (at_packer_tag(packer, again ? tag | AT_TAG_MEMO : tag) < 0 ||
        at_packer_size(packer, position) < 0) {
        return -1;
    }
    return again ? at_packer_remember(packer, object) : 0;
}

int at_packer_apart(at_packer *packer, int tag, PyObject *object, bool again)
{
    size_t position = (size_t)PyList_Size(packer->apart);
    if (PyList_Append(packer->apart, object) < 0 ||
        at_packer_tag(packer, again ? tag | AT_TAG_MEMO : tag) < 0 ||
        at_packer_size(packer, position) < 0) {
        return -1;
    }
    return again ? at_packer_remember(packer, object) : 0;
}

static int pack_buffer(at_packer *packer, PyObject *object, bool again) AT_ATTACHED
{
    const Py_buffer *view = PyPickleBuffer_GetBuffer(object);
    if (view == NULL) {
        return -1;
    }
    if (!PyBuffer_IsContiguous(view, 'A')) {
        return at_packer_refuse(packer, object, "its memory is not contiguous");
    }
    if (at_packer_is_apart(packer, (size_t)view->len)) {
        return at_packer_apart(packer, AT_TAG_BUFFER_BLOCK, object, again);
    }
    if (view->len >= AT_PARCEL_BLOCK_BYTES && !packer->bytes_only) {
        return at_packer_block(packer, AT_TAG_BUFFER_BLOCK, object, again, view);
    }
    size_t size = (size_t)view->len;
    if (at_packer_tag(packer, again ? AT_TAG_BUFFER | AT_TAG_MEMO : AT_TAG_BUFFER) <
            0 ||
        at_packer_tag(packer, view->readonly != 0) < 0 ||
        at_packer_size(packer, size) < 0 ||
        at_packer_append(packer, view->buf, size) < 0) {
        return -1;
    }
    return again ? at_packer_remember(packer, object) : 0;
}

static int pack_global(at_packer *packer, PyObject *object, PyObject *module,
                       PyObject *name) AT_ATTACHED
{
    if (at_packer_tag(packer, AT_TAG_GLOBAL | AT_TAG_MEMO) < 0 ||
        at_packer_object(packer, module, true) < 0 ||
        at_packer_object(packer, name, true) < 0) {
        return -1;
    }
    return at_packer_remember(packer, object);
}

/* More than this and the table starts anew: it holds references. */
enum { KNOWN_GLOBALS = 1024 };

/* Only what hashes by identity, so that a lookup runs no code. */
static bool may_be_known(PyObject *object)
{
    return PyFunction_Check(object) || PyCFunction_CheckExact(object) ||
           Py_IS_TYPE(object, &PyType_Type);
}

/* Write `object` by a name under which it was found before and still is. 1 when
 * written, 0 when it is not known, or -1. */
static int pack_known(at_packer *packer, PyObject *object) AT_ATTACHED
{
    PyObject *entry;
    if (!may_be_known(object)) {
        return 0;
    }
    if (PyDict_GetItemRef(packer->state->known_globals, object, &entry) <= 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *name = PyTuple_GET_ITEM(entry, 1), *found;
    int status = PyDict_GetItemRef(PyTuple_GET_ITEM(entry, 2), name, &found);
    if (status > 0) {
        status = 0;
        if (found == object) {
            status = pack_global(packer, object, PyTuple_GET_ITEM(entry, 0), name);
            status = status == 0 ? 1 : -1;
        }
        Py_DECREF(found);
    }
    Py_DECREF(entry);
    return status;
}

static int remember_global(at_packer *packer, PyObject *object, PyObject *module_name,
                           PyObject *name) AT_ATTACHED
{
    at_parcel_state *state = packer->state;
    if (!may_be_known(object) ||
        PyUnicode_FindChar(name, '.', 0, PY_SSIZE_T_MAX, 1) >= 0) {
        return 0;
    }
    if (PyDict_Size(state->known_globals) >= KNOWN_GLOBALS) {
        PyDict_Clear(state->known_globals);
    }
    PyObject *module = PyImport_GetModule(module_name);
    if (module == NULL || !PyModule_Check(module)) {
        Py_XDECREF(module);
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *entry = PyTuple_Pack(3, module_name, name, PyModule_GetDict(module));
    Py_DECREF(module);
    int status =
        entry != NULL ? PyDict_SetItem(state->known_globals, object, entry) : -1;
    Py_XDECREF(entry);
    return status;
}

/* A step of the path that is no item: how the object is taken apart. */
static int pack_part(at_packer *packer, PyObject *part, const char *word) AT_ATTACHED
{
    at_step step = {.outer = packer->step, .kind = AT_STEP_WORD, .word = word};
    packer->step = &step;
    int status = at_packer_object(packer, part, true);
    packer->step = step.outer;
    return status;
}

/* What `object` is made of: the arguments of the callable that makes it. */
static int pack_arguments(at_packer *packer, PyObject *object,
                          PyObject *arguments) AT_ATTACHED
{
    if (!PyMethod_Check(object) && !PyCFunction_CheckExact(object)) {
        return pack_part(packer, arguments, ".__reduce__()[1]");
    }
    at_step step = {.outer = packer->step, .kind = AT_STEP_METHOD};
    packer->step = &step;
    int status = at_packer_object(packer, arguments, true);
    packer->step = step.outer;
    return status;
}

static int pack_state(at_packer *packer, PyObject *state) AT_ATTACHED
{
    if (PyDict_CheckExact(state) && at_memo_find(&packer->memo, state) < 0) {
        return at_packer_dict(packer, state, true, true);
    }
    /* (the __dict__, the slots): copyreg's own form */
    if (PyTuple_CheckExact(state) && PyTuple_GET_SIZE(state) == 2 &&
        PyDict_CheckExact(PyTuple_GET_ITEM(state, 1)) && Py_REFCNT(state) == 1) {
        if (at_packer_tag(packer, AT_TAG_TUPLE) < 0 || at_packer_size(packer, 2) < 0) {
            return -1;
        }
        for (Py_ssize_t i = 0; i < 2; i++) {
            PyObject *half = PyTuple_GET_ITEM(state, i);
            bool direct =
                PyDict_CheckExact(half) && at_memo_find(&packer->memo, half) < 0;
            int status = direct ? at_packer_dict(packer, half, true, true)
                                : at_packer_object(packer, half, true);
            if (status < 0) {
                return -1;
            }
        }
        return 0;
    }
    return pack_part(packer, state, ".__getstate__()");
}

/* The items of iterator `items`, or the pairs of `pairs`. */
static int pack_stream(at_packer *packer, PyObject *stream, bool pairs) AT_ATTACHED
{
    at_step step = {.outer = packer->step, .kind = pairs ? AT_STEP_KEY : AT_STEP_INDEX};
    packer->step = &step;
    int status = 0;
    PyObject *item;
    while (status == 0 && (item = PyIter_Next(stream)) != NULL) {
        if (!pairs) {
            status = at_packer_object(packer, item, true);
        } else if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2) {
            PyErr_SetString(PyExc_TypeError, "__reduce__ gave a pair that is none");
            status = -1;
        } else {
            step.key = PyTuple_GET_ITEM(item, 0);
            status = at_packer_object(packer, step.key, true);
            if (status == 0) {
                status = at_packer_object(packer, PyTuple_GET_ITEM(item, 1), true);
            }
        }
        step.index++;
        Py_DECREF(item);
    }
    packer->step = step.outer;
    if (status == 0 && PyErr_Occurred()) {
        status = -1;
    }
    return status == 0 ? at_packer_tag(packer, AT_TAG_END) : -1;
}

/* The optional part `index` of what __reduce_ex__ gave: borrowed, NULL for None. */
static PyObject *part_of(PyObject *reduced, Py_ssize_t index)
{
    if (index >= PyTuple_GET_SIZE(reduced)) {
        return NULL;
    }
    PyObject *part = PyTuple_GET_ITEM(reduced, index);
    return part != Py_None ? part : NULL;
}

static int pack_parts(at_packer *packer, PyObject *reduced) AT_ATTACHED
{
    PyObject *state = part_of(reduced, 2), *items = part_of(reduced, 3);
    PyObject *pairs = part_of(reduced, 4), *apply = part_of(reduced, 5);
    int parts = (items != NULL ? AT_PART_ITEMS : 0) |
                (pairs != NULL ? AT_PART_PAIRS : 0) |
                (state != NULL ? AT_PART_STATE : 0) |
                (state != NULL && apply != NULL ? AT_PART_SETTER : 0);
    if (at_packer_tag(packer, parts) < 0 ||
        (items != NULL && pack_stream(packer, items, false) < 0) ||
        (pairs != NULL && pack_stream(packer, pairs, true) < 0)) {
        return -1;
    }
    if (state == NULL) {
        return 0;
    }
    if (apply != NULL && pack_part(packer, apply, ".__reduce__()[5]") < 0) {
        return -1;
    }
    return pack_state(packer, state);
}

static int pack_reduced(at_packer *packer, PyObject *object,
                        PyObject *reduced) AT_ATTACHED
{
    if (!PyTuple_Check(reduced) || PyTuple_GET_SIZE(reduced) < 2 ||
        PyTuple_GET_SIZE(reduced) > 6 ||
        !PyTuple_CheckExact(PyTuple_GET_ITEM(reduced, 1))) {
        return at_packer_refuse(packer, object, "its __reduce__ gave no valid result");
    }
    size_t tag_offset = packer->writer.size_bytes;
    if (at_packer_tag(packer, AT_TAG_REDUCE | AT_TAG_MEMO) < 0 ||
        pack_part(packer, PyTuple_GET_ITEM(reduced, 0), ".__reduce__()[0]") < 0 ||
        pack_arguments(packer, object, PyTuple_GET_ITEM(reduced, 1)) < 0) {
        return -1;
    }
    Py_ssize_t number = at_memo_find(&packer->memo, object);
    if (number >= 0) {
        packer->writer.data[tag_offset] = (char)AT_TAG_REDUCE_INSIDE;
        return at_packer_size(packer, (size_t)number);
    }
    if (at_packer_remember(packer, object) < 0) {
        return -1;
    }
    return pack_parts(packer, reduced);
}

/* Add the reducers of what dataclasses has, if somebody has imported that module: 1, 0
 * when not, or -1. */
static int takes_dataclasses(at_parcel_state *state) AT_ATTACHED
{
    PyObject *module, *modules = PyImport_GetModuleDict();
    int status = PyDict_GetItemStringRef(modules, "dataclasses", &module);
    if (status <= 0) {
        return status;
    }
    Py_DECREF(module);
    PyObject *taken = PyObject_CallNoArgs(state->take_dataclasses);
    if (taken == NULL) {
        return -1;
    }
    status = taken == Py_True;
    Py_DECREF(taken);
    if (status) {
        atomic_store(&state->has_dataclasses, true);
    }
    return status;
}

/* The function that takes objects of `type` apart: 1, 0 for none, or -1. */
static int find_reducer(at_parcel_state *state, PyObject *type,
                        PyObject **function) AT_ATTACHED
{
    /* Before the table is looked at: another thread may be adding them. */
    bool has_dataclasses = atomic_load(&state->has_dataclasses);
    int status = PyDict_GetItemRef(state->reducers, type, function);
    if (status == 0) {
        status = PyDict_GetItemRef(state->dispatch, type, function);
    }
    if (status == 0 && !has_dataclasses) {
        status = takes_dataclasses(state);
        if (status > 0) {
            status = PyDict_GetItemRef(state->reducers, type, function);
        }
    }
    return status;
}

/* Is it what numpy makes of an array that it gives no buffer of? */
static bool is_array_state(PyObject *reduced)
{
    PyObject *function = PyTuple_Check(reduced) && PyTuple_GET_SIZE(reduced) > 2
                             ? PyTuple_GET_ITEM(reduced, 0)
                             : NULL;
    return function != NULL && PyCFunction_Check(function) &&
           strcmp(((PyCFunctionObject *)function)->m_ml->ml_name, "_reconstruct") == 0;
}

/* What `object` is taken apart into: a tuple, or the str of a global's name. */
static PyObject *reduce(at_packer *packer, PyObject *object) AT_ATTACHED
{
    at_parcel_state *state = packer->state;
    PyObject *function;
    int found = find_reducer(state, (PyObject *)Py_TYPE(object), &function);
    if (found < 0) {
        return NULL;
    }
    if (found > 0) {
        PyObject *reduced = PyObject_CallOneArg(function, object);
        Py_DECREF(function);
        return reduced;
    }
    if (PyType_Check(object)) {
        return PyObject_CallOneArg(state->reduce_type, object);
    }
    PyObject *reduced = PyObject_CallMethod(object, "__reduce_ex__", "i", 5);
    if (reduced != NULL && is_array_state(reduced)) {
        Py_SETREF(reduced, PyObject_CallFunctionObjArgs(state->reduce_array, object,
                                                        reduced, NULL));
    }
    return reduced;
}

/* A global of the name `name`: found where it says it lives. */
static int pack_named(at_packer *packer, PyObject *object, PyObject *name) AT_ATTACHED
{
    PyObject *place =
        PyObject_CallFunctionObjArgs(packer->state->name_of, object, name, NULL);
    if (place == NULL) {
        return refuses(packer) ? at_packer_refuse(packer, object, NULL) : -1;
    }
    int status = -1;
    PyObject *module, *qualified;
    if (PyArg_ParseTuple(place, "UU", &module, &qualified)) {
        status = pack_global(packer, object, module, qualified);
        if (status == 0) {
            status = remember_global(packer, object, module, qualified);
        }
    }
    Py_DECREF(place);
    return status;
}

int at_packer_reduce(at_packer *packer, PyObject *object, bool again)
{
    at_parcel_state *state = packer->state;
    if (at_parcel_state_complete(state) < 0) {
        return -1;
    }
    for (size_t i = 0; i < state->handle_count; i++) {
        const at_parcel_handle *handle = state->handles[i].handle;
        if (state->handles[i].type == Py_TYPE(object) &&
            (!packer->bytes_only || packer->lasting || !handle->has_reduce)) {
            return pack_handle(packer, object, again, handle);
        }
    }
    int known = pack_known(packer, object);
    if (known == 0) {
        known = at_packer_known(packer, object);
    }
    if (known != 0) {
        return known > 0 ? 0 : -1;
    }
    if (PyPickleBuffer_Check(object)) {
        return pack_buffer(packer, object, again);
    }
    PyObject *reduced = reduce(packer, object);
    if (reduced == NULL) {
        return refuses(packer) ? at_packer_refuse(packer, object, NULL) : -1;
    }
    int status = PyUnicode_Check(reduced) ? pack_named(packer, object, reduced)
                                          : pack_reduced(packer, object, reduced);
    Py_DECREF(reduced);
    return status;
}
