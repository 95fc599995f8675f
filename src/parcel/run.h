/* Runs: str and bytes that are a message alone, too long for a word (word.h) and not
 * long. They are written into a slab as they are, and received into objects that are
 * used again (spare.h).
 */
#ifndef AT_PARCEL_RUN_H
#define AT_PARCEL_RUN_H

#include <Python.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/contexts.h"
#include "chan/slab.h"
#include "parcel/state.h"

/* A parcel that is a run: magic, version, tag and size, a byte each, and its bytes. */
enum { AT_PARCEL_RUN_HEAD_BYTES = 4, AT_PARCEL_RUN_MOST = 127 };

/* The parcel of `object`, if it is a run, as a piece of a slab: at_slab_writer_room()
 * has the other arguments. 1 when it was made, 0 when it is no run, -1 with
 * MemoryError. */
int at_parcel_run_piece(PyObject *object, at_slab_writer *slabs, size_t following,
                        void **item) AT_ATTACHED;

/* The object of `size` bytes at `data`: bytes, or a str of Latin-1. A new reference, or
 * NULL with MemoryError. */
PyObject *at_parcel_run_make(at_parcel_state *state, const char *data, size_t size,
                             bool is_bytes) AT_ATTACHED;

#endif
