/* The init function returns memory that is no object yet. */
#include "sin.h"

static PyObject nothing;

PyMODINIT_FUNC PyInit_returns_uninitialized(void)
{
    return &nothing;
}
