/* Claims of names; see claim.h. */
#define PY_SSIZE_T_CLEAN
#include "bind/claim.h"

int at_bind_claim(const char *module, const char *name, PyObject **claim)
{
    *claim = NULL;
    if (name == NULL) {
        return 0;
    }
    PyObject *imported = PyImport_ImportModule(module);
    if (imported != NULL) {
        *claim = PyObject_CallMethod(imported, "claim", "s", name);
        Py_DECREF(imported);
    }
    return *claim != NULL ? 0 : -1;
}

int at_bind_claim_end(PyObject *claim)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *closed =
        claim != NULL ? PyObject_CallMethod(claim, "close", NULL) : Py_NewRef(Py_None);
    Py_XDECREF(claim);
    Py_XDECREF(closed);
    if (error != NULL) {
        PyErr_SetRaisedException(error);
    }
    return closed != NULL && error == NULL ? 0 : -1;
}
