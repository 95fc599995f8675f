/* The init function returns an object that is no module. */
#include "sin.h"

PyMODINIT_FUNC PyInit_returns_no_module(void)
{
    return PyLong_FromLong(1);
}
