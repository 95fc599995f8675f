/* atoll.Channel: receiving; see channel.c. */
#define PY_SSIZE_T_CLEAN
#include "base/error.h"
#include "base/memory.h"
#include "bind/argument.h"
#include "bind/channel.h"
#include "bind/error.h"
#include "bind/type.h"
#include "bind/wait.h"
#include "chan/message.h"
#include "interp/attach.h"
#include "parcel/parcel.h"
#include "sys/clock.h"

PyObject *at_channel_unpack(void *item)
{
    PyObject *value = at_parcel_unpack_item(item);
    at_item_drop(item);
    return value;
}

/* Received, and not handed out: a batch from the item on that could not be unpacked.
 * The next receive on the handle meets that error; what came before it is not lost with
 * it, nor what came behind. */
typedef struct at_channel_left {
    struct at_channel_left *behind; /* received before what stands in the channel */
    size_t next;
    size_t count;
    void *items[AT_CHANNEL_MANY];
} at_channel_left;

void at_channel_left_free(at_channel_left *left)
{
    while (left != NULL) {
        for (; left->next < left->count; left->next++) {
            at_item_drop(left->items[left->next]);
        }
        at_channel_left *behind = left->behind;
        at_free(left);
        left = behind;
    }
}

static void append_left(at_channel_left *left, at_channel_left *behind)
{
    while (left->behind != NULL) {
        left = left->behind;
    }
    left->behind = behind;
}

/* Keep the items in `left` and behind it, of which it takes hold. */
static void left_keep(at_channel_object *self, at_channel_left *left)
{
    at_channel_left *none = NULL;
    while (!atomic_compare_exchange_strong(&self->left, &none, left)) {
        /* What is there was behind these, or another thread has left it meanwhile. */
        append_left(left, atomic_exchange(&self->left, NULL));
        none = NULL;
    }
}

bool at_channel_left_take(at_channel_object *self, void **item)
{
    at_channel_left *left = atomic_exchange(&self->left, NULL);
    if (left == NULL) {
        return false;
    }
    *item = left->items[left->next++];
    at_channel_left *rest = left;
    if (left->next == left->count) {
        rest = left->behind;
        at_free(left);
    }
    if (rest != NULL) {
        left_keep(self, rest);
    }
    return true;
}

/* An item without waiting: AT_EEMPTY, AT_ECLOSED. */
static int take_item(at_channel_object *self, void **item) AT_ATTACHED
{
    at_member_receives(self->member);
    if (atomic_load_explicit(&self->left, memory_order_relaxed) != NULL &&
        at_channel_left_take(self, item)) {
        return 0;
    }
    return at_channel_try_recv(self->channel, item);
}

static int recv_waiting(at_channel_object *self, void **message,
                        int64_t deadline_ns) AT_ATTACHED
{
    at_patience patience = {deadline_ns, self->peer};
    int result = at_channel_brief_recv(self->channel, message);
    if (result != AT_EEMPTY) {
        return result;
    }
    do {
        PyThreadState *state = at_detach();
        result = at_channel_recv(self->channel, message, &patience);
        at_attach(state);
    } while (at_bind_wait_again(&result));
    return result;
}

PyObject *at_channel_received(at_channel_object *self, int result, void *item)
{
    if (result == 0) {
        return at_channel_unpack(item);
    }
    if (result == AT_ETIMEOUT) {
        return at_raise_format(result, "nothing came in time");
    }
    if (result != AT_ELAGGED) {
        return at_channel_raise(self, result);
    }
    PyObject *class = at_error_class("LaggedError");
    PyObject *error = class != NULL
                          ? PyObject_CallFunction(class, "nO", (Py_ssize_t)item, self)
                          : NULL;
    if (error != NULL) {
        PyErr_SetObject(class, error);
        Py_DECREF(error);
    }
    Py_XDECREF(class);
    return NULL;
}

AT_UNCHECKED PyObject *at_channel_method_recv(PyObject *object,
                                              PyObject *const *arguments,
                                              Py_ssize_t count, PyObject *keyword_names)
{
    at_channel_object *self = at_channel_object_of(object);
    PyObject *values[1] = {NULL};
    static const char *const names[] = {"timeout"};
    if ((count != 0 || keyword_names != NULL) &&
        at_bind_arguments("recv", names, 0, 1, arguments, count, keyword_names,
                          values) < 0) {
        return NULL;
    }
    int64_t deadline_ns = AT_NEVER;
    if (values[0] != NULL && at_bind_deadline(values[0], &deadline_ns) < 0) {
        return NULL;
    }
    void *message = NULL;
    int result = take_item(self, &message);
    if (result == AT_EEMPTY) {
        result = recv_waiting(self, &message, deadline_ns);
    }
    return at_channel_received(self, result, message);
}

AT_UNCHECKED PyObject *at_channel_method_try_recv(PyObject *object, PyObject *unused)
{
    at_channel_object *self = at_channel_object_of(object);
    void *message = NULL;
    int result = take_item(self, &message);
    return at_channel_received(self, result, message);
}

