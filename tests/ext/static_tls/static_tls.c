/* build: -ftls-model=initial-exec */
/* Thread-local storage that must lie in the block of the loader, which has little room
 * for what comes later. */
#include "sin.h"

static _Thread_local volatile char block[256] = {'!'};

SIN_FUNCTION(first)
{
    return PyLong_FromLong(block[0]);
}

static PyMethodDef methods[] = {SIN_METHOD(first, METH_NOARGS), SIN_END};

SIN_SINGLE_PHASE(static_tls, methods)
