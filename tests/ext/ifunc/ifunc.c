/* A function that is chosen while the loader relocates (IFUNC): code of the library
 * runs before anything of its image is in place. */
#include "sin.h"

static long counter = 40;

static long add_one(void)
{
    return ++counter;
}

static long (*choose(void))(void)
{
    return add_one;
}

long chosen(void) __attribute__((ifunc("choose")));

SIN_FUNCTION(add)
{
    return PyLong_FromLong(chosen());
}

static PyMethodDef methods[] = {SIN_METHOD(add, METH_NOARGS), SIN_END};

SIN_SINGLE_PHASE(ifunc, methods)