/* Leave items[from..count) for the next receive. */
static void leave_items(at_channel_object *self, void *const *items, size_t from,
                        size_t count)
{
    at_channel_left *left = at_alloc(sizeof *left);
    for (size_t i = from; i < count; i++) {
        if (left != NULL) {
            left->items[i - from] = items[i];
        } else {
            at_item_drop(items[i]);
        }
    }
    if (left != NULL) {
        left->behind = NULL;
        left->next = 0;
        left->count = count - from;
        left_keep(self, left);
    }
}

/* The list of a batch of which item `bad` cannot be unpacked: an exception is set. It
 * ends there, and the next receive has the exception; where it is empty, this one. */
static PyObject *end_batch(at_channel_object *self, PyObject *list, void **items,
                           size_t bad, size_t count) AT_ATTACHED
{
    if (bad != 0) {
        PyErr_Clear();
        leave_items(self, items, bad, count);
        if (PyList_SetSlice(list, (Py_ssize_t)bad, (Py_ssize_t)count, NULL) < 0) {
            Py_CLEAR(list);
        }
        return list;
    }
    PyObject *error = PyErr_GetRaisedException();
    Py_DECREF(list);
    at_item_drop(items[0]);
    if (count > 1) {
        leave_items(self, items, 1, count);
    }
    PyErr_SetRaisedException(error);
    return NULL;
}

/* The objects of `count` items, all of which are taken, as a list that ends before the
 * first that cannot be unpacked. Where that is the first, NULL with its error. */
static PyObject *unpack_batch(at_channel_object *self, void **items,
                              size_t count) AT_ATTACHED
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    if (list == NULL) {
        leave_items(self, items, 0, count);
        return NULL;
    }
    PyObject_GC_UnTrack(list); /* unpacking may run code, and the collector show it */
    PyObject **objects = ((PyListObject *)list)->ob_item;
    size_t done = 0;
    for (;;) {
        done += at_parcel_take_small(items + done, count - done, objects + done);
        if (done == count || PyErr_Occurred() != NULL) {
            break;
        }
        objects[done] = at_parcel_unpack(items[done]);
        if (objects[done] == NULL) {
            break;
        }
        at_item_drop(items[done++]);
    }
    if (done != count) {
        list = end_batch(self, list, items, done, count);
    }
    if (list != NULL) {
        PyObject_GC_Track(list);
    }
    return list;
}

/* Up to `wanted` items without waiting: how many, or AT_EEMPTY, AT_ECLOSED, AT_ELAGGED
 * with the count in items[0]. */
static int take_items(at_channel_object *self, void **items, size_t wanted) AT_ATTACHED
{
    at_member_receives(self->member);
    size_t count = 0;
    while (count < wanted &&
           atomic_load_explicit(&self->left, memory_order_relaxed) != NULL &&
           at_channel_left_take(self, &items[count])) {
        count++;
    }
    if (count == 0) {
        return at_channel_try_recv_many(self->channel, items, wanted);
    }
    return (int)count +
           (count < wanted
                ? at_channel_try_recv_more(self->channel, items + count, wanted - count)
                : 0);
}

AT_UNCHECKED PyObject *
at_channel_method_recv_many(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"limit", "timeout", NULL};
    at_channel_object *self = at_channel_object_of(object);
    at_int_argument limit = {"limit", AT_CHANNEL_MANY};
    PyObject *timeout = NULL;
    int64_t deadline_ns;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O&O:recv_many", names,
                                     at_bind_int, &limit, &timeout) ||
        at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    if (limit.value < 1) {
        PyErr_SetString(PyExc_ValueError, "limit must be at least 1");
        return NULL;
    }
    void *items[AT_CHANNEL_MANY];
    size_t wanted =
        limit.value < AT_CHANNEL_MANY ? (size_t)limit.value : AT_CHANNEL_MANY;
    int result = take_items(self, items, wanted);
    if (result == AT_EEMPTY) {
        result = recv_waiting(self, items, deadline_ns);
        if (result == 0) {
            result = 1 + (wanted > 1 ? at_channel_try_recv_more(self->channel,
                                                                items + 1, wanted - 1)
                                     : 0);
        }
    }
    if (result < 0) {
        return at_channel_received(self, result, items[0]);
    }
    return unpack_batch(self, items, (size_t)result);
}

AT_UNCHECKED PyObject *at_channel_method_next(PyObject *object)
{
    at_channel_object *self = at_channel_object_of(object);
    void *message = NULL;
    int result = take_item(self, &message);
    if (result == AT_EEMPTY) {
        result = recv_waiting(self, &message, AT_NEVER);
    }
    if (result == AT_ECLOSED) {
        return NULL; /* the end of the iteration */
    }
    return at_channel_received(self, result, message);
}

AT_UNCHECKED PyObject *
at_channel_method_recv_async(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    return at_bind_coroutine("recv", object, arguments, keywords);
}

AT_UNCHECKED PyObject *at_channel_method_anext(PyObject *object)
{
    PyObject *none = PyTuple_New(0);
    if (none == NULL) {
        return NULL;
    }
    PyObject *coroutine = at_bind_coroutine("next_item", object, none, NULL);
    Py_DECREF(none);
    return coroutine;
}
