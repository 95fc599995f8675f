/* Single-phase, and declares that it runs without the GIL. */
#include "sin.h"

static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, .m_name = "without_gil_single",
                                 .m_size = -1};

PyMODINIT_FUNC PyInit_without_gil_single(void)
{
    PyObject *module = PyModule_Create(&def);
#ifdef Py_GIL_DISABLED
    if (module != NULL && PyUnstable_Module_SetGIL(module, Py_MOD_GIL_NOT_USED) < 0) {
        Py_CLEAR(module);
    }
#endif
    return module;
}
