/* Gives a C function away in a capsule. */
#include "sin.h"

static long counter;

static long add_one(void)
{
    return ++counter;
}

SIN_FUNCTION(count)
{
    return PyLong_FromLong(counter);
}

static PyMethodDef methods[] = {SIN_METHOD(count, METH_NOARGS), SIN_END};

SIN_DEFINE(capsule_maker, methods);

PyMODINIT_FUNC PyInit_capsule_maker(void)
{
    PyObject *module = PyModule_Create(&capsule_maker_def);
    if (module != NULL &&
        PyModule_Add(module, "api",
                     PyCapsule_New((void *)add_one, "capsule_maker.api", NULL)) < 0) {
        Py_CLEAR(module);
    }
    return module;
}
