/* atoll.SharedBuffer and atoll.SharedArray: views of shared memory as Python objects.
 *
 * Both speak the buffer protocol, so memoryview(), numpy.asarray() and struct see the
 * memory itself, in every interpreter and process. An object lets its view go when it
 * is released or transferred; until then exports of the buffer protocol keep it from
 * that.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

#include "base/contexts.h"
#include "base/error.h"
#include "bind/argument.h"
#include "bind/bind.h"
#include "bind/buffer.h"
#include "bind/dlpack.h"
#include "bind/error.h"
#include "bind/item_type.h"
#include "bind/type.h"
#include "chan/region.h"
#include "interp/compat.h"
#include "parcel/parcel.h"

typedef struct view_object {
    /* A reference until it is RELEASED. Without a GIL until dealloc: another thread may
     * be about to use what view_of() gave it. */
    PyObject_HEAD at_view *view;
    atomic_long state; /* exports of the buffer protocol, or RELEASED */
    Py_hash_t hash;    /* fixed after new: a set may have what was released */
    /* A reference: exports of DLPack. NULL until the first one, then fixed. */
    at_dlpack_lent *_Atomic lent;
    PyObject *weak_references;
} view_object;

/* Set where there are no exports, and never left. */
#define RELEASED (-1L)

static at_view *view_of(PyObject *object) AT_ATTACHED
{
    view_object *self = (view_object *)object;
    if (atomic_load(&self->state) == RELEASED) {
        PyErr_SetString(PyExc_ValueError,
                        "the buffer was transferred or released: it is no longer here");
        return NULL;
    }
    return self->view;
}

/* ---- life ------------------------------------------------------------------------ */

static PyObject *wrap(PyTypeObject *type, at_shared *view) AT_ATTACHED
{
    view_object *self = (view_object *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->view = (at_view *)at_shared_ref(view);
        Py_hash_t hash = (Py_hash_t)at_view_hash(self->view);
        self->hash = hash != -1 ? hash : -2;
    }
    return (PyObject *)self;
}

PyObject *at_buffer_wrap(PyTypeObject *type, at_view *view)
{
    PyObject *object = wrap(type, &view->shared);
    at_shared_unref(&view->shared);
    return object;
}

static void view_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    view_object *self = (view_object *)object;
    if (self->weak_references != NULL) {
        PyObject_ClearWeakRefs(object);
    }
    at_shared_unref(self->view != NULL ? &self->view->shared : NULL);
    at_dlpack_lent_unref(self->lent);
    type->tp_free(object);
    Py_DECREF(type);
}

at_view *at_buffer_view(PyObject *object)
{
    if (Py_TYPE(object)->tp_dealloc != view_dealloc) {
        PyErr_Format(PyExc_TypeError, "%.200s is no SharedBuffer",
                     Py_TYPE(object)->tp_name);
        return NULL;
    }
    return view_of(object);
}

/* A view over a region of its own. */
static PyObject *make(PyTypeObject *type, const at_shared_kind *kind, const char *name,
                      const at_item_type *items, int dimension_count,
                      const ptrdiff_t *shape) AT_ATTACHED
{
    at_view *view = at_buffer_make(kind, name, items, dimension_count, shape);
    return view != NULL ? at_buffer_wrap(type, view) : NULL;
}

AT_UNCHECKED static PyObject *buffer_new(PyTypeObject *type, PyObject *arguments,
                                         PyObject *keywords)
{
    static char *names[] = {"size", "name", NULL};
    at_int_argument size = {"size", 0};
    const char *name = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O&|$O&:SharedBuffer", names,
                                     at_bind_int, &size, at_bind_name, &name)) {
        return NULL;
    }
    if (size.value < 1) {
        PyErr_SetString(PyExc_ValueError, "size must be at least 1 byte");
        return NULL;
    }
    ptrdiff_t shape[1] = {size.value};
    return make(type, &at_view_buffer_kind, name, at_item_type_find("uint8"), 1, shape);
}

