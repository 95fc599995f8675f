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
#include "parcel/packer.h"
#include "parcel/unpacker.h"

/* Write `object`, a tuple or list, if it is a row; `again` marks it for the memo, into
 * which the caller puts it. `alone` where it is all that the message holds: only then
 * may it have str and bytes, which another place could share. 1 when it was written, 0
 * when it is no row, -1 with an exception set. */
int at_packer_row(at_packer *packer, PyObject *object, bool again,
                  bool alone) AT_ATTACHED;

/* What follows the tag of one. A new reference, or NULL with an exception set. */
PyObject *at_unpacker_row(at_unpacker *in, bool is_list) AT_ATTACHED;

#endif
