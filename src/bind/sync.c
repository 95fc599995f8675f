/* atoll.Lock, RLock, Condition, Event, Semaphore, Barrier: threading's
 * API over chan/sync.h. Every wait is tried while attached and then made detached. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/error.h"
#include "bind/bind.h"
#include "bind/error.h"
#include "bind/type.h"
#include "bind/wait.h"
#include "chan/sync.h"
#include "interp/attach.h"
#include "parcel/parcel.h"

typedef struct sync_object {
    PyObject_HEAD at_shared *thing; /* a reference; fixed after new, as the next */
    at_peer *peer;                  /* a reference */
} sync_object;

static void *thing_in(PyObject *object)
{
    return ((sync_object *)object)->thing;
}

static at_peer *peer_in(PyObject *object)
{
    return ((sync_object *)object)->peer;
}

/* ---- life ------------------------------------------------------------------------ */

/* The lock that `thing` is or stands on, or NULL. */
static at_lock *lock_under(at_shared *thing)
{
    if (thing->kind == &at_condition_kind) {
        return at_condition_lock((at_condition *)thing);
    }
    bool is_lock = thing->kind == &at_lock_kind || thing->kind == &at_rlock_kind;
    return is_lock ? (at_lock *)thing : NULL;
}

static PyObject *sync_wrap(PyTypeObject *type, at_shared *thing) AT_ATTACHED
{
    at_peer *peer = at_bind_peer();
    if (peer == NULL) {
        return NULL;
    }
    at_lock *lock = lock_under(thing);
    int result = lock != NULL ? at_lock_watch(lock, peer) : 0;
    if (result < 0) {
        return at_raise(result);
    }
    sync_object *self = (sync_object *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->thing = at_shared_ref(thing);
        self->peer = (at_peer *)at_shared_ref(&peer->shared);
    }
    return (PyObject *)self;
}

/* The same for a thing that was just made, of which the caller's reference goes. */
static PyObject *sync_wrap_new(PyTypeObject *type, int result, void *thing) AT_ATTACHED
{
    if (result < 0) {
        return at_raise(result);
    }
    PyObject *self = sync_wrap(type, thing);
    at_shared_unref(thing);
    return self;
}

static void sync_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    sync_object *self = (sync_object *)object;
    if (self->thing != NULL) {
        at_shared_unref(self->thing);
        at_shared_unref(&self->peer->shared);
    }
    type->tp_free(object);
    Py_DECREF(type);
}

/* Two handles are equal when they are of one thing. */
AT_UNCHECKED static PyObject *sync_compare(PyObject *left, PyObject *right,
                                           int operation)
{
    if ((operation != Py_EQ && operation != Py_NE) || Py_TYPE(left) != Py_TYPE(right)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return PyBool_FromLong((thing_in(left) == thing_in(right)) == (operation == Py_EQ));
}

static Py_hash_t sync_hash(PyObject *object)
{
    return at_bind_hash_pointer(thing_in(object));
}

static at_shared *thing_of(PyObject *object)
{
    return thing_in(object);
}

/* ---- waiting -----------------------------------------------------------------------
 */

typedef int wait_function(void *thing, const at_patience *patience);

/* Wait detached; signals are handled in between. */
static int wait_detached(PyObject *object, wait_function *wait,
                         int64_t deadline_ns) AT_ATTACHED
{
    at_patience patience = {deadline_ns, peer_in(object)};
    int result;
    do {
        PyThreadState *state = at_detach();
        result = wait(thing_in(object), &patience);
        at_attach(state);
    } while (at_bind_wait_again(&result));
    return result;
}

/* True, or False after a timeout. */
static PyObject *outcome(int result) AT_ATTACHED
{
    if (result == 0) {
        Py_RETURN_TRUE;
    }
    if (result == AT_ETIMEOUT || result == AT_EAGAIN) {
        Py_RETURN_FALSE;
    }
    if (result == AT_EOWNERDEAD) {
        return at_raise_format(AT_EOWNERDEAD,
                               "the interpreter that held the lock closed without "
                               "releasing it; it is free now");
    }
    return at_bind_wait_failed(result);
}

/* threading's (blocking=True, timeout=-1): AT_EAGAIN where it must not block, 0 with a
 * deadline, or -1 with an exception set. */
static int parse_acquire(PyObject *arguments, PyObject *keywords,
                         int64_t *deadline_ns) AT_ATTACHED
{
    static char *names[] = {"blocking", "timeout", NULL};
    int blocking = 1;
    PyObject *timeout = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|pO:acquire", names,
                                     &blocking, &timeout)) {
        return -1;
    }
    *deadline_ns = INT64_MAX;
    if (timeout != NULL && timeout != Py_None) {
        double seconds = PyFloat_AsDouble(timeout);
        if (seconds == -1.0 && PyErr_Occurred()) {
            return -1;
        }
        if (!blocking && seconds != -1.0) {
            PyErr_SetString(PyExc_ValueError,
                            "can't specify a timeout for a non-blocking call");
            return -1;
        }
        if (seconds < 0 && seconds != -1.0) {
            PyErr_SetString(PyExc_ValueError,
                            "timeout value must be a non-negative number");
            return -1;
        }
        if (seconds != -1.0 && at_bind_deadline(timeout, deadline_ns) < 0) {
            return -1;
        }
    }
    return blocking ? 0 : AT_EAGAIN;
}

