/* Parcels for Python: Message objects, pack and unpack, dumps and loads. */
#define PY_SSIZE_T_CLEAN
#include "parcel/parcel.h"

#include "base/contexts.h"
#include "bind/bind.h"
#include "interp/runtime.h"

typedef struct message_object {
    PyObject_HEAD at_message *message;
} message_object;

static void message_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    at_message_unref(((message_object *)self)->message);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *message_attachments(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(((message_object *)self)->message->attachment_count);
}

static PyObject *message_sender(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(((message_object *)self)->message->sender);
}

static Py_ssize_t message_length(PyObject *self)
{
    return (Py_ssize_t)((message_object *)self)->message->size_bytes;
}

static PyGetSetDef message_getset[] = {
    {"attachments", message_attachments, NULL, "How many shared things it carries.",
     NULL},
    {"sender", message_sender, NULL, "The ID of the interpreter that packed it.", NULL},
    {NULL},
};

static PyType_Slot message_slots[] = {
    {Py_tp_doc, "An object on its way; its length is that of its bytes."},
    {Py_tp_dealloc, message_dealloc},
    {Py_tp_getset, message_getset},
    {Py_sq_length, message_length},
    {0, NULL},
};

static PyType_Spec message_spec = {
    .name = "atoll._atoll.Message",
    .basicsize = sizeof(message_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = message_slots,
};

static PyObject *message_wrap(PyTypeObject *type, at_shared *thing)
{
    message_object *self = (message_object *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->message = (at_message *)at_shared_ref(thing);
    }
    return (PyObject *)self;
}

static at_shared *message_thing(PyObject *self)
{
    return &((message_object *)self)->message->shared;
}

static const at_parcel_handle message_handle = {
    .kind = &at_message_kind,
    .thing_of = message_thing,
    .wrap = message_wrap,
};

static PyObject *message_object_new(at_message *message) AT_ATTACHED
{
    PyTypeObject *type = at_parcel_handle_type(&message_handle);
    return type != NULL ? message_wrap(type, &message->shared) : NULL;
}

static at_message *message_of_object(PyObject *object) AT_ATTACHED
{
    PyTypeObject *type = at_parcel_handle_type(&message_handle);
    if (type == NULL) {
        return NULL;
    }
    if (Py_TYPE(object) != type) {
        PyErr_Format(PyExc_TypeError, "expected a Message, got %T", object);
        return NULL;
    }
    return ((message_object *)object)->message;
}

static const at_message_binding message_binding = {
    .wrap = message_object_new,
    .unwrap = message_of_object,
};

/* ---- pack, unpack, dumps, loads -------------------------------------------------- */

enum { MOST_NAMES = 8 };

/* The names in the tuple `given`, of the items of the tuple `object`: how many, or -1
 * with an exception set. */
static Py_ssize_t names_of(PyObject *object, PyObject *given,
                           const char *names[MOST_NAMES]) AT_ATTACHED
{
    if (!PyTuple_CheckExact(object) || !PyTuple_CheckExact(given) ||
        PyTuple_GET_SIZE(object) != PyTuple_GET_SIZE(given) ||
        PyTuple_GET_SIZE(given) > MOST_NAMES) {
        PyErr_SetString(PyExc_TypeError,
                        "name: a str, or a tuple of str for each item of a tuple");
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(given); i++) {
        names[i] = PyUnicode_AsUTF8(PyTuple_GET_ITEM(given, i));
        if (names[i] == NULL) {
            return -1;
        }
    }
    return PyTuple_GET_SIZE(given);
}

AT_UNCHECKED static PyObject *pack(PyObject *module, PyObject *const *arguments,
                                   Py_ssize_t argument_count)
{
    if (argument_count < 1 || argument_count > 2) {
        return PyErr_Format(PyExc_TypeError, "pack() takes 1 or 2 arguments");
    }
    PyObject *object = arguments[0];
    PyObject *given = argument_count == 2 ? arguments[1] : NULL;
    at_message *message;
    int status;
    if (given == NULL || PyUnicode_Check(given)) {
        const char *name = given != NULL ? PyUnicode_AsUTF8(given) : "object";
        status = name != NULL ? at_parcel_pack_one_of(object, name, -1, &message) : -1;
    } else {
        const char *names[MOST_NAMES];
        Py_ssize_t count = names_of(object, given, names);
        status = count < 0 ? -1
                           : at_parcel_pack_many(&PyTuple_GET_ITEM(object, 0), names,
                                                 (size_t)count, &message);
    }
    if (status < 0) {
        return NULL;
    }
    PyObject *self = message_object_new(message);
    at_message_unref(message);
    return self;
}

static PyObject *unpack(PyObject *module, PyObject *object) AT_ATTACHED
{
    at_message *message = message_of_object(object);
    return message != NULL ? at_parcel_unpack(message) : NULL;
}

static PyObject *dumps(PyObject *Py_UNUSED(module), PyObject *arguments,
                       PyObject *keywords) AT_ATTACHED
{
    static char *names[] = {"", "name", "whole", "apart", "apart_bytes", NULL};
    PyObject *object, *given = NULL;
    int whole = 0;
    Py_ssize_t apart_bytes = 0;
    at_parcel_dump_options options = {0};
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O|O$pO!n:dumps", names,
                                     &object, &given, &whole, &PyList_Type,
                                     &options.apart, &apart_bytes)) {
        return NULL;
    }
    options.whole = whole != 0;
    options.apart_bytes = (size_t)apart_bytes;
    if (given == NULL || PyUnicode_Check(given)) {
        const char *name = given != NULL ? PyUnicode_AsUTF8(given) : "object";
        options.single = true;
        return name != NULL ? at_parcel_dump(&object, &name, 1, &options) : NULL;
    }
    const char *parts[MOST_NAMES];
    Py_ssize_t count = names_of(object, given, parts);
    return count < 0 ? NULL
                     : at_parcel_dump(&PyTuple_GET_ITEM(object, 0), parts,
                                      (size_t)count, &options);
}

