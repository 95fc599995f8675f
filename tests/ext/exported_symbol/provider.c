/* Exports a C function; imported with RTLD_GLOBAL so that consumer finds it. */
#include "sin.h"

static long counter;

PyAPI_FUNC(long) provider_add(void);

Py_EXPORTED_SYMBOL long provider_add(void)
{
    return ++counter;
}

SIN_FUNCTION(add)
{
    return PyLong_FromLong(provider_add());
}

static PyMethodDef methods[] = {SIN_METHOD(add, METH_NOARGS), SIN_END};

SIN_SINGLE_PHASE(provider, methods)
