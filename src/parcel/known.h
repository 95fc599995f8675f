/* Functions and types by value that are known: those that mean the same wherever and
 * whenever they are sent. A pool sends the same function with every task, and a channel
 * objects of the same class: so it is taken apart once, by atoll._parcel.known, and
 * made once by each receiver, who knows it again by its token. */
#ifndef AT_PARCEL_KNOWN_H
#define AT_PARCEL_KNOWN_H

#include "base/contexts.h"
#include "parcel/packer.h"
#include "parcel/unpacker.h"

enum { AT_KNOWN_TOKEN_BYTES = 16 };

/* Write `object` if it is a function or type that is known, and still is what it was
 * then. 1 when written, 0 when not, -1 with an exception set. */
int at_packer_known(at_packer *packer, PyObject *object) AT_ATTACHED;

/* Read one: a new reference, or NULL with an exception set. */
PyObject *at_unpacker_known(at_unpacker *in) AT_ATTACHED;

#endif
