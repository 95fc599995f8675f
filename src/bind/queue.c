/* _atoll.Queue: objects through chan/queue.h, for atoll.interpreters and atoll.pep554.
 *
 * A handle is sent by reference, so that a queue on its way to another interpreter does
 * not go when the sender's handle does. Fates are PEP 734's numbers; -1 is the queue's
 * own default.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/error.h"
#include "base/memory.h"
#include "bind/bind.h"
#include "bind/error.h"
#include "bind/type.h"
#include "bind/wait.h"
#include "chan/queue.h"
#include "interp/attach.h"
#include "parcel/parcel.h"
#include "sys/clock.h"

typedef struct queue_object {
    PyObject_HEAD at_queue *queue; /* a reference; fixed after new, as the next */
    at_peer *peer;                 /* a reference */
} queue_object;

static queue_object *self_of(PyObject *object)
{
    return (queue_object *)object;
}

static PyObject *queue_wrap(PyTypeObject *type, at_shared *queue) AT_ATTACHED
{
    at_peer *peer = at_bind_peer();
    queue_object *self = peer != NULL ? (queue_object *)type->tp_alloc(type, 0) : NULL;
    if (self != NULL) {
        self->queue = (at_queue *)at_shared_ref(queue);
        self->peer = (at_peer *)at_shared_ref(&peer->shared);
    }
    return (PyObject *)self;
}

static void queue_dealloc(PyObject *object)
{
    queue_object *self = self_of(object);
    PyTypeObject *type = Py_TYPE(object);
    at_shared_unref((at_shared *)self->queue);
    at_shared_unref(self->peer != NULL ? &self->peer->shared : NULL);
    type->tp_free(object);
    Py_DECREF(type);
}

AT_UNCHECKED static PyObject *queue_new(PyTypeObject *type, PyObject *arguments,
                                        PyObject *keywords)
{
    static char *names[] = {"limit", "fate", "tag", NULL};
    long long limit;
    int fate;
    int tag;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "Lii:Queue", names, &limit,
                                     &fate, &tag)) {
        return NULL;
    }
    at_queue *queue;
    int result = at_queue_new(limit, (at_fate)fate, tag, &queue);
    if (result < 0) {
        return at_raise(result);
    }
    PyObject *self = queue_wrap(type, (at_shared *)queue);
    at_shared_unref((at_shared *)queue);
    return self;
}

/* Queue.find(number) -> Queue or None */
AT_UNCHECKED static PyObject *queue_find(PyObject *type, PyObject *argument)
{
    long long number = PyLong_AsLongLong(argument);
    if (number == -1 && PyErr_Occurred()) {
        return NULL;
    }
    at_queue *queue = at_queue_find(number);
    if (queue == NULL) {
        Py_RETURN_NONE;
    }
    PyObject *self = queue_wrap((PyTypeObject *)type, (at_shared *)queue);
    at_shared_unref((at_shared *)queue);
    return self;
}

