/* Linked with libsilent and with libkeeper, which libsilent uses without a word. */
/* build: -L{folder} -Wl,--no-as-needed -lsilent -lkeeper -Wl,-rpath,$ORIGIN */
#include "sin.h"

long keeper_add(void);
long silent_add(void);

SIN_FUNCTION(add)
{
    return PyLong_FromLong(keeper_add());
}

SIN_FUNCTION(add_silently)
{
    return PyLong_FromLong(silent_add());
}

static PyMethodDef methods[] = {
    SIN_METHOD(add, METH_NOARGS),
    SIN_METHOD(add_silently, METH_NOARGS),
    SIN_END,
};

SIN_SINGLE_PHASE(silent_user, methods)
