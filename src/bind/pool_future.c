/* The base of atoll.PoolFuture; see pool_future.h. */
#define PY_SSIZE_T_CLEAN
#include "bind/pool_future.h"

#include <stddef.h>

#include "bind/bind.h"
#include "bind/type.h"

at_pool_future *at_pool_future_new(PyTypeObject *type, unsigned long long id,
                                   PyObject *pool, PyObject *function, PyObject *state)
{
    at_pool_future *future = (at_pool_future *)type->tp_alloc(type, 0);
    if (future != NULL) {
        future->id = id;
        future->pool = Py_NewRef(pool);
        future->function = Py_NewRef(function);
        future->state = Py_NewRef(state);
        future->result = Py_NewRef(Py_None);
        future->exception = Py_NewRef(Py_None);
    }
    return future;
}

/* Put `value` in `*place`; what was there is returned. Readers take no lock. */
static PyObject *replace(PyObject **place, PyObject *value)
{
    return __atomic_exchange_n(place, value, __ATOMIC_ACQ_REL);
}

static at_future_finish finish(at_pool_future *future, PyObject *state,
                               PyObject *result, PyObject *exception,
                               bool quietly) AT_ATTACHED
{
    at_future_finish status = AT_FUTURE_WAS_OVER;
    PyObject *gone[4] = {NULL};
    Py_BEGIN_CRITICAL_SECTION(future);
    if (!future->over) {
        status = future->made != NULL ? AT_FUTURE_TELL : AT_FUTURE_QUIET;
    }
    if (status == AT_FUTURE_QUIET || (status == AT_FUTURE_TELL && !quietly)) {
        future->over = true;
        gone[0] = replace(&future->function, NULL);
        gone[1] = replace(&future->result, Py_NewRef(result));
        gone[2] = replace(&future->exception, Py_NewRef(exception));
        gone[3] = replace(&future->state, Py_NewRef(state));
    }
    Py_END_CRITICAL_SECTION();
    /* Letting a function go may run code of its own: not in the section. */
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) {
        Py_XDECREF(gone[i]);
    }
    return status;
}

at_future_finish at_pool_future_finish(at_pool_future *future, PyObject *state,
                                       PyObject *result, PyObject *exception)
{
    return finish(future, state, result, exception, false);
}

at_future_finish at_pool_future_finish_quietly(at_pool_future *future, PyObject *state,
                                               PyObject *result)
{
    return finish(future, state, result, Py_None, true);
}

bool at_pool_future_is_over(at_pool_future *future)
{
    bool over;
    Py_BEGIN_CRITICAL_SECTION(future);
    over = future->over;
    Py_END_CRITICAL_SECTION();
    return over;
}

/* ---- for Python ------------------------------------------------------------------ */

AT_UNCHECKED static PyObject *settle(PyObject *self, PyObject *const *arguments,
                                     Py_ssize_t count)
{
    if (count != 3) {
        return PyErr_Format(PyExc_TypeError, "_settle() takes 3 arguments");
    }
    return PyBool_FromLong(at_pool_future_finish((at_pool_future *)self, arguments[0],
                                                 arguments[1],
                                                 arguments[2]) == AT_FUTURE_TELL);
}

AT_UNCHECKED static PyObject *adopt(PyObject *self, PyObject *condition)
{
    at_pool_future *future = (at_pool_future *)self;
    PyObject *made;
    Py_BEGIN_CRITICAL_SECTION(self);
    if (future->made == NULL) {
        (void)replace(&future->made, Py_NewRef(condition));
    }
    made = Py_NewRef(future->made);
    Py_END_CRITICAL_SECTION();
    return made;
}

/* The list at `offset`, made now if nobody asked for it before. */
AT_UNCHECKED static PyObject *get_list(PyObject *self, void *offset)
{
    PyObject **place = (PyObject **)(void *)((char *)self + (uintptr_t)offset);
    PyObject *made = PyList_New(0);
    if (made == NULL) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    if (*place == NULL) {
        *place = Py_NewRef(made);
    }
    Py_SETREF(made, Py_NewRef(*place));
    Py_END_CRITICAL_SECTION();
    return made;
}

