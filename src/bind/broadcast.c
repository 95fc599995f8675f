/* atoll.Broadcast: objects to every subscriber, through chan/broadcast.h.
 *
 * An object is packed once, whatever the number of subscribers; each unpacks a copy of
 * its own from the one message. */
#define PY_SSIZE_T_CLEAN
#include "bind/broadcast.h"

#include <string.h>

#include "base/error.h"
#include "bind/argument.h"
#include "bind/batch.h"
#include "bind/bind.h"
#include "bind/channel.h"
#include "bind/error.h"
#include "bind/type.h"
#include "bind/wait.h"
#include "chan/message.h"
#include "interp/attach.h"
#include "parcel/parcel.h"
#include "sys/clock.h"

enum { DEFAULT_CAPACITY = 1024 };

/* An interpreter's handle. */
typedef struct broadcast_object {
    PyObject_HEAD at_broadcast *broadcast; /* a reference; fixed after new */
    at_peer *peer;                         /* a reference; the same */
    at_member *member;
    PyObject *weak_references;
} broadcast_object;

static PyMemberDef broadcast_members[] = AT_BIND_WEAK_MEMBERS(broadcast_object);

static broadcast_object *self_of(PyObject *object)
{
    return (broadcast_object *)object;
}

/* ---- life ---------------------------------------------------------------------- */

static PyObject *wrap(PyTypeObject *type, at_shared *thing) AT_ATTACHED
{
    at_peer *peer = at_bind_peer();
    if (peer == NULL) {
        return NULL;
    }
    at_member *member;
    int result = at_broadcast_join((at_broadcast *)thing, peer, &member);
    if (result < 0) {
        return at_raise(result);
    }
    broadcast_object *self = (broadcast_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        at_member_leave(member);
        return NULL;
    }
    at_shared_ref(thing);
    at_shared_ref(&peer->shared);
    self->broadcast = (at_broadcast *)thing;
    self->peer = peer;
    self->member = member;
    return (PyObject *)self;
}

static const char *const slow_names[] = {
    [AT_SLOW_WAITS] = "block",
    [AT_SLOW_DROPS] = "drop_oldest",
    [AT_SLOW_CLOSES] = "close",
};

enum { SLOW_NAMES = sizeof slow_names / sizeof *slow_names };

/* -1 with ValueError or TypeError. */
static int slow_of(PyObject *name) AT_ATTACHED
{
    if (name == NULL) {
        return AT_SLOW_WAITS;
    }
    for (int i = 0; PyUnicode_Check(name) && i < SLOW_NAMES; i++) {
        if (PyUnicode_EqualToUTF8(name, slow_names[i])) {
            return i;
        }
    }
    PyErr_Format(PyUnicode_Check(name) ? PyExc_ValueError : PyExc_TypeError,
                 "slow must be 'block', 'drop_oldest' or 'close', not %R", name);
    return -1;
}

AT_UNCHECKED static PyObject *broadcast_new(PyTypeObject *type, PyObject *arguments,
                                            PyObject *keywords)
{
    static char *names[] = {"capacity", "slow", NULL};
    at_int_argument capacity = {"capacity", DEFAULT_CAPACITY};
    PyObject *slow_name = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O&$O:Broadcast", names,
                                     at_bind_int, &capacity, &slow_name)) {
        return NULL;
    }
    int slow = slow_of(slow_name);
    if (slow < 0 || at_channel_check_capacity(capacity.value) < 0) {
        return NULL;
    }
    at_broadcast_options options = {(size_t)capacity.value, (at_slow)slow,
                                    at_item_share_many, at_item_drop};
    at_broadcast *broadcast;
    int result = at_broadcast_new(&options, &broadcast);
    if (result < 0) {
        return at_raise(result);
    }
    PyObject *self = wrap(type, (at_shared *)broadcast);
    at_shared_unref((at_shared *)broadcast);
    return self;
}

static void broadcast_dealloc(PyObject *object)
{
    broadcast_object *self = self_of(object);
    PyTypeObject *type = Py_TYPE(object);
    if (self->weak_references != NULL) {
        PyObject_ClearWeakRefs(object);
    }
    if (self->broadcast != NULL) {
        at_member_leave(self->member);
        at_shared_unref((at_shared *)self->broadcast);
        at_shared_unref(&self->peer->shared);
    }
    type->tp_free(object);
    Py_DECREF(type);
}

