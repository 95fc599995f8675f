/* Objects into messages and back, for the types that carry them. */
#ifndef AT_BIND_OBJECT_H
#define AT_BIND_OBJECT_H

#include <Python.h>

#include "base/contexts.h"
#include "chan/message.h"

/* How instances of a Python type stand for a shared thing. */
typedef struct at_object_handle {
    const at_shared_kind *kind;
    /* The thing of `object`: borrowed, or NULL with an exception set. */
    at_shared *(*thing_of)(PyObject *object);
    /* A new object for `thing`, of which it takes a reference; or NULL. */
    PyObject *(*wrap)(PyTypeObject *type, at_shared *thing);
} at_object_handle;

/* ctx: attached; owns: the caller's reference; errs: -1 with an exception set */
int at_object_pack(PyObject *object, at_message **message) AT_ATTACHED;

/* ctx: attached; a new reference, or NULL with an exception set */
PyObject *at_object_unpack(const at_message *message) AT_ATTACHED;

/* Exact instances of `type` travel by reference in this interpreter.
 * ctx: attached; errs: -1 with an exception set */
int at_object_register_handle(PyTypeObject *type,
                              const at_object_handle *handle) AT_ATTACHED;

#endif
