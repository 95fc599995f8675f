/* The init function takes the process down. */
#include "sin.h"

#include <signal.h>

PyMODINIT_FUNC PyInit_crashes(void)
{
    (void)raise(SIGSEGV);
    return NULL;
}
