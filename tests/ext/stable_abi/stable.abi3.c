/* Built for the stable ABI, once for all versions of Python. */
#define Py_LIMITED_API 0x03090000
#include "sin.h"

static long counter;

SIN_FUNCTION(add)
{
    return PyLong_FromLong(++counter);
}

static PyMethodDef methods[] = {SIN_METHOD(add, METH_NOARGS), SIN_END};

SIN_SINGLE_PHASE(stable, methods)
