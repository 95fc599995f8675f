/* atoll.Channel: objects through chan/channel.h.
 *
 * A send or receive is tried while attached, and only when it would have to wait does
 * the thread let its GIL go: the fast path takes no lock and makes no system call.
 */
#define PY_SSIZE_T_CLEAN
#include "bind/channel.h"

#include "base/error.h"
#include "base/memory.h"
#include "bind/bind.h"
#include "bind/error.h"
#include "bind/type.h"
#include "bind/wait.h"
#include "chan/message.h"
#include "interp/attach.h"
#include "parcel/parcel.h"
#include "parcel/word.h"
#include "sys/clock.h"

enum { DEFAULT_CAPACITY = 1024, MANY_LIMIT = 256 };

static at_channel_object *self_of(PyObject *object)
{
    return (at_channel_object *)object;
}

/* ---- life ---------------------------------------------------------------------- */

PyObject *at_channel_object_wrap(PyTypeObject *type, at_shared *channel)
{
    at_peer *peer = at_bind_peer();
    if (peer == NULL) {
        return NULL;
    }
    at_channel_member *member;
    int result = at_channel_member_join((at_channel *)channel, peer, &member);
    if (result < 0) {
        return at_raise(result);
    }
    at_channel_object *self = (at_channel_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        at_channel_member_leave(member);
        return NULL;
    }
    at_shared_ref(channel);
    at_shared_ref(&peer->shared);
    self->channel = (at_channel *)channel;
    self->peer = peer;
    self->member = member;
    return (PyObject *)self;
}

AT_UNCHECKED static PyObject *channel_new(PyTypeObject *type, PyObject *arguments,
                                          PyObject *keywords)
{
    static char *names[] = {"capacity", "keep_open", NULL};
    Py_ssize_t capacity = DEFAULT_CAPACITY;
    int keep_open = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|n$p:Channel", names,
                                     &capacity, &keep_open)) {
        return NULL;
    }
    if (capacity < 1) {
        PyErr_SetString(PyExc_ValueError, "capacity must be at least 1");
        return NULL;
    }
    at_channel_options options = {(size_t)capacity, at_message_drop, keep_open != 0};
    at_channel *channel;
    int result = at_channel_new(&options, &channel);
    if (result < 0) {
        return at_raise(result);
    }
    PyObject *self = at_channel_object_wrap(type, (at_shared *)channel);
    at_shared_unref((at_shared *)channel);
    return self;
}

static void left_free(struct at_channel_left *left);

static void channel_dealloc(PyObject *object)
{
    at_channel_object *self = self_of(object);
    PyTypeObject *type = Py_TYPE(object);
    if (self->channel != NULL) {
        left_free(atomic_load(&self->left));
        at_channel_member_leave(self->member);
        at_shared_unref((at_shared *)self->channel);
        at_shared_unref(&self->peer->shared);
    }
    type->tp_free(object);
    Py_DECREF(type);
}

/* ---- sending ------------------------------------------------------------------- */

/* `object` as what a channel carries. 0, or -1 with an exception set. */
static int pack_item(PyObject *object, void **item) AT_ATTACHED
{
    if (at_parcel_word_pack(object, item)) {
        return 0;
    }
    at_message *message;
    int status = at_parcel_pack(object, &message);
    *item = message;
    return status;
}

static PyObject *raise_closed(at_channel_object *self) AT_ATTACHED
{
    if (at_channel_is_orphaned(self->channel)) {
        return at_raise_format(
            AT_ECLOSED,
            "the channel closed with the last interpreter on its other side");
    }
    return at_raise_format(AT_ECLOSED, "the channel is closed");
}

