/* Multi-phase, and declares that it runs without the GIL. */
#include "sin.h"

static PyModuleDef_Slot slots[] = {
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
    {0, NULL},
};

static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, .m_name = "without_gil",
                                 .m_slots = slots};

PyMODINIT_FUNC PyInit_without_gil(void)
{
    return PyModuleDef_Init(&def);
}
