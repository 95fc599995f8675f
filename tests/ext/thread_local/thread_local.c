/* Thread-local storage, initialised and not. */
#include "sin.h"

static _Thread_local long initialised = 40;
static _Thread_local long zero;

SIN_FUNCTION(add)
{
    initialised++;
    zero++;
    return Py_BuildValue("ll", initialised, zero);
}

static PyMethodDef methods[] = {SIN_METHOD(add, METH_NOARGS), SIN_END};

SIN_SINGLE_PHASE(thread_local, methods)
