/* Locks, conditions, events, semaphores, barriers and atomic ints as Python objects:
 * what they have in common (sync.h). Each type has a file of its own; every wait is
 * tried while attached and then made detached. */
#define PY_SSIZE_T_CLEAN
#include "bind/sync.h"

#include "bind/bind.h"
#include "bind/claim.h"
#include "bind/error.h"
#include "bind/shared_dict.h"
#include "bind/type.h"
#include "bind/wait.h"
#include "chan/atomic.h"
#include "chan/condition.h"
#include "chan/sync.h"
#include "interp/attach.h"

static const at_sync_type *const types[] = {
    &at_sync_lock,    &at_sync_rlock,     &at_sync_condition,
    &at_sync_event,   &at_sync_semaphore, &at_sync_bounded_semaphore,
    &at_sync_barrier, &at_sync_atomic,
};

enum { TYPES = sizeof types / sizeof *types };

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

PyObject *at_sync_wrap(PyTypeObject *type, at_shared *thing)
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
    at_sync_object *self = (at_sync_object *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->thing = at_shared_ref(thing);
        self->peer = (at_peer *)at_shared_ref(&peer->shared);
    }
    return (PyObject *)self;
}

int at_sync_origin(int shared, const char *name, at_origin *origin, PyObject **claim)
{
    *origin = (at_origin){.shared_as = name != NULL ? name : shared ? "" : NULL};
    return at_bind_claim("atoll._sync", name, claim);
}

PyObject *at_sync_wrap_new(PyTypeObject *type, int result, void *thing,
                           const at_fault *fault, PyObject *claim)
{
    PyObject *self = NULL;
    if (result < 0) {
        (void)at_raise_fault(fault);
    } else {
        at_shared *known = at_place_publish(thing);
        self = at_sync_wrap(type, known);
        at_shared_unref(known);
    }
    if (at_bind_claim_end(claim) < 0) {
        Py_CLEAR(self);
    }
    return self;
}

static void sync_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    at_sync_object *self = (at_sync_object *)object;
    if (PyType_IS_GC(type)) {
        PyObject_GC_UnTrack(object);
    }
    if (self->weak_references != NULL) {
        PyObject_ClearWeakRefs(object);
    }
    Py_XDECREF(self->action);
    if (self->thing != NULL) {
        at_shared_unref(self->thing);
        at_shared_unref(&self->peer->shared);
    }
    type->tp_free(object);
    Py_DECREF(type);
}

/* What tells the thing from others. An AtomicInt in a Struct has many things over the
 * one place in memory, one for each view of it. */
static const void *identity_of(PyObject *object) AT_ATTACHED
{
    at_shared *thing = at_sync_thing(object);
    return thing->kind == &at_atomic_kind ? (void *)at_atomic_value((at_atomic *)thing)
                                          : (void *)thing;
}

AT_UNCHECKED static PyObject *sync_compare(PyObject *left, PyObject *right,
                                           int operation)
{
    return at_bind_compare(left, right, operation, identity_of);
}

AT_UNCHECKED static Py_hash_t sync_hash(PyObject *object)
{
    return at_bind_hash_pointer(identity_of(object));
}

/* What a method without arguments says: 1, 0, or -1 with an exception set. */
static int ask(PyObject *object, const char *method) AT_ATTACHED
{
    PyObject *answer = PyObject_CallMethod(object, method, NULL);
    int truth = answer != NULL ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return truth;
}

AT_UNCHECKED static PyObject *sync_repr(PyObject *object)
{
    at_shared *thing = at_sync_thing(object);
    const char *name = Py_TYPE(object)->tp_name;
    bool is_private = ((at_placed *)thing)->place.scope == AT_PARK_PRIVATE;
    const char *scope = is_private ? "" : " shared";
    if (thing->kind == &at_barrier_kind) {
        at_barrier *barrier = (at_barrier *)thing;
        return PyUnicode_FromFormat("<%s%s at %p: waiters=%u/%u%s>", name, scope, thing,
                                    at_barrier_waiting(barrier),
                                    at_barrier_parties(barrier),
                                    at_barrier_is_broken(barrier) ? ", broken" : "");
    }
    bool is_event = thing->kind == &at_event_kind;
    if (!is_event && lock_under(thing) == NULL) {
        return PyUnicode_FromFormat("<%s%s at %p>", name, scope, thing);
    }
    int truth = ask(object, is_event ? "is_set" : "locked");
    if (truth < 0) {
        return NULL;
    }
    const char *state =
        is_event ? (truth ? "set" : "unset") : (truth ? "locked" : "unlocked");
    return PyUnicode_FromFormat("<%s%s at %p: %s>", name, scope, thing, state);
}

