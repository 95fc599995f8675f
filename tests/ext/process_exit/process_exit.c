/* Cleans up with Py_AtExit, as if its interpreter were the only one; appends to a file.
 */
#include "sin.h"

#include <stdio.h>

static char path[4096];

static void clean_up(void)
{
    FILE *file = fopen(path, "a");
    if (file != NULL) {
        (void)fputs("cleaned up\n", file);
        (void)fclose(file);
    }
}

SIN_FUNCTION(register_path)
{
    const char *text = PyUnicode_AsUTF8(arg);
    if (text == NULL) {
        return NULL;
    }
    (void)snprintf(path, sizeof path, "%s", text);
    return PyLong_FromLong(Py_AtExit(clean_up));
}

static PyMethodDef methods[] = {SIN_METHOD(register_path, METH_O), SIN_END};

SIN_SINGLE_PHASE(process_exit, methods)