static PyObject *raise_for(at_channel_object *self, int result) AT_ATTACHED
{
    return result == AT_ECLOSED ? raise_closed(self) : at_bind_wait_failed(result);
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

AT_UNCHECKED static PyObject *channel_send(PyObject *object, PyObject *const *arguments,
                                           Py_ssize_t count, PyObject *keyword_names)
{
    at_channel_object *self = self_of(object);
    PyObject *values[2] = {count == 1 ? arguments[0] : NULL, NULL};
    static const char *const names[] = {"obj", "timeout"};
    if ((count != 1 || keyword_names != NULL) &&
        at_bind_arguments("send", names, 1, 2, arguments, count, keyword_names,
                          values) < 0) {
        return NULL;
    }
    void *message;
    if (pack_item(values[0], &message) < 0) {
        return NULL;
    }
    at_channel_member_sends(self->member);
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
        return raise_for(self, result);
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *channel_try_send(PyObject *object, PyObject *value)
{
    at_channel_object *self = self_of(object);
    void *message;
    if (pack_item(value, &message) < 0) {
        return NULL;
    }
    at_channel_member_sends(self->member);
    int result = at_channel_try_send(self->channel, message);
    if (result != 0) {
        at_message_drop(message);
        return raise_for(self, result);
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
        raise_for(self, result);
        return -1;
    }
    return (Py_ssize_t)sent;
}

AT_UNCHECKED static PyObject *channel_send_many(PyObject *object, PyObject *arguments,
                                                PyObject *keywords)
{
    static char *names[] = {"objects", "timeout", NULL};
    at_channel_object *self = self_of(object);
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
    at_channel_member_sends(self->member);
    Py_ssize_t total = 0;
    bool more = true;
    while (more) {
        void *messages[MANY_LIMIT];
        size_t packed = 0;
        PyObject *item = NULL;
        while (packed < MANY_LIMIT && (item = PyIter_Next(iterator)) != NULL) {
            int failed = pack_item(item, &messages[packed]);
            Py_DECREF(item);
            if (failed < 0) {
                break;
            }
            packed++;
        }
        more = packed == MANY_LIMIT;
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

/* ---- receiving ------------------------------------------------------------------- */

/* The object of an item, which stays the caller's. */
static PyObject *object_of(const void *item) AT_ATTACHED
{
    return at_message_is_word(item) ? at_parcel_word_unpack(item)
                                    : at_parcel_unpack(item);
}

PyObject *at_channel_unpack(void *item)
{
    PyObject *value = object_of(item);
    at_message_drop(item);
    return value;
}

/* Received, and not handed out: a batch from the item on that could not be unpacked.
 * The next receive on the handle meets that error; what came before it is not lost with
 * it, nor what came behind. */
typedef struct at_channel_left {
    size_t next;
    size_t count;
    void *items[MANY_LIMIT];
} at_channel_left;

static void left_free(at_channel_left *left)
{
    for (; left != NULL && left->next < left->count; left->next++) {
        at_message_drop(left->items[left->next]);
    }
    at_free(left);
}

/* Keep the items in `left`, of which it takes hold. */
static void left_keep(at_channel_object *self, at_channel_left *left)
{
    at_channel_left *none = NULL;
    while (!atomic_compare_exchange_strong(&self->left, &none, left)) {
        /* Another thread has left some meanwhile: they are sent on to whoever comes. */
        at_channel_left *other = atomic_exchange(&self->left, NULL);
        while (other != NULL && other->next < other->count &&
               left->count < MANY_LIMIT) {
            left->items[left->count++] = other->items[other->next++];
        }
        left_free(other);
        none = NULL;
    }
}

static bool left_take(at_channel_object *self, void **item)
{
    at_channel_left *left = atomic_exchange(&self->left, NULL);
    if (left == NULL) {
        return false;
    }
    *item = left->items[left->next++];
    if (left->next < left->count) {
        left_keep(self, left);
    } else {
        at_free(left);
    }
    return true;
}

/* An item without waiting: AT_EEMPTY, AT_ECLOSED. */
static int take_item(at_channel_object *self, void **item) AT_ATTACHED
{
    at_channel_member_receives(self->member);
    if (atomic_load_explicit(&self->left, memory_order_relaxed) != NULL &&
        left_take(self, item)) {
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

AT_UNCHECKED static PyObject *channel_recv(PyObject *object, PyObject *const *arguments,
                                           Py_ssize_t count, PyObject *keyword_names)
{
    at_channel_object *self = self_of(object);
    PyObject *values[1] = {NULL};
    static const char *const names[] = {"timeout"};
    if ((count != 0 || keyword_names != NULL) &&
        at_bind_arguments("recv", names, 0, 1, arguments, count, keyword_names,
                          values) < 0) {
        return NULL;
    }
    void *message;
    int result = take_item(self, &message);
    if (result == AT_EEMPTY) {
        int64_t deadline_ns;
        if (at_bind_deadline(values[0], &deadline_ns) < 0) {
            return NULL;
        }
        result = recv_waiting(self, &message, deadline_ns);
    }
    return result == 0 ? at_channel_unpack(message) : raise_for(self, result);
}

AT_UNCHECKED static PyObject *channel_try_recv(PyObject *object, PyObject *unused)
{
    at_channel_object *self = self_of(object);
    void *message;
    int result = take_item(self, &message);
    return result == 0 ? at_channel_unpack(message) : raise_for(self, result);
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
            at_message_drop(items[i]);
        }
    }
    if (left != NULL) {
        left->next = 0;
        left->count = count - from;
        left_keep(self, left);
    }
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
    for (size_t i = 0; i < count; i++) {
        PyObject *value = object_of(items[i]);
        if (value == NULL && i != 0) {
            PyErr_Clear(); /* the next receive raises it */
            leave_items(self, items, i, count);
            if (PyList_SetSlice(list, (Py_ssize_t)i, (Py_ssize_t)count, NULL) < 0) {
                Py_CLEAR(list);
            }
            return list;
        }
        at_message_drop(items[i]);
        if (value == NULL) {
            Py_DECREF(list);
            if (count > 1) {
                PyObject *error = PyErr_GetRaisedException();
                leave_items(self, items, 1, count);
                PyErr_SetRaisedException(error);
            }
            return NULL;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, value);
    }
    return list;
}

AT_UNCHECKED static PyObject *channel_recv_many(PyObject *object, PyObject *arguments,
                                                PyObject *keywords)
{
    static char *names[] = {"limit", "timeout", NULL};
    at_channel_object *self = self_of(object);
    Py_ssize_t limit = MANY_LIMIT;
    PyObject *timeout = NULL;
    int64_t deadline_ns;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|nO:recv_many", names,
                                     &limit, &timeout) ||
        at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    if (limit < 1) {
        PyErr_SetString(PyExc_ValueError, "limit must be at least 1");
        return NULL;
    }
    void *items[MANY_LIMIT];
    size_t wanted = limit < MANY_LIMIT ? (size_t)limit : MANY_LIMIT;
    int result = take_item(self, items);
    if (result == AT_EEMPTY) {
        result = recv_waiting(self, items, deadline_ns);
    }
    if (result != 0) {
        return raise_for(self, result);
    }
    int more =
        wanted > 1 ? at_channel_try_recv_many(self->channel, items + 1, wanted - 1) : 0;
    return unpack_batch(self, items, 1 + (more > 0 ? (size_t)more : 0));
}

AT_UNCHECKED static PyObject *channel_next(PyObject *object)
{
    at_channel_object *self = self_of(object);
    void *message;
    int result = take_item(self, &message);
    if (result == AT_EEMPTY) {
        result = recv_waiting(self, &message, AT_NEVER);
    }
    if (result == AT_ECLOSED) {
        return NULL; /* the end of the iteration */
    }
    return result == 0 ? at_channel_unpack(message) : raise_for(self, result);
}

/* ---- on an event loop ---------------------------------------------------------------
 */

/* Call `name` of atoll._aio, whose coroutines these methods return. */
static PyObject *call_aio(const char *name, PyObject *object, PyObject *arguments,
                          PyObject *keywords) AT_ATTACHED
{
    PyObject *module = PyImport_ImportModule("atoll._aio");
    if (module == NULL) {
        return NULL;
    }
    PyObject *function = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    if (function == NULL) {
        return NULL;
    }
    PyObject *method = PyMethod_New(function, object);
    Py_DECREF(function);
    if (method == NULL) {
        return NULL;
    }
    PyObject *coroutine = PyObject_Call(method, arguments, keywords);
    Py_DECREF(method);
    return coroutine;
}

AT_UNCHECKED static PyObject *channel_send_async(PyObject *object, PyObject *arguments,
                                                 PyObject *keywords)
{
    return call_aio("send", object, arguments, keywords);
}

AT_UNCHECKED static PyObject *channel_recv_async(PyObject *object, PyObject *arguments,
                                                 PyObject *keywords)
{
    return call_aio("recv", object, arguments, keywords);
}

AT_UNCHECKED static PyObject *channel_anext(PyObject *object)
{
    PyObject *none = PyTuple_New(0);
    if (none == NULL) {
        return NULL;
    }
    PyObject *coroutine = call_aio("next_item", object, none, NULL);
    Py_DECREF(none);
    return coroutine;
}

/* ---- looking and closing
 * -------------------------------------------------------------- */

AT_UNCHECKED static PyObject *channel_close(PyObject *object, PyObject *unused)
{
    (void)at_channel_close(self_of(object)->channel);
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *channel_exit(PyObject *object, PyObject *arguments)
{
    return channel_close(object, NULL);
}

AT_UNCHECKED static PyObject *channel_enter(PyObject *object, PyObject *unused)
{
    return Py_NewRef(object);
}

static Py_ssize_t channel_length(PyObject *object)
{
    return (Py_ssize_t)at_channel_count(self_of(object)->channel);
}

/* An empty channel is not false: it is there. */
static int channel_bool(PyObject *object)
{
    return 1;
}

AT_UNCHECKED static PyObject *channel_closed(PyObject *object, void *unused)
{
    return PyBool_FromLong(at_channel_is_closed(self_of(object)->channel));
}

AT_UNCHECKED static PyObject *channel_capacity(PyObject *object, void *unused)
{
    return PyLong_FromSize_t(at_channel_capacity(self_of(object)->channel));
}

AT_UNCHECKED static PyObject *channel_repr(PyObject *object)
{
    at_channel *channel = self_of(object)->channel;
    return PyUnicode_FromFormat("<atoll.Channel %p: %zu of %zu%s>", (void *)channel,
                                at_channel_count(channel), at_channel_capacity(channel),
                                at_channel_is_closed(channel) ? ", closed" : "");
}

/* Two handles are equal when they are of one channel. */
AT_UNCHECKED static PyObject *channel_compare(PyObject *left, PyObject *right,
                                              int operation)
{
    if ((operation != Py_EQ && operation != Py_NE) || Py_TYPE(left) != Py_TYPE(right)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    bool same = self_of(left)->channel == self_of(right)->channel;
    return PyBool_FromLong(same == (operation == Py_EQ));
}

static Py_hash_t channel_hash(PyObject *object)
{
    return at_bind_hash_pointer(self_of(object)->channel);
}

static PyMethodDef channel_methods[] = {
    {"send", (PyCFunction)(void (*)(void))channel_send, METH_FASTCALL | METH_KEYWORDS,

     "send($self, obj, timeout=None)\n"
     "--\n"
     "\n"
     "Send obj, waiting for room.\n"
     "\n"
     "The receiver gets a copy; buffers of 64 KiB and more that cannot change are\n"
     "lent, not copied, and shared things (channels, locks, buffers) stay shared.\n"
     "Any thread of any interpreter may call; the GIL is not held while waiting.\n"
     "\n"
     "Args:\n"
     "    obj: Anything that pickle can carry, functions and lambdas too.\n"
     "    timeout: Seconds to wait; None waits for ever, 0 does not wait.\n"
     "\n"
     "Raises:\n"
     "    NotShareableError: obj holds something that cannot be sent; the message\n"
     "        names the path to it. Nothing was sent.\n"
     "    ClosedError: The channel is closed, or this interpreter is closing.\n"
     "    TimeoutError: There was no room in time."},
    {"try_send", channel_try_send, METH_O,
     "try_send($self, obj, /)\n"
     "--\n"
     "\n"
     "Send obj if there is room; never waits.\n"
     "\n"
     "Raises:\n"
     "    Full: There is no room now.\n"
     "    NotShareableError, ClosedError: As send()."},
    {"send_many", (PyCFunction)(void (*)(void))channel_send_many,
     METH_VARARGS | METH_KEYWORDS,
     "send_many($self, objects, timeout=None)\n"
     "--\n"
     "\n"
     "Send each of objects, in order, waiting for room.\n"
     "\n"
     "Cheaper than as many send(): receivers are woken once for a batch. What\n"
     "stands before an object that cannot be sent is sent all the same.\n"
     "\n"
     "Args:\n"
     "    objects: An iterable.\n"
     "    timeout: Seconds to wait; None waits for ever, 0 does not wait. For all "
     "together.\n"
     "\n"
     "Returns:\n"
     "    How many there were.\n"
     "\n"
     "Raises:\n"
     "    NotShareableError, ClosedError, TimeoutError: As send()."},
    {"recv", (PyCFunction)(void (*)(void))channel_recv, METH_FASTCALL | METH_KEYWORDS,

     "recv($self, timeout=None)\n"
     "--\n"
     "\n"
     "Receive the first object, waiting for one.\n"
     "\n"
     "Args:\n"
     "    timeout: Seconds to wait; None waits for ever, 0 does not wait.\n"
     "\n"
     "Returns:\n"
     "    The object. Each is received once, by one receiver.\n"
     "\n"
     "Raises:\n"
     "    ClosedError: The channel is closed and drained, or this interpreter is\n"
     "        closing.\n"
     "    TimeoutError: Nothing came in time."},
    {"try_recv", channel_try_recv, METH_NOARGS,
     "try_recv($self)\n"
     "--\n"
     "\n"
     "Receive the first object if there is one; never waits.\n"
     "\n"
     "Raises:\n"
     "    Empty: There is nothing now.\n"
     "    ClosedError: The channel is closed and drained."},
    {"recv_many", (PyCFunction)(void (*)(void))channel_recv_many,
     METH_VARARGS | METH_KEYWORDS,
     "recv_many($self, limit=256, timeout=None)\n"
     "--\n"
     "\n"
     "Receive what is there, waiting only for the first object.\n"
     "\n"
     "Args:\n"
     "    limit: At most so many objects, and never more than 256.\n"
     "    timeout: Seconds to wait; None waits for ever, 0 does not wait.\n"
     "\n"
     "Returns:\n"
     "    A list of at least one object. It ends before an object that cannot be\n"
     "    unpacked, whose error the next receive on this handle raises.\n"
     "\n"
     "Raises:\n"
     "    ClosedError, TimeoutError: As recv()."},
    {"send_async", (PyCFunction)(void (*)(void))channel_send_async,
     METH_VARARGS | METH_KEYWORDS,
     "send_async($self, obj, timeout=None)\n"
     "--\n"
     "\n"
     "send() for coroutines: waits on the running event loop."},
    {"recv_async", (PyCFunction)(void (*)(void))channel_recv_async,
     METH_VARARGS | METH_KEYWORDS,
     "recv_async($self, timeout=None)\n"
     "--\n"
     "\n"
     "recv() for coroutines: waits on the running event loop."},
    {"close", channel_close, METH_NOARGS,
     "close($self)\n"
     "--\n"
     "\n"
     "Refuse further sends; what was accepted can still be received.\n"
     "\n"
     "Waiting senders and, once it is drained, receivers get ClosedError. Closing\n"
     "again does nothing."},
    {"__enter__", channel_enter, METH_NOARGS,
     "__enter__($self)\n"
     "--\n"
     "\n"
     "The channel itself."},
    {"__exit__", channel_exit, METH_VARARGS,
     "__exit__($self, *exception)\n"
     "--\n"
     "\n"
     "close()."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef channel_attributes[] = {
    {"closed", channel_closed, NULL, "Whether sends are refused.", NULL},
    {"capacity", channel_capacity, NULL, "How many objects it holds at most.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot channel_slots[] = {
    {Py_tp_doc,
     "Channel(capacity=1024, *, keep_open=False)\n"
     "--\n"
     "\n"
     "A bounded queue between interpreters and threads.\n"
     "\n"
     "Several may send and several receive; the order of each sender is kept. A\n"
     "channel can itself be sent: both handles are of one channel. Iterating, also\n"
     "with \"async for\", receives until it is closed and drained. It closes by "
     "itself\n"
     "when the last interpreter on one side closes.\n"
     "\n"
     "Args:\n"
     "    capacity: How many objects it holds before send() waits; at least 1.\n"
     "    keep_open: Do not close when interpreters do."},
    {Py_tp_new, channel_new},
    {Py_tp_dealloc, channel_dealloc},
    {Py_tp_methods, channel_methods},
    {Py_tp_getset, channel_attributes},
    {Py_tp_repr, channel_repr},
    {Py_tp_richcompare, channel_compare},
    {Py_tp_hash, channel_hash},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, channel_next},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, channel_anext},
    {Py_sq_length, channel_length},
    {Py_nb_bool, channel_bool},
    {0, NULL},
};

static PyType_Spec channel_spec = {
    .name = "atoll.Channel",
    .basicsize = sizeof(at_channel_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = channel_slots,
};

at_channel_object *at_channel_object_from(PyObject *object)
{
    if (Py_TYPE(object)->tp_dealloc != channel_dealloc) {
        PyErr_Format(PyExc_TypeError, "expected a Channel, not %.100s",
                     Py_TYPE(object)->tp_name);
        return NULL;
    }
    return self_of(object);
}

/* ---- select -------------------------------------------------------------------------
 */

/* A new reference to (channel, object). */
static PyObject *selected(PyObject *channel, void *message) AT_ATTACHED
{
    PyObject *value = at_channel_unpack(message);
    if (value == NULL) {
        return NULL;
    }
    PyObject *pair = PyTuple_Pack(2, channel, value);
    Py_DECREF(value);
    return pair;
}

/* select(channels: tuple, timeout) */
AT_UNCHECKED static PyObject *select_channels(PyObject *module, PyObject *arguments)
{
    PyObject *tuple;
    PyObject *timeout;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(arguments, "O!O:select", &PyTuple_Type, &tuple, &timeout) ||
        at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    size_t count = (size_t)PyTuple_GET_SIZE(tuple);
    if (count == 0 || count > AT_SELECT_LIMIT) {
        return PyErr_Format(PyExc_ValueError, "select takes 1 to %d channels, not %zu",
                            AT_SELECT_LIMIT, count);
    }
    at_channel *channels[AT_SELECT_LIMIT];
    at_patience patience = {deadline_ns, NULL};
    for (size_t i = 0; i < count; i++) {
        PyObject *handle = PyTuple_GET_ITEM(tuple, (Py_ssize_t)i);
        at_channel_object *channel = at_channel_object_from(handle);
        if (channel == NULL) {
            return NULL;
        }
        void *left;
        if (left_take(channel, &left)) {
            return selected(handle, left);
        }
        at_channel_member_receives(channel->member);
        channels[i] = channel->channel;
        patience.peer = channel->peer;
    }
    size_t start = (size_t)at_clock_ns() % count;
    void *message;
    size_t chosen;
    int result = at_channel_try_select(channels, count, start, &message, &chosen);
    if (result == AT_EEMPTY) {
        do {
            PyThreadState *state = at_detach();
            result =
                at_channel_select(channels, count, start, &message, &chosen, &patience);
            at_attach(state);
        } while (at_bind_wait_again(&result));
    }
    if (result == AT_ECLOSED) {
        return at_raise_format(AT_ECLOSED, "every channel is closed");
    }
    if (result != 0) {
        return at_bind_wait_failed(result);
    }
    return selected(PyTuple_GET_ITEM(tuple, (Py_ssize_t)chosen), message);
}

static PyMethodDef functions[] = {
    {"select", select_channels, METH_VARARGS,
     "select($module, channels, timeout, /)\n--\n\nSee atoll.select()."},
    {NULL, NULL, 0, NULL},
};

/* ---- the module
 * ----------------------------------------------------------------------- */

static at_shared *thing_of(PyObject *object)
{
    return (at_shared *)self_of(object)->channel;
}

static const at_parcel_handle channel_handle = {
    .kind = &at_channel_kind,
    .thing_of = thing_of,
    .wrap = at_channel_object_wrap,
};

AT_UNCHECKED int at_bind_channel(PyObject *module)
{
    PyTypeObject *type = at_bind_add_type(module, &channel_spec);
    if (type == NULL) {
        return -1;
    }
    int result = at_parcel_register_handle(type, &channel_handle);
    Py_DECREF(type);
    return result == 0 ? PyModule_AddFunctions(module, functions) : -1;
}
