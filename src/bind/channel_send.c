/* atoll.Channel: sending; see channel.c. */
#define PY_SSIZE_T_CLEAN
#include "base/error.h"
#include "bind/channel.h"
#include "bind/type.h"
#include "bind/wait.h"
#include "chan/message.h"
#include "interp/attach.h"
#include "parcel/parcel.h"
#include "parcel/word.h"

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
    if (at_channel_pack(values[0], &message) < 0) {
        return NULL;
    }
    at_member_sends(self->member);
    int result = at_channel_try_send(self->channel, message);
    if (result == AT_EFULL) {
        int64_t deadline_ns;
        if (at_bind_deadline(values[1], &deadline_ns) < 0) {
            at_message_drop(message);
            return NULL;
        }
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

AT_UNCHECKED PyObject *
at_channel_method_send_many(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"objects", "timeout", NULL};
    at_channel_object *self = at_channel_object_of(object);
    PyObject *objects;
    PyObject *timeout = NULL;
    int64_t deadline_ns;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O|O:send_many", names,
                                     &objects, &timeout) ||
        at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    PyObject *iterator = PyObject_GetIter(objects);
    if (iterator == NULL) {
        return NULL;
    }
    at_member_sends(self->member);
    Py_ssize_t total = 0;
    bool more = true;
    while (more) {
        void *messages[AT_CHANNEL_MANY];
        size_t packed = 0;
        PyObject *item = NULL;
        while (packed < AT_CHANNEL_MANY && (item = PyIter_Next(iterator)) != NULL) {
            int failed =
                pack_one_of(item, total + (Py_ssize_t)packed, &messages[packed]);
            Py_DECREF(item);
            if (failed < 0) {
                break;
            }
            packed++;
        }
        more = packed == AT_CHANNEL_MANY;
        /* What stands before the one that cannot be packed is sent all the same. */
        PyObject *error = PyErr_GetRaisedException();
        Py_ssize_t sent = send_batch(self, messages, packed, deadline_ns);
        if (sent < 0 || error != NULL) {
            if (sent < 0) {
                Py_XDECREF(error);
            } else {
                PyErr_SetRaisedException(error);
            }
            Py_DECREF(iterator);
            return NULL;
        }
        total += sent;
    }
    Py_DECREF(iterator);
    return PyLong_FromSsize_t(total);
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
