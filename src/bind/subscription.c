/* atoll.Subscription: the receiving half of a channel, over what a broadcast feeds.
 *
 * A handle is an at_channel_object like a Channel's, so the methods are the same
 * functions; only sending is not among them. */
#define PY_SSIZE_T_CLEAN
#include "base/error.h"
#include "bind/bind.h"
#include "bind/channel.h"
#include "bind/type.h"
#include "parcel/parcel.h"

AT_UNCHECKED static PyObject *subscription_new(PyTypeObject *type, PyObject *arguments,
                                               PyObject *keywords)
{
    PyErr_SetString(PyExc_TypeError, "Broadcast.subscribe() makes a Subscription");
    return NULL;
}

AT_UNCHECKED static PyObject *subscription_repr(PyObject *object)
{
    at_channel *channel = at_channel_object_of(object)->channel;
    return PyUnicode_FromFormat("<atoll.Subscription %p: %zu of %zu%s>",
                                (void *)channel, at_channel_count(channel),
                                at_channel_capacity(channel),
                                at_channel_is_closed(channel) ? ", closed" : "");
}

static PyMethodDef subscription_methods[] = {
    {"recv", (PyCFunction)(void (*)(void))at_channel_method_recv,
     METH_FASTCALL | METH_KEYWORDS,
     "recv($self, timeout=None)\n"
     "--\n"
     "\n"
     "Receive the next object, waiting for one.\n"
     "\n"
     "Args:\n"
     "    timeout (float | None): Seconds to wait; None waits for ever, 0 does not.\n"
     "\n"
     "Returns:\n"
     "    A copy of the object of this subscription's own.\n"
     "\n"
     "Raises:\n"
     "    LaggedError: Objects before the next one were missed, because this\n"
     "        subscription was full. The next call goes on behind them.\n"
     "    ClosedError: The broadcast is closed and this is drained, or this\n"
     "        interpreter is closing.\n"
     "    TimeoutError: Nothing came in time."},
    {"try_recv", at_channel_method_try_recv, METH_NOARGS,
     "try_recv($self)\n"
     "--\n"
     "\n"
     "Receive the next object if there is one; never waits.\n"
     "\n"
     "Raises:\n"
     "    Empty: There is nothing now.\n"
     "    LaggedError, ClosedError: As recv()."},
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
     "    A list of at least one object.\n"
     "\n"
     "Raises:\n"
     "    LaggedError, ClosedError, TimeoutError: As recv()."},
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
     "End the subscription: nothing more comes, and what came can still be received.\n"
     "\n"
     "Dropping the last handle does the same."},
    {"__enter__", at_channel_method_enter, METH_NOARGS,
     "__enter__($self)\n"
     "--\n"
     "\n"
     "The subscription itself."},
    {"__exit__", at_channel_method_exit, METH_VARARGS,
     "__exit__($self, *exception)\n"
     "--\n"
     "\n"
     "close()."},
    AT_BIND_NO_PICKLE,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef subscription_attributes[] = {
    {"closed", at_channel_method_closed, NULL, "Whether nothing more will come.", NULL},
    {"capacity", at_channel_method_capacity, NULL, "How many objects it holds at most.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot subscription_slots[] = {
    {Py_tp_doc,
     "What Broadcast.subscribe() gives: receives like a Channel.\n"
     "\n"
     "Several threads may receive from one subscription; each object then "
     "goes to\n"
     "one of them. It can be sent to another interpreter, and takes part in "
     "select().\n"
     "Iterating, also with \"async for\", receives until it is closed and "
     "drained.\n"
     "\n"
     "Any thread of any interpreter of this process may call the methods; the "
     "GIL is\n"
     "not held while one waits."},
    {Py_tp_new, subscription_new},
    {Py_tp_dealloc, at_channel_object_free},
    {Py_tp_members, at_channel_object_members},
    {Py_tp_methods, subscription_methods},
    {Py_tp_getset, subscription_attributes},
    {Py_tp_repr, subscription_repr},
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

static PyType_Spec subscription_spec = {
    .name = "atoll.Subscription",
    .basicsize = sizeof(at_channel_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = subscription_slots,
};

static at_shared *thing_of(PyObject *object)
{
    return (at_shared *)at_channel_object_of(object)->channel;
}

static const at_parcel_handle subscription_handle = {
    .kind = &at_subscription_kind,
    .thing_of = thing_of,
    .wrap = at_channel_object_wrap,
};

PyObject *at_subscription_wrap(at_channel *channel)
{
    PyTypeObject *type = at_parcel_handle_type(&subscription_handle);
    return type != NULL ? at_channel_object_wrap(type, (at_shared *)channel) : NULL;
}

AT_UNCHECKED int at_bind_subscription(PyObject *module)
{
    PyTypeObject *type = at_bind_add_type(module, &subscription_spec);
    if (type == NULL) {
        return -1;
    }
    int result = at_parcel_register_handle(type, &subscription_handle);
    Py_DECREF(type);
    return result;
}
