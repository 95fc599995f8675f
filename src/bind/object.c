/* Objects into messages and back: a registered handle by reference, anything else by
 * pickle's protocol 5. */
#define PY_SSIZE_T_CLEAN
#include "bind/object.h"

#include "bind/error.h"

#define HANDLES_KEY "atoll._atoll.handles"
#define HANDLE_NAME "atoll._atoll.handle"

/* type -> capsule of its handle, for this interpreter. Borrowed. */
static PyObject *handles(void) AT_ATTACHED
{
    PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get());
    PyObject *found = PyDict_GetItemString(dict, HANDLES_KEY);
    if (found == NULL) {
        found = PyDict_New();
        if (found == NULL || PyDict_SetItemString(dict, HANDLES_KEY, found) < 0) {
            Py_XDECREF(found);
            return NULL;
        }
        Py_DECREF(found);
    }
    return found;
}

int at_object_register_handle(PyTypeObject *type, const at_object_handle *handle)
{
    PyObject *table = handles();
    PyObject *capsule = PyCapsule_New((void *)(uintptr_t)handle, HANDLE_NAME, NULL);
    if (table == NULL || capsule == NULL) {
        Py_XDECREF(capsule);
        return -1;
    }
    int result = PyDict_SetItem(table, (PyObject *)type, capsule);
    Py_DECREF(capsule);
    return result;
}

static int pack_handle(const at_object_handle *handle, PyObject *object,
                       at_message_writer *writer) AT_ATTACHED
{
    at_shared *thing = handle->thing_of(object);
    size_t position;
    if (thing == NULL) {
        return -1;
    }
    if (at_message_writer_attach(writer, thing, &position) < 0) {
        at_raise(AT_ENOMEM);
        return -1;
    }
    return 0;
}

static int pack_pickle(PyObject *object, at_message_writer *writer) AT_ATTACHED
{
    PyObject *pickle = PyImport_ImportModule("pickle");
    if (pickle == NULL) {
        return -1;
    }
    PyObject *bytes = PyObject_CallMethod(pickle, "dumps", "Oi", object, 5);
    Py_DECREF(pickle);
    if (bytes == NULL) {
        return -1;
    }
    int result = at_message_writer_append(writer, PyBytes_AS_STRING(bytes),
                                          (size_t)PyBytes_GET_SIZE(bytes));
    Py_DECREF(bytes);
    if (result < 0) {
        at_raise(result);
        return -1;
    }
    return 0;
}

int at_object_pack(PyObject *object, at_message **message)
{
    PyObject *table = handles();
    if (table == NULL) {
        return -1;
    }
    PyObject *capsule = PyDict_GetItem(table, (PyObject *)Py_TYPE(object));
    at_message_writer writer;
    at_message_writer_init(&writer);
    int result =
        capsule != NULL
            ? pack_handle(PyCapsule_GetPointer(capsule, HANDLE_NAME), object, &writer)
            : pack_pickle(object, &writer);
    if (result == 0) {
        int64_t sender = PyInterpreterState_GetID(PyInterpreterState_Get());
        if (at_message_writer_finish(&writer, sender, message) < 0) {
            at_raise(AT_ENOMEM);
            result = -1;
        }
    }
    at_message_writer_fini(&writer);
    return result;
}

static PyObject *unpack_handle(at_shared *thing) AT_ATTACHED
{
    PyObject *table = handles();
    PyObject *type;
    PyObject *capsule;
    Py_ssize_t place = 0;
    while (table != NULL && PyDict_Next(table, &place, &type, &capsule)) {
        const at_object_handle *handle = PyCapsule_GetPointer(capsule, HANDLE_NAME);
        if (handle->kind == thing->kind) {
            return handle->wrap((PyTypeObject *)type, thing);
        }
    }
    return PyErr_Format(PyExc_TypeError, "unknown kind of shared thing: %s",
                        thing->kind->name);
}

PyObject *at_object_unpack(const at_message *message)
{
    if (message->attachment_count != 0) {
        return unpack_handle(message->attachments[0]);
    }
    PyObject *pickle = PyImport_ImportModule("pickle");
    if (pickle == NULL) {
        return NULL;
    }
    PyObject *object = PyObject_CallMethod(pickle, "loads", "y#", message->data,
                                           (Py_ssize_t)message->size_bytes);
    Py_DECREF(pickle);
    return object;
}
