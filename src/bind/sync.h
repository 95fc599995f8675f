/* What the types of chan/sync.h, chan/lock.h and chan/atomic.h have in common as Python
 * objects: a handle of an interpreter to a thing, its waits and its ways to others. */
#ifndef AT_BIND_SYNC_H
#define AT_BIND_SYNC_H

#include <Python.h>
#include <stdbool.h>

#include "base/contexts.h"
#include "base/error.h"
#include "chan/lock.h"
#include "parcel/parcel.h"

typedef struct at_sync_object {
    PyObject_HEAD at_shared *thing; /* a reference; fixed after new, as the next */
    at_peer *peer;                  /* a reference */
    PyObject *action;               /* a barrier's, or NULL */
    PyObject *weak_references;
} at_sync_object;

static inline void *at_sync_thing(PyObject *object)
{
    return ((at_sync_object *)object)->thing;
}

static inline at_peer *at_sync_peer(PyObject *object)
{
    return ((at_sync_object *)object)->peer;
}

/* One type, of the table in sync.c. */
typedef struct at_sync_type {
    const char *name;
    const char *doc;
    newfunc new;
    unsigned long flags; /* of the type, beside those of all */
    PyMethodDef *methods;
    PyGetSetDef *attributes;  /* or NULL */
    const PyType_Slot *slots; /* more of them, up to {0, NULL}; or NULL */
    at_parcel_handle handle;
} at_sync_type;

extern const at_sync_type at_sync_lock;
extern const at_sync_type at_sync_rlock;
extern const at_sync_type at_sync_condition;
extern const at_sync_type at_sync_event;
extern const at_sync_type at_sync_semaphore;
extern const at_sync_type at_sync_bounded_semaphore;
extern const at_sync_type at_sync_barrier;
extern const at_sync_type at_sync_atomic;

/* Functions of the module that belong to atomic ints. */
extern PyMethodDef at_sync_atomic_functions[];

/* Of every at_sync_type's `handle`. */
at_shared *at_sync_thing_of(PyObject *object);
PyObject *at_sync_wrap(PyTypeObject *type, at_shared *thing) AT_ATTACHED;

/* The methods that every type has; the end of its table. */
#define AT_SYNC_METHODS                                                                \
    {"_describe", at_sync_describe, METH_NOARGS,                                       \
     "_describe($self)\n--\n\nFor repr() and the tests."},                             \
        {"__reduce__", at_sync_reduce, METH_NOARGS,                                    \
         "__reduce__($self)\n--\n\n"                                                   \
         "For pickle: other processes get the same thing, where it was made with "     \
         "shared=True."},                                                              \
        {"open", at_sync_open, METH_O | METH_CLASS,                                    \
         "open($type, name, /)\n--\n\n"                                                \
         "The one that another process, or this one, made with name=NAME.\n\n"         \
         "Raises:\n"                                                                   \
         "    FileNotFoundError: No process that may be looked into has it.\n"         \
         "    TypeError: The name is that of something else."},                        \
    {                                                                                  \
        NULL, NULL, 0, NULL                                                            \
    }

PyObject *at_sync_describe(PyObject *object, PyObject *unused);
PyObject *at_sync_reduce(PyObject *object, PyObject *unused);
PyObject *at_sync_open(PyObject *type, PyObject *name);

/* `shared=` and `name=` into the origin of a thing, with what keeps others from making
 * the same name meanwhile, for at_sync_wrap_new().
 * errs: -1 with FileExistsError, or what looking for it raised */
int at_sync_origin(int shared, const char *name, at_origin *origin,
                   PyObject **claim) AT_ATTACHED;

/* A handle to a thing that was just made with `result`, of which the caller's reference
 * goes, as `claim` does. NULL with an exception set */
PyObject *at_sync_wrap_new(PyTypeObject *type, int result, void *thing,
                           const at_fault *fault, PyObject *claim) AT_ATTACHED;

