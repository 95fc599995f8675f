/* Its init function imports circular_b, whose init function imports this one. */
#include "sin.h"

SIN_DEFINE(circular_a, NULL);

PyMODINIT_FUNC PyInit_circular_a(void)
{
    PyObject *module = PyModule_Create(&circular_a_def);
    PyObject *other = module != NULL ? PyImport_ImportModule("circular_b") : NULL;
    if (other == NULL || PyModule_AddObjectRef(module, "other", other) < 0) {
        Py_CLEAR(module);
    }
    Py_XDECREF(other);
    return module;
}
