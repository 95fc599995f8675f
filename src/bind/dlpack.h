/* DLPack: shared memory for other array libraries, without a copy. */
#ifndef AT_BIND_DLPACK_H
#define AT_BIND_DLPACK_H

#include <Python.h>

#include "base/contexts.h"
#include "chan/region.h"

/* How many exports of one object are in use. Consumers end them on any thread, when the
 * object may have gone. */
typedef struct at_dlpack_lent at_dlpack_lent;

/* One reference, or NULL for want of memory. ctx: any, as the next two */
at_dlpack_lent *at_dlpack_lent_new(void);
/* NULL is allowed, here and below. */
void at_dlpack_lent_unref(at_dlpack_lent *lent);
long at_dlpack_lent_count(const at_dlpack_lent *lent);

/* A "dltensor" capsule over `view`, which it keeps, counted in `lent`; `keywords` are
 * those of __dlpack__: with copy=True it is over memory of its own.
 * NULL with an exception set: BufferError for what DLPack cannot say.
 * ctx: attached */
PyObject *at_dlpack_export(at_view *view, at_dlpack_lent *lent,
                           PyObject *keywords) AT_ATTACHED;

/* (1, 0): the CPU. ctx: attached */
PyObject *at_dlpack_device(void) AT_ATTACHED;

#endif
