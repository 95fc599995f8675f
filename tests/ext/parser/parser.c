/* Single-phase, with the static parser that Argument Clinic makes for each function. */
#include "sin.h"

static const char *const names[] = {"first", "second", NULL};
static _PyArg_Parser parser_of_add = {.format = "nn:add", .keywords = names};

static PyObject *add(PyObject *self, PyObject *arguments, PyObject *keywords)
{
    Py_ssize_t first, second;
    if (!_PyArg_ParseTupleAndKeywordsFast(arguments, keywords, &parser_of_add, &first,
                                          &second)) {
        return NULL;
    }
    return PyLong_FromSsize_t(first + second);
}

static PyMethodDef methods[] = {
    {"add", (PyCFunction)(void *)add, METH_VARARGS | METH_KEYWORDS, NULL}, SIN_END};

SIN_SINGLE_PHASE(parser, methods)
