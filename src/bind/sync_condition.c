/* atoll.Condition. */
#define PY_SSIZE_T_CLEAN
#include "bind/argument.h"
#include "bind/error.h"
#include "bind/sync.h"
#include "bind/wait.h"
#include "chan/condition.h"

static at_lock *lock_of(PyObject *object)
{
    return at_condition_lock(at_sync_thing(object));
}

/* Condition(lock=None, *, shared=False, name=None) */
AT_UNCHECKED static PyObject *condition_new(PyTypeObject *type, PyObject *arguments,
                                            PyObject *keywords)
{
    static char *names[] = {"lock", "shared", "name", NULL};
    PyObject *lock_object = Py_None;
    int shared = 0;
    const char *name = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O$pO&:Condition", names,
                                     &lock_object, &shared, at_bind_name, &name)) {
        return NULL;
    }
    at_lock *lock = NULL;
    if (lock_object != Py_None) {
        PyTypeObject *lock_type = at_parcel_handle_type(&at_sync_lock.handle);
        PyTypeObject *rlock_type = at_parcel_handle_type(&at_sync_rlock.handle);
        if (Py_TYPE(lock_object) != lock_type && Py_TYPE(lock_object) != rlock_type) {
            return PyErr_Format(PyExc_TypeError,
                                "a Condition needs an atoll.Lock or atoll.RLock, "
                                "not %.100s",
                                Py_TYPE(lock_object)->tp_name);
        }
        at_placed *placed = at_sync_thing(lock_object);
        bool lock_is_shared = placed->place.scope == AT_PARK_SHARED;
        if (shared && !lock_is_shared) {
            PyErr_SetString(PyExc_ValueError,
                            "a shared Condition needs a Lock with shared=True");
            return NULL;
        }
        if (name != NULL) {
            PyErr_SetString(PyExc_ValueError,
                            "a Condition with a name has a lock of its own");
            return NULL;
        }
        /* The condition goes where its lock goes. */
        shared = lock_is_shared;
        lock = (at_lock *)placed;
    }
    at_fault fault;
    at_origin origin;
    PyObject *claim;
    at_condition *condition;
    if (at_sync_origin(shared, name, &origin, &claim) < 0) {
        return NULL;
    }
    int result = at_condition_new(lock, &origin, &condition, &fault);
    return at_sync_wrap_new(type, result, condition, &fault, claim);
}

/* ---- the lock -------------------------------------------------------------------- */

static int wait_lock(void *condition, const at_patience *patience) AT_DETACHED
{
    return at_lock_acquire(at_condition_lock(condition), patience);
}

AT_UNCHECKED static PyObject *condition_acquire(PyObject *object,
                                                PyObject *const *arguments,
                                                Py_ssize_t count,
                                                PyObject *keyword_names)
{
    int64_t deadline_ns;
    int how =
        at_sync_parse_acquire(true, arguments, count, keyword_names, &deadline_ns);
    return how == -1 ? NULL
                     : at_sync_take(object, lock_of(object), wait_lock, how,
                                    deadline_ns, false);
}

AT_UNCHECKED static PyObject *condition_enter(PyObject *object, PyObject *unused)
{
    return at_sync_take(object, lock_of(object), wait_lock, 0, INT64_MAX, true);
}

AT_UNCHECKED static PyObject *condition_release(PyObject *object, PyObject *unused)
{
    return at_sync_give(object, lock_of(object));
}

AT_UNCHECKED static PyObject *
condition_exit(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    return at_sync_give(object, lock_of(object));
}

AT_UNCHECKED static PyObject *condition_locked(PyObject *object, PyObject *unused)
{
    return PyBool_FromLong(at_lock_is_held(lock_of(object)));
}

AT_UNCHECKED static PyObject *condition_mark_consistent(PyObject *object,
                                                        PyObject *unused)
{
    return at_sync_mark_consistent(lock_of(object));
}

/* ---- waiting --------------------------------------------------------------------- */

static int wait_condition(void *condition, const at_patience *patience) AT_DETACHED
{
    return at_condition_wait(condition, patience);
}

static PyObject *raise_not_held(void) AT_ATTACHED
{
    PyErr_SetString(PyExc_RuntimeError, "the lock of the condition is not held");
    return NULL;
}

