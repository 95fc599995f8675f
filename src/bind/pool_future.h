/* What the futures of a pool stand on: their fields, and the step that finishes one.
 *
 * atoll.PoolFuture inherits this and concurrent.futures.Future, whose attributes are
 * the fields here. A future of the standard library makes a condition and two lists for
 * itself; here they are made by who wants to wait, and a result that nobody waits for
 * costs its fields alone.
 *
 * A future is finished once, by whoever is first: under the object's critical section,
 * so that it happens before or after the making of its condition, and one of the two
 * sees the other.
 */
#ifndef AT_BIND_POOL_FUTURE_H
#define AT_BIND_POOL_FUTURE_H

#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/contexts.h"

typedef struct at_pool_future {
    PyObject_HEAD unsigned long long id; /* fixed after new */
    PyObject *pool;                      /* fixed after new */
    /* guarded: the critical section, as all below; `state` is read without it, and
     * written after what comes with it */
    PyObject *function; /* NULL when it is finished */
    PyObject *state;    /* one of concurrent.futures' words */
    PyObject *result, *exception;
    PyObject *made;                /* its condition; NULL: nobody asked for it */
    PyObject *waiters, *callbacks; /* lists; NULL: nobody asked for them */
    char interrupt, interrupt_sent;
    bool over;   /* it is finished */
    bool untold; /* so it is, and there was no memory to have that told */
} at_pool_future;

typedef enum at_future_finish {
    AT_FUTURE_WAS_OVER, /* somebody was first */
    AT_FUTURE_QUIET,    /* it is finished now, and nobody is to be told */
    AT_FUTURE_TELL,     /* it is finished now, and its condition was made: tell */
} at_future_finish;

/* A pending future of `type`, a subclass of the type here; NULL with an exception set.
 */
at_pool_future *at_pool_future_new(PyTypeObject *type, unsigned long long id,
                                   PyObject *pool, PyObject *function,
                                   PyObject *state) AT_ATTACHED;

/* Finish it: with `exception`, or with `result` where that is None. `state` is what it
 * is in then. */
at_future_finish at_pool_future_finish(at_pool_future *future, PyObject *state,
                                       PyObject *result,
                                       PyObject *exception) AT_ATTACHED;

/* Finish it with a result, unless somebody is to be told: then AT_FUTURE_TELL says so,
 * and nothing has changed. */
at_future_finish at_pool_future_finish_quietly(at_pool_future *future, PyObject *state,
                                               PyObject *result) AT_ATTACHED;

bool at_pool_future_is_over(at_pool_future *future) AT_ATTACHED;

#endif
