/* A name that is not ASCII: PyInitU_ and punycode (PEP 489). */
#include "sin.h"

static int answer(PyObject *module)
{
    return PyModule_AddIntConstant(module, "answer", 42);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, answer}, {0, NULL}};
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, .m_name = "größe",
                                 .m_slots = slots};

PyMODINIT_FUNC PyInitU_gre_6ka8i(void)
{
    return PyModuleDef_Init(&def);
}