/* ---- locks -------------------------------------------------------------------------
 */

static int wait_lock(void *lock, const at_patience *patience) AT_DETACHED
{
    return at_lock_acquire(lock, patience);
}

static PyObject *lock_take(PyObject *object, at_lock *lock, wait_function *wait,
                           int64_t deadline_ns, bool may_wait) AT_ATTACHED
{
    int result = at_lock_try_acquire(lock, peer_in(object));
    if (result == AT_EAGAIN && may_wait) {
        result = wait_detached(object, wait, deadline_ns);
    }
    return outcome(result);
}

static PyObject *lock_give(at_lock *lock) AT_ATTACHED
{
    if (at_lock_release(lock) < 0) {
        PyErr_SetString(PyExc_RuntimeError, "release of a lock that is not held");
        return NULL;
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *lock_new(PyTypeObject *type, PyObject *arguments,
                                       PyObject *keywords)
{
    at_lock *lock;
    if (!PyArg_ParseTuple(arguments, ":Lock")) {
        return NULL;
    }
    int result = at_lock_new(false, &lock);
    return sync_wrap_new(type, result, lock);
}

AT_UNCHECKED static PyObject *rlock_new(PyTypeObject *type, PyObject *arguments,
                                        PyObject *keywords)
{
    at_lock *lock;
    if (!PyArg_ParseTuple(arguments, ":RLock")) {
        return NULL;
    }
    int result = at_lock_new(true, &lock);
    return sync_wrap_new(type, result, lock);
}

AT_UNCHECKED static PyObject *lock_acquire(PyObject *object, PyObject *arguments,
                                           PyObject *keywords)
{
    int64_t deadline_ns;
    int how = parse_acquire(arguments, keywords, &deadline_ns);
    if (how == -1) {
        return NULL;
    }
    return lock_take(object, thing_in(object), wait_lock, deadline_ns, how == 0);
}

AT_UNCHECKED static PyObject *lock_enter(PyObject *object, PyObject *unused)
{
    return lock_take(object, thing_in(object), wait_lock, INT64_MAX, true);
}

AT_UNCHECKED static PyObject *lock_release(PyObject *object, PyObject *unused)
{
    return lock_give(thing_in(object));
}

AT_UNCHECKED static PyObject *lock_locked(PyObject *object, PyObject *unused)
{
    return PyBool_FromLong(at_lock_is_held(thing_in(object)));
}

static PyMethodDef lock_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))lock_acquire, METH_VARARGS | METH_KEYWORDS,

     "acquire($self, blocking=True, timeout=-1)\n"
     "--\n"
     "\n"
     "Take it, waiting until it is free.\n"
     "\n"
     "Args:\n"
     "    blocking: False does not wait.\n"
     "    timeout: Seconds to wait; -1 waits for ever.\n"
     "\n"
     "Returns:\n"
     "    True with it, False without.\n"
     "\n"
     "Raises:\n"
     "    OwnerDeadError: The interpreter that held it closed. It is free now, and\n"
     "        not taken: what it guards may be half done. Told once.\n"
     "    ClosedError: This interpreter is closing."},
    {"release", lock_release, METH_NOARGS,
     "release($self)\n"
     "--\n"
     "\n"
     "Let it go; the next who waits gets it.\n"
     "\n"
     "Raises:\n"
     "    RuntimeError: It is not held, or an RLock by another thread."},
    {"locked", lock_locked, METH_NOARGS,
     "locked($self)\n"
     "--\n"
     "\n"
     "Whether anybody holds it."},
    {"__enter__", lock_enter, METH_NOARGS,
     "__enter__($self)\n"
     "--\n"
     "\n"
     "acquire()."},
    {"__exit__", lock_release, METH_VARARGS,
     "__exit__($self, *exception)\n"
     "--\n"
     "\n"
     "release()."},
    {NULL, NULL, 0, NULL},
};

