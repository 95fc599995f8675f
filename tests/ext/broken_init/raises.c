/* The init function makes its module and then fails. */
#include "sin.h"

SIN_DEFINE(raises, NULL);

PyMODINIT_FUNC PyInit_raises(void)
{
    PyObject *module = PyModule_Create(&raises_def);
    Py_XDECREF(module);
    PyErr_SetString(PyExc_OSError, "no such device");
    return NULL;
}
