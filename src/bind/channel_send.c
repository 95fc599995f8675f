/* atoll.Channel: sending; see channel.c. */
#define PY_SSIZE_T_CLEAN
#include "base/error.h"
#include "bind/channel.h"
#include "bind/type.h"
#include "bind/wait.h"
#include "chan/message.h"
#include "interp/attach.h"
#include "interp/compat.h"
#include "parcel/parcel.h"
#include "parcel/word.h"
#include "sys/clock.h"

/* at_channel_pack() for number `index` of send_many's objects; -1 for a single one. */
static int pack_one_of(PyObject *object, Py_ssize_t index, void **item) AT_ATTACHED
{
    if (at_parcel_word_pack(object, item)) {
        return 0;
    }
    at_message *message;
    int status = at_parcel_pack_one_of(object, index < 0 ? "object" : "objects", index,
                                       &message);
    *item = message;
    return status;
}

int at_channel_pack(PyObject *object, void **item)
{
    return pack_one_of(object, -1, item);
}

static int send_waiting(at_channel_object *self, void *message,
                        int64_t deadline_ns) AT_ATTACHED
{
    at_patience patience = {deadline_ns, self->peer};
    int result;
    do {
        PyThreadState *state = at_detach();
        result = at_channel_send(self->channel, message, &patience);
        at_attach(state);
    } while (at_bind_wait_again(&result));
    return result;
}

AT_UNCHECKED PyObject *at_channel_method_send(PyObject *object,
                                              PyObject *const *arguments,
                                              Py_ssize_t count, PyObject *keyword_names)
{
    at_channel_object *self = at_channel_object_of(object);
    PyObject *values[2] = {count == 1 ? arguments[0] : NULL, NULL};
    static const char *const names[] = {"obj", "timeout"};
    if ((count != 1 || keyword_names != NULL) &&
        at_bind_arguments("send", names, 1, 2, arguments, count, keyword_names,
                          values) < 0) {
        return NULL;
    }
    void *message;
    int64_t deadline_ns = AT_NEVER;
    if ((values[1] != NULL && at_bind_deadline(values[1], &deadline_ns) < 0) ||
        at_channel_pack(values[0], &message) < 0) {
        return NULL;
    }
    at_member_sends(self->member);
    int result = at_channel_try_send(self->channel, message);
    if (result == AT_EFULL) {
        result = send_waiting(self, message, deadline_ns);
    }
    if (result != 0) {
        at_message_drop(message);
        return at_channel_raise(self, result);
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED PyObject *at_channel_method_try_send(PyObject *object, PyObject *value)
{
    at_channel_object *self = at_channel_object_of(object);
    void *message;
    if (at_channel_pack(value, &message) < 0) {
        return NULL;
    }
    at_member_sends(self->member);
    int result = at_channel_try_send(self->channel, message);
    if (result != 0) {
        at_message_drop(message);
        return at_channel_raise(self, result);
    }
    Py_RETURN_NONE;
}

static void drop_messages(void **messages, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        at_message_drop(messages[i]);
    }
}

/* Send `count` messages, all of which are taken or dropped. Returns how many were sent,
 * or -1 with an exception set when it was not all. */
static Py_ssize_t send_batch(at_channel_object *self, void **messages, size_t count,
                             int64_t deadline_ns) AT_ATTACHED
{
    size_t sent = 0;
    int result = 0;
    while (sent < count) {
        result = at_channel_try_send_many(self->channel, messages + sent, count - sent);
        if (result > 0) {
            sent += (size_t)result;
            continue;
        }
        if (result == AT_EFULL) {
            result = send_waiting(self, messages[sent], deadline_ns);
        }
        if (result != 0) {
            break;
        }
        sent++;
    }
    if (sent < count) {
        drop_messages(messages + sent, count - sent);
        at_channel_raise(self, result);
        return -1;
    }
    return (Py_ssize_t)sent;
}

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

/* The objects that are next in a list or tuple, while they go as words: how many, at
 * most `limit`. No code runs that could change the list, which another thread can where
 * there is no GIL: there it is left to source_next(). */
static size_t pack_words(source *from, void **messages, size_t limit) AT_ATTACHED
{
    if (from->iterator != NULL ||
        (AT_FREE_THREADED && PyList_CheckExact(from->objects))) {
        return 0;
    }
    Py_ssize_t left = PySequence_Fast_GET_SIZE(from->objects) - from->next;
    PyObject **objects = PySequence_Fast_ITEMS(from->objects) + from->next;
    size_t packed = 0;
    while (packed < limit && (Py_ssize_t)packed < left &&
           at_parcel_word_pack(objects[packed], &messages[packed])) {
        packed++;
    }
    from->next += (Py_ssize_t)packed;
    return packed;
}

/* Pack up to AT_CHANNEL_MANY objects, and say how many. Fewer is the end, or the place
 * of an exception, which is set. */
static size_t pack_batch(source *from, void **messages) AT_ATTACHED
{
    size_t packed = 0;
    for (;;) {
        packed += pack_words(from, messages + packed, AT_CHANNEL_MANY - packed);
        PyObject *object = packed < AT_CHANNEL_MANY ? source_next(from) : NULL;
        if (object == NULL) {
            return packed;
        }
        int failed = pack_one_of(object, from->next - 1, &messages[packed]);
        Py_DECREF(object);
        if (failed < 0) {
            return packed;
        }
        packed++;
    }
}

/* Send what is in `from`: how many there were, or -1 with an exception set. */
static Py_ssize_t send_all(at_channel_object *self, source *from,
                           int64_t deadline_ns) AT_ATTACHED
{
    Py_ssize_t total = 0;
    size_t packed = AT_CHANNEL_MANY;
    while (packed == AT_CHANNEL_MANY) {
        void *messages[AT_CHANNEL_MANY];
        packed = pack_batch(from, messages);
        /* What stands before the one that cannot be packed is sent all the same. */
        PyObject *error = PyErr_GetRaisedException();
        Py_ssize_t sent = send_batch(self, messages, packed, deadline_ns);
        if (sent < 0) {
            Py_XDECREF(error);
            return -1;
        }
        if (error != NULL) {
            PyErr_SetRaisedException(error);
            return -1;
        }
        total += sent;
    }
    return total;
}

AT_UNCHECKED PyObject *
at_channel_method_send_many(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"objects", "timeout", NULL};
    at_channel_object *self = at_channel_object_of(object);
    source from = {NULL, NULL, 0};
    PyObject *timeout = NULL;
    int64_t deadline_ns;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O|O:send_many", names,
                                     &from.objects, &timeout) ||
        at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    if (!PyList_CheckExact(from.objects) && !PyTuple_CheckExact(from.objects)) {
        from.iterator = PyObject_GetIter(from.objects);
        if (from.iterator == NULL) {
            return NULL;
        }
    }
    at_member_sends(self->member);
    Py_ssize_t total = send_all(self, &from, deadline_ns);
    Py_XDECREF(from.iterator);
    return total < 0 ? NULL : PyLong_FromSsize_t(total);
}

