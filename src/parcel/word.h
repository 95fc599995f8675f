/* Words: small objects that cross in the place of a pointer to a message.
 *
 * An item of a channel is a pointer to an at_message, whose low three bits are zero, or
 * a word, which has one or two of them set (chan/message.h: at_item_is_word). None,
 * True and False, ints of 61 bits, most floats, and str and bytes of up to seven bytes
 * cost no allocation and no memory but their slot.
 *
 *     001  an int            value << 3
 *     010  a constant        which << 3
 *     101  bytes             length << 3, the bytes from the second byte on
 *     110  a str of Latin-1  the same
 *     011, 100  a float: its bits rotated left by four, which brings the three upper
 *               bits of the exponent here. They are 011 or 100 for every magnitude from
 *               2^-255 to 2^256; zero has a constant, other floats go by message.
 */
#ifndef AT_PARCEL_WORD_H
#define AT_PARCEL_WORD_H

#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/contexts.h"
#include "interp/compat.h"
#include "parcel/state.h"

enum { AT_PARCEL_WORD_RUN_BYTES = 7 };

/* The bytes of a word that is a bytes object, copied to `data`: how many, or -1 for
 * others. ctx: any */
int at_parcel_word_bytes(const void *word, char data[AT_PARCEL_WORD_RUN_BYTES]);

enum {
    AT_PARCEL_WORD_INT = 1,
    AT_PARCEL_WORD_CONSTANT = 2,
    AT_PARCEL_WORD_BYTES = 5,
    AT_PARCEL_WORD_STR = 6,
    AT_PARCEL_WORD_TAG = 7,
    AT_PARCEL_WORD_TAG_BITS = 3,
    AT_PARCEL_WORD_CONSTANTS = 5, /* None, False, True, 0.0, ... */
};

/* Is it a word of a str or bytes? */
static inline bool at_parcel_word_is_run(const void *word)
{
    return ((uintptr_t)word & AT_PARCEL_WORD_TAG) >= AT_PARCEL_WORD_BYTES;
}

/* Is it a word that at_parcel_word_unpack() may be given? What came from elsewhere may
 * be any bits. Behind the end of a str or bytes all are zero: spare.h relies on it. */
static inline bool at_parcel_word_is_valid(const void *word)
{
    uint64_t bits = (uint64_t)(uintptr_t)word;
    uint64_t tag = bits & AT_PARCEL_WORD_TAG;
    uint64_t length = (bits & 0xFF) >> AT_PARCEL_WORD_TAG_BITS;
    if (tag == AT_PARCEL_WORD_CONSTANT) {
        return bits >> AT_PARCEL_WORD_TAG_BITS < AT_PARCEL_WORD_CONSTANTS;
    }
    if (tag == AT_PARCEL_WORD_BYTES || tag == AT_PARCEL_WORD_STR) {
        return length <= AT_PARCEL_WORD_RUN_BYTES && bits >> 8 >> 8 * length == 0;
    }
    return tag != 0 && tag != AT_PARCEL_WORD_TAG;
}

/* The slow halves of the next two: whatever is no small int. */
bool at_parcel_word_pack_other(PyObject *object, void **word) AT_ATTACHED;
PyObject *at_parcel_word_unpack_other(const void *word) AT_ATTACHED;

/* That of a small int, which is "compact". */
static inline bool at_parcel_word_pack_int(PyObject *object, void **word) AT_ATTACHED
{
    Py_ssize_t value = PyUnstable_Long_CompactValue((PyLongObject *)object);
    uint64_t bits = (uint64_t)value << AT_PARCEL_WORD_TAG_BITS | AT_PARCEL_WORD_INT;
    *word = (void *)(uintptr_t)bits; /* NOLINT(performance-no-int-to-ptr): a word */
    return true;
}

/* `object` as a word; false where it must be a message. Never fails, runs no code. */
static inline bool at_parcel_word_pack(PyObject *object, void **word) AT_ATTACHED
{
    return PyLong_CheckExact(object) &&
                   PyUnstable_Long_IsCompact((PyLongObject *)object)
               ? at_parcel_word_pack_int(object, word)
               : at_parcel_word_pack_other(object, word);
}

/* The words of `objects`, as many as follow each other, up to `count`: how many there
 * are now at `words`. The next must be a message. Never fails, runs no code. */
size_t at_parcel_words_pack(PyObject *const *objects, size_t count,
                            void **words) AT_ATTACHED;

/* The object of a word: a new reference, or NULL with MemoryError. */
static inline PyObject *at_parcel_word_unpack(const void *word) AT_ATTACHED
{
    uint64_t bits = (uint64_t)(uintptr_t)word;
    uint64_t value = bits >> AT_PARCEL_WORD_TAG_BITS;
    return (bits & AT_PARCEL_WORD_TAG) == AT_PARCEL_WORD_INT &&
                   value < AT_SMALL_INTS_END
               ? PyLong_FromLong((long)value)
               : at_parcel_word_unpack_other(word);
}

/* The same, given the state of the caller's interpreter. */
PyObject *at_parcel_word_make(at_parcel_state *state, const void *word) AT_ATTACHED;

/* The same in `*place`, whose object before may be used for it (spare.h): borrowed. */
PyObject *at_parcel_word_make_in(at_parcel_state *state, const void *word,
                                 PyObject **place) AT_ATTACHED;

/* The objects of the words at `words`, as many as follow each other, up to `count`: how
 * many there are now at `objects`. The next is no word, or MemoryError is set. */
size_t at_parcel_words_make(at_parcel_state *state, void *const *words, size_t count,
                            PyObject **objects) AT_ATTACHED;

#endif
