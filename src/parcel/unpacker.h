/* The unpacker: what unpack.c (plain data) and unpack_active.c (what runs code) share.
 */
#ifndef AT_PARCEL_UNPACKER_H
#define AT_PARCEL_UNPACKER_H

#include <Python.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/contexts.h"
#include "chan/message.h"
#include "parcel/state.h"

enum { AT_UNPACKER_FIRST_MEMO = 32 };

typedef struct at_unpacker {
    const char *at;
    const char *end;
    const at_message *message; /* NULL for bytes alone */
    PyObject *apart; /* borrowed: a list of what was left out of the bytes, or NULL */
    at_parcel_state *state;
    bool trusted;
    PyObject **memo; /* strong references; `first`, or raw memory */
    size_t memo_count;
    size_t memo_capacity;
    PyObject *first[AT_UNPACKER_FIRST_MEMO];
} at_unpacker;

/* Read the next object: a new reference, or NULL with an exception set. */
PyObject *at_unpacker_object(at_unpacker *in) AT_ATTACHED;

/* Read an object whose tag makes Python code run: unpack_active.c. */
PyObject *at_unpacker_active(at_unpacker *in, int tag, bool again) AT_ATTACHED;

/* What was written for an object that turned out to lie inside itself is thrown away;
 * the number of the complete one follows. Steals `outer`; NULL stays NULL. */
PyObject *at_unpacker_inside(at_unpacker *in, PyObject *outer) AT_ATTACHED;

/* `object`, which is complete, with the next number of the memo where it may be met
 * `again`. Steals it; NULL stays NULL. */
PyObject *at_unpacker_complete(at_unpacker *in, PyObject *object,
                               bool again) AT_ATTACHED;

/* ValueError that says `what`. NULL always. */
PyObject *at_unpacker_malformed(const char *what) AT_ATTACHED;

static inline size_t at_unpacker_left(const at_unpacker *in)
{
    return (size_t)(in->end - in->at);
}

/* The next `size` bytes, or NULL with an exception set. */
static inline const char *at_unpacker_take(at_unpacker *in, size_t size) AT_ATTACHED
{
    if (size > at_unpacker_left(in)) {
        (void)at_unpacker_malformed("it is cut off");
        return NULL;
    }
    const char *data = in->at;
    in->at += size;
    return data;
}

#endif
