/* The keys of atoll.SharedDict; see shared_dict.h.
 *
 * The hash is Python's own, which is the same in every interpreter of a process. */
#define PY_SSIZE_T_CLEAN
#include <string.h>

#include "bind/shared_dict.h"

enum { KEY_INT, KEY_LARGE_INT, KEY_STR, KEY_BYTES };

static int init_int(at_dict_key_room *room, PyObject *object) AT_ATTACHED
{
    int overflow;
    room->number = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow == 0) {
        room->key.kind = KEY_INT;
        room->key.data = &room->number;
        room->key.size_bytes = sizeof room->number;
        return 0;
    }
    room->owner = PyNumber_ToBase(object, 16);
    if (room->owner == NULL) {
        return -1;
    }
    Py_ssize_t size;
    room->key.kind = KEY_LARGE_INT;
    room->key.data = PyUnicode_AsUTF8AndSize(room->owner, &size);
    room->key.size_bytes = (size_t)size;
    return room->key.data != NULL ? 0 : -1;
}

static int init_str(at_dict_key_room *room, PyObject *object) AT_ATTACHED
{
    Py_ssize_t size;
    room->key.kind = KEY_STR;
    if (PyUnicode_IS_ASCII(object)) {
        room->key.data = PyUnicode_DATA(object);
        room->key.size_bytes = (size_t)PyUnicode_GET_LENGTH(object);
        return 0;
    }
    /* Not the UTF-8 that str keeps: it has none for lone surrogates. */
    room->owner = PyUnicode_AsEncodedString(object, "utf-8", "surrogatepass");
    if (room->owner == NULL) {
        return -1;
    }
    size = PyBytes_GET_SIZE(room->owner);
    room->key.data = PyBytes_AS_STRING(room->owner);
    room->key.size_bytes = (size_t)size;
    return 0;
}

static int init_bytes(at_dict_key_room *room, PyObject *object)
{
    room->key.kind = KEY_BYTES;
    room->key.data = PyBytes_AS_STRING(object);
    room->key.size_bytes = (size_t)PyBytes_GET_SIZE(object);
    return 0;
}

/* Is `object` one of these, and equal to the plain one of the same content? bool and
 * the enums of int and str are; a class that compares in a way of its own is not. */
static bool stands_for(PyObject *object, const PyTypeObject *plain)
{
    const PyTypeObject *type = Py_TYPE(object);
    return type == plain || (type->tp_hash == plain->tp_hash &&
                             type->tp_richcompare == plain->tp_richcompare);
}

static int refuse(PyObject *object) AT_ATTACHED
{
    const char *name = Py_TYPE(object)->tp_name;
    if (PyUnicode_Check(object) || PyLong_Check(object) || PyBytes_Check(object)) {
        PyErr_Format(
            PyExc_TypeError,
            "a key of a SharedDict that compares or hashes in a way of its own, "
            "as %.100s does, cannot be found again: give its str, bytes or int",
            name);
    } else {
        PyErr_Format(PyExc_TypeError,
                     "the keys of a SharedDict are str, bytes or int, not %.100s",
                     name);
    }
    return -1;
}

int at_dict_key_init(at_dict_key_room *room, PyObject *object)
{
    room->owner = NULL;
    int status;
    if (PyUnicode_Check(object) && stands_for(object, &PyUnicode_Type)) {
        status = init_str(room, object);
    } else if (PyLong_Check(object) && stands_for(object, &PyLong_Type)) {
        status = init_int(room, object);
    } else if (PyBytes_Check(object) && stands_for(object, &PyBytes_Type)) {
        status = init_bytes(room, object);
    } else {
        return refuse(object);
    }
    Py_hash_t hash = status == 0 ? PyObject_Hash(object) : -1;
    if (hash == -1) {
        at_dict_key_fini(room);
        return -1;
    }
    room->key.hash = (uint64_t)hash;
    return 0;
}

void at_dict_key_fini(at_dict_key_room *room)
{
    Py_CLEAR(room->owner);
}

PyObject *at_dict_key_object(const at_dict_key *key)
{
    Py_ssize_t size = (Py_ssize_t)key->size_bytes;
    int64_t number;
    switch (key->kind) {
    case KEY_INT:
        if (key->size_bytes != sizeof number) { /* another process wrote it */
            PyErr_SetString(PyExc_ValueError, "a key of the SharedDict is damaged");
            return NULL;
        }
        memcpy(&number, key->data, sizeof number);
        return PyLong_FromLongLong(number);
    case KEY_STR:
        return PyUnicode_DecodeUTF8(key->data, size, "surrogatepass");
    case KEY_BYTES:
        return PyBytes_FromStringAndSize(key->data, size);
    default:
        break;
    }
    PyObject *text = PyUnicode_DecodeUTF8(key->data, size, NULL);
    PyObject *large = text != NULL ? PyLong_FromUnicodeObject(text, 16) : NULL;
    Py_XDECREF(text);
    return large;
}
