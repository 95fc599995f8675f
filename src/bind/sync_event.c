/* atoll.Event. */
#define PY_SSIZE_T_CLEAN
#include "bind/argument.h"
#include "bind/sync.h"
#include "chan/sync.h"

static int wait_event(void *event, const at_patience *patience) AT_DETACHED
{
    return at_event_wait(event, patience);
}

AT_UNCHECKED static PyObject *event_new(PyTypeObject *type, PyObject *arguments,
                                        PyObject *keywords)
{
    static char *names[] = {"shared", "name", NULL};
    int shared = 0;
    const char *name = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|$pO&:Event", names, &shared,
                                     at_bind_name, &name)) {
        return NULL;
    }
    at_fault fault;
    at_origin origin;
    PyObject *claim;
    at_event *event;
    if (at_sync_origin(shared, name, &origin, &claim) < 0) {
        return NULL;
    }
    int result = at_event_new(&origin, &event, &fault);
    return at_sync_wrap_new(type, result, event, &fault, claim);
}

AT_UNCHECKED static PyObject *event_set(PyObject *object, PyObject *unused)
{
    at_event_set(at_sync_thing(object));
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *event_clear(PyObject *object, PyObject *unused)
{
    at_event_clear(at_sync_thing(object));
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *event_is_set(PyObject *object, PyObject *unused)
{
    return PyBool_FromLong(at_event_is_set(at_sync_thing(object)));
}

AT_UNCHECKED static PyObject *event_wait(PyObject *object, PyObject *const *arguments,
                                         Py_ssize_t count, PyObject *keyword_names)
{
    int64_t deadline_ns;
    if (at_sync_parse_timeout("wait", arguments, count, keyword_names, &deadline_ns) <
        0) {
        return NULL;
    }
    if (at_event_is_set(at_sync_thing(object))) {
        Py_RETURN_TRUE;
    }
    return at_sync_outcome(at_sync_wait(object, wait_event, deadline_ns));
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
    {"wait", (PyCFunction)(void (*)(void))event_wait, METH_FASTCALL | METH_KEYWORDS,
     "wait($self, timeout=None)\n"
     "--\n"
     "\n"
     "Wait until it is set.\n"
     "\n"
     "Args:\n"
     "    timeout (float | None): Seconds to wait; None waits for ever.\n"
     "\n"
     "Returns:\n"
     "    False after a timeout, else True.\n"
     "\n"
     "Raises:\n"
     "    ClosedError: This interpreter is closing."},
    AT_SYNC_METHODS,
};

const at_sync_type at_sync_event = {
    .name = "atoll.Event",
    .doc = "Event(*, shared=False, name=None)\n"
           "--\n"
           "\n"
           "threading.Event between threads and interpreters, and with shared=True or\n"
           "a name between processes.\n"
           "\n"
           "Args:\n"
           "    shared (bool): Whether other processes can have it.\n"
           "    name (str | None): For Event.open(name) in other processes.\n"
           "\n"
           "Any thread of any interpreter may call the methods; the GIL is not held\n"
           "while one waits.",
    .new = event_new,
    .methods = event_methods,
    .handle = {&at_event_kind, at_sync_thing_of, at_sync_wrap, true},
};
