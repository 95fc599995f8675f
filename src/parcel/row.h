/* Rows: short tuples and lists whose items all go as words (word.h).
 *
 * Most small messages are one. Its items need no memo, no recursion and no look at
 * their lengths: they are written and read in one run, eight bytes each.
 */
#ifndef AT_PARCEL_ROW_H
#define AT_PARCEL_ROW_H

#include <Python.h>
#include <stdbool.h>

#include "base/contexts.h"
#include "chan/slab.h"
#include "parcel/packer.h"
#include "parcel/unpacker.h"

/* Write `object`, a tuple or list, if it is a row; `again` marks it for the memo, into
 * which the caller puts it. `alone` where it is all that the message holds: only then
 * may it have str and bytes, which another place could share. 1 when it was written, 0
 * when it is no row, -1 with an exception set. */
int at_packer_row(at_packer *packer, PyObject *object, bool again,
                  bool alone) AT_ATTACHED;

/* The parcel of `object`, if it is a row, as a piece of a slab: at_slab_writer_add()
 * has the other arguments. 1 when it was made, 0 when it is no row, -1 with
 * MemoryError. */
int at_parcel_row_piece(PyObject *object, at_slab_writer *slabs, size_t following,
                        void **item) AT_ATTACHED;

/* The same for the first of `count` objects that are rows, as many as follow each
 * other: how many there are now at `items`. */
size_t at_parcel_rows_pack(PyObject *const *objects, size_t count,
                           at_slab_writer *slabs, void **items) AT_ATTACHED;

/* A parcel that is a row: magic, version, tag and count, a byte each, and the words. */
enum { AT_PARCEL_ROW_HEAD_BYTES = 4 };

/* The row of `count` words of eight bytes at `words`, wherever they lie. A new
 * reference, or NULL with an exception set. */
PyObject *at_parcel_row_make(at_parcel_state *state, const char *words, size_t count,
                             bool is_list) AT_ATTACHED;

/* What follows the tag of one. A new reference, or NULL with an exception set. */
PyObject *at_unpacker_row(at_unpacker *in, bool is_list) AT_ATTACHED;

#endif
