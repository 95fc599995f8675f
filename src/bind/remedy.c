/* Private functions of _atoll for the tests of hazards; see interp/remedy.h. */
#include <Python.h>

#include "bind/bind.h"
#include "interp/remedy.h"
#include "interp/runtime.h"

AT_UNCHECKED static PyObject *leave_out(PyObject *module, PyObject *argument)
{
    const char *name = PyUnicode_AsUTF8(argument);
    if (name == NULL) {
        return NULL;
    }
    if (at_runtime_count() > 0) {
        PyErr_SetString(PyExc_RuntimeError, "there are interpreters already");
        return NULL;
    }
    if (!at_remedy_leave_out(name)) {
        return PyErr_Format(PyExc_ValueError, "no remedy is called %R", argument);
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *left_out(PyObject *module, PyObject *ignored)
{
    PyObject *names = PyFrozenSet_New(NULL);
    for (int i = 0; names != NULL && i < AT_REMEDY_COUNT; i++) {
        if (!at_remedy_is_left_out((at_remedy)i)) {
            continue;
        }
        PyObject *name = PyUnicode_FromString(at_remedy_name((at_remedy)i));
        if (name == NULL || PySet_Add(names, name) < 0) {
            Py_CLEAR(names);
        }
        Py_XDECREF(name);
    }
    return names;
}

static PyMethodDef functions[] = {
    {"leave_out", leave_out, METH_O,
     "leave_out(hazard, /)\n--\n\n"
     "For tests: do without the remedy against the hazard of that name from now on."},
    {"left_out", left_out, METH_NOARGS,
     "left_out()\n--\n\nThe hazards whose remedies are left out."},
    {NULL, NULL, 0, NULL},
};

int at_bind_remedy(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