typedef int at_sync_wait_function(void *thing, const at_patience *patience);

/* Wait detached; signals are handled in between. ctx: attached */
int at_sync_wait(PyObject *object, at_sync_wait_function *wait,
                 int64_t deadline_ns) AT_ATTACHED;

/* True, or False after a timeout; NULL with an exception set. ctx: attached */
PyObject *at_sync_outcome(int result) AT_ATTACHED;

/* threading's (blocking=True, timeout=-1) of a lock, or (blocking=True, timeout=None)
 * of a semaphore, of a METH_FASTCALL | METH_KEYWORDS function: AT_EAGAIN where it must
 * not block, 0 with a deadline, or -1 with an exception set. */
int at_sync_parse_acquire(bool is_lock, PyObject *const *arguments, Py_ssize_t count,
                          PyObject *keyword_names, int64_t *deadline_ns) AT_ATTACHED;

/* (timeout=None) into a deadline; -1 with an exception set. */
int at_sync_parse_timeout(const char *function, PyObject *const *arguments,
                          Py_ssize_t count, PyObject *keyword_names,
                          int64_t *deadline_ns) AT_ATTACHED;

/* ---- for locks and conditions (sync_lock.c) -------------------------------------- */

/* Take `lock`, which `object` is or stands on: True or False; with OwnerDeadError it is
 * held, unless `entering` a with statement, whose body will not run. */
PyObject *at_sync_take(PyObject *object, at_lock *lock, at_sync_wait_function *wait,
                       int how, int64_t deadline_ns, bool entering) AT_ATTACHED;
PyObject *at_sync_give(PyObject *object, at_lock *lock) AT_ATTACHED;
PyObject *at_sync_mark_consistent(at_lock *lock) AT_ATTACHED;

/* The docstrings that Lock and Condition share. */
#define AT_SYNC_ACQUIRE_DOC                                                            \
    "acquire($self, blocking=True, timeout=-1)\n"                                      \
    "--\n"                                                                             \
    "\n"                                                                               \
    "Take it, waiting until it is free.\n"                                             \
    "\n"                                                                               \
    "Args:\n"                                                                          \
    "    blocking (bool): False does not wait.\n"                                      \
    "    timeout (float): Seconds to wait; -1 waits for ever.\n"                       \
    "\n"                                                                               \
    "Returns:\n"                                                                       \
    "    True with it, False without.\n"                                               \
    "\n"                                                                               \
    "Raises:\n"                                                                        \
    "    OwnerDeadError: Whoever held it is gone: its interpreter closed, or its\n"    \
    "        process ended. The lock is held now, by you; what it guards may be\n"     \
    "        half done. Repair it, and call mark_consistent(): unless you do, the\n"   \
    "        next one after your release() is told the same.\n"                        \
    "    ClosedError: This interpreter is closing."
#define AT_SYNC_RELEASE_DOC                                                            \
    "release($self)\n"                                                                 \
    "--\n"                                                                             \
    "\n"                                                                               \
    "Let it go; one of those who wait gets it.\n"                                      \
    "\n"                                                                               \
    "Raises:\n"                                                                        \
    "    RuntimeError: It is not held, or by another process, or an RLock by\n"        \
    "        another thread."
#define AT_SYNC_CONSISTENT_DOC                                                         \
    "mark_consistent($self)\n"                                                         \
    "--\n"                                                                             \
    "\n"                                                                               \
    "Say that what the lock guards is whole again, after OwnerDeadError.\n"            \
    "\n"                                                                               \
    "Raises:\n"                                                                        \
    "    RuntimeError: The lock is not held."
#define AT_SYNC_ENTER_DOC                                                              \
    "__enter__($self)\n"                                                               \
    "--\n"                                                                             \
    "\n"                                                                               \
    "acquire(); but with OwnerDeadError the lock is not held, since the body of the\n" \
    "with statement does not run: everyone is told so until somebody acquires it\n"    \
    "and calls mark_consistent()."

#endif
