/* Buffers in parcels: blocks that hold a copy, blocks that are lent, and the view that
 * a receiver gets of either. */
#ifndef AT_PARCEL_BUFFER_H
#define AT_PARCEL_BUFFER_H

#include <Python.h>

#include "base/contexts.h"
#include "chan/block.h"
#include "parcel/state.h"

/* From this size a buffer becomes a block of its own. */
enum { AT_PARCEL_BLOCK_BYTES = 64 << 10 };

/* The memory of `exporter`, whose contiguous buffer is `view`, as a block: lent where
 * it is read-only, else copied. A new reference, or NULL with an exception set. */
at_block *at_parcel_block_of(at_parcel_state *state, PyObject *exporter,
                             const Py_buffer *view) AT_ATTACHED;

/* Release the buffers that came back since the last call. */
void at_parcel_take_returned(at_parcel_home *home) AT_ATTACHED;

/* The type of the views; one for each interpreter. NULL with an exception set. */
PyTypeObject *at_parcel_view_type_new(void) AT_ATTACHED;

/* A buffer object over `block`, of which it takes a reference; writable unless the
 * block is read-only. NULL with an exception set. */
PyObject *at_parcel_view_new(PyTypeObject *type, at_block *block) AT_ATTACHED;

#endif
