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
#include "parcel/format.h"
#include "parcel/state.h"

/* A parcel that is a run: magic, version, tag and size, a byte each, and its bytes. */
enum {
    AT_PARCEL_RUN_HEAD_BYTES = 4,
    AT_PARCEL_RUN_LEAST = 8,
    AT_PARCEL_RUN_MOST = 127
};

/* The parcel of `object`, if it is a run, as a piece of a slab: at_slab_writer_room()
 * has the other arguments. 1 when it was made, 0 when it is no run, -1 with
 * MemoryError. */
int at_parcel_run_piece(PyObject *object, at_slab_writer *slabs, size_t following,
                        void **item) AT_ATTACHED;

/* The same for the first of `count` objects that are runs, as many as follow each
 * other: how many there are now at `items`. */
size_t at_parcel_runs_pack(PyObject *const *objects, size_t count,
                           at_slab_writer *slabs, void **items) AT_ATTACHED;

/* Is a parcel, which this program wrote, a run? Others with the tags of one have a size
 * of several bytes. */
static inline bool at_parcel_is_run(const char *parcel)
{
    return (parcel[2] == AT_TAG_BYTES || parcel[2] == AT_TAG_STR1) &&
           (unsigned char)parcel[3] <= AT_PARCEL_RUN_MOST;
}

/* The object of such a parcel: a new reference, or NULL with MemoryError. */
PyObject *at_parcel_run_make(at_parcel_state *state, const char *parcel) AT_ATTACHED;

/* The objects of the items that are pieces of runs, as many as follow each other, up to
 * `count`: how many there are now at `objects`. The next is none, or an object that
 * cannot be made at the moment: at_parcel_run_make() says why. Sets no exception. */
size_t at_parcel_runs_make(at_parcel_state *state, void *const *items, size_t count,
                           PyObject **objects) AT_ATTACHED;

#endif