AT_UNCHECKED static PyObject *get_function(PyObject *self, void *Py_UNUSED(unused))
{
    PyObject *function;
    Py_BEGIN_CRITICAL_SECTION(self);
    function = ((at_pool_future *)self)->function;
    function = Py_NewRef(function != NULL ? function : Py_None);
    Py_END_CRITICAL_SECTION();
    return function;
}

AT_UNCHECKED static int set_function(PyObject *self, PyObject *value,
                                     void *Py_UNUSED(unused))
{
    PyObject *before = value;
    Py_BEGIN_CRITICAL_SECTION(self);
    if (!((at_pool_future *)self)->over) {
        before = replace(&((at_pool_future *)self)->function, Py_XNewRef(value));
    } else {
        before = NULL;
    }
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(before);
    return 0;
}

static int future_traverse(PyObject *self, visitproc visit, void *arg)
{
    at_pool_future *future = (at_pool_future *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(future->pool);
    Py_VISIT(future->function);
    Py_VISIT(future->result);
    Py_VISIT(future->exception);
    Py_VISIT(future->made);
    Py_VISIT(future->waiters);
    Py_VISIT(future->callbacks);
    return 0;
}

static int future_clear(PyObject *self)
{
    at_pool_future *future = (at_pool_future *)self;
    Py_CLEAR(future->pool);
    Py_CLEAR(future->function);
    Py_CLEAR(future->result);
    Py_CLEAR(future->exception);
    Py_CLEAR(future->made);
    Py_CLEAR(future->waiters);
    Py_CLEAR(future->callbacks);
    return 0;
}

static void future_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)future_clear(self);
    Py_CLEAR(((at_pool_future *)self)->state);
    type->tp_free(self);
    Py_DECREF(type);
}

#define FIELD(name, field, type, flags)                                                \
    {                                                                                  \
        name, type, offsetof(at_pool_future, field), flags, NULL                       \
    }

static PyMemberDef future_members[] = {
    FIELD("_task_id", id, Py_T_ULONGLONG, Py_READONLY),
    FIELD("_pool", pool, Py_T_OBJECT_EX, Py_READONLY),
    FIELD("_state", state, Py_T_OBJECT_EX, 0),
    FIELD("_result", result, Py_T_OBJECT_EX, 0),
    FIELD("_exception", exception, Py_T_OBJECT_EX, 0),
    FIELD("_interrupt", interrupt, Py_T_BOOL, 0),
    FIELD("_interrupt_sent", interrupt_sent, Py_T_BOOL, 0),
    {NULL},
};

AT_UNCHECKED static PyObject *get_made(PyObject *self, void *Py_UNUSED(unused))
{
    PyObject *made = __atomic_load_n(&((at_pool_future *)self)->made, __ATOMIC_ACQUIRE);
    return Py_NewRef(made != NULL ? made : Py_None); /* set once */
}

static PyGetSetDef future_attributes[] = {
    {"_function", get_function, set_function, NULL, NULL},
    {"_made", get_made, NULL, NULL, NULL},
    {"_waiters", get_list, NULL, NULL, (void *)offsetof(at_pool_future, waiters)},
    {"_done_callbacks", get_list, NULL, NULL,
     (void *)offsetof(at_pool_future, callbacks)},
    {NULL},
};

static PyMethodDef future_methods[] = {
    {"_settle", (PyCFunction)(void (*)(void))settle, METH_FASTCALL,
     "_settle(state, result, exception) -> whether somebody is to be told"},
    {"_adopt", adopt, METH_O, "_adopt(condition) -> the one that it has"},
    {NULL},
};

static PyType_Slot future_slots[] = {
    {Py_tp_doc, "The fields of atoll.PoolFuture."},
    {Py_tp_dealloc, future_dealloc},
    {Py_tp_traverse, future_traverse},
    {Py_tp_clear, future_clear},
    {Py_tp_members, future_members},
    {Py_tp_getset, future_attributes},
    {Py_tp_methods, future_methods},
    {0, NULL},
};

static PyType_Spec future_spec = {
    .name = "atoll._atoll.PoolFutureBase",
    .basicsize = sizeof(at_pool_future),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = future_slots,
};

AT_UNCHECKED int at_bind_pool_future(PyObject *module)
{
    PyTypeObject *type = at_bind_add_type(module, &future_spec);
    Py_XDECREF(type);
    return type != NULL ? 0 : -1;
}