at_shared *at_sync_thing_of(PyObject *object)
{
    return at_sync_thing(object);
}

/* ---- to other processes ---------------------------------------------------------- */

/* _describe(): (descriptor, the lock that a condition needs, or None), or None for a
 * thing of this process alone. The descriptor stays this object's. */
AT_UNCHECKED PyObject *at_sync_describe(PyObject *object, PyObject *unused)
{
    at_shared *thing = at_sync_thing(object);
    const at_place *place = &((at_placed *)thing)->place;
    bool is_part =
        thing->kind == &at_atomic_kind && at_atomic_is_part((at_atomic *)thing);
    if (place->scope == AT_PARK_PRIVATE || is_part) {
        Py_RETURN_NONE;
    }
    if (thing->kind != &at_condition_kind || !at_condition_needs_lock(&place->facts)) {
        return Py_BuildValue("(iO)", place->page.memory.descriptor, Py_None);
    }
    at_shared *lock = (at_shared *)lock_under(thing);
    const at_sync_type *type =
        lock->kind == &at_rlock_kind ? &at_sync_rlock : &at_sync_lock;
    PyTypeObject *found = at_parcel_handle_type(&type->handle);
    PyObject *wrapped = found != NULL ? at_sync_wrap(found, lock) : NULL;
    return wrapped != NULL
               ? Py_BuildValue("(iN)", place->page.memory.descriptor, wrapped)
               : NULL;
}

static PyObject *call_helper(const char *name, PyObject *first,
                             PyObject *second) AT_ATTACHED
{
    PyObject *module = PyImport_ImportModule("atoll._sync");
    if (module == NULL) {
        return NULL;
    }
    PyObject *result = second != NULL
                           ? PyObject_CallMethod(module, name, "OO", first, second)
                           : PyObject_CallMethod(module, name, "O", first);
    Py_DECREF(module);
    return result;
}

AT_UNCHECKED PyObject *at_sync_reduce(PyObject *object, PyObject *unused)
{
    return call_helper("reduce", object, NULL);
}

AT_UNCHECKED PyObject *at_sync_open(PyObject *type, PyObject *name)
{
    return call_helper("open_named", type, name);
}

/* sync_adopt(descriptor, lock): takes the descriptor. */
AT_UNCHECKED static PyObject *sync_adopt(PyObject *module, PyObject *arguments)
{
    int descriptor;
    PyObject *lock_object;
    if (!PyArg_ParseTuple(arguments, "iO:sync_adopt", &descriptor, &lock_object)) {
        return NULL;
    }
    at_lock *lock = NULL;
    if (Py_TYPE(lock_object)->tp_dealloc == sync_dealloc) {
        lock = lock_under(at_sync_thing(lock_object));
    }
    at_fault fault;
    at_shared *thing;
    if (at_sync_adopt(descriptor, lock, &thing, &fault) < 0) {
        return at_raise_fault(&fault);
    }
    PyObject *made = NULL;
    if (thing->kind == &at_common_dict_kind) {
        PyTypeObject *type = at_parcel_handle_type(&at_shared_dict_common_handle);
        made = type != NULL ? at_shared_dict_wrap(type, thing) : NULL;
    }
    for (size_t i = 0; i < TYPES; i++) {
        if (types[i]->handle.kind == thing->kind) {
            PyTypeObject *type = at_parcel_handle_type(&types[i]->handle);
            made = type != NULL ? at_sync_wrap(type, thing) : NULL;
        }
    }
    at_shared_unref(thing);
    return made;
}

/* ---- waiting --------------------------------------------------------------------- */

int at_sync_wait(PyObject *object, at_sync_wait_function *wait, int64_t deadline_ns)
{
    at_patience patience = {deadline_ns, at_sync_peer(object)};
    int result;
    do {
        PyThreadState *state = at_detach();
        result = wait(at_sync_thing(object), &patience);
        at_attach(state);
    } while (at_bind_wait_again(&result));
    return result;
}

