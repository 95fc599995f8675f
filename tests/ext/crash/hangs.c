/* The init function never returns. */
#include "sin.h"

#include <unistd.h>

PyMODINIT_FUNC PyInit_hangs(void)
{
    for (;;) {
        (void)pause();
    }
    return NULL;
}
