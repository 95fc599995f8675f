/* Words; see word.h. */
#define PY_SSIZE_T_CLEAN
#include "parcel/word.h"

#include <assert.h>
#include <endian.h>
#include <stdint.h>
#include <string.h>

#include "chan/message.h"
#include "parcel/state.h"

enum {
    TAG_INT = AT_PARCEL_WORD_INT,
    TAG_CONSTANT = AT_PARCEL_WORD_CONSTANT,
    TAG_FLOAT_SMALL = 3,
    TAG_FLOAT_LARGE = 4,
    TAG_BYTES = AT_PARCEL_WORD_BYTES,
    TAG_STR = AT_PARCEL_WORD_STR,
    TAG_MASK = AT_PARCEL_WORD_TAG,
    TAG_BITS = AT_PARCEL_WORD_TAG_BITS,
    FLOAT_ROTATION = 4,
    RUN_LIMIT = AT_PARCEL_WORD_RUN_BYTES, /* beside the tag */
};

enum { CONSTANT_NONE, CONSTANT_FALSE, CONSTANT_TRUE, CONSTANT_ZERO, CONSTANT_ELLIPSIS };
static_assert(CONSTANT_ELLIPSIS + 1 == AT_PARCEL_WORD_CONSTANTS, "all of them");

static_assert(sizeof(void *) == 8, "words take the place of 64-bit pointers");

static bool finish(uint64_t bits, void **word)
{
    *word = (void *)(uintptr_t)bits; /* NOLINT(performance-no-int-to-ptr): a word */
    return true;
}

static bool constant(uint64_t which, void **word)
{
    return finish(which << TAG_BITS | TAG_CONSTANT, word);
}

/* The small ones are packed in word.h. */
static bool pack_int(PyObject *object, void **word)
{
    static const long long limit = 1LL << 60;
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow != 0 || value >= limit || value < -limit) {
        return false;
    }
    return finish((uint64_t)value << TAG_BITS | TAG_INT, word);
}

static bool pack_float(double value, void **word)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (bits == 0) {
        return constant(CONSTANT_ZERO, word);
    }
    bits = bits << FLOAT_ROTATION | bits >> (64 - FLOAT_ROTATION);
    uint64_t tag = bits & TAG_MASK;
    return (tag == TAG_FLOAT_SMALL || tag == TAG_FLOAT_LARGE) && finish(bits, word);
}

/* The `size` bytes at `data`, at most seven, the first the lowest, without a loop. */
static uint64_t load_run(const unsigned char *data, Py_ssize_t size)
{
    if (size >= 4) {
        uint32_t first, last;
        memcpy(&first, data, sizeof first);
        memcpy(&last, data + size - sizeof last, sizeof last);
        return le32toh(first) | (uint64_t)le32toh(last) << 8 * (size - 4);
    }
    if (size >= 2) {
        return data[0] | (uint64_t)data[1] << 8 |
               (uint64_t)data[size - 1] << 8 * (size - 1);
    }
    return size == 1 ? data[0] : 0;
}

static bool pack_run(const void *data, Py_ssize_t size, uint64_t tag, void **word)
{
    return size <= RUN_LIMIT &&
           finish(load_run(data, size) << 8 | (uint64_t)size << TAG_BITS | tag, word);
}

static bool pack_str(PyObject *object, void **word)
{
    return PyUnicode_KIND(object) == PyUnicode_1BYTE_KIND &&
           pack_run(PyUnicode_DATA(object), PyUnicode_GET_LENGTH(object), TAG_STR,
                    word);
}

static bool pack_constant(PyObject *object, void **word)
{
    return object == Py_None       ? constant(CONSTANT_NONE, word)
           : object == Py_True     ? constant(CONSTANT_TRUE, word)
           : object == Py_False    ? constant(CONSTANT_FALSE, word)
           : object == Py_Ellipsis ? constant(CONSTANT_ELLIPSIS, word)
                                   : false;
}

/* In one piece, for the loop. */
static inline __attribute__((always_inline)) bool pack(PyObject *object,
                                                       void **word) AT_ATTACHED
{
    PyTypeObject *type = Py_TYPE(object);
    if (type == &PyLong_Type) {
        return PyUnstable_Long_IsCompact((PyLongObject *)object)
                   ? at_parcel_word_pack_int(object, word)
                   : pack_int(object, word);
    }
    if (type == &PyFloat_Type) {
        return pack_float(PyFloat_AS_DOUBLE(object), word);
    }
    if (type == &PyUnicode_Type) {
        return pack_str(object, word);
    }
    if (type == &PyBytes_Type) {
        return pack_run(PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object), TAG_BYTES,
                        word);
    }
    return pack_constant(object, word);
}

bool at_parcel_word_pack_other(PyObject *object, void **word)
{
    return pack(object, word);
}

size_t at_parcel_words_pack(PyObject *const *objects, size_t count, void **words)
{
    size_t done = 0;
    while (done < count && pack(objects[done], &words[done])) {
        done++;
    }
    return done;
}

static int read_run(uint64_t bits, char *data)
{
    for (size_t i = 0; i < RUN_LIMIT; i++) {
        data[i] = (char)(bits >> (8 * (i + 1)));
    }
    return (int)(bits >> TAG_BITS & TAG_MASK);
}

int at_parcel_word_bytes(const void *word, char data[AT_PARCEL_WORD_RUN_BYTES])
{
    uint64_t bits = (uint64_t)(uintptr_t)word;
    return (bits & TAG_MASK) == TAG_BYTES ? read_run(bits, data) : -1;
}

/* ---- the objects of words ------------------------------------------------------- */

