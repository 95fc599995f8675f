/* atoll.Channel, for the other files of bind/. */
#ifndef AT_BIND_CHANNEL_H
#define AT_BIND_CHANNEL_H

#include <Python.h>

#include "base/contexts.h"
#include "chan/channel.h"

/* An interpreter's handle to a channel. */
typedef struct at_channel_object {
    PyObject_HEAD at_channel *channel; /* a reference; fixed after new, as the rest */
    at_peer *peer;                     /* a reference */
    at_channel_member *member;
    _Atomic(struct at_channel_left *) left; /* what recv_many() left, or NULL */
} at_channel_object;

/* A new handle of `type` to `channel`, of which it takes a reference of its own; NULL
 * with an exception set. ctx: attached */
PyObject *at_channel_object_wrap(PyTypeObject *type, at_shared *channel) AT_ATTACHED;

/* `object` as a channel; NULL with TypeError. ctx: attached */
at_channel_object *at_channel_object_from(PyObject *object) AT_ATTACHED;

/* The object in `message`, which is unref'd. NULL with an exception set. */
PyObject *at_channel_unpack(void *message) AT_ATTACHED;

#endif
