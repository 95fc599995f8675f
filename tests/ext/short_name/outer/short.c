/* PyModule_Create with the last part of its name, as Python 2 had it. */
#include "sin.h"

static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, .m_name = "short", .m_size = -1};

PyMODINIT_FUNC PyInit_short(void)
{
    return PyModule_Create(&def);
}
