/* Packing: the plain types; see parcel.h and format.h. parcel.c has the ways in.
 *
 * An object that only its container refers to cannot be met again and stays out of the
 * memo; that is most of them. While an object is written a reference to it is held,
 * since writing another may run code that changes the container. */
#define PY_SSIZE_T_CLEAN
#include <string.h>

#include "base/contexts.h"
#include "parcel/buffer.h"
#include "parcel/packer.h"
#include "parcel/parcel.h"
#include "parcel/row.h"

int at_packer_append(at_packer *packer, const void *data, size_t size)
{
    if (at_message_writer_append(&packer->writer, data, size) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

int at_packer_tag(at_packer *packer, int tag)
{
    if (at_message_writer_room(&packer->writer, 1) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    packer->writer.data[packer->writer.size_bytes++] = (char)tag;
    return 0;
}

int at_packer_size(at_packer *packer, size_t size)
{
    unsigned char bytes[10];
    size_t count = 0;
    do {
        bytes[count] = (unsigned char)(size & 0x7F);
        size >>= 7;
        bytes[count++] |= size != 0 ? 0x80 : 0;
    } while (size != 0);
    return at_packer_append(packer, bytes, count);
}

/* A tag, a size and the bytes; then the memo's number. */
static int write_run(at_packer *packer, int tag, PyObject *object, bool again,
                     size_t size, const void *data, size_t size_bytes) AT_ATTACHED
{
    if (at_packer_tag(packer, again ? tag | AT_TAG_MEMO : tag) < 0 ||
        at_packer_size(packer, size) < 0 ||
        at_packer_append(packer, data, size_bytes) < 0) {
        return -1;
    }
    return again ? at_packer_remember(packer, object) : 0;
}

static inline int write_fixed(at_packer *packer, int tag, const void *data,
                              size_t size) AT_ATTACHED
{
    if (at_message_writer_room(&packer->writer, size + 1) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    char *place = packer->writer.data + packer->writer.size_bytes;
    place[0] = (char)tag;
    memcpy(place + 1, data, size);
    packer->writer.size_bytes += size + 1;
    return 0;
}

static int pack_big_int(at_packer *packer, PyObject *object) AT_ATTACHED
{
    Py_ssize_t size =
        PyLong_AsNativeBytes(object, NULL, 0, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
    if (size < 0 || at_packer_tag(packer, AT_TAG_INT) < 0 ||
        at_packer_size(packer, (size_t)size) < 0) {
        return -1;
    }
    if (at_message_writer_room(&packer->writer, (size_t)size) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    char *place = packer->writer.data + packer->writer.size_bytes;
    if (PyLong_AsNativeBytes(object, place, size, Py_ASNATIVEBYTES_LITTLE_ENDIAN) < 0) {
        return -1;
    }
    packer->writer.size_bytes += (size_t)size;
    return 0;
}

static int pack_int(at_packer *packer, PyObject *object) AT_ATTACHED
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow != 0) {
        return pack_big_int(packer, object);
    }
    if (value >= INT8_MIN && value <= INT8_MAX) {
        int8_t small = (int8_t)value;
        return write_fixed(packer, AT_TAG_INT8, &small, sizeof small);
    }
    if (value >= INT32_MIN && value <= INT32_MAX) {
        int32_t middle = (int32_t)value;
        return write_fixed(packer, AT_TAG_INT32, &middle, sizeof middle);
    }
    return write_fixed(packer, AT_TAG_INT64, &value, sizeof value);
}

static int pack_str(at_packer *packer, PyObject *object, bool again) AT_ATTACHED
{
    int kind = PyUnicode_KIND(object);
    int tag = kind == PyUnicode_1BYTE_KIND   ? AT_TAG_STR1
              : kind == PyUnicode_2BYTE_KIND ? AT_TAG_STR2
                                             : AT_TAG_STR4;
    size_t length = (size_t)PyUnicode_GET_LENGTH(object);
    return write_run(packer, tag, object, again, length, PyUnicode_DATA(object),
                     length * (size_t)kind);
}

/* One item of a container, which holds a reference of its own. */
static int pack_item(at_packer *packer, PyObject *item) AT_ATTACHED
{
#ifdef Py_GIL_DISABLED
    bool again = true;
#else
    bool again = Py_REFCNT(item) > 1;
#endif
    Py_INCREF(item);
    int status = at_packer_object(packer, item, again);
    Py_DECREF(item);
    return status;
}

/* The items of a tuple or of a list that only the caller has. */
static int pack_items(at_packer *packer, PyObject *const *items, Py_ssize_t count,
                      at_step_kind kind) AT_ATTACHED
{
    at_step step = {.outer = packer->step, .kind = kind};
    packer->step = &step;
    int status = 0;
    for (step.index = 0; step.index < count && status == 0; step.index++) {
        status = pack_item(packer, items[step.index]);
        if (status < 0) {
            break;
        }
    }
    packer->step = step.outer;
    return status;
}

/* A tuple or frozenset that turned out to contain itself; see format.h. */
static int close_complete(at_packer *packer, PyObject *object, size_t tag_offset,
                          int inside_tag) AT_ATTACHED
{
    Py_ssize_t number = at_memo_find(&packer->memo, object);
    if (number < 0) {
        return at_packer_remember(packer, object);
    }
    packer->writer.data[tag_offset] = (char)inside_tag;
    return at_packer_size(packer, (size_t)number);
}

static int pack_tuple(at_packer *packer, PyObject *object, bool again) AT_ATTACHED
{
    Py_ssize_t count = PyTuple_GET_SIZE(object);
    size_t tag_offset = packer->writer.size_bytes;
    again = again && count != 0; /* there is only one empty tuple */
    int is_row = at_packer_row(packer, object, again, false);
    if (is_row != 0) {
        return is_row < 0 ? -1 : again ? at_packer_remember(packer, object) : 0;
    }
    if (at_packer_tag(packer, again ? AT_TAG_TUPLE | AT_TAG_MEMO : AT_TAG_TUPLE) < 0 ||
        at_packer_size(packer, (size_t)count) < 0 ||
        pack_items(packer, &PyTuple_GET_ITEM(object, 0), count, AT_STEP_INDEX) < 0) {
        return -1;
    }
    return again ? close_complete(packer, object, tag_offset, AT_TAG_TUPLE_INSIDE) : 0;
}

static int open_mutable(at_packer *packer, PyObject *object, int tag, bool again,
                        Py_ssize_t count) AT_ATTACHED
{
    if (at_packer_tag(packer, again ? tag | AT_TAG_MEMO : tag) < 0 ||
        (again && at_packer_remember(packer, object) < 0)) {
        return -1;
    }
    return at_packer_size(packer, (size_t)count);
}

static int changed(const char *what)
{
    PyErr_Format(PyExc_RuntimeError, "%s changed while it was packed", what);
    return -1;
}

static int pack_list(at_packer *packer, PyObject *object, bool again) AT_ATTACHED
{
#ifdef Py_GIL_DISABLED
    PyObject *snapshot = PyList_AsTuple(object); /* atomic, where iterating is not */
    if (snapshot == NULL) {
        return -1;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(snapshot);
    int status = open_mutable(packer, object, AT_TAG_LIST, again, count);
    if (status == 0) {
        status =
            pack_items(packer, &PyTuple_GET_ITEM(snapshot, 0), count, AT_STEP_INDEX);
    }
    Py_DECREF(snapshot);
    return status;
#else
    Py_ssize_t count = PyList_GET_SIZE(object);
    if (open_mutable(packer, object, AT_TAG_LIST, again, count) < 0) {
        return -1;
    }
    at_step step = {.outer = packer->step, .kind = AT_STEP_INDEX};
    packer->step = &step;
    int status = 0;
    for (step.index = 0; status == 0 && step.index < count; step.index++) {
        status = step.index < PyList_GET_SIZE(object)
                     ? pack_item(packer, PyList_GET_ITEM(object, step.index))
                     : changed("a list");
        if (status < 0) {
            break;
        }
    }
    packer->step = step.outer;
    if (status == 0 && PyList_GET_SIZE(object) != count) {
        status = changed("a list");
    }
    return status;
#endif
}

int at_packer_dict(at_packer *packer, PyObject *object, bool again, bool attributes)
{
#ifdef Py_GIL_DISABLED
    PyObject *dict = PyDict_Copy(object); /* atomic, where iterating is not */
    if (dict == NULL) {
        return -1;
    }
#else
    PyObject *dict = Py_NewRef(object);
#endif
    Py_ssize_t count = PyDict_GET_SIZE(dict);
    Py_ssize_t left = count;
    at_step step = {.outer = packer->step,
                    .kind = attributes ? AT_STEP_ATTRIBUTE : AT_STEP_KEY};
    packer->step = &step;
    int status = open_mutable(packer, object, AT_TAG_DICT, again, count);
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (status == 0 && PyDict_Next(dict, &position, &key, &value)) {
        /* Held here: writing the key may run code that takes the pair out. */
        Py_INCREF(key);
        bool value_again = Py_REFCNT(value) > 1;
        Py_INCREF(value);
        step.key = key;
        status = at_packer_object(packer, key, true);
        if (status == 0) {
            status = at_packer_object(packer, value, value_again);
        }
        Py_DECREF(key);
        Py_DECREF(value);
        if (status == 0 && (--left < 0 || PyDict_GET_SIZE(dict) != count)) {
            status = changed("a dict");
        }
    }
    if (status == 0 && left != 0) {
        status = changed("a dict");
    }
    packer->step = step.outer;
    Py_DECREF(dict);
    return status;
}

static int pack_set(at_packer *packer, PyObject *object, bool again) AT_ATTACHED
{
    PyObject *items = PySequence_List(object);
    if (items == NULL) {
        return -1;
    }
    Py_ssize_t count = PyList_GET_SIZE(items);
    bool frozen = PyFrozenSet_CheckExact(object);
    size_t tag_offset = packer->writer.size_bytes;
    int tag = again ? AT_TAG_FROZENSET | AT_TAG_MEMO : AT_TAG_FROZENSET;
    int status =
        frozen ? at_packer_tag(packer, tag) || at_packer_size(packer, (size_t)count)
               : open_mutable(packer, object, AT_TAG_SET, again, count);
    at_step step = {.outer = packer->step, .kind = AT_STEP_MEMBER};
    packer->step = &step;
    for (Py_ssize_t i = 0; status == 0 && i < count; i++) {
        status = at_packer_object(packer, PyList_GET_ITEM(items, i), true);
    }
    packer->step = step.outer;
    Py_DECREF(items);
    if (status == 0 && frozen && again) {
        return close_complete(packer, object, tag_offset, AT_TAG_FROZENSET_INSIDE);
    }
    return status == 0 ? 0 : -1;
}

static int pack_three(at_packer *packer, PyObject *object, int tag) AT_ATTACHED
{
    static const char *const names[] = {"start", "stop", "step"};
    int status = at_packer_tag(packer, tag);
    for (size_t i = 0; status == 0 && i < 3; i++) {
        PyObject *part = PyObject_GetAttrString(object, names[i]);
        status = part != NULL ? at_packer_object(packer, part, true) : -1;
        Py_XDECREF(part);
    }
    return status;
}

static int pack_container(at_packer *packer, PyObject *object, bool again) AT_ATTACHED
{
    PyTypeObject *type = Py_TYPE(object);
    if (type == &PyTuple_Type) {
        return pack_tuple(packer, object, again);
    }
    if (type == &PyList_Type) {
        return pack_list(packer, object, again);
    }
    if (type == &PyDict_Type) {
        return at_packer_dict(packer, object, again, false);
    }
    if (type == &PySet_Type || type == &PyFrozenSet_Type) {
        return pack_set(packer, object, again);
    }
    if (type == &PySlice_Type) {
        return pack_three(packer, object, AT_TAG_SLICE);
    }
    if (type == &PyRange_Type) {
        return pack_three(packer, object, AT_TAG_RANGE);
    }
    return at_packer_reduce(packer, object, again);
}

static int pack_bytes(at_packer *packer, PyObject *object, bool again) AT_ATTACHED
{
    size_t size = (size_t)PyBytes_GET_SIZE(object);
    if (at_packer_is_apart(packer, size)) {
        return at_packer_apart(packer, AT_TAG_BYTES_BLOCK, object, again);
    }
    bool apart = size >= AT_PARCEL_BLOCK_BYTES || at_parcel_lends(packer->state, size);
    if (!apart || packer->bytes_only) {
        return write_run(packer, AT_TAG_BYTES, object, again, size,
                         PyBytes_AS_STRING(object), size);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    int status = at_packer_block(packer, AT_TAG_BYTES_BLOCK, object, again, &view);
    PyBuffer_Release(&view);
    return status;
}

static int pack_bytearray(at_packer *packer, PyObject *object, bool again) AT_ATTACHED
{
    Py_buffer view; /* so that no other thread can resize it meanwhile */
    if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    int status = write_run(packer, AT_TAG_BYTEARRAY, object, again, (size_t)view.len,
                           view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return status;
}

static int pack_singleton(PyObject *object)
{
    return object == Py_None             ? AT_TAG_NONE
           : object == Py_True           ? AT_TAG_TRUE
           : object == Py_False          ? AT_TAG_FALSE
           : object == Py_Ellipsis       ? AT_TAG_ELLIPSIS
           : object == Py_NotImplemented ? AT_TAG_NOTIMPLEMENTED
                                         : -1;
}

int at_packer_object(at_packer *packer, PyObject *object, bool again)
{
    PyTypeObject *type = Py_TYPE(object);
    if (type == &PyLong_Type) {
        return pack_int(packer, object);
    }
    if (type == &PyFloat_Type) {
        double value = PyFloat_AS_DOUBLE(object);
        return write_fixed(packer, AT_TAG_FLOAT, &value, sizeof value);
    }
    int singleton = pack_singleton(object);
    if (singleton >= 0) {
        return at_packer_tag(packer, singleton);
    }
    if (again) {
        Py_ssize_t number = at_memo_find(&packer->memo, object);
        if (number >= 0) {
            return at_packer_tag(packer, AT_TAG_AGAIN) ||
                           at_packer_size(packer, (size_t)number)
                       ? -1
                       : 0;
        }
    }
    if (type == &PyUnicode_Type) {
        return pack_str(packer, object, again);
    }
    if (type == &PyBytes_Type) {
        return pack_bytes(packer, object, again);
    }
    if (type == &PyByteArray_Type) {
        return pack_bytearray(packer, object, again);
    }
    if (type == &PyComplex_Type) {
        double parts[] = {PyComplex_RealAsDouble(object),
                          PyComplex_ImagAsDouble(object)};
        return write_fixed(packer, AT_TAG_COMPLEX, parts, sizeof parts);
    }
    if (Py_EnterRecursiveCall(" while packing an object: it is nested too deeply")) {
        return -1;
    }
    int status = pack_container(packer, object, again);
    Py_LeaveRecursiveCall();
    return status;
}
