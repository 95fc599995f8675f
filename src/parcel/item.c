/* Small objects into items of a queue, and items into objects: words, pieces of slabs,
 * messages; see parcel.h. */
#define PY_SSIZE_T_CLEAN
#include "parcel/format.h"
#include "parcel/parcel.h"
#include "parcel/row.h"
#include "parcel/run.h"
#include "parcel/state.h"
#include "parcel/word.h"

int at_parcel_pack_piece(PyObject *object, at_slab_writer *slabs, size_t following,
                         void **item)
{
    int made = at_parcel_row_piece(object, slabs, following, item);
    return made != 0 ? made : at_parcel_run_piece(object, slabs, following, item);
}

size_t at_parcel_pack_small(PyObject *const *objects, size_t count,
                            at_slab_writer *slabs, void **items)
{
    size_t done = 0;
    size_t before;
    do {
        before = done;
        done += at_parcel_words_pack(objects + done, count - done, items + done);
        done += at_parcel_runs_pack(objects + done, count - done, slabs, items + done);
        done += at_parcel_rows_pack(objects + done, count - done, slabs, items + done);
    } while (done != before);
    return done;
}

/* The object of a piece. Rows and runs need nothing of what an unpacker has. */
static PyObject *piece_unpack(at_parcel_state *state, const at_piece *piece) AT_ATTACHED
{
    const unsigned char *head = (const unsigned char *)piece->data;
    if (head[2] == AT_TAG_TUPLE_ROW || head[2] == AT_TAG_LIST_ROW) {
        return at_parcel_row_make(state, piece->data + AT_PARCEL_ROW_HEAD_BYTES,
                                  head[3], head[2] == AT_TAG_LIST_ROW);
    }
    if (at_parcel_is_run(piece->data)) {
        return at_parcel_run_make(state, piece->data);
    }
    return at_parcel_load(piece->data, piece->size_bytes, true);
}

PyObject *at_parcel_unpack_item(const void *item)
{
    if (at_item_is_word(item)) {
        return at_parcel_word_unpack(item);
    }
    if (!at_item_is_piece(item)) {
        return at_parcel_unpack(item);
    }
    at_parcel_state *state = at_parcel_state_get();
    return state != NULL ? piece_unpack(state, at_piece_of(item)) : NULL;
}

/* Pieces of one slab that are to be let go of together. */
typedef struct pieces {
    at_shared *slab;
    size_t count;
} pieces;

static void pieces_drop(const pieces *gone)
{
    if (gone->count != 0) {
        at_shared_unref_many(gone->slab, gone->count);
    }
}

static void pieces_add(pieces *gone, const void *item)
{
    at_shared *slab = at_piece_slab(item);
    if (slab != gone->slab) {
        pieces_drop(gone);
        *gone = (pieces){slab, 0};
    }
    gone->count++;
}

/* The objects of the items that are other pieces than runs: as at_parcel_runs_make(),
 * but with an exception where one cannot be made. */
static size_t others_unpack(at_parcel_state *state, void *const *items, size_t count,
                            PyObject **objects) AT_ATTACHED
{
    size_t done = 0;
    while (done < count && at_item_is_piece(items[done]) &&
           (done == 0 || !at_parcel_is_run(at_piece_of(items[done])->data))) {
        if (count - done > AT_PIECES_AHEAD) {
            __builtin_prefetch(items[done + AT_PIECES_AHEAD]); /* whatever it is */
        }
        objects[done] = piece_unpack(state, at_piece_of(items[done]));
        if (objects[done] == NULL) {
            break;
        }
        done++;
    }
    return done;
}

size_t at_parcel_take_small(void *const *items, size_t count, PyObject **objects)
{
    at_parcel_state *state = at_parcel_state_get();
    pieces gone = {NULL, 0};
    size_t done = 0;
    bool goes_on = state != NULL;
    while (goes_on && done < count) {
        done += at_parcel_words_make(state, items + done, count - done, objects + done);
        size_t made =
            at_parcel_runs_make(state, items + done, count - done, objects + done);
        goes_on = made != 0;
        if (made == 0) {
            made = others_unpack(state, items + done, count - done, objects + done);
            goes_on = made != 0 && PyErr_Occurred() == NULL;
        }
        for (; made != 0; made--) {
            pieces_add(&gone, items[done++]);
        }
    }
    pieces_drop(&gone);
    return done;
}
