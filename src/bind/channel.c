/* atoll.Channel: objects through chan/channel.h.
 *
 * A send or receive is tried while attached, and only when it would have to wait does
 * the thread let its GIL go: the fast path takes no lock and makes no system call.
 */
#define PY_SSIZE_T_CLEAN
#include "bind/channel.h"

#include "base/error.h"
#include "base/memory.h"
#include "bind/argument.h"
#include "bind/bind.h"
#include "bind/broadcast.h"
#include "bind/error.h"
#include "bind/type.h"
#include "bind/wait.h"
#include "chan/message.h"
#include "interp/attach.h"
#include "parcel/parcel.h"
#include "parcel/word.h"
#include "sys/clock.h"

enum { DEFAULT_CAPACITY = 1024 };

/* ---- life ---------------------------------------------------------------------- */

PyObject *at_channel_object_wrap(PyTypeObject *type, at_shared *channel)
{
    at_peer *peer = at_bind_peer();
    if (peer == NULL) {
        return NULL;
    }
    at_member *member;
    int result = at_channel_join((at_channel *)channel, peer, &member);
    if (result < 0) {
        return at_raise(result);
    }
    at_channel_object *self = (at_channel_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        at_member_leave(member);
        return NULL;
    }
    at_shared_ref(channel);
    at_shared_ref(&peer->shared);
    self->channel = (at_channel *)channel;
    self->peer = peer;
    self->member = member;
    return (PyObject *)self;
}

int at_channel_check_capacity(long long capacity)
{
    if (capacity < 1) {
        PyErr_SetString(PyExc_ValueError, "capacity must be at least 1");
        return -1;
    }
    if (capacity > AT_CHANNEL_MOST) {
        PyErr_Format(PyExc_OverflowError, "capacity must be at most %d",
                     AT_CHANNEL_MOST);
        return -1;
    }
    return 0;
}

AT_UNCHECKED static PyObject *channel_new(PyTypeObject *type, PyObject *arguments,
                                          PyObject *keywords)
{
    static char *names[] = {"capacity", "keep_open", NULL};
    at_int_argument capacity = {"capacity", DEFAULT_CAPACITY};
    int keep_open = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O&$p:Channel", names,
                                     at_bind_int, &capacity, &keep_open) ||
        at_channel_check_capacity(capacity.value) < 0) {
        return NULL;
    }
    at_channel_options options = {(size_t)capacity.value, at_item_drop, keep_open != 0,
                                  NULL};
    at_channel *channel;
    int result = at_channel_new(&options, &channel);
    if (result < 0) {
        return at_raise(result);
    }
    PyObject *self = at_channel_object_wrap(type, (at_shared *)channel);
    at_shared_unref((at_shared *)channel);
    return self;
}

static PyObject *raise_closed(at_channel_object *self) AT_ATTACHED
{
    bool fed = ((at_shared *)self->channel)->kind == &at_subscription_kind;
    if (at_channel_is_orphaned(self->channel)) {
        return at_raise_format(
            AT_ECLOSED,
            fed ? "the subscription closed with the last interpreter that had it"
                : "the channel closed with the last interpreter on its other side; "
                  "Channel(keep_open=True) stays open");
    }
    return at_raise_format(AT_ECLOSED,
                           fed ? "the broadcast, or this subscription to it, "
                                 "is closed"
                               : "the channel is closed");
}

PyObject *at_channel_raise(at_channel_object *self, int result)
{
    switch (result) {
    case AT_ECLOSED:
        return raise_closed(self);
    case AT_EFULL:
        return at_raise_format(result, "the channel is full: it holds %zu",
                               at_channel_capacity(self->channel));
    case AT_EEMPTY:
        return at_raise_format(result, "nothing is there to receive");
    case AT_ETIMEOUT:
        return at_raise_format(result, "the channel had no room in time");
    default:
        return at_bind_wait_failed(result);
    }
}

void at_channel_object_free(PyObject *object)
{
    at_channel_object *self = at_channel_object_of(object);
    PyTypeObject *type = Py_TYPE(object);
    if (self->weak_references != NULL) {
        PyObject_ClearWeakRefs(object);
    }
    if (self->channel != NULL) {
        at_channel_left_free(atomic_load(&self->left));
        at_member_leave(self->member);
        at_shared_unref((at_shared *)self->channel);
        at_shared_unref(&self->peer->shared);
    }
    type->tp_free(object);
    Py_DECREF(type);
}

PyMemberDef at_channel_object_members[] = AT_BIND_WEAK_MEMBERS(at_channel_object);

/* ---- looking and closing --------------------------------------------------------- */

