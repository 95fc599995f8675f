/* Converters for PyArg_ParseTupleAndKeywords ("O&") whose errors name the argument:
 * CPython's own count it, also where it can only be given by name.
 * Every function: ctx: attached; returns 1, or 0 with an exception set */
#ifndef AT_BIND_ARGUMENT_H
#define AT_BIND_ARGUMENT_H

#include <Python.h>

#include "base/contexts.h"

/* An int, with the value that stands where none is given. */
typedef struct at_int_argument {
    const char *name;
    long long value;
} at_int_argument;

/* Into an at_int_argument. errs: TypeError; OverflowError beyond 64 bits */
int at_bind_int(PyObject *object, void *argument) AT_ATTACHED;

/* The argument `name` of things that other processes find: a str, or None, into a
 * const char * that lives as long as the str.
 * errs: TypeError; ValueError where it is empty or has a null character: how long it
 * may be is claim.h's */
int at_bind_name(PyObject *object, void *name) AT_ATTACHED;

#endif
