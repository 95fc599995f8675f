/* Spares: small objects that were received, kept to be received again.
 *
 * To make and free an int takes longer than to bring its value from one processor to
 * another. So an interpreter keeps a reference to each of the last ints, floats, and
 * short str and bytes that came as words (word.h). When all others have let go of one,
 * ours is the only reference left: nobody can see the object any more, and it gets the
 * next value where another would be made, as zip() and enumerate() do with their
 * tuples. Whoever keeps what it received keeps it: a place whose object is still in use
 * gets a new one.
 *
 * These types have neither weak references nor the garbage collector's, so a reference
 * count of one is proof while the GIL is held. Without a GIL it is not: there nothing
 * is kept.
 *
 * The places are used in turn, more of them than a batch has, so that a receiver that
 * still holds its last batch while it takes the next finds those of the one before.
 */
#ifndef AT_PARCEL_SPARE_H
#define AT_PARCEL_SPARE_H

#include <Python.h>
#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/contexts.h"
#include "interp/compat.h"

enum {
    AT_SPARES = 512,
    /* Python has one of each shorter str and bytes, as it has of small ints. */
    AT_SPARE_RUN_LEAST = 2,
    AT_SPARE_RUN_MOST = 7,
};

/* Objects of one kind; of one interpreter. All zero at first. */
typedef struct at_spares {
    PyObject *objects[AT_SPARES]; /* one reference each, or NULL */
    size_t next;
} at_spares;

/* Let go of all. */
void at_spares_clear(at_spares *spares) AT_ATTACHED;

/* The place whose turn it is. */
static inline PyObject **at_spares_turn(at_spares *spares)
{
    return &spares->objects[AT_FREE_THREADED ? 0 : spares->next++ % AT_SPARES];
}

/* Has it an object that nobody else can reach? The dict of interned str does not count
 * its references. */
static inline bool at_spares_is_free(PyObject *const *place) AT_ATTACHED
{
    return *place != NULL && Py_REFCNT(*place) == 1 &&
           !(PyUnicode_CheckExact(*place) && PyUnicode_CHECK_INTERNED(*place));
}

/* Keep `object`, which is new and is returned, for later; NULL does nothing. */
static inline PyObject *at_spares_keep(PyObject **place, PyObject *object) AT_ATTACHED
{
    if (object != NULL && !AT_FREE_THREADED) {
        Py_XSETREF(*place, Py_NewRef(object));
    }
    return object;
}

/* Each of these gives a new reference to an object of this value, or NULL with
 * MemoryError. An int is of one digit, and none that Python has one of. */
static inline PyObject *at_spare_int(at_spares *spares, digit value) AT_ATTACHED
{
    PyObject **place = at_spares_turn(spares);
    if (!at_spares_is_free(place)) {
        return at_spares_keep(place, PyLong_FromLong((long)value));
    }
    ((PyLongObject *)*place)->long_value.ob_digit[0] = value;
    return Py_NewRef(*place);
}

static inline PyObject *at_spare_float(at_spares *spares, double value) AT_ATTACHED
{
    PyObject **place = at_spares_turn(spares);
    if (!at_spares_is_free(place)) {
        return at_spares_keep(place, PyFloat_FromDouble(value));
    }
    ((PyFloatObject *)*place)->ob_fval = value;
    return Py_NewRef(*place);
}

/* New ones with room for AT_SPARE_RUN_MOST, of no content yet. */
PyObject *at_spare_bytes_new(void) AT_ATTACHED;
PyObject *at_spare_ascii_new(void) AT_ATTACHED;

/* `length` bytes, the first is the lowest of `run`; those behind them are zero, and so
 * end it as both types do. */
static inline PyObject *at_spare_bytes(at_spares *spares, uint64_t run,
                                       Py_ssize_t length) AT_ATTACHED
{
    PyObject **place = at_spares_turn(spares);
    PyObject *object = at_spares_is_free(place)
                           ? Py_NewRef(*place)
                           : at_spares_keep(place, at_spare_bytes_new());
    if (object != NULL) {
        run = htole64(run);
        memcpy(PyBytes_AS_STRING(object), &run, sizeof run);
        Py_SET_SIZE((PyVarObject *)object, length);
        at_compat_bytes_forget_hash(object);
    }
    return object;
}

/* The same as a str, where all of them are ASCII. */
static inline PyObject *at_spare_ascii(at_spares *spares, uint64_t run,
                                       Py_ssize_t length) AT_ATTACHED
{
    PyObject **place = at_spares_turn(spares);
    PyObject *object = at_spares_is_free(place)
                           ? Py_NewRef(*place)
                           : at_spares_keep(place, at_spare_ascii_new());
    if (object != NULL) {
        PyASCIIObject *head = (PyASCIIObject *)object;
        run = htole64(run);
        memcpy(head + 1, &run, sizeof run);
        head->length = length;
        head->hash = -1; /* not known */
    }
    return object;
}

#endif
