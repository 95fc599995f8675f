/* atoll._gil: an extension module that does nothing but let CPython's own importer
 * handle the GIL of a free-threaded build around an import of atoll's.
 *
 * A module that does not declare Py_MOD_GIL_NOT_USED must not run without the GIL. The
 * functions that turn it on are private to CPython's importer: it turns the GIL on for
 * the time in which a module is created, then looks at the module, and turns it off
 * again or warns and leaves it on for the interpreter's life. So the importer
 * (python/atoll/_importer.py) gives CPython this module, and the real one is created
 * inside of its Py_mod_create. What comes out is a module, which declares by the slot
 * below that it needs no GIL, or something else, of which CPython thinks the worst.
 *
 * CPython looks the file and its init function up by the `origin` and `name` of the
 * spec, which is therefore none of importlib's. No docstring: it would be set on what
 * is no module.
 */
#include <Python.h>

static PyObject *create(PyObject *carrier, PyModuleDef *def)
{
    PyObject *name = PyUnicode_FromString("load");
    PyObject *safe = name != NULL ? PyObject_CallMethodNoArgs(carrier, name) : NULL;
    Py_XDECREF(name);
    if (safe == NULL) {
        return NULL;
    }
    int needs_no_gil = PyObject_IsTrue(safe);
    Py_DECREF(safe);
    if (needs_no_gil < 0) {
        return NULL;
    }
    return needs_no_gil ? PyModule_New("atoll._gil") : Py_NewRef(Py_None);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_create, (void *)create},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "atoll._gil",
    .m_size = 0,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__gil(void);

PyMODINIT_FUNC PyInit__gil(void)
{
    return PyModuleDef_Init(&definition);
}
