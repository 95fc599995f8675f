/* Single-phase, a counter and an object in C globals, filled by the init function. */
#include "sin.h"

static long counter;
static PyObject *kept;
static int init_count;

SIN_FUNCTION(add)
{
    counter++;
    return PyLong_FromLong(counter);
}

SIN_FUNCTION(keep)
{
    Py_XSETREF(kept, Py_NewRef(arg));
    Py_RETURN_NONE;
}

SIN_FUNCTION(kept_object)
{
    return Py_NewRef(kept != NULL ? kept : Py_None);
}

SIN_FUNCTION(inits)
{
    return PyLong_FromLong(init_count);
}

static PyMethodDef methods[] = {SIN_METHOD(add, METH_NOARGS), SIN_METHOD(keep, METH_O),
                                SIN_METHOD(kept_object, METH_NOARGS),
                                SIN_METHOD(inits, METH_NOARGS), SIN_END};

SIN_DEFINE(global_state, methods);

SIN_FUNCTION(find_state)
{
    PyObject *found = PyState_FindModule(&global_state_def);
    return Py_NewRef(found != NULL ? found : Py_None);
}

SIN_FUNCTION(index_in_list)
{
    return PyLong_FromSsize_t(global_state_def.m_base.m_index);
}

static PyMethodDef more[] = {SIN_METHOD(find_state, METH_NOARGS),
                             SIN_METHOD(index_in_list, METH_NOARGS), SIN_END};

PyMODINIT_FUNC PyInit_global_state(void)
{
    init_count++;
    PyObject *module = PyModule_Create(&global_state_def);
    if (module != NULL && PyModule_AddFunctions(module, more) < 0) {
        Py_CLEAR(module);
    }
    return module;
}