/* Queue.list() -> those of the process, oldest first */
AT_UNCHECKED static PyObject *queue_list(PyObject *type, PyObject *unused)
{
    size_t capacity = 16 + at_queue_list(NULL, 0);
    at_queue **found = at_calloc(capacity, sizeof(at_queue *));
    if (found == NULL) {
        return PyErr_NoMemory();
    }
    size_t count = at_queue_list(found, capacity);
    count = count < capacity ? count : capacity;
    PyObject *list = PyList_New(0);
    for (size_t i = 0; i < count; i++) {
        PyObject *one = list != NULL
                            ? queue_wrap((PyTypeObject *)type, (at_shared *)found[i])
                            : NULL;
        if (one == NULL || PyList_Append(list, one) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(one);
        at_shared_unref((at_shared *)found[i]);
    }
    at_free(found);
    return list;
}

/* ---- putting and getting --------------------------------------------------------- */

/* put(obj, fate, timeout) -> None */
AT_UNCHECKED static PyObject *queue_put(PyObject *object, PyObject *arguments)
{
    queue_object *self = self_of(object);
    PyObject *value;
    PyObject *timeout;
    int fate;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(arguments, "OiO:put", &value, &fate, &timeout) ||
        at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    at_message *message;
    if (at_parcel_pack(value, &message) < 0) {
        return NULL;
    }
    at_fate chosen = fate == -1 ? at_queue_default_fate(self->queue) : (at_fate)fate;
    int result = at_queue_try_put(self->queue, message, self->peer, chosen);
    if (result == AT_EFULL && deadline_ns > at_clock_ns()) {
        at_patience patience = {deadline_ns, self->peer};
        do {
            PyThreadState *state = at_detach();
            result = at_queue_put(self->queue, message, self->peer, chosen, &patience);
            at_attach(state);
        } while (at_bind_wait_again(&result));
    }
    if (result != 0) {
        at_message_unref(message);
        return at_bind_wait_failed(result == AT_ETIMEOUT ? AT_EFULL : result);
    }
    Py_RETURN_NONE;
}

/* get(timeout) -> (obj, 0), or (None, fate) where its interpreter has closed */
AT_UNCHECKED static PyObject *queue_get(PyObject *object, PyObject *timeout)
{
    queue_object *self = self_of(object);
    int64_t deadline_ns;
    if (at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    at_message *message = NULL;
    at_fate fate = AT_FATE_NONE;
    int result = at_queue_try_get(self->queue, &message, &fate);
    if (result == AT_EEMPTY && deadline_ns > at_clock_ns()) {
        at_patience patience = {deadline_ns, self->peer};
        do {
            PyThreadState *state = at_detach();
            result = at_queue_get(self->queue, &message, &fate, &patience);
            at_attach(state);
        } while (at_bind_wait_again(&result));
    }
    if (result != 0) {
        return at_bind_wait_failed(result == AT_ETIMEOUT ? AT_EEMPTY : result);
    }
    if (message == NULL) {
        return Py_BuildValue("Oi", Py_None, (int)fate);
    }
    PyObject *value = at_parcel_unpack(message);
    at_message_unref(message);
    return value != NULL ? Py_BuildValue("Ni", value, 0) : NULL;
}

/* close(drop) */
AT_UNCHECKED static PyObject *queue_close(PyObject *object, PyObject *argument)
{
    int drop = PyObject_IsTrue(argument);
    if (drop < 0) {
        return NULL;
    }
    at_queue_close(self_of(object)->queue, drop != 0);
    Py_RETURN_NONE;
}

/* ---- looking --------------------------------------------------------------------- */

AT_UNCHECKED static PyObject *queue_number(PyObject *object, void *unused)
{
    return PyLong_FromLongLong(at_queue_number(self_of(object)->queue));
}

AT_UNCHECKED static PyObject *queue_limit(PyObject *object, void *unused)
{
    return PyLong_FromLongLong(at_queue_limit(self_of(object)->queue));
}

AT_UNCHECKED static PyObject *queue_fate(PyObject *object, void *unused)
{
    return PyLong_FromLong((long)at_queue_default_fate(self_of(object)->queue));
}

AT_UNCHECKED static PyObject *queue_tag(PyObject *object, void *unused)
{
    return PyLong_FromLong(at_queue_tag(self_of(object)->queue));
}

AT_UNCHECKED static PyObject *queue_closed(PyObject *object, void *unused)
{
    return PyBool_FromLong(at_queue_is_closed(self_of(object)->queue));
}

AT_UNCHECKED static PyObject *queue_waiting(PyObject *object, void *unused)
{
    return PyLong_FromSize_t(at_queue_waiting(self_of(object)->queue));
}

static Py_ssize_t queue_length(PyObject *object)
{
    return (Py_ssize_t)at_queue_count(self_of(object)->queue);
}

/* An empty queue is not false: it is there. */
static int queue_bool(PyObject *object)
{
    return 1;
}

static PyMethodDef queue_methods[] = {
    {"find", queue_find, METH_O | METH_CLASS, "find(number) -> Queue or None"},
    {"list", queue_list, METH_NOARGS | METH_CLASS, "Those of the process, by age."},
    {"put", queue_put, METH_VARARGS, "put(obj, fate, timeout)"},
    {"get", queue_get, METH_O, "get(timeout) -> (obj, fate)"},
    {"close", queue_close, METH_O, "close(drop)"},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef queue_attributes[] = {
    {"number", queue_number, NULL, NULL, NULL},
    {"limit", queue_limit, NULL, NULL, NULL},
    {"fate", queue_fate, NULL, NULL, NULL},
    {"tag", queue_tag, NULL, NULL, NULL},
    {"closed", queue_closed, NULL, NULL, NULL},
    {"waiting", queue_waiting, NULL, "How many sleep in get().", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot queue_slots[] = {
    {Py_tp_new, queue_new},
    {Py_tp_dealloc, queue_dealloc},
    {Py_tp_methods, queue_methods},
    {Py_tp_getset, queue_attributes},
    {Py_sq_length, queue_length},
    {Py_nb_bool, queue_bool},
    {0, NULL},
};

static PyType_Spec queue_spec = {
    .name = "atoll._atoll.Queue",
    .basicsize = sizeof(queue_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = queue_slots,
};

static at_shared *thing_of(PyObject *object)
{
    return (at_shared *)self_of(object)->queue;
}

static const at_parcel_handle queue_handle = {
    .kind = &at_queue_kind,
    .thing_of = thing_of,
    .wrap = queue_wrap,
};

AT_UNCHECKED int at_bind_queue(PyObject *module)
{
    PyTypeObject *type = at_bind_add_type(module, &queue_spec);
    if (type == NULL) {
        return -1;
    }
    int result = at_parcel_register_handle(type, &queue_handle);
    Py_DECREF(type);
    return result;
}