AT_UNCHECKED PyObject *at_channel_method_close(PyObject *object, PyObject *unused)
{
    (void)at_channel_close(at_channel_object_of(object)->channel);
    Py_RETURN_NONE;
}

AT_UNCHECKED PyObject *at_channel_method_exit(PyObject *object, PyObject *arguments)
{
    return at_channel_method_close(object, NULL);
}

AT_UNCHECKED PyObject *at_channel_method_enter(PyObject *object, PyObject *unused)
{
    return Py_NewRef(object);
}

Py_ssize_t at_channel_method_length(PyObject *object)
{
    return (Py_ssize_t)at_channel_count(at_channel_object_of(object)->channel);
}

/* An empty channel is not false: it is there. */
int at_channel_method_bool(PyObject *object)
{
    return 1;
}

AT_UNCHECKED PyObject *at_channel_method_closed(PyObject *object, void *unused)
{
    return PyBool_FromLong(at_channel_is_closed(at_channel_object_of(object)->channel));
}

AT_UNCHECKED PyObject *at_channel_method_capacity(PyObject *object, void *unused)
{
    return PyLong_FromSize_t(
        at_channel_capacity(at_channel_object_of(object)->channel));
}

AT_UNCHECKED static PyObject *channel_repr(PyObject *object)
{
    at_channel *channel = at_channel_object_of(object)->channel;
    return PyUnicode_FromFormat("<atoll.Channel %p: %zu of %zu%s>", (void *)channel,
                                at_channel_count(channel), at_channel_capacity(channel),
                                at_channel_is_closed(channel) ? ", closed" : "");
}

static const void *channel_of(PyObject *object)
{
    return at_channel_object_of(object)->channel;
}

AT_UNCHECKED PyObject *at_channel_method_compare(PyObject *left, PyObject *right,
                                                 int operation)
{
    return at_bind_compare(left, right, operation, channel_of);
}

Py_hash_t at_channel_method_hash(PyObject *object)
{
    return at_bind_hash_pointer(at_channel_object_of(object)->channel);
}