/* ---- packed ---------------------------------------------------------------------- */

#define PACKED_CAPSULE "atoll._atoll.packed"

/* The context says whether the item is still the capsule's. */
static void packed_free(PyObject *capsule)
{
    if (PyCapsule_GetContext(capsule) == NULL) {
        at_message_drop(PyCapsule_GetPointer(capsule, PACKED_CAPSULE));
    }
}

AT_UNCHECKED PyObject *at_channel_pack_item(PyObject *module, PyObject *object)
{
    void *item;
    if (at_channel_pack(object, &item) < 0) {
        return NULL;
    }
    PyObject *capsule = PyCapsule_New(item, PACKED_CAPSULE, packed_free);
    if (capsule == NULL) {
        at_message_drop(item);
    }
    return capsule;
}

int at_packed_item(PyObject *packed, void **item)
{
    *item = PyCapsule_GetPointer(packed, PACKED_CAPSULE);
    if (*item != NULL && PyCapsule_GetContext(packed) != NULL) {
        PyErr_SetString(PyExc_ValueError, "it was sent already");
        return -1;
    }
    return *item != NULL ? 0 : -1;
}

void at_packed_taken(PyObject *packed)
{
    (void)PyCapsule_SetContext(packed, packed);
}

AT_UNCHECKED PyObject *at_channel_method_try_send_packed(PyObject *object,
                                                         PyObject *packed)
{
    at_channel_object *self = at_channel_object_of(object);
    void *item;
    if (at_packed_item(packed, &item) < 0) {
        return NULL;
    }
    at_member_sends(self->member);
    int result = at_channel_try_send(self->channel, item);
    if (result != 0) {
        return at_channel_raise(self, result);
    }
    at_packed_taken(packed);
    Py_RETURN_NONE;
}

AT_UNCHECKED PyObject *
at_channel_method_send_async(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    return at_bind_coroutine("send", object, arguments, keywords);
}
