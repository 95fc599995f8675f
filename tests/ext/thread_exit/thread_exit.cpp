// A thread-local object whose destructor, at the end of the thread, writes to a file.
#include "sin.h"
#include <unistd.h>

struct farewell {
    int descriptor = -1;
    ~farewell()
    {
        if (descriptor >= 0 && write(descriptor, "x", 1) != 1) {
            _exit(99);
        }
    }
};

static thread_local farewell here;

SIN_FUNCTION(write_at_exit)
{
    here.descriptor = (int)PyLong_AsLong(arg);
    return PyLong_FromLong(here.descriptor);
}

static PyMethodDef methods[] = {SIN_METHOD(write_at_exit, METH_O), SIN_END};

SIN_SINGLE_PHASE(thread_exit, methods)
