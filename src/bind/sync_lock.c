/* atoll.Lock and atoll.RLock. */
#define PY_SSIZE_T_CLEAN
#include "bind/argument.h"
#include "bind/error.h"
#include "bind/sync.h"
#include "chan/lock.h"
#include "interp/attach.h"

static int wait_lock(void *lock, const at_patience *patience) AT_DETACHED
{
    return at_lock_acquire(lock, patience);
}

/* The lock came from the dead, and without a wait. */
static void settle(at_lock *lock) AT_ATTACHED
{
    PyThreadState *state = at_detach();
    at_lock_settle_death(lock);
    at_attach(state);
}

PyObject *at_sync_take(PyObject *object, at_lock *lock, at_sync_wait_function *wait,
                       int how, int64_t deadline_ns, bool entering)
{
    int result = at_lock_try_acquire(lock, at_sync_peer(object));
    if (result == AT_EOWNERDEAD) {
        settle(lock);
    } else if (result == AT_EAGAIN && how == 0) {
        result = at_sync_wait(object, wait, deadline_ns);
    }
    if (result == AT_EOWNERDEAD && entering) {
        (void)at_lock_release(lock, at_sync_peer(object));
    }
    return at_sync_outcome(result);
}

PyObject *at_sync_give(PyObject *object, at_lock *lock)
{
    if (at_lock_release(lock, at_sync_peer(object)) < 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        at_lock_is_held(lock)
                            ? "release of a lock that another thread or process holds"
                            : "release of a lock that is not held");
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *at_sync_mark_consistent(at_lock *lock)
{
    if (at_lock_mark_consistent(lock) < 0) {
        PyErr_SetString(PyExc_RuntimeError, "the lock is not held");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *make(PyTypeObject *type, PyObject *arguments, PyObject *keywords,
                      bool recursive, const char *format) AT_ATTACHED
{
    static char *names[] = {"shared", "name", NULL};
    int shared = 0;
    const char *name = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, format, names, &shared,
                                     at_bind_name, &name)) {
        return NULL;
    }
    at_fault fault;
    at_origin origin;
    PyObject *claim;
    at_lock *lock;
    if (at_sync_origin(shared, name, &origin, &claim) < 0) {
        return NULL;
    }
    int result = at_lock_new(recursive, &origin, &lock, &fault);
    return at_sync_wrap_new(type, result, lock, &fault, claim);
}

AT_UNCHECKED static PyObject *lock_new(PyTypeObject *type, PyObject *arguments,
                                       PyObject *keywords)
{
    return make(type, arguments, keywords, false, "|$pO&:Lock");
}

AT_UNCHECKED static PyObject *rlock_new(PyTypeObject *type, PyObject *arguments,
                                        PyObject *keywords)
{
    return make(type, arguments, keywords, true, "|$pO&:RLock");
}

AT_UNCHECKED static PyObject *lock_acquire(PyObject *object, PyObject *const *arguments,
                                           Py_ssize_t count, PyObject *keyword_names)
{
    int64_t deadline_ns;
    int how =
        at_sync_parse_acquire(true, arguments, count, keyword_names, &deadline_ns);
    if (how == -1) {
        return NULL;
    }
    return at_sync_take(object, at_sync_thing(object), wait_lock, how, deadline_ns,
                        false);
}

AT_UNCHECKED static PyObject *lock_enter(PyObject *object, PyObject *unused)
{
    return at_sync_take(object, at_sync_thing(object), wait_lock, 0, INT64_MAX, true);
}

AT_UNCHECKED static PyObject *lock_release(PyObject *object, PyObject *unused)
{
    return at_sync_give(object, at_sync_thing(object));
}

AT_UNCHECKED static PyObject *lock_exit(PyObject *object, PyObject *const *arguments,
                                        Py_ssize_t count)
{
    return at_sync_give(object, at_sync_thing(object));
}

AT_UNCHECKED static PyObject *lock_locked(PyObject *object, PyObject *unused)
{
    return PyBool_FromLong(at_lock_is_held(at_sync_thing(object)));
}

AT_UNCHECKED static PyObject *lock_mark_consistent(PyObject *object, PyObject *unused)
{
    return at_sync_mark_consistent(at_sync_thing(object));
}

static PyMethodDef lock_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))lock_acquire,
     METH_FASTCALL | METH_KEYWORDS, AT_SYNC_ACQUIRE_DOC},
    {"release", lock_release, METH_NOARGS, AT_SYNC_RELEASE_DOC},
    {"locked", lock_locked, METH_NOARGS,
     "locked($self)\n"
     "--\n"
     "\n"
     "Whether anybody holds it."},
    {"mark_consistent", lock_mark_consistent, METH_NOARGS, AT_SYNC_CONSISTENT_DOC},
    {"__enter__", lock_enter, METH_NOARGS, AT_SYNC_ENTER_DOC},
    {"__exit__", (PyCFunction)(void (*)(void))lock_exit, METH_FASTCALL,
     "__exit__($self, *exception)\n"
     "--\n"
     "\n"
     "release()."},
    AT_SYNC_METHODS,
};

const at_sync_type at_sync_lock = {
    .name = "atoll.Lock",
    .doc =
        "Lock(*, shared=False, name=None)\n"
        "--\n"
        "\n"
        "threading.Lock between threads and interpreters, and with shared=True or a\n"
        "name between processes. It belongs to the process and the interpreter that\n"
        "took it; when that ends, the next to acquire it gets OwnerDeadError.\n"
        "\n"
        "Args:\n"
        "    shared (bool): Whether other processes can have it, by multiprocessing,\n"
        "        by a Pool of processes or by pickle.\n"
        "    name (str | None): For Lock.open(name) in other processes of the same\n"
        "        user, up to 180 bytes.\n"
        "\n"
        "Raises:\n"
        "    FileExistsError: There is something of this name.\n"
        "\n"
        "Any thread of any interpreter may call the methods, and release what another\n"
        "one of its process has acquired; the GIL is not held while one waits.",
    .new = lock_new,
    .methods = lock_methods,
    .handle = {&at_lock_kind, at_sync_thing_of, at_sync_wrap, true},
};

const at_sync_type at_sync_rlock = {
    .name = "atoll.RLock",
    .doc = "RLock(*, shared=False, name=None)\n"
           "--\n"
           "\n"
           "threading.RLock between threads, interpreters and, with shared=True or a\n"
           "name, processes: a Lock that its thread may take again. Arguments and\n"
           "errors are Lock's; only the thread that acquired it may release it.",
    .new = rlock_new,
    .methods = lock_methods,
    .handle = {&at_rlock_kind, at_sync_thing_of, at_sync_wrap, true},
};