AT_UNCHECKED static PyObject *array_new(PyTypeObject *type, PyObject *arguments,
                                        PyObject *keywords)
{
    static char *names[] = {"shape", "dtype", "name", NULL};
    PyObject *sizes;
    PyObject *dtype;
    const char *name = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "OO|$O&:SharedArray", names,
                                     &sizes, &dtype, at_bind_name, &name)) {
        return NULL;
    }
    const at_item_type *items = at_item_type_of(dtype);
    if (items == NULL) {
        return NULL;
    }
    ptrdiff_t shape[AT_VIEW_DIMENSIONS];
    int count = at_item_shape(sizes, shape);
    if (count < 0) {
        return NULL;
    }
    return make(type, &at_view_array_kind, name, items, count, shape);
}

/* ---- the buffer protocol --------------------------------------------------------- */

static int view_get_buffer(PyObject *object, Py_buffer *buffer, int flags) AT_ATTACHED
{
    view_object *self = (view_object *)object;
    at_view *view = view_of(object);
    buffer->obj = NULL;
    if (view == NULL) {
        return -1;
    }
    if (view->readonly && (flags & PyBUF_WRITABLE) != 0) {
        PyErr_SetString(PyExc_BufferError, "the buffer is read-only");
        return -1;
    }
    long exports = atomic_load(&self->state);
    do {
        if (exports == RELEASED) {
            (void)view_of(object);
            return -1;
        }
    } while (!atomic_compare_exchange_weak(&self->state, &exports, exports + 1));
    *buffer = (Py_buffer){
        .buf = at_view_data(view),
        .obj = Py_NewRef(object),
        .len = (Py_ssize_t)view->size_bytes,
        .itemsize = (Py_ssize_t)view->item_bytes,
        .readonly = view->readonly,
        .ndim = view->dimension_count,
        .format = (flags & PyBUF_FORMAT) != 0 ? view->format : NULL,
        .shape = (flags & PyBUF_ND) != 0 ? view->shape : NULL,
        .strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? view->strides : NULL,
    };
    return 0;
}

static void view_release_buffer(PyObject *object, Py_buffer *buffer)
{
    atomic_fetch_sub(&((view_object *)object)->state, 1);
}

/* True when the object now is RELEASED by this call; else an exception is set. */
static bool let_go(PyObject *object) AT_ATTACHED
{
    view_object *self = (view_object *)object;
    long lent = at_dlpack_lent_count(self->lent);
    long exports = lent;
    if (lent == 0 && atomic_compare_exchange_strong(&self->state, &exports, RELEASED)) {
        /* Pairs with the look at the state in view_dlpack(): one sees the other. */
        exports = at_dlpack_lent_count(self->lent);
        if (exports != 0) {
            atomic_store(&self->state, 0);
        }
    }
    if (exports == 0) {
        if (!AT_FREE_THREADED) {
            at_view *view = self->view;
            self->view = NULL;
            at_shared_unref(&view->shared);
        }
        return true;
    }
    if (exports == RELEASED) {
        (void)view_of(object);
    } else {
        PyErr_Format(PyExc_BufferError,
                     "the memory is still looked at: let the %s over it (memoryview, "
                     "array) go first",
                     exports == 1 ? "view" : "views");
    }
    return false;
}

/* The count of the object's exports by DLPack; NULL with an exception set. */
static at_dlpack_lent *lent_of(view_object *self) AT_ATTACHED
{
    at_dlpack_lent *found = self->lent;
    if (found != NULL) {
        return found;
    }
    at_dlpack_lent *made = at_dlpack_lent_new();
    if (made == NULL) {
        PyErr_NoMemory();
    } else if (!atomic_compare_exchange_strong(&self->lent, &found, made)) {
        at_dlpack_lent_unref(made); /* another thread was first */
        return found;
    }
    return made;
}

/* ---- methods --------------------------------------------------------------------- */

