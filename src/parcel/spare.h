/* Spares: small objects that were received, kept to be received again.
 *
 * To make and free an int takes longer than to bring its value from one processor to
 * another. So an interpreter keeps a reference to each of the last ints, floats, short
 * str and bytes, and short tuples of these, that came as words (word.h, row.h). When
 * all others have let go of one, ours is the only reference left: nobody can see the
 * object any more, and it gets the next value where another would be made, as zip() and
 * enumerate() do with their tuples. Whoever keeps what it received keeps it: a place
 * whose object is still in use gets a new one.
 *
 * These types have no weak references, so a reference count of one is proof while the
 * GIL is held: what used the object without a reference of its own would use, with no
 * place here, memory that was freed. The collector alone can show a tuple that lies in
 * a place, by a new reference; so its items are always there, and are none that it
 * would have to follow. Without a GIL the count is no proof: there nothing is kept.
 *
 * The places are used in turn, more of them than a batch has, so that a receiver that
 * still holds its last batch while it takes the next finds those of the one before. The
 * items of a tuple are places as well, for the next items of that tuple.
 */
#ifndef AT_PARCEL_SPARE_H
#define AT_PARCEL_SPARE_H

#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/contexts.h"
#include "interp/compat.h"

enum {
    AT_SPARES = 512,
    /* Python has one of each shorter str and bytes, as it has of small ints. */
    AT_SPARE_RUN_LEAST = 2,
    AT_SPARE_TUPLE_MOST = 4,
};

/* Objects of one kind; of one interpreter. All zero at first. */
typedef struct at_spares {
    PyObject *objects[AT_SPARES]; /* one reference each, or NULL */
    size_t next;
} at_spares;

/* Put `object`, a new reference, into `*place`: returned borrowed. NULL does nothing.
 */
static inline PyObject *at_spare_put(PyObject **place, PyObject *object) AT_ATTACHED
{
    if (object != NULL) {
        Py_XSETREF(*place, object);
    }
    return object;
}

/* Let go of all. */
void at_spares_clear(at_spares *spares) AT_ATTACHED;

/* The place whose turn it is. Not without a GIL. */
static inline PyObject **at_spares_turn(at_spares *spares) AT_ATTACHED
{
    return &spares->objects[spares->next++ % AT_SPARES];
}

/* Is it an object of this type that nobody but its place can reach? */
static inline bool at_spare_is_free(PyObject *object, PyTypeObject *type) AT_ATTACHED
{
    return object != NULL && Py_REFCNT(object) == 1 && Py_IS_TYPE(object, type);
}

/* Each of these puts an object of this value into `*place`, whose object before, or
 * NULL, is used again or let go of. Returned borrowed; NULL with MemoryError.
 *
 * An int is of one digit, and none that Python has one of. */
static inline PyObject *at_spare_int(PyObject **place, digit value) AT_ATTACHED
{
    PyLongObject *number = (PyLongObject *)*place;
    if (at_spare_is_free(*place, &PyLong_Type) &&
        number->long_value.lv_tag == 1 << _PyLong_NON_SIZE_BITS) {
        number->long_value.ob_digit[0] = value;
        return *place;
    }
    return at_spare_put(place, PyLong_FromLong((long)value));
}

static inline PyObject *at_spare_float(PyObject **place, double value) AT_ATTACHED
{
    if (at_spare_is_free(*place, &PyFloat_Type)) {
        ((PyFloatObject *)*place)->ob_fval = value;
        return *place;
    }
    return at_spare_put(place, PyFloat_FromDouble(value));
}

/* The rest give an object whose content the caller writes, all of it and the zero that
 * ends it. Of str and bytes there are classes by length, and every object in the places
 * of a class has been made here with room for the longest, in sixteen bytes of memory
 * more than the class before: what Python's allocator rounds up to anyhow. */
enum { AT_SPARE_CLASSES = 5, AT_SPARE_CLASS_BYTES = 16 };

/* The class, which may be above all that there are. */
static inline size_t at_spare_bytes_class(size_t length)
{
    return length / AT_SPARE_CLASS_BYTES;
}

static inline size_t at_spare_ascii_class(size_t length)
{
    return (length + AT_SPARE_CLASS_BYTES / 2) / AT_SPARE_CLASS_BYTES;
}

/* A bytes object of `length`, which is of this class. */
static inline PyObject *at_spare_bytes(PyObject **place, size_t length,
                                       size_t class) AT_ATTACHED
{
    size_t room = (class + 1) * AT_SPARE_CLASS_BYTES - 1;
    if (!at_spare_is_free(*place, &PyBytes_Type) &&
        at_spare_put(place, PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room)) ==
            NULL) {
        return NULL;
    }
    Py_SET_SIZE((PyVarObject *)*place, (Py_ssize_t)length);
    at_compat_bytes_forget_hash(*place);
    return *place;
}

/* A str of `length` characters of ASCII; at_spare_ascii_data() has them. The dict of
 * interned str does not count its references, and others are of another layout. */
static inline PyObject *at_spare_ascii(PyObject **place, size_t length,
                                       size_t class) AT_ATTACHED
{
    size_t room = class * AT_SPARE_CLASS_BYTES + AT_SPARE_CLASS_BYTES / 2 - 1;
    bool is_free = at_spare_is_free(*place, &PyUnicode_Type) &&
                   PyUnicode_IS_COMPACT_ASCII(*place) &&
                   !PyUnicode_CHECK_INTERNED(*place);
    if (!is_free &&
        at_spare_put(place, PyUnicode_New((Py_ssize_t)room, 0x7F)) == NULL) {
        return NULL;
    }
    PyASCIIObject *head = (PyASCIIObject *)*place;
    head->length = (Py_ssize_t)length;
    head->hash = -1; /* not known */
    return *place;
}

static inline char *at_spare_ascii_data(PyObject *ascii)
{
    return (char *)((PyASCIIObject *)ascii + 1);
}

/* A tuple of `length`, the same in every place of `spares`. Its items are those of
 * before, or NULL. */
static inline PyObject *at_spare_tuple(PyObject **place, Py_ssize_t length) AT_ATTACHED
{
    if (at_spare_is_free(*place, &PyTuple_Type)) {
        at_compat_tuple_forget_hash(*place);
        return *place;
    }
    return at_spare_put(place, PyTuple_New(length));
}

#endif