static PyObject *loads(PyObject *Py_UNUSED(module), PyObject *arguments,
                       PyObject *keywords) AT_ATTACHED
{
    static char *names[] = {"", "trusted", "apart", NULL};
    Py_buffer data;
    int trusted = 0;
    PyObject *apart = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "y*|$pO!:loads", names, &data,
                                     &trusted, &PyList_Type, &apart)) {
        return NULL;
    }
    PyObject *object =
        at_parcel_load_apart(data.buf, (size_t)data.len, trusted != 0, apart);
    PyBuffer_Release(&data);
    return object;
}

AT_UNCHECKED static PyObject *type_version(PyObject *module, PyObject *object)
{
    if (!PyType_Check(object)) {
        PyErr_Format(PyExc_TypeError, "expected a type, got %T", object);
        return NULL;
    }
    PyTypeObject *type = (PyTypeObject *)object;
    return PyLong_FromUnsignedLong(
        PyUnstable_Type_AssignVersionTag(type) ? type->tp_version_tag : 0);
}

static PyMethodDef methods[] = {
    {"pack", (PyCFunction)(void (*)(void))pack, METH_FASTCALL,
     "pack($module, object, name='object', /)\n--\n\nA Message of the object."},
    {"unpack", unpack, METH_O,
     "unpack($module, message, /)\n--\n\nThe object that a Message holds."},
    {"dumps", (PyCFunction)(void (*)(void))dumps, METH_VARARGS | METH_KEYWORDS,
     "dumps($module, object, /, name='object', *, whole=False, apart=[], "
     "apart_bytes=0)\n--\n\n"
     "The object as bytes, buffers included; but where a list `apart` is given, bytes "
     "and buffers of `apart_bytes` or more are added to that."},
    {"type_version", type_version, METH_O,
     "type_version($module, type, /)\n--\n\n"
     "A number that is another after each change of the type; 0 where there is none."},
    {"loads", (PyCFunction)(void (*)(void))loads, METH_VARARGS | METH_KEYWORDS,
     "loads($module, data, /, *, trusted=False, apart=[])\n--\n\n"
     "The object that bytes from dumps() hold; plain data only unless trusted."},
    {NULL},
};

AT_UNCHECKED static PyObject *collect_no_more(PyObject *module, PyObject *unused)
{
    if (at_parcel_collect_no_more() < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef collect_no_more_method = {"collect_no_more", collect_no_more,
                                             METH_NOARGS, NULL};

/* A thread that comes into an interpreter that is being finalized never returns. */
static int stop_at_exit(void) AT_ATTACHED
{
    PyObject *module = PyImport_ImportModule("atexit");
    PyObject *function = PyCFunction_New(&collect_no_more_method, NULL);
    PyObject *registered = module != NULL && function != NULL
                               ? PyObject_CallMethod(module, "register", "O", function)
                               : NULL;
    Py_XDECREF(module);
    Py_XDECREF(function);
    Py_XDECREF(registered);
    return registered != NULL ? 0 : -1;
}

int at_bind_parcel(PyObject *module) AT_ATTACHED
{
    PyObject *type = PyType_FromModuleAndSpec(module, &message_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    at_runtime_set_messages(&message_binding);
    int status = PyModule_AddObjectRef(module, "Message", type);
    if (status == 0) {
        status = at_parcel_register_handle((PyTypeObject *)type, &message_handle);
    }
    Py_DECREF(type);
    if (status == 0 && PyInterpreterState_Get() == PyInterpreterState_Main()) {
        status = stop_at_exit();
    }
    return status == 0 ? PyModule_AddFunctions(module, methods) : -1;
}
