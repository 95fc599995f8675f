/* The init function returns a module, and leaves an exception set. */
#include "sin.h"

SIN_DEFINE(returns_with_error, NULL);

PyMODINIT_FUNC PyInit_returns_with_error(void)
{
    PyObject *module = PyModule_Create(&returns_with_error_def);
    PyErr_SetString(PyExc_KeyError, "left behind");
    return module;
}
