/* Uses a symbol that no library of its DT_NEEDED has: provider's. */
#include "sin.h"

long provider_add(void);

SIN_FUNCTION(add)
{
    return PyLong_FromLong(provider_add());
}

static PyMethodDef methods[] = {SIN_METHOD(add, METH_NOARGS), SIN_END};

SIN_SINGLE_PHASE(consumer, methods)
