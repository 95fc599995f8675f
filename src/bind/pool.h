/* What the files of a pool share: pool.c is atoll._atoll.Scheduler, pool_feed.c its
 * methods for threads that feed a process, pool_desk.c the side that submits.
 * Every function here: ctx: attached; NULL or -1 with an exception set */
#ifndef AT_BIND_POOL_H
#define AT_BIND_POOL_H

#include <Python.h>

#include "base/contexts.h"
#include "pool/scheduler.h"

typedef struct at_pool_object {
    PyObject_HEAD at_scheduler *scheduler;
    unsigned worker_count;
} at_pool_object;

static inline at_scheduler *at_pool_scheduler(PyObject *self)
{
    return ((at_pool_object *)self)->scheduler;
}

/* Queue a task; takes `payload` in any case. */
int at_pool_submit(at_scheduler *scheduler, uint64_t id, at_message *payload,
                   int worker) AT_ATTACHED;

/* A call as the payload of a task. */
int at_pool_pack_call(PyObject *function, PyObject *args, PyObject *kwargs,
                      at_message **payload) AT_ATTACHED;

PyObject *at_pool_submit_bytes(PyObject *self, PyObject *arguments);
PyObject *at_pool_feed(PyObject *self, PyObject *arguments);
PyObject *at_pool_finish_bytes(PyObject *self, PyObject *arguments);
PyObject *at_pool_put_back(PyObject *self, PyObject *capsule);

#endif
