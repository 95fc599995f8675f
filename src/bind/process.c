/* What the server's processes ask of the system. */
#define PY_SSIZE_T_CLEAN
#include "bind/bind.h"

#include "bind/error.h"
#include "sys/process.h"

AT_UNCHECKED static PyObject *die_with_parent(PyObject *module, PyObject *number)
{
    int signal_number = PyLong_AsInt(number);
    if (signal_number == -1 && PyErr_Occurred()) {
        return NULL;
    }
    int result = at_process_die_with_parent(signal_number);
    if (result < 0) {
        return at_raise(result);
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *adopt_orphans(PyObject *module, PyObject *unused)
{
    int result = at_process_adopt_orphans();
    if (result < 0) {
        return at_raise(result);
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"die_with_parent", die_with_parent, METH_O,
     "die_with_parent(signal): get that signal when the parent has ended."},
    {"adopt_orphans", adopt_orphans, METH_NOARGS,
     "Be the parent of descendants whose own have ended."},
    {NULL, NULL, 0, NULL},
};

int at_bind_process(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
