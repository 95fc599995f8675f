/* Linked so that the loader never unmaps it, and opens itself in its constructor. */
/* build: -Wl,-z,nodelete */
#include "sin.h"
#include <dlfcn.h>

PyMODINIT_FUNC PyInit_no_delete(void);

static long counter;
static void *myself;

__attribute__((constructor)) static void open_myself(void)
{
    Dl_info info;
    if (dladdr(&counter, &info) != 0) {
        myself = dlopen(info.dli_fname, RTLD_NOW);
    }
}

SIN_FUNCTION(add)
{
    return PyLong_FromLong(++counter);
}

SIN_FUNCTION(has_itself)
{
    return PyBool_FromLong(myself != NULL &&
                           dlsym(myself, "PyInit_no_delete") == PyInit_no_delete);
}

static PyMethodDef methods[] = {SIN_METHOD(add, METH_NOARGS),
                                SIN_METHOD(has_itself, METH_NOARGS), SIN_END};

SIN_SINGLE_PHASE(no_delete, methods)
