/* atoll.AtomicInt.
 *
 * Arithmetic is modulo 2**64, as the processor does it and C's atomics define it; an
 * argument that does not fit in 64 bits is an OverflowError. */
#define PY_SSIZE_T_CLEAN
#include "bind/argument.h"
#include "bind/buffer.h"
#include "bind/error.h"
#include "bind/sync.h"
#include "bind/type.h"
#include "bind/wait.h"
#include "chan/atomic.h"
#include "interp/attach.h"
#include "sys/park.h"

static _Atomic(int64_t) *value_of(PyObject *object)
{
    return at_atomic_value(at_sync_thing(object));
}

static int64_t load(PyObject *object)
{
    return atomic_load(value_of(object));
}

/* -1 with an exception set where `number` is no int of 64 bits. */
static int parse(PyObject *number, int64_t *value) AT_ATTACHED
{
    if (!PyIndex_Check(number)) {
        PyErr_Format(PyExc_TypeError, "an AtomicInt takes ints, not %.100s",
                     Py_TYPE(number)->tp_name);
        return -1;
    }
    PyObject *index = PyNumber_Index(number);
    if (index == NULL) {
        return -1;
    }
    int overflow;
    *value = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow != 0) {
        PyErr_SetString(PyExc_OverflowError,
                        "an AtomicInt has 64 bits: -2**63 to 2**63 - 1");
        return -1;
    }
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

AT_UNCHECKED static PyObject *atomic_new(PyTypeObject *type, PyObject *arguments,
                                         PyObject *keywords)
{
    static char *names[] = {"value", "shared", "name", NULL};
    PyObject *number = NULL;
    int shared = 0;
    const char *name = NULL;
    int64_t value = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O$pO&:AtomicInt", names,
                                     &number, &shared, at_bind_name, &name) ||
        (number != NULL && parse(number, &value) < 0)) {
        return NULL;
    }
    at_fault fault;
    at_origin origin;
    PyObject *claim;
    at_atomic *atomic;
    if (at_sync_origin(shared, name, &origin, &claim) < 0) {
        return NULL;
    }
    int result = at_atomic_new(value, &origin, &atomic, &fault);
    return at_sync_wrap_new(type, result, atomic, &fault, claim);
}

/* ---- operations ------------------------------------------------------------------ */

AT_UNCHECKED static PyObject *atomic_load_method(PyObject *object, PyObject *unused)
{
    return PyLong_FromLongLong(load(object));
}

AT_UNCHECKED static PyObject *atomic_store_method(PyObject *object, PyObject *number)
{
    int64_t value;
    if (parse(number, &value) < 0) {
        return NULL;
    }
    atomic_store(value_of(object), value);
    Py_RETURN_NONE;
}

/* A method NAME(n) that returns the value before. */
#define OPERATION(name)                                                                \
    AT_UNCHECKED static PyObject *name##_method(PyObject *object, PyObject *number)    \
    {                                                                                  \
        int64_t value;                                                                 \
        if (parse(number, &value) < 0) {                                               \
            return NULL;                                                               \
        }                                                                              \
        return PyLong_FromLongLong(name(value_of(object), value));                     \
    }
OPERATION(atomic_exchange)
OPERATION(atomic_fetch_add)
OPERATION(atomic_fetch_sub)
OPERATION(atomic_fetch_and)
OPERATION(atomic_fetch_or)
OPERATION(atomic_fetch_xor)

/* add(n=1) and sub(n=1) return the value after. */
static PyObject *add_to(PyObject *object, const char *function,
                        PyObject *const *arguments, Py_ssize_t count,
                        bool subtracts) AT_ATTACHED
{
    int64_t value = 1;
    if (count > 1) {
        return PyErr_Format(PyExc_TypeError,
                            "%s() takes at most 1 argument (%zd given)", function,
                            count);
    }
    if (count == 1 && parse(arguments[0], &value) < 0) {
        return NULL;
    }
    /* Unsigned, because these wrap around: C's atomics do, its additions do not. */
    uint64_t change = subtracts ? -(uint64_t)value : (uint64_t)value;
    uint64_t before = (uint64_t)atomic_fetch_add(value_of(object), (int64_t)change);
    return PyLong_FromLongLong((int64_t)(before + change));
}

AT_UNCHECKED static PyObject *atomic_add(PyObject *object, PyObject *const *arguments,
                                         Py_ssize_t count)
{
    return add_to(object, "add", arguments, count, false);
}

AT_UNCHECKED static PyObject *atomic_sub(PyObject *object, PyObject *const *arguments,
                                         Py_ssize_t count)
{
    return add_to(object, "sub", arguments, count, true);
}

AT_UNCHECKED static PyObject *
compare_exchange(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    int64_t expected;
    int64_t desired;
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError,
                            "compare_exchange() takes 2 arguments (%zd given)", count);
    }
    if (parse(arguments[0], &expected) < 0 || parse(arguments[1], &desired) < 0) {
        return NULL;
    }
    return PyBool_FromLong(
        atomic_compare_exchange_strong(value_of(object), &expected, desired));
}

