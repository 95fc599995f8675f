/* Batches of objects; see batch.h. */
#define PY_SSIZE_T_CLEAN
#include "bind/batch.h"

#include "base/error.h"
#include "bind/channel.h"
#include "bind/wait.h"
#include "chan/message.h"
#include "interp/compat.h"
#include "parcel/parcel.h"
#include "parcel/word.h"

/* ---- packing --------------------------------------------------------------------- */

/* What send_many() was given: an iterator, or a list or tuple that is read in place. */
typedef struct source {
    PyObject *objects; /* borrowed */
    PyObject *iterator;
    Py_ssize_t next; /* the index of the next object */
} source;

/* The next object, a new reference; NULL at the end, or with an exception set. */
static PyObject *source_next(source *from) AT_ATTACHED
{
    if (from->iterator != NULL) {
        from->next++;
        return PyIter_Next(from->iterator);
    }
    if (PyTuple_CheckExact(from->objects)) {
        return from->next < PyTuple_GET_SIZE(from->objects)
                   ? Py_NewRef(PyTuple_GET_ITEM(from->objects, from->next++))
                   : NULL;
    }
    /* Packing runs code that may shorten the list: that is its end, as for iteration.
     */
    if (from->next >= PyList_GET_SIZE(from->objects)) {
        return NULL;
    }
    PyObject *item = PyList_GetItemRef(from->objects, from->next++);
    if (item == NULL && PyErr_ExceptionMatches(PyExc_IndexError)) {
        PyErr_Clear(); /* by another thread, just now */
    }
    return item;
}

/* The objects that are next in a list or tuple, while they are small: how many, at most
 * `limit`. No code runs that could change the list, which another thread can where
 * there is no GIL: there it is left to source_next(). */
static size_t pack_small(source *from, at_slab_writer *slabs, void **items,
                         size_t limit) AT_ATTACHED
{
    if (from->iterator != NULL ||
        (AT_FREE_THREADED && PyList_CheckExact(from->objects))) {
        return 0;
    }
    Py_ssize_t left = PySequence_Fast_GET_SIZE(from->objects) - from->next;
    if (left <= 0) {
        return 0; /* it was shortened meanwhile */
    }
    limit = (size_t)left < limit ? (size_t)left : limit;
    PyObject **objects = PySequence_Fast_ITEMS(from->objects) + from->next;
    size_t packed = at_parcel_pack_small(objects, limit, slabs, items);
    from->next += (Py_ssize_t)packed;
    return packed;
}

/* About how many objects come after the next one, `packed` of which are there. */
static size_t following(const source *from, size_t packed) AT_ATTACHED
{
    if (from->iterator != NULL) {
        return packed; /* as many again: nobody knows */
    }
    Py_ssize_t left = PySequence_Fast_GET_SIZE(from->objects) - from->next;
    size_t room = AT_CHANNEL_MANY - packed;
    return left < 0 ? 0 : (size_t)left < room ? (size_t)left : room;
}

/* Pack up to AT_CHANNEL_MANY objects, and say how many. Fewer is the end, or the place
 * of an exception, which is set. */
static size_t pack_batch(source *from, void **items) AT_ATTACHED
{
    at_slab_writer slabs = {0};
    size_t packed = 0;
    for (;;) {
        packed += pack_small(from, &slabs, items + packed, AT_CHANNEL_MANY - packed);
        PyObject *object = packed < AT_CHANNEL_MANY ? source_next(from) : NULL;
        if (object == NULL) {
            break;
        }
        int failed = at_parcel_pack_item(object, "objects", from->next - 1, &slabs,
                                         following(from, packed), &items[packed]);
        Py_DECREF(object);
        if (failed < 0) {
            break;
        }
        packed++;
    }
    at_slab_writer_finish(&slabs);
    return packed;
}

/* ---- sending --------------------------------------------------------------------- */

typedef struct sending {
    PyObject *object; /* borrowed */
    const at_batch_end *end;
    int64_t deadline_ns;
    Py_ssize_t sent;
} sending;

/* Send `count` messages, all of which are taken or dropped. -1 with an exception set
 * where not all were sent. */
static int send_batch(sending *self, void **messages, size_t count) AT_ATTACHED
{
    size_t sent = 0;
    int result = 0;
    while (sent < count) {
        result = self->end->try_send(self->object, messages + sent, count - sent);
        if (result > 0) {
            sent += (size_t)result;
            continue;
        }
        if (result == AT_EFULL) {
            result = self->end->send(self->object, messages[sent], self->deadline_ns);
        }
        if (result != 0) {
            break;
        }
        sent++;
    }
    self->sent += (Py_ssize_t)sent;
    if (sent == count) {
        return 0;
    }
    for (size_t i = sent; i < count; i++) {
        at_item_drop(messages[i]);
    }
    self->end->raise(self->object, result);
    return -1;
}

/* Send what is in `from`. -1 with an exception set. */
static int send_all(sending *self, source *from) AT_ATTACHED
{
    size_t packed = AT_CHANNEL_MANY;
    while (packed == AT_CHANNEL_MANY) {
        void *messages[AT_CHANNEL_MANY];
        packed = pack_batch(from, messages);
        /* What stands before the one that cannot be packed is sent all the same. */
        PyObject *error = PyErr_GetRaisedException();
        if (send_batch(self, messages, packed) < 0) {
            Py_XDECREF(error);
            return -1;
        }
        if (error != NULL) {
            PyErr_SetRaisedException(error);
            return -1;
        }
    }
    return 0;
}

/* The exception that is set tells how many were sent, if it takes attributes. */
static void tell_sent(Py_ssize_t count) AT_ATTACHED
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *sent = PyLong_FromSsize_t(count);
    if (sent == NULL || PyObject_SetAttrString(error, "sent", sent) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(sent);
    PyErr_SetRaisedException(error);
}

PyObject *at_batch_send(PyObject *object, const at_batch_end *end, PyObject *arguments,
                        PyObject *keywords)
{
    static char *names[] = {"objects", "timeout", NULL};
    sending self = {object, end, 0, 0};
    source from = {NULL, NULL, 0};
    PyObject *timeout = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O|O:send_many", names,
                                     &from.objects, &timeout) ||
        at_bind_deadline(timeout, &self.deadline_ns) < 0) {
        return NULL;
    }
    if (!PyList_CheckExact(from.objects) && !PyTuple_CheckExact(from.objects)) {
        from.iterator = PyObject_GetIter(from.objects);
        if (from.iterator == NULL) {
            return NULL;
        }
    }
    int status = send_all(&self, &from);
    if (status < 0) {
        tell_sent(self.sent);
    }
    Py_XDECREF(from.iterator);
    return status < 0 ? NULL : PyLong_FromSsize_t(self.sent);
}