/* ---- conditions
 * ---------------------------------------------------------------------- */

AT_UNCHECKED static PyObject *condition_new(PyTypeObject *type, PyObject *arguments,
                                            PyObject *keywords)
{
    static char *names[] = {"lock", NULL};
    PyObject *lock_object = Py_None;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O:Condition", names,
                                     &lock_object)) {
        return NULL;
    }
    at_lock *lock;
    if (lock_object == Py_None) {
        int result = at_lock_new(true, &lock);
        if (result < 0) {
            return at_raise(result);
        }
    } else {
        at_shared *thing = Py_TYPE(lock_object)->tp_dealloc == sync_dealloc
                               ? thing_in(lock_object)
                               : NULL;
        if (thing == NULL || thing->kind == &at_condition_kind ||
            lock_under(thing) == NULL) {
            return PyErr_Format(PyExc_TypeError,
                                "a Condition needs an atoll Lock or RLock");
        }
        lock = (at_lock *)at_shared_ref(thing);
    }
    at_condition *condition;
    int result = at_condition_new(lock, &condition);
    at_shared_unref((at_shared *)lock);
    return sync_wrap_new(type, result, condition);
}

static at_lock *lock_of(PyObject *object)
{
    return at_condition_lock(thing_in(object));
}

static int wait_condition_lock(void *condition, const at_patience *patience) AT_DETACHED
{
    return at_lock_acquire(at_condition_lock(condition), patience);
}

static int wait_condition(void *condition, const at_patience *patience) AT_DETACHED
{
    return at_condition_wait(condition, patience);
}

AT_UNCHECKED static PyObject *condition_acquire(PyObject *object, PyObject *arguments,
                                                PyObject *keywords)
{
    int64_t deadline_ns;
    int how = parse_acquire(arguments, keywords, &deadline_ns);
    if (how == -1) {
        return NULL;
    }
    return lock_take(object, lock_of(object), wait_condition_lock, deadline_ns,
                     how == 0);
}

AT_UNCHECKED static PyObject *condition_enter(PyObject *object, PyObject *unused)
{
    return lock_take(object, lock_of(object), wait_condition_lock, INT64_MAX, true);
}

AT_UNCHECKED static PyObject *condition_release(PyObject *object, PyObject *unused)
{
    return lock_give(lock_of(object));
}

static PyObject *raise_not_held(void) AT_ATTACHED
{
    PyErr_SetString(PyExc_RuntimeError, "the lock of the condition is not held");
    return NULL;
}

/* wait(timeout=None) */
AT_UNCHECKED static PyObject *condition_wait(PyObject *object, PyObject *arguments,
                                             PyObject *keywords)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = NULL;
    int64_t deadline_ns;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O:wait", names, &timeout) ||
        at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    /* Nobody can notify between two rounds: the lock is held there. */
    int result = wait_detached(object, wait_condition, deadline_ns);
    return result == AT_EPERMISSION ? raise_not_held() : outcome(result);
}

