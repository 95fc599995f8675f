/* Its init function imports circular_a, whose init function imports this one. */
#include "sin.h"

SIN_DEFINE(circular_b, NULL);

PyMODINIT_FUNC PyInit_circular_b(void)
{
    PyObject *module = PyModule_Create(&circular_b_def);
    PyObject *other = module != NULL ? PyImport_ImportModule("circular_a") : NULL;
    if (other == NULL || PyModule_AddObjectRef(module, "other", other) < 0) {
        Py_CLEAR(module);
    }
    Py_XDECREF(other);
    return module;
}
