/* atoll.SharedBuffer and atoll.SharedArray, for the other files of bind/. */
#ifndef AT_BIND_BUFFER_H
#define AT_BIND_BUFFER_H

#include <Python.h>

#include "base/contexts.h"
#include "chan/region.h"

/* What `object` looks at: borrowed; NULL with TypeError where it is no shared memory,
 * or ValueError where that was released. ctx: attached */
at_view *at_buffer_view(PyObject *object) AT_ATTACHED;

#endif
