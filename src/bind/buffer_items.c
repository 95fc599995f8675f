/* The items of shared memory: by index, slice and iteration; see buffer.h. */
#define PY_SSIZE_T_CLEAN
#include "bind/buffer.h"
#include "bind/error.h"

static PyObject *memoryview_of(PyObject *object) AT_ATTACHED
{
    return at_buffer_view(object) != NULL ? PyMemoryView_FromObject(object) : NULL;
}

static const char any_index[] = "A memoryview has refused it; numpy.asarray() of the "
                                "same memory takes any index.";
static const char any_value[] = "A memoryview has refused it; numpy.asarray() of the "
                                "same memory converts what it is given.";

/* A memoryview refused an index, or an item: say who takes more. Keeps the exception.
 */
static void name_numpy(PyObject *class, const char *note) AT_ATTACHED
{
    if (PyErr_ExceptionMatches(class)) {
        PyObject *error = PyErr_GetRaisedException();
        PyObject *done = PyObject_CallMethod(error, "add_note", "s", note);
        PyErr_Clear();
        Py_XDECREF(done);
        PyErr_SetRaisedException(error);
    }
}

/* A slice without a step is a view that can be sent; all else is memoryview's. */
AT_UNCHECKED PyObject *at_buffer_subscript(PyObject *object, PyObject *key)
{
    if (PySlice_Check(key)) {
        Py_ssize_t start, stop, step;
        if (PySlice_Unpack(key, &start, &stop, &step) < 0) {
            return NULL;
        }
        /* Behind what runs code, which may release. */
        at_view *view = at_buffer_view(object);
        if (view == NULL) {
            return NULL;
        }
        if (step == 1) {
            Py_ssize_t length = PySlice_AdjustIndices(view->shape[0], &start, &stop, 1);
            at_view *made;
            int result = at_view_slice(view, start, start + length, false, &made);
            return result == 0 ? at_buffer_wrap(Py_TYPE(object), made)
                               : at_raise(result);
        }
    }
    PyObject *memory = memoryview_of(object);
    if (memory == NULL) {
        return NULL;
    }
    PyObject *item = PyObject_GetItem(memory, key);
    Py_DECREF(memory);
    if (item == NULL) {
        name_numpy(PyExc_NotImplementedError, any_index);
        name_numpy(PyExc_TypeError, any_index);
    }
    return item;
}

AT_UNCHECKED int at_buffer_assign(PyObject *object, PyObject *key, PyObject *value)
{
    at_view *view = at_buffer_view(object);
    if (view == NULL) {
        return -1;
    }
    bool is_array = view->shared.kind == &at_view_array_kind;
    PyObject *memory = memoryview_of(object);
    if (memory == NULL) {
        return -1;
    }
    int result = value != NULL ? PyObject_SetItem(memory, key, value)
                               : PyObject_DelItem(memory, key);
    Py_DECREF(memory);
    if (result < 0) {
        name_numpy(PyExc_NotImplementedError, any_index);
        /* Of an array, what has another type or shape: numpy's would be converted. */
        if (PySlice_Check(key) && is_array) {
            name_numpy(PyExc_TypeError, any_value);
            name_numpy(PyExc_ValueError, any_value);
        }
    }
    return result;
}

AT_UNCHECKED PyObject *at_buffer_iterate(PyObject *object)
{
    PyObject *memory = memoryview_of(object);
    PyObject *items = memory != NULL ? PyObject_GetIter(memory) : NULL;
    Py_XDECREF(memory);
    if (items == NULL) {
        name_numpy(PyExc_NotImplementedError, any_index);
    }
    return items;
}
