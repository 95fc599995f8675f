/* Shared memory on its way to other processes; see buffer.h. */
#define PY_SSIZE_T_CLEAN
#include "base/error.h"
#include "bind/buffer.h"
#include "bind/error.h"
#include "bind/item_type.h"

PyObject *at_buffer_shape(const at_view *view)
{
    PyObject *shape = PyTuple_New(view->dimension_count);
    for (int i = 0; shape != NULL && i < view->dimension_count; i++) {
        PyObject *size = PyLong_FromSsize_t(view->shape[i]);
        if (size == NULL) {
            Py_CLEAR(shape);
            break;
        }
        PyTuple_SET_ITEM(shape, i, size);
    }
    return shape;
}

AT_UNCHECKED PyObject *at_buffer_describe(PyObject *object, PyObject *unused)
{
    at_view *view = at_buffer_view(object);
    if (view == NULL) {
        return NULL;
    }
    PyObject *shape = at_buffer_shape(view);
    if (shape == NULL) {
        return NULL;
    }
    return Py_BuildValue("(insNO)", view->region->memory.descriptor,
                         (Py_ssize_t)view->offset_bytes, view->format, shape,
                         view->readonly ? Py_True : Py_False);
}

AT_UNCHECKED PyObject *at_buffer_restore(PyObject *type, PyObject *arguments,
                                         const at_shared_kind *kind)
{
    int descriptor;
    Py_ssize_t offset;
    const char *format;
    PyObject *sizes;
    int readonly;
    ptrdiff_t shape[AT_VIEW_DIMENSIONS];
    if (!PyArg_ParseTuple(arguments, "insOp:_restore", &descriptor, &offset, &format,
                          &sizes, &readonly)) {
        return NULL;
    }
    int count = at_item_shape(sizes, shape);
    const at_item_type *items = at_item_type_find(format);
    if (count < 0) {
        return NULL;
    }
    if (items == NULL || offset < 0) {
        return at_raise(AT_EINVALID);
    }
    at_fault fault;
    at_region *region;
    if (at_region_adopt(descriptor, &region, &fault) < 0) {
        return at_raise_fault(&fault);
    }
    at_view *view;
    int result = at_view_new(kind, region, (size_t)offset, items->format,
                             items->item_bytes, count, shape, readonly != 0, &view);
    at_shared_unref(&region->shared);
    return result == 0 ? at_buffer_wrap((PyTypeObject *)type, view) : at_raise(result);
}

/* pickle: multiprocessing's way of passing descriptors does the rest. */
AT_UNCHECKED PyObject *at_buffer_reduce(PyObject *object, PyObject *unused)
{
    PyObject *module = PyImport_ImportModule("atoll._buffer");
    if (module == NULL) {
        return NULL;
    }
    PyObject *parts = PyObject_CallMethod(module, "reduce", "O", object);
    Py_DECREF(module);
    return parts;
}
