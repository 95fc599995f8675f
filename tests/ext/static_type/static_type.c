/* A static type, readied and given attributes by the init function. */
#include "sin.h"

typedef struct {
    PyObject_HEAD long value;
} point;

static PyObject *point_value(PyObject *self, PyObject *unused)
{
    return PyLong_FromLong(((point *)self)->value++);
}

static PyMethodDef point_methods[] = {{"value", point_value, METH_NOARGS, NULL},
                                      SIN_END};

static PyTypeObject point_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "static_type.Point",
    .tp_basicsize = sizeof(point),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_methods = point_methods,
    .tp_new = PyType_GenericNew,
};

SIN_DEFINE(static_type, NULL);

PyMODINIT_FUNC PyInit_static_type(void)
{
    if (PyType_Ready(&point_type) < 0) {
        return NULL;
    }
    PyObject *module = PyModule_Create(&static_type_def);
    if (module != NULL &&
        PyModule_AddObjectRef(module, "Point", (PyObject *)&point_type) < 0) {
        Py_CLEAR(module);
    }
    return module;
}