at_broadcast *at_broadcast_of(PyObject *object)
{
    return Py_TYPE(object)->tp_dealloc == broadcast_dealloc ? self_of(object)->broadcast
                                                            : NULL;
}

/* ---- sending ------------------------------------------------------------------- */

/* Set the exception for a `result` that is not a success. NULL always. */
static PyObject *raise_failed(int result) AT_ATTACHED
{
    switch (result) {
    case AT_ECLOSED:
        return at_raise_format(result, "the broadcast is closed");
    case AT_EFULL:
        return at_raise_format(result, "a subscription of the broadcast is full");
    case AT_ETIMEOUT:
        return at_raise_format(result, "a subscription had no room in time");
    default:
        return at_bind_wait_failed(result);
    }
}

/* How many got `item`, which is taken or dropped; NULL with an exception set. */
static PyObject *sent(int result, void *item) AT_ATTACHED
{
    if (result >= 0) {
        return PyLong_FromLong(result);
    }
    at_item_drop(item);
    return raise_failed(result);
}

/* Send one, waiting: 0 where it was taken, else what raise_failed() knows. */
static int send_waiting(broadcast_object *self, void *item, int64_t deadline_ns,
                        int *fed_count) AT_ATTACHED
{
    at_patience patience = {deadline_ns, self->peer};
    int result;
    do {
        PyThreadState *state = at_detach();
        result = at_broadcast_send(self->broadcast, item, &patience);
        at_attach(state);
        if (result >= 0) {
            *fed_count = result;
            return 0;
        }
    } while (at_bind_wait_again(&result));
    return result;
}

AT_UNCHECKED static PyObject *broadcast_send(PyObject *object,
                                             PyObject *const *arguments,
                                             Py_ssize_t count, PyObject *keyword_names)
{
    broadcast_object *self = self_of(object);
    PyObject *values[2] = {count == 1 ? arguments[0] : NULL, NULL};
    static const char *const names[] = {"obj", "timeout"};
    void *item;
    int64_t deadline_ns = AT_NEVER;
    if (((count != 1 || keyword_names != NULL) &&
         at_bind_arguments("send", names, 1, 2, arguments, count, keyword_names,
                           values) < 0) ||
        (values[1] != NULL && at_bind_deadline(values[1], &deadline_ns) < 0) ||
        at_channel_pack(values[0], &item) < 0) {
        return NULL;
    }
    int result = at_broadcast_try_send(self->broadcast, item);
    if (result != AT_EFULL) {
        return sent(result, item);
    }
    int fed_count = 0;
    result = send_waiting(self, item, deadline_ns, &fed_count);
    if (result != 0) {
        at_item_drop(item);
        return raise_failed(result);
    }
    return PyLong_FromLong(fed_count);
}

static int batch_try_send(PyObject *object, void **items, size_t count)
{
    return at_broadcast_try_send_many(self_of(object)->broadcast, items, count);
}

AT_UNCHECKED static int batch_send(PyObject *object, void *item, int64_t deadline_ns)
{
    int fed_count;
    return send_waiting(self_of(object), item, deadline_ns, &fed_count);
}

AT_UNCHECKED static PyObject *batch_raise(PyObject *Py_UNUSED(object), int result)
{
    return raise_failed(result);
}

AT_UNCHECKED static PyObject *broadcast_send_many(PyObject *object, PyObject *arguments,
                                                  PyObject *keywords)
{
    static const at_batch_end end = {batch_try_send, batch_send, batch_raise};
    return at_batch_send(object, &end, arguments, keywords);
}

AT_UNCHECKED static PyObject *broadcast_try_send(PyObject *object, PyObject *value)
{
    void *item;
    if (at_channel_pack(value, &item) < 0) {
        return NULL;
    }
    return sent(at_broadcast_try_send(self_of(object)->broadcast, item), item);
}

/* _try_send_packed(packed): see bind/channel.h. */
AT_UNCHECKED static PyObject *broadcast_try_send_packed(PyObject *object,
                                                        PyObject *packed)
{
    void *item;
    if (at_packed_item(packed, &item) < 0) {
        return NULL;
    }
    int result = at_broadcast_try_send(self_of(object)->broadcast, item);
    if (result < 0) {
        return sent(result, at_item_share(item)); /* the capsule keeps it */
    }
    at_packed_taken(packed);
    return PyLong_FromLong(result);
}

