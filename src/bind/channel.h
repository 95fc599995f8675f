/* atoll.Channel, for the other files of bind/. */
#ifndef AT_BIND_CHANNEL_H
#define AT_BIND_CHANNEL_H

#include <Python.h>
#include <stdbool.h>

#include "base/contexts.h"
#include "chan/channel.h"

/* An interpreter's handle to a channel. */
typedef struct at_channel_object {
    PyObject_HEAD at_channel *channel; /* a reference; fixed after new, as the rest */
    at_peer *peer;                     /* a reference */
    at_member *member;
    _Atomic(struct at_channel_left *) left; /* what recv_many() left, or NULL */
    PyObject *weak_references;
} at_channel_object;

/* A new handle of `type` to `channel`, of which it takes a reference of its own; NULL
 * with an exception set. ctx: attached */
PyObject *at_channel_object_wrap(PyTypeObject *type, at_shared *channel) AT_ATTACHED;

/* The end of every type of handle to a channel, by which they are known. */
void at_channel_object_free(PyObject *object);

extern PyMemberDef at_channel_object_members[];

/* `object`, a Channel or a Subscription; NULL with TypeError. ctx: attached */
at_channel_object *at_channel_object_from(PyObject *object) AT_ATTACHED;

static inline at_channel_object *at_channel_object_of(PyObject *object)
{
    return (at_channel_object *)object;
}

/* How many objects cross with one claim of the ring, at most; and how many a ring holds
 * (at_ring_init). */
enum { AT_CHANNEL_MANY = 256, AT_CHANNEL_MOST = 1 << 30 };

/* Is `capacity` one that a channel can have? 0, or -1 with an exception set.
 * ctx: attached */
int at_channel_check_capacity(long long capacity) AT_ATTACHED;

/* Set the exception for the `result` of a send that is not 0, or of a receive that was
 * not late. NULL always. ctx: attached */
PyObject *at_channel_raise(at_channel_object *self, int result) AT_ATTACHED;

/* What a receive that ended with `result` gives: the object of `item`, which is
 * unref'd, or NULL with the exception set, LaggedError for AT_ELAGGED. ctx: attached */
PyObject *at_channel_received(at_channel_object *self, int result,
                              void *item) AT_ATTACHED;

/* `object` as what a channel carries: a message or a word. 0, or -1 with an exception
 * set. ctx: attached */
int at_channel_pack(PyObject *object, void **item) AT_ATTACHED;

/* ---- packed: an object that was packed before it can be sent, as Python sees it -- */

/* pack_item(object): a capsule for _try_send_packed(), so that who tries again and
 * again packs once. */
PyObject *at_channel_pack_item(PyObject *module, PyObject *object);

/* The item in a capsule of pack_item(), which keeps it. 0, or -1 with an exception set.
 * ctx: attached */
int at_packed_item(PyObject *packed, void **item) AT_ATTACHED;
/* The item was taken: it is the capsule's no longer. ctx: attached */
void at_packed_taken(PyObject *packed) AT_ATTACHED;

/* A new Subscription to `channel`, of which it takes a reference of its own; NULL with
 * an exception set. ctx: attached */
PyObject *at_subscription_wrap(at_channel *channel) AT_ATTACHED;

/* What a receive on this handle left, first: true with the `*item`. ctx: any */
bool at_channel_left_take(at_channel_object *self, void **item);
/* ctx: any */
void at_channel_left_free(struct at_channel_left *left);

/* The object in `message`, which is unref'd. NULL with an exception set. */
PyObject *at_channel_unpack(void *message) AT_ATTACHED;

/* Methods of atoll.Channel, some of which are atoll.Subscription's as well: channel.c,
 * channel_send.c and channel_recv.c. */
PyObject *at_channel_method_send(PyObject *object, PyObject *const *arguments,
                                 Py_ssize_t count, PyObject *keyword_names);
PyObject *at_channel_method_try_send(PyObject *object, PyObject *value);
PyObject *at_channel_method_try_send_packed(PyObject *object, PyObject *packed);
PyObject *at_channel_method_send_async(PyObject *object, PyObject *arguments,
                                       PyObject *keywords);
PyObject *at_channel_method_send_many(PyObject *object, PyObject *arguments,
                                      PyObject *keywords);
PyObject *at_channel_method_recv(PyObject *object, PyObject *const *arguments,
                                 Py_ssize_t count, PyObject *keyword_names);
PyObject *at_channel_method_try_recv(PyObject *object, PyObject *unused);
PyObject *at_channel_method_recv_many(PyObject *object, PyObject *arguments,
                                      PyObject *keywords);
PyObject *at_channel_method_next(PyObject *object);
PyObject *at_channel_method_recv_async(PyObject *object, PyObject *arguments,
                                       PyObject *keywords);
PyObject *at_channel_method_anext(PyObject *object);
PyObject *at_channel_method_close(PyObject *object, PyObject *unused);
PyObject *at_channel_method_enter(PyObject *object, PyObject *unused);
PyObject *at_channel_method_exit(PyObject *object, PyObject *arguments);
Py_ssize_t at_channel_method_length(PyObject *object);
int at_channel_method_bool(PyObject *object);
PyObject *at_channel_method_closed(PyObject *object, void *unused);
PyObject *at_channel_method_capacity(PyObject *object, void *unused);
PyObject *at_channel_method_compare(PyObject *left, PyObject *right, int operation);
Py_hash_t at_channel_method_hash(PyObject *object);

#endif
