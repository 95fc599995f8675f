/* atoll.Channel: sending; see channel.c. */
#define PY_SSIZE_T_CLEAN
#include "base/error.h"
#include "bind/batch.h"
#include "bind/channel.h"
#include "bind/type.h"
#include "bind/wait.h"
#include "chan/message.h"
#include "interp/attach.h"
#include "parcel/parcel.h"
#include "parcel/word.h"
#include "sys/clock.h"

int at_channel_pack(PyObject *object, void **item)
{
    if (at_parcel_word_pack(object, item)) {
        return 0;
    }
    at_message *message = NULL;
    int status = at_parcel_pack(object, &message);
    *item = message;
    return status;
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
        at_item_drop(message);
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
        at_item_drop(message);
        return at_channel_raise(self, result);
    }
    Py_RETURN_NONE;
}

static int batch_try_send(PyObject *object, void **messages, size_t count)
{
    at_channel_object *self = at_channel_object_of(object);
    at_member_sends(self->member);
    return at_channel_try_send_many(self->channel, messages, count);
}

AT_UNCHECKED static int batch_send(PyObject *object, void *message, int64_t deadline_ns)
{
    return send_waiting(at_channel_object_of(object), message, deadline_ns);
}

AT_UNCHECKED static PyObject *batch_raise(PyObject *object, int result)
{
    return at_channel_raise(at_channel_object_of(object), result);
}

AT_UNCHECKED PyObject *
at_channel_method_send_many(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    static const at_batch_end end = {batch_try_send, batch_send, batch_raise};
    return at_batch_send(object, &end, arguments, keywords);
}

/* ---- packed ---------------------------------------------------------------------- */

#define PACKED_CAPSULE "atoll._atoll.packed"

/* The context says whether the item is still the capsule's. */
static void packed_free(PyObject *capsule)
{
    if (PyCapsule_GetContext(capsule) == NULL) {
        at_item_drop(PyCapsule_GetPointer(capsule, PACKED_CAPSULE));
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
        at_item_drop(item);
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
