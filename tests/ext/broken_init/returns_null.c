/* The init function returns NULL and sets no exception. */
#include "sin.h"

PyMODINIT_FUNC PyInit_returns_null(void)
{
    return NULL;
}
