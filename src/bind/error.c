/* Codes into exceptions; see error.h. */
#define PY_SSIZE_T_CLEAN
#include "bind/error.h"

#include <stdarg.h>

static const char *exception_name(int code)
{
    switch (code) {
#define AT_ERROR_EXCEPTION(name, value, text, exception)                               \
    case AT_E##name:                                                                   \
        return #exception;
        AT_ERRORS(AT_ERROR_EXCEPTION)
#undef AT_ERROR_EXCEPTION
    default:
        return "SystemError";
    }
}

PyObject *at_error_class(const char *name)
{
    static const char *const places[] = {"atoll._errors", "builtins"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        PyObject *module = PyImport_ImportModule(places[i]);
        if (module == NULL) {
            return NULL;
        }
        PyObject *found;
        int status = PyObject_GetOptionalAttrString(module, name, &found);
        Py_DECREF(module);
        if (status != 0) {
            return found;
        }
    }
    return PyErr_Format(PyExc_SystemError, "atoll has no exception named %s", name);
}

/* Steals `text`, which may be NULL with an exception set. */
static PyObject *raise_text(int code, int system_error, PyObject *text) AT_ATTACHED
{
    PyObject *class = text != NULL ? at_error_class(exception_name(code)) : NULL;
    if (class == NULL) {
        Py_XDECREF(text);
        return NULL;
    }
    if (system_error != 0 && PyType_Check(class) &&
        PyType_IsSubtype((PyTypeObject *)class, (PyTypeObject *)PyExc_OSError)) {
        PyObject *exception = PyObject_CallFunction(class, "iO", system_error, text);
        if (exception != NULL) {
            PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
            Py_DECREF(exception);
        }
    } else {
        PyErr_SetObject(class, text);
    }
    Py_DECREF(class);
    Py_DECREF(text);
    return NULL;
}

PyObject *at_raise(int code)
{
    if (code == AT_ENOMEM) {
        return PyErr_NoMemory();
    }
    return raise_text(code, 0, PyUnicode_FromString(at_error_text(code)));
}

PyObject *at_raise_fault(const at_fault *fault)
{
    if (fault->code == AT_ENOMEM) {
        return PyErr_NoMemory();
    }
    if (fault->text[0] == '\0') {
        return at_raise(fault->code);
    }
    /* A sentence may carry bytes of a path, and a cut may fall into a character. */
    return raise_text(
        fault->code, fault->system_error,
        PyUnicode_DecodeUTF8(fault->text, (Py_ssize_t)strlen(fault->text), "replace"));
}

PyObject *at_raise_format(int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    PyObject *text = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    return raise_text(code, 0, text);
}