PyObject *at_sync_outcome(int result)
{
    if (result == 0) {
        Py_RETURN_TRUE;
    }
    if (result == AT_ETIMEOUT || result == AT_EAGAIN) {
        Py_RETURN_FALSE;
    }
    if (result == AT_EOWNERDEAD) {
        return at_raise_format(AT_EOWNERDEAD,
                               "the interpreter or process that held the lock ended "
                               "without releasing it: what the lock guards may be half "
                               "done");
    }
    return at_bind_wait_failed(result);
}

/* threading's timeout of an acquire: to a lock -1 is for ever and other negative
 * numbers are mistakes, a semaphore does not wait for any of them. */
static int parse_seconds(PyObject *timeout, bool is_lock, bool blocking,
                         int64_t *deadline_ns) AT_ATTACHED
{
    double seconds;
    if (at_bind_seconds(timeout, &seconds) < 0) {
        return -1;
    }
    if (is_lock && seconds == -1.0) {
        return 0;
    }
    if (!blocking) {
        PyErr_SetString(PyExc_ValueError,
                        "can't specify a timeout for a non-blocking call");
        return -1;
    }
    if (is_lock && seconds < 0) {
        PyErr_SetString(PyExc_ValueError,
                        "timeout value must be a non-negative number");
        return -1;
    }
    return at_bind_deadline(timeout, deadline_ns);
}

int at_sync_parse_acquire(bool is_lock, PyObject *const *arguments, Py_ssize_t count,
                          PyObject *keyword_names, int64_t *deadline_ns)
{
    static const char *const names[] = {"blocking", "timeout"};
    PyObject *values[] = {Py_True, Py_None};
    *deadline_ns = INT64_MAX;
    if (count == 0 && keyword_names == NULL) {
        return 0;
    }
    if (at_bind_arguments("acquire", names, 0, 2, arguments, count, keyword_names,
                          values) < 0) {
        return -1;
    }
    int blocking = PyObject_IsTrue(values[0]);
    if (blocking < 0 ||
        (values[1] != Py_None &&
         parse_seconds(values[1], is_lock, blocking != 0, deadline_ns) < 0)) {
        return -1;
    }
    return blocking ? 0 : AT_EAGAIN;
}

int at_sync_parse_timeout(const char *function, PyObject *const *arguments,
                          Py_ssize_t count, PyObject *keyword_names,
                          int64_t *deadline_ns)
{
    static const char *const names[] = {"timeout"};
    PyObject *timeout = NULL;
    if (at_bind_arguments(function, names, 0, 1, arguments, count, keyword_names,
                          &timeout) < 0) {
        return -1;
    }
    return at_bind_deadline(timeout, deadline_ns);
}

/* ---- the types ------------------------------------------------------------------- */

static PyMemberDef sync_members[] = AT_BIND_WEAK_MEMBERS(at_sync_object);

static int add(PyObject *module, const at_sync_type *described) AT_ATTACHED
{
    enum { MOST = 40 };
    PyType_Slot slots[MOST] = {
        {Py_tp_doc, (void *)described->doc},       {Py_tp_new, (void *)described->new},
        {Py_tp_dealloc, (void *)sync_dealloc},     {Py_tp_methods, described->methods},
        {Py_tp_richcompare, (void *)sync_compare}, {Py_tp_hash, (void *)sync_hash},
        {Py_tp_members, (void *)sync_members},
    };
    size_t count = 7;
    if (described != &at_sync_atomic) { /* which shows its value */
        slots[count++] = (PyType_Slot){Py_tp_repr, (void *)sync_repr};
    }
    if (described->attributes != NULL) {
        slots[count++] = (PyType_Slot){Py_tp_getset, described->attributes};
    }
    for (size_t i = 0; described->slots != NULL && described->slots[i].slot != 0; i++) {
        slots[count++] = described->slots[i];
    }
    slots[count] = (PyType_Slot){0, NULL};
    PyType_Spec spec = {
        .name = described->name,
        .basicsize = sizeof(at_sync_object),
        .flags = (unsigned)(Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
                            described->flags),
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

static PyMethodDef functions[] = {
    {"sync_adopt", sync_adopt, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

AT_UNCHECKED int at_bind_sync(PyObject *module)
{
    for (size_t i = 0; i < TYPES; i++) {
        if (add(module, types[i]) < 0) {
            return -1;
        }
    }
    return PyModule_AddFunctions(module, functions) == 0
               ? PyModule_AddFunctions(module, at_sync_atomic_functions)
               : -1;
}
