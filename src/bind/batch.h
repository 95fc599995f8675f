/* send_many() of a channel and of a broadcast: objects are packed a batch at a time,
 * and each batch is sent with as few claims and wakes as there is room for.
 *
 * What stands before an object that cannot be packed, or before the end of an iterable
 * that raises, is sent all the same. So what was sent is always the first objects, and
 * an exception says how many in its attribute `sent`. */
#ifndef AT_BIND_BATCH_H
#define AT_BIND_BATCH_H

#include <Python.h>
#include <stddef.h>
#include <stdint.h>

#include "base/contexts.h"

/* Where a batch goes. Each is given the object whose method was called.
 * ctx: attached */
typedef struct at_batch_end {
    /* Send the first of `count` items that there is room for: takes those that it
     * returns the count of. errs: AT_EFULL and others, when none was taken */
    int (*try_send)(PyObject *object, void **items, size_t count);
    /* Send one, waiting: takes it on 0; else what at_bind_wait_failed() knows. */
    int (*send)(PyObject *object, void *item, int64_t deadline_ns);
    /* Set the exception for such a result. NULL always. */
    PyObject *(*raise)(PyObject *object, int result);
} at_batch_end;

/* The method send_many(objects, timeout=None) of `object`: how many there were, or NULL
 * with an exception set. ctx: attached; runs Python code */
PyObject *at_batch_send(PyObject *object, const at_batch_end *end, PyObject *arguments,
                        PyObject *keywords) AT_ATTACHED;

#endif
