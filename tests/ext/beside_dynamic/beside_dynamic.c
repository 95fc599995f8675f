/* Symbols and hash table in a writable segment, where its dynamic table begins. */
/* build: -Wl,-T,{source}/layout.ld */
#include "sin.h"

static long counter;

SIN_FUNCTION(add)
{
    return PyLong_FromLong(++counter);
}

static PyMethodDef methods[] = {SIN_METHOD(add, METH_NOARGS), SIN_END};

SIN_SINGLE_PHASE(beside_dynamic, methods)
