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

static bool is_run(PyObject *item)
{
    return PyUnicode_CheckExact(item) || PyBytes_CheckExact(item);
}

/* Is `items[last]` a str or bytes that came before? Who receives one gets one. */
static bool is_met_again(PyObject *const *items, Py_ssize_t last)
{
    for (Py_ssize_t i = 0; i < last; i++) {
        if (items[i] == items[last]) {
            return true;
        }
    }
    return false;
}

int at_packer_row(at_packer *packer, PyObject *object, bool again, bool alone)
{
    bool is_list = PyList_CheckExact(object);
    if (is_list ? AT_FREE_THREADED : !PyTuple_CheckExact(object)) {
        return 0;
    }
    Py_ssize_t count = Py_SIZE(object);
    if (count == 0 || count > ROW_LIMIT) {
        return 0;
    }
    PyObject **items = PySequence_Fast_ITEMS(object);
    void *words[ROW_LIMIT];
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!at_parcel_word_pack(items[i], &words[i]) ||
            (is_run(items[i]) && (!alone || is_met_again(items, i)))) {
            return 0;
        }
    }
    size_t size_bytes = (size_t)count * sizeof *words;
    if (at_message_writer_room(&packer->writer, size_bytes + 2) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    int tag = is_list ? AT_TAG_LIST_ROW : AT_TAG_TUPLE_ROW;
    char *place = packer->writer.data + packer->writer.size_bytes;
    place[0] = (char)(again ? tag | AT_TAG_MEMO : tag);
    place[1] = (char)count;
    memcpy(place + 2, (const void *)words, size_bytes);
    packer->writer.size_bytes += size_bytes + 2;
    return 1;
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
    const char *data = at_unpacker_take(in, count * sizeof(void *));
    if (data == NULL) {
        return NULL;
    }
    PyObject *row =
        is_list ? PyList_New((Py_ssize_t)count) : PyTuple_New((Py_ssize_t)count);
    if (row == NULL) {
        return NULL;
    }
    PyObject **items = PySequence_Fast_ITEMS(row);
    for (size_t i = 0; i < count; i++) {
        void *word;
        memcpy((void *)&word, data + i * sizeof word, sizeof word);
        items[i] = at_parcel_word_is_valid(word)
                       ? at_parcel_word_unpack(word)
                       : at_unpacker_malformed("a row of what are no words");
        if (items[i] == NULL) {
            Py_DECREF(row);
            return NULL;
        }
    }
    return row;
}
