/* atoll.Semaphore and atoll.BoundedSemaphore. */
#define PY_SSIZE_T_CLEAN
#include "bind/argument.h"
#include "bind/sync.h"
#include "chan/sync.h"

static int wait_semaphore(void *semaphore, const at_patience *patience) AT_DETACHED
{
    return at_semaphore_acquire(semaphore, patience);
}

static PyObject *make(PyTypeObject *type, PyObject *arguments, PyObject *keywords,
                      bool bounded, const char *format) AT_ATTACHED
{
    static char *names[] = {"value", "shared", "name", NULL};
    at_int_argument value = {"value", 1};
    int shared = 0;
    const char *name = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, format, names, at_bind_int,
                                     &value, &shared, at_bind_name, &name)) {
        return NULL;
    }
    if (value.value < 0) {
        PyErr_SetString(PyExc_ValueError, "semaphore initial value must be >= 0");
        return NULL;
    }
    if (value.value > AT_SEMAPHORE_MOST) {
        PyErr_SetString(PyExc_OverflowError, "semaphore initial value must be < 2**31");
        return NULL;
    }
    at_fault fault;
    at_origin origin;
    PyObject *claim;
    at_semaphore *semaphore;
    if (at_sync_origin(shared, name, &origin, &claim) < 0) {
        return NULL;
    }
    int result =
        at_semaphore_new((unsigned)value.value, bounded, &origin, &semaphore, &fault);
    return at_sync_wrap_new(type, result, semaphore, &fault, claim);
}

AT_UNCHECKED static PyObject *semaphore_new(PyTypeObject *type, PyObject *arguments,
                                            PyObject *keywords)
{
    return make(type, arguments, keywords, false, "|O&$pO&:Semaphore");
}

AT_UNCHECKED static PyObject *
bounded_semaphore_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    return make(type, arguments, keywords, true, "|O&$pO&:BoundedSemaphore");
}

static PyObject *take(PyObject *object, int64_t deadline_ns, bool may_wait) AT_ATTACHED
{
    int result = at_semaphore_try_acquire(at_sync_thing(object));
    if (result == AT_EAGAIN && may_wait) {
        result = at_sync_wait(object, wait_semaphore, deadline_ns);
    }
    return at_sync_outcome(result);
}

AT_UNCHECKED static PyObject *semaphore_acquire(PyObject *object,
                                                PyObject *const *arguments,
                                                Py_ssize_t count,
                                                PyObject *keyword_names)
{
    int64_t deadline_ns;
    int how =
        at_sync_parse_acquire(false, arguments, count, keyword_names, &deadline_ns);
    return how == -1 ? NULL : take(object, deadline_ns, how == 0);
}

AT_UNCHECKED static PyObject *semaphore_enter(PyObject *object, PyObject *unused)
{
    return take(object, INT64_MAX, true);
}

static PyObject *give(PyObject *object, long long count) AT_ATTACHED
{
    if (count < 1) {
        PyErr_SetString(PyExc_ValueError, "n must be one or more");
        return NULL;
    }
    if (count > AT_SEMAPHORE_MOST ||
        at_semaphore_release(at_sync_thing(object), (unsigned)count) < 0) {
        PyErr_SetString(PyExc_ValueError, "Semaphore released too many times");
        return NULL;
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *semaphore_release(PyObject *object, PyObject *arguments,
                                                PyObject *keywords)
{
    static char *names[] = {"n", NULL};
    at_int_argument count = {"n", 1};
    return PyArg_ParseTupleAndKeywords(arguments, keywords, "|O&:release", names,
                                       at_bind_int, &count)
               ? give(object, count.value)
               : NULL;
}

AT_UNCHECKED static PyObject *
semaphore_exit(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    return give(object, 1);
}

static PyMethodDef semaphore_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))semaphore_acquire,
     METH_FASTCALL | METH_KEYWORDS,
     "acquire($self, blocking=True, timeout=None)\n"
     "--\n"
     "\n"
     "Take one, waiting until the value is not zero.\n"
     "\n"
     "Args:\n"
     "    blocking (bool): False does not wait.\n"
     "    timeout (float | None): Seconds to wait; None waits for ever.\n"
     "\n"
     "Returns:\n"
     "    True with it, False without.\n"
     "\n"
     "Raises:\n"
     "    ClosedError: This interpreter is closing."},
    {"release", (PyCFunction)(void (*)(void))semaphore_release,
     METH_VARARGS | METH_KEYWORDS,
     "release($self, n=1)\n"
     "--\n"
     "\n"
     "Give n back.\n"
     "\n"
     "Raises:\n"
     "    ValueError: n is less than 1, or more than a bounded one has given out, or\n"
     "        the value would be 2**31."},
    {"__enter__", semaphore_enter, METH_NOARGS,
     "__enter__($self)\n"
     "--\n"
     "\n"
     "acquire()."},
    {"__exit__", (PyCFunction)(void (*)(void))semaphore_exit, METH_FASTCALL,
     "__exit__($self, *exception)\n"
     "--\n"
     "\n"
     "release()."},
    AT_SYNC_METHODS,
};

const at_sync_type at_sync_semaphore = {
    .name = "atoll.Semaphore",
    .doc =
        "Semaphore(value=1, *, shared=False, name=None)\n"
        "--\n"
        "\n"
        "threading.Semaphore between threads and interpreters, and with shared=True\n"
        "or a name between processes. What a process took is not given back by its\n"
        "death: a semaphore has no holder.\n"
        "\n"
        "Args:\n"
        "    value (int): How many can be taken at first; 0 to 2**31 - 1.\n"
        "    shared (bool): Whether other processes can have it.\n"
        "    name (str | None): For Semaphore.open(name) in other processes.\n"
        "\n"
        "Any thread of any interpreter may call the methods; the GIL is not held\n"
        "while one waits.",
    .new = semaphore_new,
    .methods = semaphore_methods,
    .handle = {&at_semaphore_kind, at_sync_thing_of, at_sync_wrap, true},
};

const at_sync_type at_sync_bounded_semaphore = {
    .name = "atoll.BoundedSemaphore",
    .doc = "BoundedSemaphore(value=1, *, shared=False, name=None)\n"
           "--\n"
           "\n"
           "A Semaphore that cannot be released above its first value: release()\n"
           "raises ValueError then. Arguments and methods are Semaphore's.",
    .new = bounded_semaphore_new,
    .methods = semaphore_methods,
    .handle = {&at_bounded_semaphore_kind, at_sync_thing_of, at_sync_wrap, true},
};
