/* atoll.Barrier. */
#define PY_SSIZE_T_CLEAN
#include "bind/error.h"
#include "bind/sync.h"
#include "bind/wait.h"
#include "chan/sync.h"
#include "interp/attach.h"

AT_UNCHECKED static PyObject *barrier_new(PyTypeObject *type, PyObject *arguments,
                                          PyObject *keywords)
{
    static char *names[] = {"parties", "action", "timeout", "shared", "name", NULL};
    int parties;
    PyObject *action = Py_None, *timeout = Py_None;
    int shared = 0;
    const char *name = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "i|OO$pz:Barrier", names,
                                     &parties, &action, &timeout, &shared, &name)) {
        return NULL;
    }
    /* Both would be of this handle alone, and a round may end through another. */
    if (action != Py_None) {
        PyErr_SetString(PyExc_TypeError,
                        "action: the party that ends a round may be in another "
                        "interpreter or process, where it is not; instead, everyone: "
                        "if barrier.wait() == 0: action() and then barrier.wait()");
        return NULL;
    }
    if (timeout != Py_None) {
        PyErr_SetString(PyExc_TypeError,
                        "timeout: the other parties would not have it; give it to "
                        "each wait(timeout)");
        return NULL;
    }
    if (parties < 1 || parties > AT_BARRIER_MOST) {
        PyErr_Format(PyExc_ValueError, "parties must be 1 to %d", AT_BARRIER_MOST);
        return NULL;
    }
    at_fault fault;
    at_origin origin;
    PyObject *claim;
    at_barrier *barrier;
    if (at_sync_origin(shared, name, &origin, &claim) < 0) {
        return NULL;
    }
    int result = at_barrier_new((unsigned)parties, &origin, &barrier, &fault);
    return at_sync_wrap_new(type, result, barrier, &fault, claim);
}

AT_UNCHECKED static PyObject *barrier_wait(PyObject *object, PyObject *const *arguments,
                                           Py_ssize_t count, PyObject *keyword_names)
{
    at_patience patience = {0, at_sync_peer(object)};
    if (at_sync_parse_timeout("wait", arguments, count, keyword_names,
                              &patience.deadline_ns) < 0) {
        return NULL;
    }
    at_arrival arrival = {0};
    int result;
    do {
        PyThreadState *state = at_detach();
        result = at_barrier_wait(at_sync_thing(object), &arrival, &patience);
        at_attach(state);
    } while (at_bind_wait_again(&result));
    if (result > 0) { /* a signal's handler raised: this party will not come */
        at_barrier_abort(at_sync_thing(object));
    }
    return result == 0 ? PyLong_FromUnsignedLong(arrival.place)
                       : at_bind_wait_failed(result);
}

AT_UNCHECKED static PyObject *barrier_abort(PyObject *object, PyObject *unused)
{
    at_barrier_abort(at_sync_thing(object));
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *barrier_reset(PyObject *object, PyObject *unused)
{
    at_barrier_reset(at_sync_thing(object));
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *barrier_parties(PyObject *object, void *unused)
{
    return PyLong_FromUnsignedLong(at_barrier_parties(at_sync_thing(object)));
}

AT_UNCHECKED static PyObject *barrier_n_waiting(PyObject *object, void *unused)
{
    return PyLong_FromUnsignedLong(at_barrier_waiting(at_sync_thing(object)));
}

AT_UNCHECKED static PyObject *barrier_broken(PyObject *object, void *unused)
{
    return PyBool_FromLong(at_barrier_is_broken(at_sync_thing(object)));
}

static PyMethodDef barrier_methods[] = {
    {"wait", (PyCFunction)(void (*)(void))barrier_wait, METH_FASTCALL | METH_KEYWORDS,
     "wait($self, timeout=None)\n"
     "--\n"
     "\n"
     "Wait for the other parties.\n"
     "\n"
     "Args:\n"
     "    timeout: Seconds to wait; None waits for ever.\n"
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
    AT_SYNC_METHODS,
};

static PyGetSetDef barrier_attributes[] = {
    {"parties", barrier_parties, NULL, "How many must come.", NULL},
    {"n_waiting", barrier_n_waiting, NULL, "How many wait now.", NULL},
    {"broken", barrier_broken, NULL, "Whether it is broken.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

const at_sync_type at_sync_barrier = {
    .name = "atoll.Barrier",
    .doc = "Barrier(parties, action=None, timeout=None, *, shared=False, name=None)\n"
           "--\n"
           "\n"
           "threading.Barrier between threads and interpreters, and with shared=True\n"
           "or a name between processes. A party that dies does not come: use a\n"
           "timeout of wait() where that can happen. An action and a timeout for all\n"
           "can only be None here: a party elsewhere would not have them.",
    .new = barrier_new,
    .methods = barrier_methods,
    .attributes = barrier_attributes,
    .handle = {&at_barrier_kind, at_sync_thing_of, at_sync_wrap, true},
};