AT_UNCHECKED static PyObject *view_release(PyObject *object, PyObject *unused)
{
    if (atomic_load(&((view_object *)object)->state) != RELEASED && !let_go(object)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *view_enter(PyObject *object, PyObject *unused)
{
    return view_of(object) != NULL ? Py_NewRef(object) : NULL;
}

AT_UNCHECKED static PyObject *view_exit(PyObject *object, PyObject *arguments)
{
    return view_release(object, NULL);
}

AT_UNCHECKED static PyObject *view_transfer(PyObject *object, PyObject *unused)
{
    at_view *view = view_of(object);
    PyObject *made = view != NULL ? wrap(Py_TYPE(object), &view->shared) : NULL;
    if (made != NULL && !let_go(object)) {
        Py_CLEAR(made);
    }
    return made;
}

AT_UNCHECKED static PyObject *view_readonly_view(PyObject *object, PyObject *unused)
{
    at_view *view = view_of(object);
    at_view *made;
    if (view == NULL) {
        return NULL;
    }
    int result = at_view_slice(view, 0, view->shape[0], true, &made);
    return result == 0 ? at_buffer_wrap(Py_TYPE(object), made) : at_raise(result);
}

AT_UNCHECKED static PyObject *view_copy(PyObject *object, PyObject *unused)
{
    at_view *view = view_of(object);
    return view != NULL ? wrap(Py_TYPE(object), &view->shared) : NULL;
}

AT_UNCHECKED static PyObject *view_deepcopy(PyObject *object, PyObject *memo)
{
    at_view *view = view_of(object);
    at_view *made = view != NULL ? at_buffer_duplicate(view) : NULL;
    return made != NULL ? at_buffer_wrap(Py_TYPE(object), made) : NULL;
}

AT_UNCHECKED static Py_ssize_t view_length(PyObject *object)
{
    at_view *view = view_of(object);
    return view != NULL ? view->shape[0] : -1;
}

AT_UNCHECKED static PyObject *view_nbytes(PyObject *object, void *unused)
{
    at_view *view = view_of(object);
    return view != NULL ? PyLong_FromSize_t(view->size_bytes) : NULL;
}

AT_UNCHECKED static PyObject *view_readonly(PyObject *object, void *unused)
{
    at_view *view = view_of(object);
    return view != NULL ? PyBool_FromLong(view->readonly) : NULL;
}

AT_UNCHECKED static PyObject *view_shape(PyObject *object, void *unused)
{
    at_view *view = view_of(object);
    return view != NULL ? at_buffer_shape(view) : NULL;
}

AT_UNCHECKED static PyObject *view_dtype(PyObject *object, void *unused)
{
    at_view *view = view_of(object);
    return view != NULL ? PyUnicode_FromString(at_item_type_find(view->format)->name)
                        : NULL;
}

/* Whether one could stand for the other. What was released equals itself alone. */
AT_UNCHECKED static PyObject *view_compare(PyObject *left, PyObject *right,
                                           int operation)
{
    if ((operation != Py_EQ && operation != Py_NE) || Py_TYPE(left) != Py_TYPE(right)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    view_object *a = (view_object *)left, *b = (view_object *)right;
    bool here =
        atomic_load(&a->state) != RELEASED && atomic_load(&b->state) != RELEASED;
    bool equal = left == right || (here && at_view_equal(a->view, b->view));
    return PyBool_FromLong(equal == (operation == Py_EQ));
}

AT_UNCHECKED static Py_hash_t view_hash(PyObject *object)
{
    return ((view_object *)object)->hash;
}

AT_UNCHECKED static PyObject *view_repr(PyObject *object)
{
    view_object *self = (view_object *)object;
    if (atomic_load(&self->state) == RELEASED) {
        return PyUnicode_FromFormat("<%s: not here any more>",
                                    Py_TYPE(object)->tp_name);
    }
    const char *readonly = self->view->readonly ? ", read-only" : "";
    if (self->view->shared.kind == &at_view_buffer_kind) {
        return PyUnicode_FromFormat("<%s: %zu bytes%s>", Py_TYPE(object)->tp_name,
                                    self->view->size_bytes, readonly);
    }
    PyObject *shape = at_buffer_shape(self->view);
    if (shape == NULL) {
        return NULL;
    }
    PyObject *text =
        PyUnicode_FromFormat("<%s: %R of %s%s>", Py_TYPE(object)->tp_name, shape,
                             at_item_type_find(self->view->format)->name, readonly);
    Py_DECREF(shape);
    return text;
}

/* ---- to other processes (buffer_process.c) --------------------------------------- */

AT_UNCHECKED static PyObject *buffer_restore(PyObject *type, PyObject *arguments)
{
    return at_buffer_restore(type, arguments, &at_view_buffer_kind);
}

AT_UNCHECKED static PyObject *array_restore(PyObject *type, PyObject *arguments)
{
    return at_buffer_restore(type, arguments, &at_view_array_kind);
}

/* ---- DLPack ---------------------------------------------------------------------- */

AT_UNCHECKED static PyObject *view_dlpack(PyObject *object, PyObject *arguments,
                                          PyObject *keywords)
{
    at_view *view = view_of(object);
    if (view == NULL) {
        return NULL;
    }
    at_dlpack_lent *lent = lent_of((view_object *)object);
    if (lent == NULL) {
        return NULL;
    }
    at_shared_ref(&view->shared); /* reading the keywords may run code that releases */
    PyObject *capsule = at_dlpack_export(view, lent, keywords);
    at_shared_unref(&view->shared);
    if (capsule != NULL && view_of(object) == NULL) {
        Py_CLEAR(capsule);
    }
    return capsule;
}

AT_UNCHECKED static PyObject *view_dlpack_device(PyObject *object, PyObject *unused)
{
    return at_dlpack_device();
}

/* ---- the types ------------------------------------------------------------------- */

#define VIEW_METHODS                                                                   \
    {"release", view_release, METH_NOARGS,                                             \
     "release($self)\n--\n\nLet the memory go: this handle raises from now on. "       \
     "Others keep theirs.\n\nRaises:\n    BufferError: A view of it is in use."},      \
        {"__enter__", view_enter, METH_NOARGS,                                         \
         "__enter__($self)\n--\n\nThe buffer itself."},                                \
        {"__exit__", view_exit, METH_VARARGS,                                          \
         "__exit__($self, *exception)\n--\n\nrelease()."},                             \
        {"toreadonly", view_readonly_view, METH_NOARGS,                                \
         "toreadonly($self)\n--\n\nA view of the same memory that cannot be written "  \
         "to."},                                                                       \
        {"__copy__", view_copy, METH_NOARGS,                                           \
         "__copy__($self)\n--\n\nAnother handle to the same memory."},                 \
        {"__deepcopy__", view_deepcopy, METH_O,                                        \
         "__deepcopy__($self, memo, /)\n--\n\n"                                        \
         "The same items in memory of their own, without a name."},                    \
        {"_transfer", view_transfer, METH_NOARGS,                                      \
         "_transfer($self)\n--\n\nFor atoll.transfer()."},                             \
        {"_describe", at_buffer_describe, METH_NOARGS,                                 \
         "_describe($self)\n--\n\nFor repr() and the tests."},                         \
        {"__reduce__", at_buffer_reduce, METH_NOARGS,                                  \
         "__reduce__($self)\n--\n\nFor pickle: other processes map the same memory."}, \
        {"__dlpack__", (PyCFunction)(void (*)(void))view_dlpack,                       \
         METH_VARARGS | METH_KEYWORDS, "A capsule for DLPack's consumers."},           \
    {                                                                                  \
        "__dlpack_device__", view_dlpack_device, METH_NOARGS,                          \
            "DLPack: memory of the CPU."                                               \
    }

static PyMethodDef buffer_methods[] = {
    VIEW_METHODS,
    {"_restore", buffer_restore, METH_VARARGS | METH_CLASS, "For pickle."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef array_methods[] = {
    VIEW_METHODS,
    {"_restore", array_restore, METH_VARARGS | METH_CLASS, "For pickle."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef view_attributes[] = {
    {"nbytes", view_nbytes, NULL, "Its size in bytes.", NULL},
    {"readonly", view_readonly, NULL,
     "Whether it cannot be written to through this handle.", NULL},
    {"shape", view_shape, NULL, "Its size in items, for each dimension.", NULL},
    {"dtype", view_dtype, NULL, "The type of an item, as numpy writes it.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef view_members[] = AT_BIND_WEAK_MEMBERS(view_object);

#define VIEW_SLOTS                                                                     \
    {Py_tp_dealloc, view_dealloc}, {Py_tp_getset, view_attributes},                    \
        {Py_tp_repr, view_repr}, {Py_mp_subscript, at_buffer_subscript},               \
        {Py_mp_ass_subscript, at_buffer_assign}, {Py_mp_length, view_length},          \
        {Py_bf_getbuffer, view_get_buffer}, {Py_tp_richcompare, view_compare},         \
        {Py_tp_hash, view_hash}, {Py_tp_iter, at_buffer_iterate},                      \
        {Py_tp_members, view_members},                                                 \
    {                                                                                  \
        Py_bf_releasebuffer, view_release_buffer                                       \
    }

static PyType_Slot buffer_slots[] = {
    {Py_tp_doc,
     "SharedBuffer(size, *, name=None)\n"
     "--\n"
     "\n"
     "Bytes that interpreters and processes share.\n"
     "\n"
     "It speaks the buffer protocol (PEP 3118) and DLPack: memoryview() and\n"
     "numpy.asarray() see the memory itself. Any thread of any interpreter "
     "may use it;\n"
     "who reads what another writes wants a Lock, or an Event.\n"
     "\n"
     "Two are equal, and hash alike, that look at the same bytes of one memory and\n"
     "may both write or both only read: handles that were sent and came back, not\n"
     "memory with the same contents, which bytes() compares. What was released or\n"
     "transferred equals itself alone.\n"
     "\n"
     "Args:\n"
     "    size (int): Bytes, at least 1; zeros at first.\n"
     "    name (str | None): By which open_shared() finds it, up to 180 "
     "bytes.\n"
     "\n"
     "Raises:\n"
     "    FileExistsError: There is memory of this name.\n"
     "    MemoryError: There is no room for so many bytes."},
    VIEW_SLOTS,
    {Py_tp_new, buffer_new},
    {Py_tp_methods, buffer_methods},
    {0, NULL}};

static PyType_Slot array_slots[] = {
    {Py_tp_doc,
     "SharedArray(shape, dtype, *, name=None)\n"
     "--\n"
     "\n"
     "An array that interpreters and processes share.\n"
     "\n"
     "As SharedBuffer: the buffer protocol (PEP 3118), DLPack, any thread of "
     "any\n"
     "interpreter. numpy.asarray() of it computes, and compares items: two arrays\n"
     "are equal, and hash alike, that look at the same memory with the same shape and\n"
     "dtype and may both write or both only read, as it is with SharedBuffer.\n"
     "\n"
     "Args:\n"
     "    shape (int | tuple[int, ...]): How many items, for each of 1 to 32\n"
     "        dimensions; zeros at first.\n"
     "    dtype: The type of an item, as numpy or the struct module writes "
     "it.\n"
     "    name (str | None): By which open_shared() finds it, up to 180 "
     "bytes.\n"
     "\n"
     "Raises:\n"
     "    TypeError: An item of that type cannot be shared.\n"
     "    ValueError: There is no such shape.\n"
     "    FileExistsError: There is memory of this name.\n"
     "    MemoryError: There is no room for so many bytes."},
    VIEW_SLOTS,
    {Py_tp_new, array_new},
    {Py_tp_methods, array_methods},
    {0, NULL}};

static PyType_Spec buffer_spec = {
    .name = "atoll.SharedBuffer",
    .basicsize = sizeof(view_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = buffer_slots,
};

static PyType_Spec array_spec = {
    .name = "atoll.SharedArray",
    .basicsize = sizeof(view_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = array_slots,
};

static at_shared *thing_of(PyObject *object) AT_ATTACHED
{
    at_view *view = view_of(object);
    return view != NULL ? &view->shared : NULL;
}

static const at_parcel_handle buffer_handle = {&at_view_buffer_kind, thing_of, wrap,
                                               true};
static const at_parcel_handle array_handle = {&at_view_array_kind, thing_of, wrap,
                                              true};

static int add(PyObject *module, PyType_Spec *spec,
               const at_parcel_handle *handle) AT_ATTACHED
{
    PyTypeObject *type = at_bind_add_type(module, spec);
    if (type == NULL) {
        return -1;
    }
    int result = at_parcel_register_handle(type, handle);
    Py_DECREF(type);
    return result;
}

AT_UNCHECKED int at_bind_buffer(PyObject *module)
{
    if (PyModule_AddFunctions(module, at_item_type_functions) < 0) {
        return -1;
    }
    return add(module, &buffer_spec, &buffer_handle) == 0
               ? add(module, &array_spec, &array_handle)
               : -1;
}