/* wait_for(predicate, timeout=None): the last value of the predicate. */
AT_UNCHECKED static PyObject *condition_wait_for(PyObject *object, PyObject *arguments,
                                                 PyObject *keywords)
{
    static char *names[] = {"predicate", "timeout", NULL};
    PyObject *predicate;
    PyObject *timeout = NULL;
    int64_t deadline_ns;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O|O:wait_for", names,
                                     &predicate, &timeout) ||
        at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    for (int waited = 0;;) {
        PyObject *value = PyObject_CallNoArgs(predicate);
        int is_true = value != NULL ? PyObject_IsTrue(value) : -1;
        if (is_true != 0 || waited == AT_ETIMEOUT) {
            if (is_true < 0) {
                Py_CLEAR(value);
            }
            return value;
        }
        Py_DECREF(value);
        waited = wait_detached(object, wait_condition, deadline_ns);
        if (waited != 0 && waited != AT_ETIMEOUT) {
            return waited == AT_EPERMISSION ? raise_not_held() : outcome(waited);
        }
    }
}

static PyObject *notify(PyObject *object, unsigned count) AT_ATTACHED
{
    if (at_condition_notify(thing_in(object), count) < 0) {
        return raise_not_held();
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *condition_notify(PyObject *object, PyObject *arguments)
{
    unsigned count = 1;
    return PyArg_ParseTuple(arguments, "|I:notify", &count) ? notify(object, count)
                                                            : NULL;
}

AT_UNCHECKED static PyObject *condition_notify_all(PyObject *object, PyObject *unused)
{
    return notify(object, UINT32_MAX);
}

static PyMethodDef condition_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))condition_acquire,
     METH_VARARGS | METH_KEYWORDS,
     "acquire($self, blocking=True, timeout=-1)\n"
     "--\n"
     "\n"
     "Take it, waiting until it is free.\n"
     "\n"
     "Args:\n"
     "    blocking: False does not wait.\n"
     "    timeout: Seconds to wait; -1 waits for ever.\n"
     "\n"
     "Returns:\n"
     "    True with it, False without.\n"
     "\n"
     "Raises:\n"
     "    OwnerDeadError: The interpreter that held it closed. It is free now, and\n"
     "        not taken: what it guards may be half done. Told once.\n"
     "    ClosedError: This interpreter is closing."},
    {"release", condition_release, METH_NOARGS,
     "release($self)\n"
     "--\n"
     "\n"
     "Let the lock go."},
    {"wait", (PyCFunction)(void (*)(void))condition_wait, METH_VARARGS | METH_KEYWORDS,

     "wait($self, timeout=None)\n"
     "--\n"
     "\n"
     "Let the lock go, wait to be notified, and take the lock again.\n"
     "\n"
     "Args:\n"
     "    timeout: Seconds to wait; None waits for ever.\n"
     "\n"
     "Returns:\n"
     "    False after a timeout, else True. The lock is held in both cases.\n"
     "\n"
     "Raises:\n"
     "    RuntimeError: The lock is not held.\n"
     "    OwnerDeadError: Whoever held the lock since closed; it is not held."},
    {"wait_for", (PyCFunction)(void (*)(void))condition_wait_for,
     METH_VARARGS | METH_KEYWORDS,
     "wait_for($self, predicate, timeout=None)\n"
     "--\n"
     "\n"
     "wait() until predicate() is true, and return what it was last."},
    {"notify", condition_notify, METH_VARARGS,
     "notify($self, n=1)\n"
     "--\n"
     "\n"
     "Wake up to n of the waiters, those that wait longest first.\n"
     "\n"
     "Raises:\n"
     "    RuntimeError: The lock is not held."},
    {"notify_all", condition_notify_all, METH_NOARGS,
     "notify_all($self)\n"
     "--\n"
     "\n"
     "Wake all waiters."},
    {"__enter__", condition_enter, METH_NOARGS,
     "__enter__($self)\n"
     "--\n"
     "\n"
     "Take the lock."},
    {"__exit__", condition_release, METH_VARARGS,
     "__exit__($self, *exception)\n"
     "--\n"
     "\n"
     "Let the lock go."},
    {NULL, NULL, 0, NULL},
};

