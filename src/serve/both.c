/* See both.h. */
#define PY_SSIZE_T_CLEAN
#include "serve/both.h"

int at_serve_open(unsigned long long number, const at_hooks *hooks, void *worker,
                  int index, at_service **service, at_reactor **reactor)
{
    *service = at_service_find(number);
    if (*service == NULL) {
        PyErr_Format(PyExc_LookupError, "there is no service %llu", number);
        return -1;
    }
    at_fault fault;
    if (at_reactor_open(reactor, *service, hooks, worker, index,
                        PyInterpreterState_GetID(PyInterpreterState_Get()),
                        &fault) < 0) {
        PyErr_SetString(PyExc_RuntimeError, fault.text);
        return -1;
    }
    return 0;
}

PyObject *at_serve_timeout_class(void)
{
    PyObject *errors = PyImport_ImportModule("atoll._errors");
    PyObject *class =
        errors != NULL ? PyObject_GetAttrString(errors, "RequestTimeout") : NULL;
    Py_XDECREF(errors);
    return class;
}

void at_serve_report(PyObject *on_error, PyObject *scope, const char *text)
{
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *done =
        PyObject_CallFunction(on_error, "OOs", scope != NULL ? scope : Py_None,
                              exception != NULL ? exception : Py_None, text);
    if (done == NULL) {
        PyErr_WriteUnraisable(on_error);
    }
    Py_XDECREF(done);
    Py_XDECREF(exception);
}