/* ---- waiting --------------------------------------------------------------------- */

AT_UNCHECKED static PyObject *atomic_wait(PyObject *object, PyObject *const *arguments,
                                          Py_ssize_t count, PyObject *keyword_names)
{
    static const char *const names[] = {"old", "timeout"};
    PyObject *values[] = {NULL, NULL};
    at_patience patience = {0, at_sync_peer(object)};
    int64_t old;
    if (at_bind_arguments("wait", names, 1, 2, arguments, count, keyword_names,
                          values) < 0 ||
        parse(values[0], &old) < 0 ||
        at_bind_deadline(values[1], &patience.deadline_ns) < 0) {
        return NULL;
    }
    int64_t seen;
    int result;
    do {
        PyThreadState *state = at_detach();
        result = at_atomic_wait(at_sync_thing(object), old, &seen, &patience);
        at_attach(state);
    } while (at_bind_wait_again(&result));
    if (result == AT_ETIMEOUT) {
        return at_raise_format(result, "the value did not change in time");
    }
    return result == 0 ? PyLong_FromLongLong(seen) : at_bind_wait_failed(result);
}

AT_UNCHECKED static PyObject *atomic_notify(PyObject *object, PyObject *arguments)
{
    int count = 1;
    if (!PyArg_ParseTuple(arguments, "|i:notify", &count)) {
        return NULL;
    }
    if (count < 1) {
        PyErr_SetString(PyExc_ValueError, "n must be one or more");
        return NULL;
    }
    return PyLong_FromLong(at_atomic_notify(at_sync_thing(object), count));
}

AT_UNCHECKED static PyObject *atomic_notify_all(PyObject *object, PyObject *unused)
{
    return PyLong_FromLong(at_atomic_notify(at_sync_thing(object), AT_PARK_ALL));
}

/* ---- as a number ----------------------------------------------------------------- */

AT_UNCHECKED static PyObject *as_int(PyObject *object)
{
    return PyLong_FromLongLong(load(object));
}

static int as_bool(PyObject *object)
{
    return load(object) != 0;
}

AT_UNCHECKED static PyObject *atomic_repr(PyObject *object)
{
    return PyUnicode_FromFormat("atoll.AtomicInt(%lld)", (long long)load(object));
}