/* ---- events
 * ---------------------------------------------------------------------------- */

static int wait_event(void *event, const at_patience *patience) AT_DETACHED
{
    return at_event_wait(event, patience);
}

AT_UNCHECKED static PyObject *event_new(PyTypeObject *type, PyObject *arguments,
                                        PyObject *keywords)
{
    at_event *event;
    if (!PyArg_ParseTuple(arguments, ":Event")) {
        return NULL;
    }
    int result = at_event_new(&event);
    return sync_wrap_new(type, result, event);
}

AT_UNCHECKED static PyObject *event_set(PyObject *object, PyObject *unused)
{
    at_event_set(thing_in(object));
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *event_clear(PyObject *object, PyObject *unused)
{
    at_event_clear(thing_in(object));
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *event_is_set(PyObject *object, PyObject *unused)
{
    return PyBool_FromLong(at_event_is_set(thing_in(object)));
}

AT_UNCHECKED static PyObject *event_wait(PyObject *object, PyObject *arguments,
                                         PyObject *keywords)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = NULL;
    int64_t deadline_ns;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O:wait", names, &timeout) ||
        at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    if (at_event_is_set(thing_in(object))) {
        Py_RETURN_TRUE;
    }
    return outcome(wait_detached(object, wait_event, deadline_ns));
}

static PyMethodDef event_methods[] = {
    {"set", event_set, METH_NOARGS,
     "set($self)\n"
     "--\n"
     "\n"
     "Set it, and wake everybody who waits."},
    {"clear", event_clear, METH_NOARGS,
     "clear($self)\n"
     "--\n"
     "\n"
     "Unset it."},
    {"is_set", event_is_set, METH_NOARGS,
     "is_set($self)\n"
     "--\n"
     "\n"
     "Whether it is set."},
    {"wait", (PyCFunction)(void (*)(void))event_wait, METH_VARARGS | METH_KEYWORDS,

     "wait($self, timeout=None)\n"
     "--\n"
     "\n"
     "Wait until it is set.\n"
     "\n"
     "Args:\n"
     "    timeout: Seconds to wait; None waits for ever.\n"
     "\n"
     "Returns:\n"
     "    False after a timeout, else True."},
    {NULL, NULL, 0, NULL},
};

/* ---- semaphores
 * -------------------------------------------------------------------------- */

static int wait_semaphore(void *semaphore, const at_patience *patience) AT_DETACHED
{
    return at_semaphore_acquire(semaphore, patience);
}

/* Semaphore(value=1, *, bounded=False) */
AT_UNCHECKED static PyObject *semaphore_new(PyTypeObject *type, PyObject *arguments,
                                            PyObject *keywords)
{
    static char *names[] = {"value", "bounded", NULL};
    long long value = 1;
    int bounded = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|L$p:Semaphore", names,
                                     &value, &bounded)) {
        return NULL;
    }
    if (value < 0) {
        PyErr_SetString(PyExc_ValueError, "semaphore initial value must be >= 0");
        return NULL;
    }
    at_semaphore *semaphore;
    int result = at_semaphore_new(value, bounded ? value : INT64_MAX, &semaphore);
    return sync_wrap_new(type, result, semaphore);
}

static PyObject *semaphore_take(PyObject *object, int64_t deadline_ns,
                                bool may_wait) AT_ATTACHED
{
    int result = at_semaphore_try_acquire(thing_in(object));
    if (result == AT_EAGAIN && may_wait) {
        result = wait_detached(object, wait_semaphore, deadline_ns);
    }
    return outcome(result);
}

AT_UNCHECKED static PyObject *semaphore_acquire(PyObject *object, PyObject *arguments,
                                                PyObject *keywords)
{
    int64_t deadline_ns;
    int how = parse_acquire(arguments, keywords, &deadline_ns);
    return how == -1 ? NULL : semaphore_take(object, deadline_ns, how == 0);
}

