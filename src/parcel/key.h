/* Keys: the names that one dict after the other has.
 *
 * A str that was received as the key of a dict is remembered, and the next dict with
 * that key gets the same object: it need not be made, nor its hash, and dicts that lie
 * beside each other share their keys, as those do that one piece of code has made.
 * Nothing tells the objects apart, since a str does not change. Which are remembered is
 * a guess: a key that comes to the place of another one takes it.
 */
#ifndef AT_PARCEL_KEY_H
#define AT_PARCEL_KEY_H

#include <Python.h>
#include <stddef.h>

#include "base/contexts.h"

enum { AT_KEYS = 128, AT_KEY_BYTES_MOST = 32 };

/* One for each interpreter; all zero at first. Without a GIL it stays so. */
typedef struct at_keys {
    PyObject *known[AT_KEYS]; /* str of Latin-1, or NULL */
} at_keys;

/* Let go of all. */
void at_keys_clear(at_keys *keys) AT_ATTACHED;

/* The str of the `size` characters of Latin-1 at `data`: a new reference, or NULL with
 * MemoryError. */
PyObject *at_keys_get(at_keys *keys, const char *data, size_t size) AT_ATTACHED;

#endif
