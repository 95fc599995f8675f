/* Rows; see row.h. */
#define PY_SSIZE_T_CLEAN
#include "parcel/row.h"

#include <string.h>

#include "interp/compat.h"
#include "parcel/format.h"
#include "parcel/word.h"

/* Longer ones are mostly of one type, and shorter the other way; `size` in format.h is
 * one byte for all of these. */
enum { ROW_LIMIT = 16 };

/* Is `items[last]`, a str or bytes, one that came before? Who receives one gets one. */
static bool is_met_again(PyObject *const *items, size_t last)
{
    for (size_t i = 0; i < last; i++) {
        if (items[i] == items[last]) {
            return true;
        }
    }
    return false;
}

/* How many items it has if it is a tuple or list that could be a row; else 0. */
static size_t row_count(PyObject *object) AT_ATTACHED
{
    bool is_one =
        PyList_CheckExact(object) ? !AT_FREE_THREADED : PyTuple_CheckExact(object);
    return is_one && Py_SIZE(object) <= ROW_LIMIT ? (size_t)Py_SIZE(object) : 0;
}

/* Write the row of `object`, of `count` items, from its words on. False: it is none. */
static bool row_words(PyObject *object, size_t count, bool alone,
                      void **words) AT_ATTACHED
{
    PyObject **items = PySequence_Fast_ITEMS(object);
    if (at_parcel_words_pack(items, count, words) != count) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (at_parcel_word_is_run(words[i]) && (!alone || is_met_again(items, i))) {
            return false;
        }
    }
    return true;
}

static char row_tag(PyObject *object, bool again)
{
    int tag = PyList_CheckExact(object) ? AT_TAG_LIST_ROW : AT_TAG_TUPLE_ROW;
    return (char)(again ? tag | AT_TAG_MEMO : tag);
}

int at_packer_row(at_packer *packer, PyObject *object, bool again, bool alone)
{
    void *words[ROW_LIMIT];
    size_t count = row_count(object);
    if (count == 0 || !row_words(object, count, alone, words)) {
        return 0;
    }
    size_t size_bytes = 2 + count * sizeof *words;
    if (at_message_writer_room(&packer->writer, size_bytes) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    char *place = packer->writer.data + packer->writer.size_bytes;
    place[0] = row_tag(object, again);
    place[1] = (char)count;
    memcpy(place + 2, (const void *)words, count * sizeof *words);
    packer->writer.size_bytes += size_bytes;
    return 1;
}

/* The words are written where they stay: to copy them, sixteen bytes at a time, would
 * wait until the stores of eight have left the processor. */
int at_parcel_row_piece(PyObject *object, at_slab_writer *slabs, size_t following,
                        void **item)
{
    size_t count = row_count(object);
    if (count == 0) {
        return 0;
    }
    size_t size_bytes = AT_PARCEL_ROW_HEAD_BYTES + count * sizeof(void *);
    char *data = at_slab_writer_room(slabs, size_bytes, following);
    if (data == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (!row_words(object, count, true, (void **)(data + AT_PARCEL_ROW_HEAD_BYTES))) {
        return 0;
    }
    data[0] = (char)AT_PARCEL_MAGIC;
    data[1] = AT_PARCEL_VERSION;
    data[2] = row_tag(object, false);
    data[3] = (char)count;
    *item = at_slab_writer_add(slabs, size_bytes);
    return 1;
}

size_t at_parcel_rows_pack(PyObject *const *objects, size_t count,
                           at_slab_writer *slabs, void **items)
{
    size_t done = 0;
    while (done < count) {
        int made =
            at_parcel_row_piece(objects[done], slabs, count - done, &items[done]);
        if (made < 0) {
            PyErr_Clear(); /* at_parcel_row_piece() will say the same */
        }
        if (made <= 0) {
            break;
        }
        done++;
    }
    return done;
}

/* A new reference to a tuple or list of `count`, whose items are NULL, or places. */
static PyObject *row_begin(at_parcel_state *state, size_t count,
                           bool is_list) AT_ATTACHED
{
    if (is_list) {
        return PyList_New((Py_ssize_t)count);
    }
    if (AT_FREE_THREADED || count == 0 || count > AT_SPARE_TUPLE_MOST) {
        return PyTuple_New((Py_ssize_t)count);
    }
    PyObject **place = at_spares_turn(&state->spare_tuples[count - 1]);
    return Py_XNewRef(at_spare_tuple(place, (Py_ssize_t)count));
}

/* Let go of a row whose items are not all there. A tuple stays in its place, where the
 * collector can still show it: not without an item. */
static void row_give_up(PyObject *row, PyObject **items, size_t count) AT_ATTACHED
{
    for (size_t i = 0; i < count; i++) {
        if (items[i] == NULL) {
            items[i] = Py_NewRef(Py_None);
        }
    }
    Py_DECREF(row);
}

PyObject *at_parcel_row_make(at_parcel_state *state, const char *words, size_t count,
                             bool is_list)
{
    PyObject *row = row_begin(state, count, is_list);
    if (row == NULL) {
        return NULL;
    }
    PyObject **items = PySequence_Fast_ITEMS(row);
    for (size_t i = 0; i < count; i++) {
        void *word;
        memcpy((void *)&word, words + i * sizeof word, sizeof word);
        PyObject *item = at_parcel_word_is_valid(word)
                             ? at_parcel_word_make_in(state, word, &items[i])
                             : at_unpacker_malformed("a row of what are no words");
        if (item == NULL) {
            row_give_up(row, items, count);
            return NULL;
        }
    }
    return row;
}

PyObject *at_unpacker_row(at_unpacker *in, bool is_list)
{
    const char *head = at_unpacker_take(in, 1);
    if (head == NULL) {
        return NULL;
    }
    size_t count = (unsigned char)*head;
    if (count > ROW_LIMIT) {
        return at_unpacker_malformed("a row is too long");
    }
    const char *words = at_unpacker_take(in, count * sizeof(void *));
    return words != NULL ? at_parcel_row_make(in->state, words, count, is_list) : NULL;
}