static PyMethodDef channel_methods[] = {
    {"send", (PyCFunction)(void (*)(void))at_channel_method_send,
     METH_FASTCALL | METH_KEYWORDS,

     "send($self, obj, timeout=None)\n"
     "--\n"
     "\n"
     "Send obj, waiting for room.\n"
     "\n"
     "The receiver gets a copy; buffers of 64 KiB and more that cannot change, and\n"
     "bytes of 4 KiB, are lent, not copied, and shared things (channels, locks,\n"
     "buffers) stay shared.\n"
     "Any thread of any interpreter may call; the GIL is not held while waiting.\n"
     "\n"
     "Args:\n"
     "    obj: What pickle's protocol 5 (PEP 574) can carry, functions and lambdas "
     "too.\n"
     "    timeout (float | None): Seconds to wait; None waits for ever, 0 does not.\n"
     "\n"
     "Raises:\n"
     "    NotShareableError: obj holds something that cannot be sent; the message\n"
     "        names the path to it. Nothing was sent.\n"
     "    ClosedError: The channel is closed, or this interpreter is closing.\n"
     "    TimeoutError: There was no room in time."},
    {"try_send", at_channel_method_try_send, METH_O,
     "try_send($self, obj, /)\n"
     "--\n"
     "\n"
     "Send obj if there is room; never waits.\n"
     "\n"
     "Raises:\n"
     "    Full: There is no room now.\n"
     "    NotShareableError, ClosedError: As send()."},
    {"_try_send_packed", at_channel_method_try_send_packed, METH_O,
     "_try_send_packed($self, packed, /)\n--\n\ntry_send() of what pack_item() gave."},
    {"send_many", (PyCFunction)(void (*)(void))at_channel_method_send_many,
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
     "    objects (Iterable): Up to 256 of its objects are taken and packed before\n"
     "        the first of them is sent.\n"
     "    timeout (float | None): Seconds to wait, for all together; None waits for\n"
     "        ever, 0 does not.\n"
     "\n"
     "Returns:\n"
     "    How many there were.\n"
     "\n"
     "Raises:\n"
     "    NotShareableError, ClosedError, TimeoutError: As send(). This and whatever\n"
     "        else it raises has an attribute sent: how many were sent, the first "
     "ones."},
    {"recv", (PyCFunction)(void (*)(void))at_channel_method_recv,
     METH_FASTCALL | METH_KEYWORDS,

     "recv($self, timeout=None)\n"
     "--\n"
     "\n"
     "Receive the first object, waiting for one.\n"
     "\n"
     "Args:\n"
     "    timeout (float | None): Seconds to wait; None waits for ever, 0 does not.\n"
     "\n"
     "Returns:\n"
     "    The object. Each is received once, by one receiver.\n"
     "\n"
     "Raises:\n"
     "    ClosedError: The channel is closed and drained, or this interpreter is\n"
     "        closing.\n"
     "    TimeoutError: Nothing came in time."},
    {"try_recv", at_channel_method_try_recv, METH_NOARGS,
     "try_recv($self)\n"
     "--\n"
     "\n"
     "Receive the first object if there is one; never waits.\n"
     "\n"
     "Raises:\n"
     "    Empty: There is nothing now.\n"
     "    ClosedError: The channel is closed and drained."},
    {"recv_many", (PyCFunction)(void (*)(void))at_channel_method_recv_many,
     METH_VARARGS | METH_KEYWORDS,
     "recv_many($self, limit=256, timeout=None)\n"
     "--\n"
     "\n"
     "Receive what is there, waiting only for the first object.\n"
     "\n"
     "Args:\n"
     "    limit (int): At most so many objects, and never more than 256.\n"
     "    timeout (float | None): Seconds to wait; None waits for ever, 0 does not.\n"
     "\n"
     "Returns:\n"
     "    A list of at least one object. It ends before an object that cannot be\n"
     "    unpacked, whose error the next receive on this handle raises.\n"
     "\n"
     "Raises:\n"
     "    ClosedError, TimeoutError: As recv()."},
    {"send_async", (PyCFunction)(void (*)(void))at_channel_method_send_async,
     METH_VARARGS | METH_KEYWORDS,
     "send_async($self, obj, timeout=None)\n"
     "--\n"
     "\n"
     "send() for coroutines: waits on the running event loop."},
    {"recv_async", (PyCFunction)(void (*)(void))at_channel_method_recv_async,
     METH_VARARGS | METH_KEYWORDS,
     "recv_async($self, timeout=None)\n"
     "--\n"
     "\n"
     "recv() for coroutines: waits on the running event loop."},
    {"close", at_channel_method_close, METH_NOARGS,
     "close($self)\n"
     "--\n"
     "\n"
     "Refuse further sends; what was accepted can still be received.\n"
     "\n"
     "Waiting senders and, once it is drained, receivers get ClosedError. Closing\n"
     "again does nothing."},
    {"__enter__", at_channel_method_enter, METH_NOARGS,
     "__enter__($self)\n"
     "--\n"
     "\n"
     "The channel itself."},
    {"__exit__", at_channel_method_exit, METH_VARARGS,
     "__exit__($self, *exception)\n"
     "--\n"
     "\n"
     "close()."},
    AT_BIND_NO_PICKLE,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef channel_attributes[] = {
    {"closed", at_channel_method_closed, NULL, "Whether sends are refused.", NULL},
    {"capacity", at_channel_method_capacity, NULL, "How many objects it holds at most.",
     NULL},
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
     "channel can itself be sent: both handles are of one channel, and equal.\n"
     "Iterating, also with \"async for\", receives until it is closed and drained. It\n"
     "closes by itself when the last interpreter on one side closes.\n"
     "\n"
     "Args:\n"
     "    capacity (int): How many objects it holds before send() waits; 1 to 2**30.\n"
     "    keep_open (bool): Do not close when interpreters do.\n"
     "\n"
     "Any thread of any interpreter of this process may call the methods; the GIL is\n"
     "not held while one waits."},
    {Py_tp_new, channel_new},
    {Py_tp_dealloc, at_channel_object_free},
    {Py_tp_members, at_channel_object_members},
    {Py_tp_methods, channel_methods},
    {Py_tp_getset, channel_attributes},
    {Py_tp_repr, channel_repr},
    {Py_tp_richcompare, at_channel_method_compare},
    {Py_tp_hash, at_channel_method_hash},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, at_channel_method_next},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, at_channel_method_anext},
    {Py_sq_length, at_channel_method_length},
    {Py_nb_bool, at_channel_method_bool},
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
    if (Py_TYPE(object)->tp_dealloc != at_channel_object_free) {
        PyErr_Format(
            PyExc_TypeError, "expected a Channel or a Subscription, not %.100s%s",
            Py_TYPE(object)->tp_name,
            at_broadcast_of(object) != NULL ? ": its subscribe() gives one" : "");
        return NULL;
    }
    return at_channel_object_of(object);
}

/* ---- the module ------------------------------------------------------------------ */

static at_shared *thing_of(PyObject *object)
{
    return (at_shared *)at_channel_object_of(object)->channel;
}

static const at_parcel_handle channel_handle = {
    .kind = &at_channel_kind,
    .thing_of = thing_of,
    .wrap = at_channel_object_wrap,
};

static PyMethodDef functions[] = {
    {"pack_item", at_channel_pack_item, METH_O, NULL},
    {NULL, NULL, 0, NULL},
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
