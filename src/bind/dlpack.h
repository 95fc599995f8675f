/* DLPack: shared memory for other array libraries, without a copy. */
#ifndef AT_BIND_DLPACK_H
#define AT_BIND_DLPACK_H

#include <Python.h>

#include "base/contexts.h"
#include "chan/region.h"

/* A "dltensor" capsule over `view`, which it keeps; `keywords` are those of __dlpack__.
 * NULL with an exception set: BufferError for what DLPack cannot say.
 * ctx: attached */
PyObject *at_dlpack_export(at_view *view, PyObject *keywords) AT_ATTACHED;

/* (1, 0): the CPU. ctx: attached */
PyObject *at_dlpack_device(void) AT_ATTACHED;

#endif
