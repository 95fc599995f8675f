/* Buffers in parcels: blocks that hold a copy, blocks that are lent, and the view that
 * a receiver gets of either. */
#ifndef AT_PARCEL_BUFFER_H
#define AT_PARCEL_BUFFER_H

#include <Python.h>
#include <stdbool.h>

#include "base/contexts.h"
#include "chan/block.h"
#include "parcel/state.h"
#include "sys/map.h"

/* From this size a buffer becomes a block of its own. */
enum { AT_PARCEL_BLOCK_BYTES = 64 << 10 };

/* From this size bytes are lent by an interpreter that lends: the receiver then copies
 * out of memory that both processors may keep in their caches. Through a message every
 * line changes hands twice, and that, not the copying, is the time that 16 KiB take. */
enum { AT_PARCEL_LENT_BYTES = 4 << 10 };

/* Copying less than this is quicker than letting another thread have the GIL. */
enum { AT_PARCEL_DETACHED_BYTES = 1 << 20 };

/* From here on most of a copy into fresh memory is the kernel's, which zeroes it. */
enum { AT_PARCEL_LARGE_BYTES = 8 << 20 };

/* `size_bytes` at `data` are about to be copied to. ctx: any */
static inline void at_parcel_expect(void *data, size_t size_bytes)
{
    if (size_bytes >= AT_PARCEL_LARGE_BYTES) {
        at_map_expect(data, size_bytes);
    }
}

/* What an interpreter lends is released when it next packs or unpacks, or, where this
 * much has come back meanwhile, when it next runs Python code at all, or a moment later
 * where it waits (collector.h). */
enum { AT_PARCEL_RETURNED_BYTES = 1 << 20 };

/* No more than this is out at a time: beyond it buffers are copied. But for large ones,
 * whose copy is what lending is there to save: it would take time, and more memory than
 * the loan keeps. */
enum { AT_PARCEL_LENT_LIMIT_BYTES = 32 << 20, AT_PARCEL_LENT_ALWAYS_BYTES = 1 << 20 };

/* Would `size_bytes` be lent? Only main lends: the heap of any other interpreter is
 * given back as a whole when it ends, whoever still looks at it. ctx: any */
static inline bool at_parcel_lends(const at_parcel_state *state, size_t size_bytes)
{
    return state->interpreter_id == 0 && size_bytes >= AT_PARCEL_LENT_BYTES &&
           (size_bytes >= AT_PARCEL_LENT_ALWAYS_BYTES ||
            atomic_load_explicit(&state->home->lent_bytes, memory_order_relaxed) <
                AT_PARCEL_LENT_LIMIT_BYTES);
}

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
