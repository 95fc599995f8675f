/* Takes capsule_maker's C function at init and keeps it in a global. */
#include "sin.h"

static long (*api)(void);

SIN_FUNCTION(add)
{
    return PyLong_FromLong(api());
}

static PyMethodDef methods[] = {SIN_METHOD(add, METH_NOARGS), SIN_END};

SIN_DEFINE(capsule_user, methods);

PyMODINIT_FUNC PyInit_capsule_user(void)
{
    api = (long (*)(void))PyCapsule_Import("capsule_maker.api", 0);
    return api != NULL ? PyModule_Create(&capsule_user_def) : NULL;
}