AT_UNCHECKED static PyObject *
broadcast_send_async(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    return at_bind_coroutine("send", object, arguments, keywords);
}

/* ---- the rest -------------------------------------------------------------------- */

AT_UNCHECKED static PyObject *broadcast_subscribe(PyObject *object, PyObject *unused)
{
    at_channel *channel;
    int result = at_broadcast_subscribe(self_of(object)->broadcast, &channel);
    if (result < 0) {
        return raise_failed(result);
    }
    PyObject *subscription = at_subscription_wrap(channel);
    at_shared_unref((at_shared *)channel);
    return subscription;
}

AT_UNCHECKED static PyObject *broadcast_close(PyObject *object, PyObject *unused)
{
    at_broadcast_close(self_of(object)->broadcast);
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *broadcast_enter(PyObject *object, PyObject *unused)
{
    return Py_NewRef(object);
}

AT_UNCHECKED static PyObject *broadcast_exit(PyObject *object, PyObject *arguments)
{
    return broadcast_close(object, NULL);
}

AT_UNCHECKED static PyObject *broadcast_closed(PyObject *object, void *unused)
{
    return PyBool_FromLong(at_broadcast_is_closed(self_of(object)->broadcast));
}

AT_UNCHECKED static PyObject *broadcast_capacity(PyObject *object, void *unused)
{
    return PyLong_FromSize_t(at_broadcast_capacity(self_of(object)->broadcast));
}

AT_UNCHECKED static PyObject *broadcast_slow(PyObject *object, void *unused)
{
    return PyUnicode_FromString(
        slow_names[at_broadcast_slow(self_of(object)->broadcast)]);
}

AT_UNCHECKED static PyObject *broadcast_subscribers(PyObject *object, void *unused)
{
    return PyLong_FromSize_t(at_broadcast_count(self_of(object)->broadcast));
}

AT_UNCHECKED static PyObject *broadcast_repr(PyObject *object)
{
    at_broadcast *broadcast = self_of(object)->broadcast;
    return PyUnicode_FromFormat("<atoll.Broadcast %p: %zu subscribers%s>",
                                (void *)broadcast, at_broadcast_count(broadcast),
                                at_broadcast_is_closed(broadcast) ? ", closed" : "");
}

static const void *broadcast_of(PyObject *object)
{
    return self_of(object)->broadcast;
}

AT_UNCHECKED static PyObject *broadcast_compare(PyObject *left, PyObject *right,
                                                int operation)
{
    return at_bind_compare(left, right, operation, broadcast_of);
}

static Py_hash_t broadcast_hash(PyObject *object)
{
    return at_bind_hash_pointer(self_of(object)->broadcast);
}

static PyMethodDef broadcast_methods[] = {
    {"send", (PyCFunction)(void (*)(void))broadcast_send, METH_FASTCALL | METH_KEYWORDS,
     "send($self, obj, timeout=None)\n"
     "--\n"
     "\n"
     "Send obj to every subscriber.\n"
     "\n"
     "With slow=\"block\" this waits for room at all of them: it reaches all, or, "
     "when\n"
     "it raises, none. Any thread of any interpreter may call; the GIL is not held\n"
     "while waiting.\n"
     "\n"
     "Args:\n"
     "    obj: What pickle's protocol 5 (PEP 574) can carry, functions and lambdas "
     "too.\n"
     "    timeout (float | None): Seconds to wait; None waits for ever, 0 does not.\n"
     "\n"
     "Returns:\n"
     "    How many subscriptions got it.\n"
     "\n"
     "Raises:\n"
     "    NotShareableError: obj holds something that cannot be sent.\n"
     "    ClosedError: The broadcast is closed, or this interpreter is closing.\n"
     "    TimeoutError: There was no room in time."},
    {"send_many", (PyCFunction)(void (*)(void))broadcast_send_many,
     METH_VARARGS | METH_KEYWORDS,
     "send_many($self, objects, timeout=None)\n"
     "--\n"
     "\n"
     "Send each of objects, in order, to every subscriber, as send().\n"
     "\n"
     "Cheaper than as many send(): a subscriber is woken once for a batch. Others\n"
     "may send between any two of them. What stands before an object that cannot be\n"
     "sent is sent all the same.\n"
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
    {"try_send", broadcast_try_send, METH_O,
     "try_send($self, obj, /)\n"
     "--\n"
     "\n"
     "Send obj if there is room at every subscriber; never waits.\n"
     "\n"
     "Raises:\n"
     "    Full: There is none at one of them, and nobody got obj.\n"
     "    NotShareableError, ClosedError: As send()."},
    {"_try_send_packed", broadcast_try_send_packed, METH_O,
     "_try_send_packed($self, packed, /)\n--\n\ntry_send() of what pack_item() gave."},
    {"send_async", (PyCFunction)(void (*)(void))broadcast_send_async,
     METH_VARARGS | METH_KEYWORDS,
     "send_async($self, obj, timeout=None)\n"
     "--\n"
     "\n"
     "send() for coroutines: waits on the running event loop."},
    {"subscribe", broadcast_subscribe, METH_NOARGS,
     "subscribe($self)\n"
     "--\n"
     "\n"
     "A Subscription that receives what is sent from now on.\n"
     "\n"
     "Raises:\n"
     "    ClosedError: The broadcast is closed."},
    {"close", broadcast_close, METH_NOARGS,
     "close($self)\n"
     "--\n"
     "\n"
     "Refuse further sends; what was sent can still be received.\n"
     "\n"
     "Dropping the last handle, or closing the last interpreter that has one, does "
     "the\n"
     "same."},
    {"__enter__", broadcast_enter, METH_NOARGS,
     "__enter__($self)\n"
     "--\n"
     "\n"
     "The broadcast itself."},
    {"__exit__", broadcast_exit, METH_VARARGS,
     "__exit__($self, *exception)\n"
     "--\n"
     "\n"
     "close()."},
    AT_BIND_NO_PICKLE,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef broadcast_attributes[] = {
    {"closed", broadcast_closed, NULL, "Whether sends are refused.", NULL},
    {"capacity", broadcast_capacity, NULL,
     "How many objects each subscription holds at most.", NULL},
    {"slow", broadcast_slow, NULL,
     "What becomes of a subscription that is full: \"block\", \"drop_oldest\" or "
     "\"close\".",
     NULL},
    {"subscribers", broadcast_subscribers, NULL, "How many subscriptions are open.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot broadcast_slots[] = {
    {Py_tp_doc,
     "Broadcast(capacity=1024, *, slow=\"block\")\n"
     "--\n"
     "\n"
     "One to many: every subscriber receives every object, in one order.\n"
     "\n"
     "Several may send. An object is packed once, whatever the number of subscribers,\n"
     "and each receives a copy of its own. A broadcast can itself be sent.\n"
     "\n"
     "Args:\n"
     "    capacity (int): How many objects each subscription holds; 1 to 2**30.\n"
     "    slow (str): What becomes of a subscription that is full. \"block\": senders "
     "wait "
     "for\n"
     "        it. \"drop_oldest\": it loses the oldest object, and its next receive "
     "raises\n"
     "        LaggedError with the count. \"close\": it ends; its receiver gets what "
     "is\n"
     "        there, then LaggedError, then ClosedError."},
    {Py_tp_new, broadcast_new},
    {Py_tp_dealloc, broadcast_dealloc},
    {Py_tp_members, broadcast_members},
    {Py_tp_methods, broadcast_methods},
    {Py_tp_getset, broadcast_attributes},
    {Py_tp_repr, broadcast_repr},
    {Py_tp_richcompare, broadcast_compare},
    {Py_tp_hash, broadcast_hash},
    {0, NULL},
};

static PyType_Spec broadcast_spec = {
    .name = "atoll.Broadcast",
    .basicsize = sizeof(broadcast_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = broadcast_slots,
};

static at_shared *thing_of(PyObject *object)
{
    return (at_shared *)self_of(object)->broadcast;
}

static const at_parcel_handle broadcast_handle = {
    .kind = &at_broadcast_kind,
    .thing_of = thing_of,
    .wrap = wrap,
};

AT_UNCHECKED int at_bind_broadcast(PyObject *module)
{
    PyTypeObject *type = at_bind_add_type(module, &broadcast_spec);
    if (type == NULL) {
        return -1;
    }
    int result = at_parcel_register_handle(type, &broadcast_handle);
    Py_DECREF(type);
    return result;
}
