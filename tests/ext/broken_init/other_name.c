/* The file is called otherwise than its init function. */
#include "sin.h"

SIN_DEFINE(another, NULL);

PyMODINIT_FUNC PyInit_another(void)
{
    return PyModule_Create(&another_def);
}
