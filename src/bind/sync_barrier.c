/* atoll.Barrier. */
#define PY_SSIZE_T_CLEAN
#include "bind/argument.h"
#include "bind/error.h"
#include "bind/sync.h"
#include "bind/wait.h"
#include "chan/sync.h"
#include "interp/attach.h"

static int check_action(PyObject *action) AT_ATTACHED
{
    if (action != Py_None && !PyCallable_Check(action)) {
        PyErr_Format(PyExc_TypeError, "action must be callable or None, not %.100s",
                     Py_TYPE(action)->tp_name);
        return -1;
    }
    return 0;
}

AT_UNCHECKED static PyObject *barrier_new(PyTypeObject *type, PyObject *arguments,
                                          PyObject *keywords)
{
    static char *names[] = {"parties", "action", "timeout", "shared", "name", NULL};
    at_int_argument parties = {"parties", 0};
    PyObject *action = Py_None, *timeout = Py_None;
    int shared = 0;
    const char *name = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O&|OO$pO&:Barrier", names,
                                     at_bind_int, &parties, &action, &timeout, &shared,
                                     at_bind_name, &name)) {
        return NULL;
    }
    if (check_action(action) < 0) {
        return NULL;
    }
    if (timeout != Py_None) {
        PyErr_SetString(PyExc_TypeError,
                        "timeout: the other parties would not have it; give it to "
                        "each wait(timeout)");
        return NULL;
    }
    if (parties.value < 1 || parties.value > AT_BARRIER_MOST) {
        PyErr_Format(PyExc_ValueError, "parties must be 1 to %d, not %lld",
                     AT_BARRIER_MOST, parties.value);
        return NULL;
    }
    at_fault fault;
    at_origin origin;
    PyObject *claim;
    at_barrier *barrier;
    if (at_sync_origin(shared, name, &origin, &claim) < 0) {
        return NULL;
    }
    int result = at_barrier_new((unsigned)parties.value, &origin, &barrier, &fault);
    PyObject *self = at_sync_wrap_new(type, result, barrier, &fault, claim);
    if (self != NULL && action != Py_None) {
        ((at_sync_object *)self)->action = Py_NewRef(action);
    }
    return self;
}

/* A reference, or NULL. Another thread may set it meanwhile. */
static PyObject *action_of(PyObject *object) AT_ATTACHED
{
    PyObject *action;
    Py_BEGIN_CRITICAL_SECTION(object);
    action = Py_XNewRef(((at_sync_object *)object)->action);
    Py_END_CRITICAL_SECTION();
    return action;
}

/* Call the action, which all wait for. 0, or -1 with an exception set. */
static int act(PyObject *object, PyObject *action,
               const at_arrival *arrival) AT_ATTACHED
{
    PyObject *nothing = PyObject_CallNoArgs(action);
    Py_XDECREF(nothing);
    int result = at_barrier_acted(at_sync_thing(object), arrival, nothing != NULL);
    if (nothing == NULL) {
        return -1;
    }
    if (result < 0) {
        (void)at_bind_wait_failed(result);
        return -1;
    }
    return 0;
}

AT_UNCHECKED static PyObject *barrier_wait(PyObject *object, PyObject *const *arguments,
                                           Py_ssize_t count, PyObject *keyword_names)
{
    at_patience patience = {0, at_sync_peer(object)};
    if (at_sync_parse_timeout("wait", arguments, count, keyword_names,
                              &patience.deadline_ns) < 0) {
        return NULL;
    }
    PyObject *action = action_of(object);
    at_arrival arrival = {.has_action = action != NULL};
    int result;
    do {
        PyThreadState *state = at_detach();
        result = at_barrier_wait(at_sync_thing(object), &arrival, &patience);
        at_attach(state);
    } while (at_bind_wait_again(&result));
    if (result == 0 && arrival.acts) {
        result = act(object, action, &arrival);
        Py_DECREF(action);
        return result == 0 ? PyLong_FromUnsignedLong(arrival.place) : NULL;
    }
    Py_XDECREF(action);
    if (result == AT_WAIT_RAISED) {
        at_barrier_leave(at_sync_thing(object), &arrival);
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

AT_UNCHECKED static PyObject *barrier_action(PyObject *object, void *unused)
{
    PyObject *action = action_of(object);
    return action != NULL ? action : Py_NewRef(Py_None);
}

AT_UNCHECKED static int barrier_set_action(PyObject *object, PyObject *action,
                                           void *unused)
{
    if (action == NULL) {
        PyErr_SetString(PyExc_AttributeError, "action cannot be deleted: set None");
        return -1;
    }
    if (check_action(action) < 0) {
        return -1;
    }
    at_sync_object *self = (at_sync_object *)object;
    PyObject *before;
    Py_BEGIN_CRITICAL_SECTION(object);
    before = self->action;
    self->action = action != Py_None ? Py_NewRef(action) : NULL;
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(before);
    return 0;
}

/* An action may well refer to its barrier. */
static int barrier_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((at_sync_object *)object)->action);
    return 0;
}

static int barrier_clear(PyObject *object)
{
    Py_CLEAR(((at_sync_object *)object)->action);
    return 0;
}

static const PyType_Slot barrier_slots[] = {
    {Py_tp_traverse, (void *)barrier_traverse},
    {Py_tp_clear, (void *)barrier_clear},
    {0, NULL},
};

static PyMethodDef barrier_methods[] = {
    {"wait", (PyCFunction)(void (*)(void))barrier_wait, METH_FASTCALL | METH_KEYWORDS,
     "wait($self, timeout=None)\n"
     "--\n"
     "\n"
     "Wait for the other parties.\n"
     "\n"
     "Args:\n"
     "    timeout (float | None): Seconds to wait; None waits for ever.\n"
     "\n"
     "Returns:\n"
     "    0 to parties - 1, another for each.\n"
     "\n"
     "Raises:\n"
     "    BrokenBarrierError: A party gave up, or abort() or reset() was called; or\n"
     "        they did not all come in time, which breaks it for the others.\n"
     "    ClosedError: This interpreter is closing."},
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
    {"action", barrier_action, barrier_set_action,
     "What a party that waits with this object calls when all have come, or None.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

const at_sync_type at_sync_barrier = {
    .name = "atoll.Barrier",
    .doc =
        "Barrier(parties, action=None, timeout=None, *, shared=False, name=None)\n"
        "--\n"
        "\n"
        "threading.Barrier between threads and interpreters, and with shared=True\n"
        "or a name between processes. A party that dies does not come: use a\n"
        "timeout of wait() where that can happen.\n"
        "\n"
        "Args:\n"
        "    parties (int): How many must come, 1 to 65,535.\n"
        "    action (Callable | None): Called when all have come and before any\n"
        "        leaves, by the last or by one that waits. It stays with this object\n"
        "        and is not sent with it: one of the parties of a round must wait "
        "with\n"
        "        an object that has it (the attribute action can be set on any). What\n"
        "        it raises is raised there, and breaks the barrier for the others,\n"
        "        whose timeouts run meanwhile.\n"
        "    timeout: Only None: the other parties would not have it; give it to each\n"
        "        wait().\n"
        "    shared (bool): Processes can have it too.\n"
        "    name (str | None): By which other processes find it; it is shared then.\n"
        "\n"
        "Any thread of any interpreter may call the methods; the GIL is not held\n"
        "while one waits.",
    .new = barrier_new,
    .flags = Py_TPFLAGS_HAVE_GC,
    .slots = barrier_slots,
    .methods = barrier_methods,
    .attributes = barrier_attributes,
    .handle = {&at_barrier_kind, at_sync_thing_of, at_sync_wrap, true},
};