static double float_of(uint64_t bits)
{
    bits = bits >> FLOAT_ROTATION | bits << (64 - FLOAT_ROTATION);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static PyObject *make_constant(uint64_t which) AT_ATTACHED
{
    switch (which) {
    case CONSTANT_NONE:
        return Py_NewRef(Py_None);
    case CONSTANT_FALSE:
        return Py_NewRef(Py_False);
    case CONSTANT_TRUE:
        return Py_NewRef(Py_True);
    case CONSTANT_ZERO:
        return PyFloat_FromDouble(0.0);
    default:
        assert(which == CONSTANT_ELLIPSIS);
        return Py_NewRef(Py_Ellipsis);
    }
}

static PyObject *make_int(const at_parcel_state *state, int64_t value) AT_ATTACHED
{
    return value >= 0 && value < AT_PARCEL_SMALL_INTS
               ? Py_NewRef(state->small_ints[value])
               : PyLong_FromLongLong(value);
}

static PyObject *make_run(uint64_t bits) AT_ATTACHED
{
    char bytes[RUN_LIMIT];
    Py_ssize_t size = read_run(bits, bytes);
    return (bits & TAG_MASK) == TAG_BYTES
               ? PyBytes_FromStringAndSize(bytes, size)
               : PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, bytes, size);
}

/* A new reference to an object that is made for this, or that Python has one of. */
static inline PyObject *make_new(const at_parcel_state *state,
                                 uint64_t bits) AT_ATTACHED
{
    switch (bits & TAG_MASK) {
    case TAG_INT:
        return make_int(state, (int64_t)bits >> TAG_BITS);
    case TAG_CONSTANT:
        return make_constant(bits >> TAG_BITS);
    case TAG_FLOAT_SMALL:
    case TAG_FLOAT_LARGE:
        return PyFloat_FromDouble(float_of(bits));
    default:
        return make_run(bits);
    }
}

/* Among which spares the object of a word is; NULL for make_new(). */
static inline at_spares *spares_of(at_parcel_state *state, uint64_t bits)
{
    static const uint64_t not_ascii = 0x8080808080808080;
    int64_t value = (int64_t)bits >> TAG_BITS;
    bool is_short = (bits >> TAG_BITS & TAG_MASK) < AT_SPARE_RUN_LEAST;
    switch (bits & TAG_MASK) {
    case TAG_INT:
        return value >= AT_SMALL_INTS_END && value < (int64_t)PyLong_BASE
                   ? &state->spare_ints
                   : NULL;
    case TAG_FLOAT_SMALL:
    case TAG_FLOAT_LARGE:
        return &state->spare_floats;
    case TAG_BYTES:
        return is_short ? NULL : &state->spare_bytes[0];
    case TAG_STR:
        return is_short || (bits >> 8 & not_ascii) != 0 ? NULL : &state->spare_strs[0];
    default:
        return NULL;
    }
}

/* A str or bytes of up to seven bytes, in a place. Those of the word behind them are
 * zero, and so end it. */
static inline PyObject *make_run_in(PyObject **place, uint64_t bits) AT_ATTACHED
{
    size_t length = bits >> TAG_BITS & TAG_MASK;
    uint64_t run = htole64(bits >> 8);
    bool is_bytes = (bits & TAG_MASK) == TAG_BYTES;
    PyObject *object =
        is_bytes ? at_spare_bytes(place, length, 0) : at_spare_ascii(place, length, 0);
    if (object != NULL) {
        memcpy(is_bytes ? PyBytes_AS_STRING(object) : at_spare_ascii_data(object), &run,
               sizeof run);
    }
    return object;
}

/* The object of a word that has spares, in a place: borrowed, or NULL. */
static inline PyObject *make_in(PyObject **place, uint64_t bits) AT_ATTACHED
{
    switch (bits & TAG_MASK) {
    case TAG_INT:
        return at_spare_int(place, (digit)(bits >> TAG_BITS));
    case TAG_BYTES:
    case TAG_STR:
        return make_run_in(place, bits);
    default:
        return at_spare_float(place, float_of(bits));
    }
}

/* In one piece, for the loop. */
static inline __attribute__((always_inline)) PyObject *make(at_parcel_state *state,
                                                            uint64_t bits) AT_ATTACHED
{
    assert(state != NULL);
    at_spares *spares = AT_FREE_THREADED ? NULL : spares_of(state, bits);
    return spares == NULL ? make_new(state, bits)
                          : Py_XNewRef(make_in(at_spares_turn(spares), bits));
}

PyObject *at_parcel_word_make(at_parcel_state *state, const void *word)
{
    return make(state, (uint64_t)(uintptr_t)word);
}

PyObject *at_parcel_word_make_in(at_parcel_state *state, const void *word,
                                 PyObject **place)
{
    uint64_t bits = (uint64_t)(uintptr_t)word;
    return AT_FREE_THREADED || spares_of(state, bits) == NULL
               ? at_spare_put(place, make_new(state, bits))
               : make_in(place, bits);
}

PyObject *at_parcel_word_unpack_other(const void *word)
{
    at_parcel_state *state = at_parcel_state_get();
    return state != NULL ? at_parcel_word_make(state, word) : NULL;
}

size_t at_parcel_words_make(at_parcel_state *state, void *const *words, size_t count,
                            PyObject **objects)
{
    size_t done = 0;
    while (done < count && at_item_is_word(words[done])) {
        objects[done] = make(state, (uint64_t)(uintptr_t)words[done]);
        if (objects[done] == NULL) {
            break;
        }
        done++;
    }
    return done;
}
