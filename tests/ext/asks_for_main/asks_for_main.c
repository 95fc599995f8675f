/* Believes that the main interpreter is the one it runs in. */
#include "sin.h"

SIN_FUNCTION(main_id)
{
    return PyLong_FromLongLong(PyInterpreterState_GetID(PyInterpreterState_Main()));
}

SIN_FUNCTION(checks)
{
    return PyLong_FromLong(PyGILState_Check() && Py_IsInitialized());
}

static int pending_count;

static int pending(void *unused)
{
    pending_count++;
    return 0;
}

SIN_FUNCTION(add_pending)
{
    return PyLong_FromLong(Py_AddPendingCall(pending, NULL));
}

SIN_FUNCTION(pending_done)
{
    return PyLong_FromLong(pending_count);
}

static PyMethodDef methods[] = {SIN_METHOD(main_id, METH_NOARGS),
                                SIN_METHOD(checks, METH_NOARGS),
                                SIN_METHOD(add_pending, METH_NOARGS),
                                SIN_METHOD(pending_done, METH_NOARGS), SIN_END};

SIN_SINGLE_PHASE(asks_for_main, methods)
