/* Words; see word.h. */
#define PY_SSIZE_T_CLEAN
#include "parcel/word.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "parcel/state.h"

enum {
    TAG_INT = AT_PARCEL_WORD_INT,
    TAG_CONSTANT = AT_PARCEL_WORD_CONSTANT,
    TAG_FLOAT_SMALL = 3,
    TAG_FLOAT_LARGE = 4,
    TAG_BYTES = 5,
    TAG_STR = 6,
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

static bool pack_run(const void *data, Py_ssize_t size, uint64_t tag, void **word)
{
    if (size > RUN_LIMIT) {
        return false;
    }
    unsigned char bytes[8] = {(unsigned char)((uint64_t)size << TAG_BITS | tag)};
    memcpy(bytes + 1, data, (size_t)size);
    uint64_t bits = 0;
    for (size_t i = 0; i < sizeof bytes; i++) { /* one load, whatever the byte order */
        bits |= (uint64_t)bytes[i] << (8 * i);
    }
    return finish(bits, word);
}

bool at_parcel_word_pack_other(PyObject *object, void **word)
{
    PyTypeObject *type = Py_TYPE(object);
    if (type == &PyLong_Type) {
        return pack_int(object, word);
    }
    if (type == &PyFloat_Type) {
        return pack_float(PyFloat_AS_DOUBLE(object), word);
    }
    if (type == &PyUnicode_Type) {
        return PyUnicode_KIND(object) == PyUnicode_1BYTE_KIND &&
               pack_run(PyUnicode_DATA(object), PyUnicode_GET_LENGTH(object), TAG_STR,
                        word);
    }
    if (type == &PyBytes_Type) {
        return pack_run(PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object), TAG_BYTES,
                        word);
    }
    return object == Py_None       ? constant(CONSTANT_NONE, word)
           : object == Py_True     ? constant(CONSTANT_TRUE, word)
           : object == Py_False    ? constant(CONSTANT_FALSE, word)
           : object == Py_Ellipsis ? constant(CONSTANT_ELLIPSIS, word)
                                   : false;
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

static PyObject *unpack_run(uint64_t bits)
{
    char bytes[RUN_LIMIT];
    Py_ssize_t size = read_run(bits, bytes);
    return (bits & TAG_MASK) == TAG_BYTES
               ? PyBytes_FromStringAndSize(bytes, size)
               : PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, bytes, size);
}

static PyObject *unpack_float(uint64_t bits)
{
    bits = bits >> FLOAT_ROTATION | bits << (64 - FLOAT_ROTATION);
    double value;
    memcpy(&value, &bits, sizeof value);
    return PyFloat_FromDouble(value);
}

static PyObject *unpack_constant(uint64_t which)
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

PyObject *at_parcel_word_unpack_other(const void *word)
{
    uint64_t bits = (uint64_t)(uintptr_t)word;
    switch (bits & TAG_MASK) {
    case TAG_CONSTANT:
        return unpack_constant(bits >> TAG_BITS);
    case TAG_FLOAT_SMALL:
    case TAG_FLOAT_LARGE:
        return unpack_float(bits);
    default:
        return unpack_run(bits);
    }
}

size_t at_parcel_words_unpack(void *const *words, size_t count, PyObject **objects)
{
    const at_parcel_state *state = at_parcel_state_get();
    if (state == NULL) {
        PyErr_Clear();
        return 0;
    }
    size_t done = 0;
    for (; done < count; done++) {
        uint64_t bits = (uint64_t)(uintptr_t)words[done];
        uint64_t value = bits >> TAG_BITS;
        if ((bits & TAG_MASK) == TAG_INT && value < AT_PARCEL_SMALL_INTS) {
            objects[done] = Py_NewRef(state->small_ints[value]);
            continue;
        }
        if ((bits & TAG_MASK) == 0) {
            break; /* a message */
        }
        objects[done] = at_parcel_word_unpack(words[done]);
        if (objects[done] == NULL) {
            PyErr_Clear();
            break;
        }
    }
    return done;
}