AT_UNCHECKED static PyObject *semaphore_enter(PyObject *object, PyObject *unused)
{
    return semaphore_take(object, INT64_MAX, true);
}

static PyObject *semaphore_give(PyObject *object, long long count) AT_ATTACHED
{
    if (count < 1) {
        PyErr_SetString(PyExc_ValueError, "n must be one or more");
        return NULL;
    }
    if (at_semaphore_release(thing_in(object), count) < 0) {
        PyErr_SetString(PyExc_ValueError, "Semaphore released too many times");
        return NULL;
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *semaphore_release(PyObject *object, PyObject *arguments)
{
    long long count = 1;
    return PyArg_ParseTuple(arguments, "|L:release", &count)
               ? semaphore_give(object, count)
               : NULL;
}

AT_UNCHECKED static PyObject *semaphore_exit(PyObject *object, PyObject *arguments)
{
    return semaphore_give(object, 1);
}

static PyMethodDef semaphore_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))semaphore_acquire,
     METH_VARARGS | METH_KEYWORDS,
     "acquire($self, blocking=True, timeout=None)\n"
     "--\n"
     "\n"
     "Take one, waiting until the value is not zero.\n"
     "\n"
     "Args:\n"
     "    blocking: False does not wait.\n"
     "    timeout: Seconds to wait; None waits for ever.\n"
     "\n"
     "Returns:\n"
     "    True with it, False without."},
    {"release", semaphore_release, METH_VARARGS,
     "release($self, n=1)\n"
     "--\n"
     "\n"
     "Give n back.\n"
     "\n"
     "Raises:\n"
     "    ValueError: n is less than 1, or more than a bounded one has given out."},
    {"__enter__", semaphore_enter, METH_NOARGS,
     "__enter__($self)\n"
     "--\n"
     "\n"
     "acquire()."},
    {"__exit__", semaphore_exit, METH_VARARGS,
     "__exit__($self, *exception)\n"
     "--\n"
     "\n"
     "release()."},
    {NULL, NULL, 0, NULL},
};

/* ---- barriers
 * ------------------------------------------------------------------------------ */

AT_UNCHECKED static PyObject *barrier_new(PyTypeObject *type, PyObject *arguments,
                                          PyObject *keywords)
{
    static char *names[] = {"parties", NULL};
    int parties;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "i:Barrier", names,
                                     &parties)) {
        return NULL;
    }
    if (parties < 1) {
        PyErr_SetString(PyExc_ValueError, "parties must be > 0");
        return NULL;
    }
    at_barrier *barrier;
    int result = at_barrier_new((unsigned)parties, &barrier);
    return sync_wrap_new(type, result, barrier);
}

AT_UNCHECKED static PyObject *barrier_wait(PyObject *object, PyObject *arguments,
                                           PyObject *keywords)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = NULL;
    at_patience patience = {0, peer_in(object)};
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O:wait", names, &timeout) ||
        at_bind_deadline(timeout, &patience.deadline_ns) < 0) {
        return NULL;
    }
    unsigned place;
    PyThreadState *state = at_detach();
    int result = at_barrier_wait(thing_in(object), &place, &patience);
    at_attach(state);
    if (result == AT_EINTERRUPTED && PyErr_CheckSignals() < 0) {
        return NULL; /* and the barrier is broken, as threading's is */
    }
    if (result == AT_EINTERRUPTED) {
        result = AT_EBROKEN;
    }
    return result == 0 ? PyLong_FromUnsignedLong(place) : at_raise(result);
}