/* wait(timeout=None) */
AT_UNCHECKED static PyObject *condition_wait(PyObject *object,
                                             PyObject *const *arguments,
                                             Py_ssize_t count, PyObject *keyword_names)
{
    int64_t deadline_ns;
    if (at_sync_parse_timeout("wait", arguments, count, keyword_names, &deadline_ns) <
        0) {
        return NULL;
    }
    /* Nobody can notify between two rounds: the lock is held there. */
    int result = at_sync_wait(object, wait_condition, deadline_ns);
    return result == AT_EPERMISSION ? raise_not_held() : at_sync_outcome(result);
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
        waited = at_sync_wait(object, wait_condition, deadline_ns);
        if (waited != 0 && waited != AT_ETIMEOUT) {
            return waited == AT_EPERMISSION ? raise_not_held()
                                            : at_sync_outcome(waited);
        }
    }
}

static PyObject *notify(PyObject *object, unsigned count) AT_ATTACHED
{
    if (at_condition_notify(at_sync_thing(object), count) < 0) {
        return raise_not_held();
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *condition_notify(PyObject *object, PyObject *arguments,
                                               PyObject *keywords)
{
    unsigned count = 1;
    static char *names[] = {"n", NULL};
    return PyArg_ParseTupleAndKeywords(arguments, keywords, "|I:notify", names, &count)
               ? notify(object, count)
               : NULL;
}

AT_UNCHECKED static PyObject *condition_notify_all(PyObject *object, PyObject *unused)
{
    return notify(object, UINT32_MAX);
}

static PyMethodDef condition_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))condition_acquire,
     METH_FASTCALL | METH_KEYWORDS, AT_SYNC_ACQUIRE_DOC},
    {"release", condition_release, METH_NOARGS, AT_SYNC_RELEASE_DOC},
    {"locked", condition_locked, METH_NOARGS,
     "locked($self)\n"
     "--\n"
     "\n"
     "Whether anybody holds the lock."},
    {"mark_consistent", condition_mark_consistent, METH_NOARGS, AT_SYNC_CONSISTENT_DOC},
    {"wait", (PyCFunction)(void (*)(void))condition_wait, METH_FASTCALL | METH_KEYWORDS,
     "wait($self, timeout=None)\n"
     "--\n"
     "\n"
     "Let the lock go, wait to be notified, and take the lock again.\n"
     "\n"
     "Args:\n"
     "    timeout (float | None): Seconds to wait; None waits for ever.\n"
     "\n"
     "Returns:\n"
     "    False after a timeout, else True. The lock is held in both cases.\n"
     "\n"
     "Raises:\n"
     "    RuntimeError: The lock is not held.\n"
     "    OwnerDeadError: Whoever held the lock since is gone. It is held, as after\n"
     "        acquire().\n"
     "    OverflowError: Too many wait at a shared condition (some 240).\n"
     "    ClosedError: This interpreter is closing."},
    {"wait_for", (PyCFunction)(void (*)(void))condition_wait_for,
     METH_VARARGS | METH_KEYWORDS,
     "wait_for($self, predicate, timeout=None)\n"
     "--\n"
     "\n"
     "wait() until predicate() is true, and return what it was last."},
    {"notify", (PyCFunction)(void (*)(void))condition_notify,
     METH_VARARGS | METH_KEYWORDS,
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
    {"__enter__", condition_enter, METH_NOARGS, AT_SYNC_ENTER_DOC},
    {"__exit__", (PyCFunction)(void (*)(void))condition_exit, METH_FASTCALL,
     "__exit__($self, *exception)\n"
     "--\n"
     "\n"
     "Let the lock go."},
    AT_SYNC_METHODS,
};

const at_sync_type at_sync_condition = {
    .name = "atoll.Condition",
    .doc =
        "Condition(lock=None, *, shared=False, name=None)\n"
        "--\n"
        "\n"
        "threading.Condition between threads and interpreters, and with shared=True\n"
        "or a name between processes.\n"
        "\n"
        "Args:\n"
        "    lock (Lock | RLock | None): One, which several conditions may stand on; "
        "the\n"
        "        condition can go where it can. None makes an RLock.\n"
        "    shared (bool): Whether other processes can have it.\n"
        "    name (str | None): For Condition.open(name); with a lock of its own "
        "only.\n"
        "\n"
        "Any thread of any interpreter may call the methods; the GIL is not held\n"
        "while one waits.",
    .new = condition_new,
    .methods = condition_methods,
    .handle = {&at_condition_kind, at_sync_thing_of, at_sync_wrap, true},
};
