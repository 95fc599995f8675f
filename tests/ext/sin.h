/* What the misbehaving extensions share: the shortest way to a single-phase module. */
#ifndef SIN_H
#define SIN_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* A module with global state and an init function that makes it in one go. */
#define SIN_DEFINE(name, methods)                                                      \
    static struct PyModuleDef name##_def = {                                           \
        PyModuleDef_HEAD_INIT, #name, NULL, -1, methods, NULL, NULL, NULL, NULL,       \
    }

#define SIN_SINGLE_PHASE(name, methods)                                                \
    SIN_DEFINE(name, methods);                                                         \
    PyMODINIT_FUNC PyInit_##name(void)                                                 \
    {                                                                                  \
        return PyModule_Create(&name##_def);                                           \
    }

#define SIN_FUNCTION(name) static PyObject *name(PyObject *self, PyObject *arg)
#define SIN_METHOD(name, flags) {#name, name, flags, NULL}
#define SIN_END {NULL, NULL, 0, NULL}

#endif
