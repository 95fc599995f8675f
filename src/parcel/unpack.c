/* Unpacking; see parcel.h and format.h.
 *
 * The bytes are not believed: every size is checked against what is left before
 * anything is allocated for it, and an object that the memo names already while its
 * items are still read is never without them (an array of NULLs is never seen by
 * Python code). */
#define PY_SSIZE_T_CLEAN
#include <string.h>

#include "base/contexts.h"
#include "base/memory.h"
#include "parcel/buffer.h"
#include "parcel/format.h"
#include "parcel/parcel.h"
#include "parcel/row.h"
#include "parcel/unpacker.h"

PyObject *at_unpacker_malformed(const char *what)
{
    PyErr_Format(PyExc_ValueError, "malformed parcel: %s", what);
    return NULL;
}

static int remember(at_unpacker *in, PyObject *object) AT_ATTACHED
{
    if (in->memo_count == in->memo_capacity) {
        size_t capacity = in->memo_capacity * 2;
        bool inside = in->memo == in->first;
        PyObject **memo = at_realloc(inside ? NULL : in->memo, capacity * sizeof *memo);
        if (memo == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        if (inside) {
            memcpy(memo, in->first, sizeof in->first);
        }
        in->memo = memo;
        in->memo_capacity = capacity;
    }
    in->memo[in->memo_count++] = Py_NewRef(object);
    return 0;
}

PyObject *at_unpacker_complete(at_unpacker *in, PyObject *object, bool again)
{
    if (object != NULL && again && remember(in, object) < 0) {
        Py_DECREF(object);
        return NULL;
    }
    return object;
}

/* -1 with an exception set where the size is cut off or has too many bytes. */
static int read_size(at_unpacker *in, size_t *size) AT_ATTACHED
{
    *size = 0;
    for (unsigned shift = 0; shift < 63; shift += 7) {
        if (in->at == in->end) {
            break;
        }
        unsigned char byte = (unsigned char)*in->at++;
        *size |= (size_t)(byte & 0x7F) << shift;
        if ((byte & 0x80) == 0) {
            return 0;
        }
    }
    (void)at_unpacker_malformed("a size is cut off");
    return -1;
}

/* A size of something that takes `unit` bytes each of what is left. */
static int read_count(at_unpacker *in, size_t unit, size_t *count) AT_ATTACHED
{
    if (read_size(in, count) < 0) {
        return -1;
    }
    if (*count > at_unpacker_left(in) / unit) {
        (void)at_unpacker_malformed("a size is larger than what follows");
        return -1;
    }
    return 0;
}

static PyObject *read_int(at_unpacker *in, int tag) AT_ATTACHED
{
    size_t size = tag == AT_TAG_INT8    ? sizeof(int8_t)
                  : tag == AT_TAG_INT32 ? sizeof(int32_t)
                                        : sizeof(int64_t);
    const char *data = at_unpacker_take(in, size);
    if (data == NULL) {
        return NULL;
    }
    if (tag == AT_TAG_INT8) {
        return PyLong_FromLong(*(const signed char *)data);
    }
    if (tag == AT_TAG_INT32) {
        int32_t value;
        memcpy(&value, data, sizeof value);
        return PyLong_FromLong(value);
    }
    int64_t value;
    memcpy(&value, data, sizeof value);
    return PyLong_FromLongLong(value);
}

static PyObject *read_big_int(at_unpacker *in) AT_ATTACHED
{
    size_t size;
    if (read_count(in, 1, &size) < 0) {
        return NULL;
    }
    const char *data = at_unpacker_take(in, size);
    return PyLong_FromNativeBytes(data, size, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
}

static PyObject *read_float(at_unpacker *in) AT_ATTACHED
{
    double value;
    const char *data = at_unpacker_take(in, sizeof value);
    if (data == NULL) {
        return NULL;
    }
    memcpy(&value, data, sizeof value);
    return PyFloat_FromDouble(value);
}

static PyObject *read_complex(at_unpacker *in) AT_ATTACHED
{
    double parts[2];
    const char *data = at_unpacker_take(in, sizeof parts);
    if (data == NULL) {
        return NULL;
    }
    memcpy(parts, data, sizeof parts);
    return PyComplex_FromDoubles(parts[0], parts[1]);
}

static PyObject *read_str(at_unpacker *in, int kind) AT_ATTACHED
{
    size_t length;
    if (read_count(in, (size_t)kind, &length) < 0) {
        return NULL;
    }
    const char *data = at_unpacker_take(in, length * (size_t)kind);
    if (kind == PyUnicode_1BYTE_KIND) {
        return PyUnicode_FromKindAndData(kind, data, (Py_ssize_t)length);
    }
    /* The wider kinds are read as their own integers, and so must be aligned; and no
     * character may be past the last one there is. */
    char *aligned = at_alloc(length * (size_t)kind);
    if (aligned == NULL) {
        return PyErr_NoMemory();
    }
    memcpy(aligned, data, length * (size_t)kind);
    PyObject *text = NULL;
    bool valid = true;
    for (size_t i = 0; kind == PyUnicode_4BYTE_KIND && i < length; i++) {
        valid = valid && ((const Py_UCS4 *)(void *)aligned)[i] <= 0x10FFFF;
    }
    text = valid ? PyUnicode_FromKindAndData(kind, aligned, (Py_ssize_t)length)
                 : at_unpacker_malformed("a character that does not exist");
    at_free(aligned);
    return text;
}

static PyObject *read_bytes(at_unpacker *in, bool array) AT_ATTACHED
{
    size_t size;
    if (read_count(in, 1, &size) < 0) {
        return NULL;
    }
    const char *data = at_unpacker_take(in, size);
    return array ? PyByteArray_FromStringAndSize(data, (Py_ssize_t)size)
                 : PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
}

static PyObject *read_again(at_unpacker *in) AT_ATTACHED
{
    size_t number;
    if (read_size(in, &number) < 0) {
        return NULL;
    }
    return number < in->memo_count
               ? Py_NewRef(in->memo[number])
               : at_unpacker_malformed("a number that the memo has not");
}

PyObject *at_unpacker_inside(at_unpacker *in, PyObject *outer)
{
    if (outer == NULL) {
        return NULL;
    }
    PyObject *object = read_again(in);
    Py_DECREF(outer);
    return object;
}

static PyObject *read_tuple(at_unpacker *in) AT_ATTACHED
{
    size_t count;
    if (read_count(in, 1, &count) < 0) {
        return NULL;
    }
    PyObject *tuple = PyTuple_New((Py_ssize_t)count);
    if (tuple == NULL || count == 0) {
        return tuple;
    }
    PyObject_GC_UnTrack(tuple); /* reading may run code, and the collector show it */
    for (size_t i = 0; i < count; i++) {
        PyObject *item = at_unpacker_object(in);
        if (item == NULL) {
            Py_DECREF(tuple);
            return NULL;
        }
        PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, item);
    }
    PyObject_GC_Track(tuple);
    return tuple;
}

static PyObject *read_list(at_unpacker *in, bool again) AT_ATTACHED
{
    size_t count;
    if (read_count(in, 1, &count) < 0) {
        return NULL;
    }
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyList_SET_ITEM(list, (Py_ssize_t)i, Py_NewRef(Py_None));
    }
    list = at_unpacker_complete(in, list, again);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *item = at_unpacker_object(in);
        /* Steals the item, and sees it where reading one has changed the list. */
        if (item == NULL || PyList_SetItem(list, (Py_ssize_t)i, item) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

/* The next object, the key of a dict. */
static PyObject *read_key(at_unpacker *in) AT_ATTACHED
{
    int tag = at_unpacker_left(in) != 0 ? (unsigned char)*in->at : AT_TAG_END;
    if ((tag & ~AT_TAG_MEMO) != AT_TAG_STR1) {
        return at_unpacker_object(in);
    }
    in->at++;
    size_t length;
    if (read_count(in, 1, &length) < 0) {
        return NULL;
    }
    const char *data = at_unpacker_take(in, length);
    return at_unpacker_complete(in, at_keys_get(&in->state->keys, data, length),
                                (tag & AT_TAG_MEMO) != 0);
}

static PyObject *read_dict(at_unpacker *in, bool again) AT_ATTACHED
{
    PyObject *dict = at_unpacker_complete(in, PyDict_New(), again);
    size_t count;
    if (dict == NULL || read_count(in, 2, &count) < 0) {
        Py_XDECREF(dict);
        return NULL;
    }
    for (size_t i = 0; dict != NULL && i < count; i++) {
        PyObject *key = read_key(in);
        PyObject *value = key != NULL ? at_unpacker_object(in) : NULL;
        if (value == NULL || PyDict_SetItem(dict, key, value) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return dict;
}

static PyObject *read_members(at_unpacker *in, PyObject *set) AT_ATTACHED
{
    size_t count;
    if (set == NULL || read_count(in, 1, &count) < 0) {
        Py_XDECREF(set);
        return NULL;
    }
    for (size_t i = 0; set != NULL && i < count; i++) {
        PyObject *item = at_unpacker_object(in);
        if (item == NULL || PySet_Add(set, item) < 0) {
            Py_CLEAR(set);
        }
        Py_XDECREF(item);
    }
    return set;
}

static PyObject *read_three(at_unpacker *in, int tag) AT_ATTACHED
{
    PyObject *parts[3] = {NULL};
    PyObject *object = NULL;
    for (size_t i = 0; i < 3; i++) {
        parts[i] = at_unpacker_object(in);
        if (parts[i] == NULL) {
            goto done;
        }
    }
    object = tag == AT_TAG_SLICE
                 ? PySlice_New(parts[0], parts[1], parts[2])
                 : PyObject_CallFunctionObjArgs((PyObject *)&PyRange_Type, parts[0],
                                                parts[1], parts[2], NULL);
done:
    for (size_t i = 0; i < 3; i++) {
        Py_XDECREF(parts[i]);
    }
    return object;
}

static PyObject *read_buffer(at_unpacker *in) AT_ATTACHED
{
    const char *readonly = at_unpacker_take(in, 1);
    return readonly != NULL ? read_bytes(in, *readonly == 0) : NULL;
}

static at_shared *read_attachment(at_unpacker *in) AT_ATTACHED
{
    size_t position;
    if (read_size(in, &position) < 0) {
        return NULL;
    }
    if (in->message == NULL || position >= in->message->attachment_count) {
        (void)at_unpacker_malformed("an attachment that is not there");
        return NULL;
    }
    return in->message->attachments[position];
}

static at_block *read_attached_block(at_unpacker *in) AT_ATTACHED
{
    at_shared *thing = read_attachment(in);
    if (thing != NULL && thing->kind != &at_block_kind) {
        (void)at_unpacker_malformed("an attachment that is no block");
        return NULL;
    }
    return (at_block *)thing;
}

/* What was left out of the bytes: a new reference. */
static PyObject *read_apart(at_unpacker *in) AT_ATTACHED
{
    size_t position;
    if (read_size(in, &position) < 0) {
        return NULL;
    }
    if (position >= (size_t)PyList_Size(in->apart)) {
        return at_unpacker_malformed("a buffer that is not there");
    }
    return PyList_GetItemRef(in->apart, (Py_ssize_t)position);
}

static PyObject *read_bytes_block(at_unpacker *in) AT_ATTACHED
{
    if (in->apart != NULL) {
        PyObject *buffer = read_apart(in);
        PyObject *copy = buffer != NULL ? PyBytes_FromObject(buffer) : NULL;
        Py_XDECREF(buffer);
        return copy;
    }
    const at_block *block = read_attached_block(in);
    PyObject *bytes =
        block != NULL ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)block->size_bytes)
                      : NULL;
    if (bytes == NULL) {
        return NULL;
    }
    char *data = PyBytes_AS_STRING(bytes);
    if (block->size_bytes < AT_PARCEL_DETACHED_BYTES) {
        memcpy(data, block->data, block->size_bytes);
    } else {
        at_parcel_expect(data, block->size_bytes);
        Py_BEGIN_ALLOW_THREADS memcpy(data, block->data, block->size_bytes);
        Py_END_ALLOW_THREADS
    }
    return bytes;
}

static PyObject *read_block(at_unpacker *in) AT_ATTACHED
{
    if (in->apart != NULL) {
        return read_apart(in);
    }
    at_block *block = read_attached_block(in);
    if (block == NULL) {
        return NULL;
    }
    /* Who holds a message that others hold too must not get memory that they will get
     * as well, and write to. Only holders make further holders, so that a count of one
     * stays one. */
    bool alone =
        atomic_load_explicit(&in->message->shared.references, memory_order_acquire) ==
            1 &&
        atomic_load_explicit(&block->shared.references, memory_order_acquire) == 1;
    if (block->readonly || alone) {
        return at_parcel_view_new(in->state->view_type, block);
    }
    return PyByteArray_FromStringAndSize(block->data, (Py_ssize_t)block->size_bytes);
}

static PyObject *read_handle(at_unpacker *in) AT_ATTACHED
{
    at_shared *thing = read_attachment(in);
    for (size_t i = 0; thing != NULL && i < in->state->handle_count; i++) {
        const at_parcel_handle *handle = in->state->handles[i].handle;
        if (handle->kind == thing->kind) {
            return handle->wrap(in->state->handles[i].type, thing);
        }
    }
    return thing != NULL ? at_unpacker_malformed("a handle of a kind unknown here")
                         : NULL;
}

static PyObject *read_container(at_unpacker *in, int tag, bool again) AT_ATTACHED
{
    switch (tag) {
    case AT_TAG_TUPLE:
        return at_unpacker_complete(in, read_tuple(in), again);
    case AT_TAG_TUPLE_INSIDE:
        return at_unpacker_inside(in, read_tuple(in));
    case AT_TAG_LIST:
        return read_list(in, again);
    case AT_TAG_DICT:
        return read_dict(in, again);
    case AT_TAG_SET:
        return read_members(in, at_unpacker_complete(in, PySet_New(NULL), again));
    case AT_TAG_FROZENSET:
        return at_unpacker_complete(in, read_members(in, PyFrozenSet_New(NULL)), again);
    case AT_TAG_FROZENSET_INSIDE:
        return at_unpacker_inside(in, read_members(in, PyFrozenSet_New(NULL)));
    case AT_TAG_SLICE:
    case AT_TAG_RANGE:
        return read_three(in, tag);
    case AT_TAG_HANDLE:
        return at_unpacker_complete(in, read_handle(in), again);
    case AT_TAG_BUFFER:
        return at_unpacker_complete(in, read_buffer(in), again);
    case AT_TAG_BYTES_BLOCK:
        return at_unpacker_complete(in, read_bytes_block(in), again);
    case AT_TAG_BUFFER_BLOCK:
        return at_unpacker_complete(in, read_block(in), again);
    case AT_TAG_GLOBAL:
    case AT_TAG_KNOWN:
    case AT_TAG_REDUCE:
    case AT_TAG_REDUCE_INSIDE:
        return at_unpacker_active(in, tag, again);
    default:
        return at_unpacker_malformed("an unknown tag");
    }
}

PyObject *at_unpacker_object(at_unpacker *in)
{
    const char *place = at_unpacker_take(in, 1);
    if (place == NULL) {
        return NULL;
    }
    bool again = (*place & AT_TAG_MEMO) != 0;
    int tag = *place & ~AT_TAG_MEMO & 0xFF;
    switch (tag) {
    case AT_TAG_NONE:
        return Py_NewRef(Py_None);
    case AT_TAG_TRUE:
        return Py_NewRef(Py_True);
    case AT_TAG_FALSE:
        return Py_NewRef(Py_False);
    case AT_TAG_ELLIPSIS:
        return Py_NewRef(Py_Ellipsis);
    case AT_TAG_NOTIMPLEMENTED:
        return Py_NewRef(Py_NotImplemented);
    case AT_TAG_INT8:
    case AT_TAG_INT32:
    case AT_TAG_INT64:
        return read_int(in, tag);
    case AT_TAG_INT:
        return read_big_int(in);
    case AT_TAG_FLOAT:
        return read_float(in);
    case AT_TAG_COMPLEX:
        return read_complex(in);
    case AT_TAG_STR1:
        return at_unpacker_complete(in, read_str(in, PyUnicode_1BYTE_KIND), again);
    case AT_TAG_STR2:
        return at_unpacker_complete(in, read_str(in, PyUnicode_2BYTE_KIND), again);
    case AT_TAG_STR4:
        return at_unpacker_complete(in, read_str(in, PyUnicode_4BYTE_KIND), again);
    case AT_TAG_BYTES:
    case AT_TAG_BYTEARRAY:
        return at_unpacker_complete(in, read_bytes(in, tag == AT_TAG_BYTEARRAY), again);
    case AT_TAG_TUPLE_ROW:
    case AT_TAG_LIST_ROW:
        return at_unpacker_complete(in, at_unpacker_row(in, tag == AT_TAG_LIST_ROW),
                                    again);
    case AT_TAG_AGAIN:
        return read_again(in);
    default:
        break;
    }
    if (Py_EnterRecursiveCall(" while unpacking an object: it is nested too deeply")) {
        return NULL;
    }
    PyObject *object = read_container(in, tag, again);
    Py_LeaveRecursiveCall();
    return object;
}

static PyObject *read_parcel(at_unpacker *in, const char *data,
                             size_t size_bytes) AT_ATTACHED
{
    in->state = at_parcel_state_get();
    if (in->state == NULL) {
        return NULL;
    }
    at_parcel_take_returned(in->state->home);
    if (size_bytes < 2 || (unsigned char)data[0] != AT_PARCEL_MAGIC ||
        data[1] != AT_PARCEL_VERSION) {
        return at_unpacker_malformed("it does not begin like one");
    }
    in->at = data + 2;
    in->end = data + size_bytes;
    in->memo = in->first;
    in->memo_count = 0;
    in->memo_capacity = AT_UNPACKER_FIRST_MEMO;
    PyObject *object = at_unpacker_object(in);
    if (object != NULL && in->at != in->end) {
        Py_CLEAR(object);
        (void)at_unpacker_malformed("more follows");
    }
    for (size_t i = 0; i < in->memo_count; i++) {
        Py_DECREF(in->memo[i]);
    }
    if (in->memo != in->first) {
        at_free(in->memo);
    }
    return object;
}

PyObject *at_parcel_unpack(const at_message *message)
{
    at_unpacker in;
    in.message = message;
    in.apart = NULL;
    in.trusted = message->origin == AT_MESSAGE_LOCAL;
    return read_parcel(&in, message->data, message->size_bytes);
}

PyObject *at_parcel_load_apart(const char *data, size_t size_bytes, bool trusted,
                               PyObject *apart)
{
    at_unpacker in;
    in.message = NULL;
    in.apart = apart;
    in.trusted = trusted;
    return read_parcel(&in, data, size_bytes);
}

PyObject *at_parcel_load(const char *data, size_t size_bytes, bool trusted)
{
    return at_parcel_load_apart(data, size_bytes, trusted, NULL);
}
