/* Its init function makes a submodule too and puts it into sys.modules. */
#include "sin.h"

SIN_DEFINE(submodule, NULL);

static struct PyModuleDef inner_def = {PyModuleDef_HEAD_INIT,
                                       .m_name = "submodule.inner", .m_size = -1};

PyMODINIT_FUNC PyInit_submodule(void)
{
    PyObject *module = PyModule_Create(&submodule_def);
    PyObject *inner = PyModule_Create(&inner_def);
    if (module == NULL || inner == NULL ||
        PyModule_AddIntConstant(inner, "answer", 42) < 0 ||
        PyModule_AddObjectRef(module, "inner", inner) < 0 ||
        PyDict_SetItemString(PyImport_GetModuleDict(), "submodule.inner", inner) < 0) {
        Py_CLEAR(module);
    }
    Py_XDECREF(inner);
    return module;
}
