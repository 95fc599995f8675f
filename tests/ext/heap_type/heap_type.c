/* A heap type and an exception class in C globals, from a multi-phase module that says
 * it supports no second interpreter. */
#include "sin.h"

static PyObject *node_type;
static PyObject *node_error;

SIN_FUNCTION(make)
{
    return PyObject_CallNoArgs(node_type);
}

SIN_FUNCTION(fail)
{
    PyErr_SetString(node_error, "as asked");
    return NULL;
}

static PyMethodDef methods[] = {SIN_METHOD(make, METH_NOARGS),
                                SIN_METHOD(fail, METH_NOARGS), SIN_END};

static PyType_Slot node_slots[] = {{0, NULL}};
static PyType_Spec node_spec = {"heap_type.Node", 0, 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, node_slots};

static int heap_type_exec(PyObject *module)
{
    node_type = PyType_FromModuleAndSpec(module, &node_spec, NULL);
    node_error = PyErr_NewException("heap_type.NodeError", NULL, NULL);
    if (node_type == NULL || node_error == NULL) {
        return -1;
    }
    return PyModule_AddObjectRef(module, "Node", node_type) < 0 ||
                   PyModule_AddObjectRef(module, "NodeError", node_error) < 0
               ? -1
               : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, heap_type_exec},
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
    {0, NULL},
};

static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, .m_name = "heap_type",
                                 .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit_heap_type(void)
{
    return PyModuleDef_Init(&def);
}
