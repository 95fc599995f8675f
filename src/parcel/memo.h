/* Which objects were written already, and as which number: a list of the first few, and
 * a hash table by identity once there are more. Most messages have few, and clearing
 * and scanning a table would cost more than all else that is done for them. */
#ifndef AT_PARCEL_MEMO_H
#define AT_PARCEL_MEMO_H

#include <Python.h>
#include <stddef.h>
#include <stdint.h>

#include "base/contexts.h"

enum { AT_MEMO_LIST = 8, AT_MEMO_FIRST_SLOTS = 32 };

typedef struct at_memo_slot {
    PyObject *object; /* a reference, so that no other object gets its address */
    size_t number;
} at_memo_slot;

typedef struct at_memo {
    at_memo_slot *slots; /* NULL while `list` is enough, `first`, or raw memory */
    size_t mask;         /* number of slots - 1 */
    size_t count;
    PyObject *list[AT_MEMO_LIST]; /* references; an object's number is its index */
    at_memo_slot first[AT_MEMO_FIRST_SLOTS]; /* not initialised before it is used */
} at_memo;

void at_memo_init(at_memo *memo);
void at_memo_fini(at_memo *memo) AT_ATTACHED;

/* The number of `object`, or -1 where it has none. */
Py_ssize_t at_memo_find(const at_memo *memo, PyObject *object);

/* Give `object`, which has none, the next number. -1 with MemoryError. */
int at_memo_add(at_memo *memo, PyObject *object) AT_ATTACHED;

#endif