AT_UNCHECKED static PyObject *barrier_abort(PyObject *object, PyObject *unused)
{
    at_barrier_abort(thing_in(object));
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *barrier_reset(PyObject *object, PyObject *unused)
{
    at_barrier_reset(thing_in(object));
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *barrier_parties(PyObject *object, void *unused)
{
    return PyLong_FromUnsignedLong(at_barrier_parties(thing_in(object)));
}

AT_UNCHECKED static PyObject *barrier_n_waiting(PyObject *object, void *unused)
{
    return PyLong_FromUnsignedLong(at_barrier_waiting(thing_in(object)));
}

AT_UNCHECKED static PyObject *barrier_broken(PyObject *object, void *unused)
{
    return PyBool_FromLong(at_barrier_is_broken(thing_in(object)));
}

static PyMethodDef barrier_methods[] = {
    {"wait", (PyCFunction)(void (*)(void))barrier_wait, METH_VARARGS | METH_KEYWORDS,

     "wait($self, timeout=None)\n"
     "--\n"
     "\n"
     "Wait for the other parties.\n"
     "\n"
     "Args:\n"
     "    timeout: Seconds to wait; None is what the barrier was made with.\n"
     "\n"
     "Returns:\n"
     "    0 to parties - 1, another for each.\n"
     "\n"
     "Raises:\n"
     "    BrokenBarrierError: A party gave up, or abort() or reset() was called."},
    {"abort", barrier_abort, METH_NOARGS,
     "abort($self)\n"
     "--\n"
     "\n"
     "Break it: those who wait get BrokenBarrierError."},
    {"reset", barrier_reset, METH_NOARGS,
     "reset($self)\n"
     "--\n"
     "\n"
     "Make it whole again; those who wait get BrokenBarrierError."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef barrier_attributes[] = {
    {"parties", barrier_parties, NULL, "How many must come.", NULL},
    {"n_waiting", barrier_n_waiting, NULL, "How many wait now.", NULL},
    {"broken", barrier_broken, NULL, "Whether it is broken.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- the types
 * -------------------------------------------------------------------------------- */

typedef struct sync_type {
    const char *name;
    const char *doc;
    newfunc new;
    PyMethodDef *methods;
    PyGetSetDef *attributes; /* or NULL */
    at_parcel_handle handle;
} sync_type;

static const sync_type types[] = {
    {"atoll.Lock",
     "threading.Lock between interpreters. When the interpreter that holds it closes, "
     "the next to acquire it gets OwnerDeadError.",
     lock_new,
     lock_methods,
     NULL,
     {&at_lock_kind, thing_of, sync_wrap}},
    {"atoll.RLock",
     "threading.RLock between interpreters: its thread may take it again.",

     rlock_new,
     lock_methods,
     NULL,
     {&at_rlock_kind, thing_of, sync_wrap}},
    {"atoll.Condition",
     "threading.Condition between interpreters, over a Lock or RLock.",

     condition_new,
     condition_methods,
     NULL,
     {&at_condition_kind, thing_of, sync_wrap}},
    {"atoll.Event",
     "threading.Event between interpreters.",

     event_new,
     event_methods,
     NULL,
     {&at_event_kind, thing_of, sync_wrap}},
    {"atoll.Semaphore",
     "threading.Semaphore between interpreters.",

     semaphore_new,
     semaphore_methods,
     NULL,
     {&at_semaphore_kind, thing_of, sync_wrap}},
    {"atoll.Barrier",
     "threading.Barrier between interpreters.",

     barrier_new,
     barrier_methods,
     barrier_attributes,
     {&at_barrier_kind, thing_of, sync_wrap}},
};

static int add(PyObject *module, const sync_type *described) AT_ATTACHED
{
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)described->doc},
        {Py_tp_new, (void *)described->new},
        {Py_tp_dealloc, (void *)sync_dealloc},
        {Py_tp_methods, described->methods},
        {Py_tp_richcompare, (void *)sync_compare},
        {Py_tp_hash, (void *)sync_hash},
        {described->attributes != NULL ? Py_tp_getset : 0, described->attributes},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = described->name,
        .basicsize = sizeof(sync_object),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    PyTypeObject *type = at_bind_add_type(module, &spec);
    if (type == NULL) {
        return -1;
    }
    int result = at_parcel_register_handle(type, &described->handle);
    Py_DECREF(type);
    return result;
}

AT_UNCHECKED int at_bind_sync(PyObject *module)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (add(module, &types[i]) < 0) {
            return -1;
        }
    }
    return 0;
}
