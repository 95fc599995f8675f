/* Dicts of named numbers, as statistics are given to Python. */
#ifndef AT_BIND_NUMBERS_H
#define AT_BIND_NUMBERS_H

#include <Python.h>

#include "base/contexts.h"

typedef struct at_named_number {
    const char *name;
    int64_t number;
} at_named_number;

/* A dict of `count` names and their numbers; NULL with an exception set.
 * ctx: attached */
PyObject *at_numbers_dict(const at_named_number *numbers, size_t count) AT_ATTACHED;

#define AT_NUMBERS_DICT(numbers)                                                       \
    at_numbers_dict((numbers), sizeof(numbers) / sizeof((numbers)[0]))

/* Set a key of `dict`. Takes the reference of `value`; NULL is an error made before.
 * ctx: attached; returns 0, or -1 with an exception set */
int at_numbers_put(PyObject *dict, const char *key, PyObject *value) AT_ATTACHED;

#endif
