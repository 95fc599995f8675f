/* Functions by value that are known: those that need nothing but their code and globals
 * that go by name. A pool sends the same one with every task, so it is taken apart
 * once, by atoll._parcel, and made once by each receiver, who knows it again by its
 * token. */
#ifndef AT_PARCEL_FUNCTION_H
#define AT_PARCEL_FUNCTION_H

#include "base/contexts.h"
#include "parcel/packer.h"
#include "parcel/unpacker.h"

enum { AT_FUNCTION_TOKEN_BYTES = 16 };

/* Write `object` if it is a function that is known, and still is what it was then. 1
 * when written, 0 when not, -1 with an exception set. */
int at_packer_function(at_packer *packer, PyObject *object) AT_ATTACHED;

/* Read one: a new reference, or NULL with an exception set. */
PyObject *at_unpacker_function(at_unpacker *in) AT_ATTACHED;

#endif
