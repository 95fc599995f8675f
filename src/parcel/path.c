/* Refusing an object by its path: "args[0]['lock']". */
#define PY_SSIZE_T_CLEAN
#include "parcel/packer.h"

enum { LONGEST_KEY = 60 };

/* A piece of the path; a new reference, or NULL with an exception set. */
static PyObject *step_text(const at_step *step)
{
    switch (step->kind) {
    case AT_STEP_INDEX:
        if (step->outer != NULL && step->outer->kind == AT_STEP_METHOD) {
            return PyUnicode_FromString(step->index == 0 ? ".__self__" : ".__func__");
        }
        return PyUnicode_FromFormat("[%zd]", step->index);
    case AT_STEP_ATTRIBUTE:
        if (step->key != NULL && PyUnicode_Check(step->key)) {
            return PyUnicode_FromFormat(".%U", step->key);
        }
        break;
    case AT_STEP_WORD:
        return PyUnicode_FromString(step->word);
    case AT_STEP_METHOD:
        return PyUnicode_FromString("");
    case AT_STEP_MEMBER:
        return PyUnicode_FromString("{member}");
    case AT_STEP_KEY:
        break;
    }
    PyObject *repr = step->key != NULL ? PyObject_Repr(step->key) : NULL;
    if (repr == NULL) {
        PyErr_Clear();
        return PyUnicode_FromString("[...]");
    }
    PyObject *text = PyUnicode_GET_LENGTH(repr) <= LONGEST_KEY
                         ? PyUnicode_FromFormat("[%U]", repr)
                         : PyUnicode_FromFormat("[%.60U...]", repr);
    Py_DECREF(repr);
    return text;
}

static PyObject *path_text(const at_step *step)
{
    PyObject *path = PyUnicode_FromString("");
    for (; path != NULL && step != NULL; step = step->outer) {
        PyObject *piece = step_text(step);
        PyObject *longer = piece != NULL ? PyUnicode_Concat(piece, path) : NULL;
        Py_XDECREF(piece);
        Py_DECREF(path);
        path = longer;
    }
    return path;
}

int at_packer_refuse(at_packer *packer, PyObject *object, const char *reason)
{
    PyObject *cause = PyErr_GetRaisedException();
    PyObject *path = path_text(packer->step);
    PyObject *type_name =
        path != NULL ? PyType_GetFullyQualifiedName(Py_TYPE(object)) : NULL;
    if (type_name != NULL) {
        if (cause != NULL) {
            PyErr_Format(packer->state->not_shareable,
                         "%U, of type %U, cannot be sent: %S", path, type_name, cause);
        } else {
            PyErr_Format(packer->state->not_shareable,
                         "%U, of type %U, cannot be sent: %s", path, type_name, reason);
        }
        PyObject *raised = PyErr_GetRaisedException();
        if (cause != NULL && raised != NULL) {
            PyException_SetCause(raised, Py_NewRef(cause));
        }
        PyErr_SetRaisedException(raised);
    }
    Py_XDECREF(path);
    Py_XDECREF(type_name);
    Py_XDECREF(cause);
    return -1;
}