AT_UNCHECKED static PyObject *in_place(PyObject *object, PyObject *number,
                                       bool subtracts)
{
    int64_t value;
    if (!PyIndex_Check(number)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    if (parse(number, &value) < 0) {
        return NULL;
    }
    if (subtracts) {
        atomic_fetch_sub(value_of(object), value);
    } else {
        atomic_fetch_add(value_of(object), value);
    }
    return Py_NewRef(object);
}

AT_UNCHECKED static PyObject *atomic_in_place_add(PyObject *object, PyObject *number)
{
    return in_place(object, number, false);
}

AT_UNCHECKED static PyObject *atomic_in_place_sub(PyObject *object, PyObject *number)
{
    return in_place(object, number, true);
}

static PyMethodDef atomic_methods[] = {
    {"load", atomic_load_method, METH_NOARGS, "load($self)\n--\n\nThe value now."},
    {"store", atomic_store_method, METH_O,
     "store($self, value, /)\n--\n\nSet the value."},
    {"exchange", atomic_exchange_method, METH_O,
     "exchange($self, value, /)\n--\n\nSet the value, and return the one before."},
    {"add", (PyCFunction)(void (*)(void))atomic_add, METH_FASTCALL,
     "add($self, n=1, /)\n--\n\nAdd n, modulo 2**64, and return the value after."},
    {"sub", (PyCFunction)(void (*)(void))atomic_sub, METH_FASTCALL,
     "sub($self, n=1, /)\n--\n\nSubtract n, modulo 2**64, and return the value after."},
    {"fetch_add", atomic_fetch_add_method, METH_O,
     "fetch_add($self, n, /)\n--\n\nAdd n, modulo 2**64, and return the value before."},
    {"fetch_sub", atomic_fetch_sub_method, METH_O,
     "fetch_sub($self, n, /)\n--\n\n"
     "Subtract n, modulo 2**64, and return the value before."},
    {"fetch_and", atomic_fetch_and_method, METH_O,
     "fetch_and($self, bits, /)\n--\n\n"
     "Keep those bits alone, and return the value before."},
    {"fetch_or", atomic_fetch_or_method, METH_O,
     "fetch_or($self, bits, /)\n--\n\nSet those bits, and return the value before."},
    {"fetch_xor", atomic_fetch_xor_method, METH_O,
     "fetch_xor($self, bits, /)\n--\n\nFlip those bits, and return the value before."},
    {"compare_exchange", (PyCFunction)(void (*)(void))compare_exchange, METH_FASTCALL,
     "compare_exchange($self, expected, desired, /)\n"
     "--\n"
     "\n"
     "Set the value to desired if it is expected.\n"
     "\n"
     "Returns:\n"
     "    Whether it was."},
    {"wait", (PyCFunction)(void (*)(void))atomic_wait, METH_FASTCALL | METH_KEYWORDS,
     "wait($self, old, timeout=None)\n"
     "--\n"
     "\n"
     "Wait while the value is old: until somebody has changed it and called notify().\n"
     "\n"
     "Args:\n"
     "    old (int): What the value was.\n"
     "    timeout (float | None): Seconds to wait; None waits for ever.\n"
     "\n"
     "Returns:\n"
     "    The value, which is another than old.\n"
     "\n"
     "Raises:\n"
     "    TimeoutError: It was old all the time.\n"
     "    ClosedError: This interpreter is closing."},
    {"notify", atomic_notify, METH_VARARGS,
     "notify($self, n=1, /)\n"
     "--\n"
     "\n"
     "Let up to n of those who wait look at the value. Returns how many slept."},
    {"notify_all", atomic_notify_all, METH_NOARGS,
     "notify_all($self)\n--\n\n"
     "Let all of those who wait look at the value. Returns how many slept."},
    AT_SYNC_METHODS,
};

static const PyType_Slot atomic_slots[] = {
    {Py_nb_int, (void *)as_int},
    {Py_nb_index, (void *)as_int},
    {Py_nb_bool, (void *)as_bool},
    {Py_nb_inplace_add, (void *)atomic_in_place_add},
    {Py_nb_inplace_subtract, (void *)atomic_in_place_sub},
    {Py_tp_repr, (void *)atomic_repr},
    {0, NULL},
};

/* ---- in a struct ----------------------------------------------------------------- */

/* atomic_at(buffer, offset): the AtomicInt that lies in a SharedBuffer. */
AT_UNCHECKED static PyObject *atomic_at(PyObject *module, PyObject *arguments)
{
    PyObject *buffer;
    Py_ssize_t offset;
    if (!PyArg_ParseTuple(arguments, "On:atomic_at", &buffer, &offset)) {
        return NULL;
    }
    at_view *view = at_buffer_view(buffer);
    if (view == NULL) {
        return NULL;
    }
    if (view->readonly) {
        PyErr_SetString(PyExc_TypeError, "an AtomicInt cannot be had of memory that is "
                                         "read-only: it can be changed");
        return NULL;
    }
    if (offset < 0 || view->size_bytes < AT_ATOMIC_BYTES ||
        (size_t)offset > view->size_bytes - AT_ATOMIC_BYTES) {
        return at_raise_format(AT_EINVALID, "no atomic int can lie there");
    }
    at_atomic *atomic;
    int result =
        at_atomic_new_in(view->region, view->offset_bytes + (size_t)offset, &atomic);
    if (result < 0) {
        return at_raise(result);
    }
    PyTypeObject *type = at_parcel_handle_type(&at_sync_atomic.handle);
    PyObject *made = type != NULL ? at_sync_wrap(type, (at_shared *)atomic) : NULL;
    at_shared_unref((at_shared *)atomic);
    return made;
}

/* check_alignment(buffer, offset, alignment) */
AT_UNCHECKED static PyObject *check_alignment(PyObject *module, PyObject *arguments)
{
    PyObject *buffer;
    Py_ssize_t offset;
    Py_ssize_t alignment;
    if (!PyArg_ParseTuple(arguments, "Onn:check_alignment", &buffer, &offset,
                          &alignment)) {
        return NULL;
    }
    at_view *view = at_buffer_view(buffer);
    if (view == NULL) {
        return NULL;
    }
    if (offset < 0 || alignment < 1 ||
        (view->offset_bytes + (size_t)offset) % (size_t)alignment != 0) {
        return at_raise_format(
            AT_EINVALID, "the memory is not aligned to %zd bytes there", alignment);
    }
    Py_RETURN_NONE;
}

PyMethodDef at_sync_atomic_functions[] = {
    {"atomic_at", atomic_at, METH_VARARGS, NULL},
    {"check_alignment", check_alignment, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

const at_sync_type at_sync_atomic = {
    .name = "atoll.AtomicInt",
    .doc =
        "AtomicInt(value=0, *, shared=False, name=None)\n"
        "--\n"
        "\n"
        "An int of 64 bits with a sign, which threads and interpreters, and with\n"
        "shared=True or a name processes, change without a lock. Each operation is\n"
        "atomic and sequentially consistent. Arithmetic wraps around: 2**63 - 1 and\n"
        "one more is -2**63. `counter += n` is atomic; int(counter), bool(counter)\n"
        "and operator.index(counter) are load(); two are equal that are\n"
        "one thing, whatever their values.\n"
        "\n"
        "Args:\n"
        "    value (int): The first, of 64 bits.\n"
        "    shared (bool): Whether other processes can have it.\n"
        "    name (str | None): For AtomicInt.open(name) in other processes.\n"
        "\n"
        "Raises:\n"
        "    OverflowError: A number, here or of a method, does not fit in 64 bits.\n"
        "\n"
        "Any thread of any interpreter may call the methods. The memory order is that\n"
        "of C11's memory_order_seq_cst.",
    .new = atomic_new,
    .methods = atomic_methods,
    .slots = atomic_slots,
    .handle = {&at_atomic_kind, at_sync_thing_of, at_sync_wrap, true},
};
