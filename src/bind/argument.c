/* Converters that name their argument; see argument.h. */
#define PY_SSIZE_T_CLEAN
#include "bind/argument.h"

#include <string.h>

int at_bind_int(PyObject *object, void *argument)
{
    at_int_argument *into = argument;
    if (!PyIndex_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be an int, not %.100s", into->name,
                     Py_TYPE(object)->tp_name);
        return 0;
    }
    PyObject *index = PyNumber_Index(object);
    if (index == NULL) {
        return 0;
    }
    int overflow;
    into->value = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow != 0) {
        PyErr_Format(PyExc_OverflowError, "%s does not fit in 64 bits", into->name);
    }
    return overflow == 0 && !(into->value == -1 && PyErr_Occurred());
}

int at_bind_name(PyObject *object, void *name)
{
    const char **into = name;
    *into = NULL;
    if (object == Py_None) {
        return 1;
    }
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "name must be a str or None, not %.100s",
                     Py_TYPE(object)->tp_name);
        return 0;
    }
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(object, &length);
    if (text == NULL) {
        if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
            PyErr_SetString(PyExc_ValueError, "name must be text that UTF-8 can hold");
        }
        return 0;
    }
    if (length == 0) {
        PyErr_SetString(PyExc_ValueError,
                        "name must not be empty; what has none is made without it, or "
                        "with name=None");
        return 0;
    }
    if (strlen(text) != (size_t)length) {
        PyErr_SetString(PyExc_ValueError, "name must not have a null character");
        return 0;
    }
    *into = text;
    return 1;
}
