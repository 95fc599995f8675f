/* Which objects were written already, and as which number: a hash table by identity. */
#ifndef AT_PARCEL_MEMO_H
#define AT_PARCEL_MEMO_H

#include <Python.h>
#include <stddef.h>
#include <stdint.h>

#include "base/contexts.h"

enum { AT_MEMO_FIRST_SLOTS = 32 };

typedef struct at_memo_slot {
    PyObject *object; /* a reference, so that no other object gets its address */
    size_t number;
} at_memo_slot;

typedef struct at_memo {
    at_memo_slot *slots; /* `first`, or raw memory once that is too small */
    size_t mask;         /* number of slots - 1 */
    size_t count;
    at_memo_slot first[AT_MEMO_FIRST_SLOTS]; /* cleared with the first object */
} at_memo;

void at_memo_init(at_memo *memo);
void at_memo_fini(at_memo *memo) AT_ATTACHED;

/* The number of `object`, or -1 where it has none. */
Py_ssize_t at_memo_find(const at_memo *memo, PyObject *object);

/* Give `object`, which has none, the next number. -1 with MemoryError. */
int at_memo_add(at_memo *memo, PyObject *object) AT_ATTACHED;

#endif
