/* Linked with libcounting, found beside it. */
/* build: -L{folder} -lcounting -Wl,-rpath,$ORIGIN */
#include "sin.h"

long counting_add(void);

SIN_FUNCTION(add)
{
    return PyLong_FromLong(counting_add());
}

static PyMethodDef methods[] = {SIN_METHOD(add, METH_NOARGS), SIN_END};

SIN_SINGLE_PHASE(counting_user, methods)
