/* What images wrote into CPython's own types; see static_types.h. */
#include "interp/static_types.h"

#include <Python.h>
#include <stdbool.h>
#include <stddef.h>

static PyTypeObject *const static_types[] = {
    &PyModule_Type,       &PyType_Type,
    &PyBaseObject_Type,   &PyFunction_Type,
    &PyMethod_Type,       &PyCFunction_Type,
    &PyMethodDescr_Type,  &PyClassMethodDescr_Type,
    &PyWrapperDescr_Type, &PyGetSetDescr_Type,
    &PyMemberDescr_Type,  &PyProperty_Type,
    &PyStaticMethod_Type, &PyClassMethod_Type,
    &PySuper_Type,        &PyLong_Type,
    &PyBool_Type,         &PyFloat_Type,
    &PyComplex_Type,      &PyUnicode_Type,
    &PyBytes_Type,        &PyByteArray_Type,
    &PyMemoryView_Type,   &PyTuple_Type,
    &PyList_Type,         &PyDict_Type,
    &PySet_Type,          &PyFrozenSet_Type,
    &PySlice_Type,        &PyRange_Type,
    &PyGen_Type,          &PyCoro_Type,
    &PyAsyncGen_Type,     &PyFrame_Type,
    &PyCode_Type,         &PyTraceBack_Type,
    &PyCell_Type,         &PyDictProxy_Type,
    &PyCapsule_Type,
};

/* The slots that hold a function, or a table of some. */
static const size_t slots[] = {
    offsetof(PyTypeObject, tp_dealloc),    offsetof(PyTypeObject, tp_getattr),
    offsetof(PyTypeObject, tp_setattr),    offsetof(PyTypeObject, tp_repr),
    offsetof(PyTypeObject, tp_as_number),  offsetof(PyTypeObject, tp_as_sequence),
    offsetof(PyTypeObject, tp_as_mapping), offsetof(PyTypeObject, tp_hash),
    offsetof(PyTypeObject, tp_call),       offsetof(PyTypeObject, tp_str),
    offsetof(PyTypeObject, tp_getattro),   offsetof(PyTypeObject, tp_setattro),
    offsetof(PyTypeObject, tp_as_buffer),  offsetof(PyTypeObject, tp_traverse),
    offsetof(PyTypeObject, tp_clear),      offsetof(PyTypeObject, tp_richcompare),
    offsetof(PyTypeObject, tp_iter),       offsetof(PyTypeObject, tp_iternext),
    offsetof(PyTypeObject, tp_methods),    offsetof(PyTypeObject, tp_members),
    offsetof(PyTypeObject, tp_getset),     offsetof(PyTypeObject, tp_descr_get),
    offsetof(PyTypeObject, tp_descr_set),  offsetof(PyTypeObject, tp_init),
    offsetof(PyTypeObject, tp_alloc),      offsetof(PyTypeObject, tp_new),
    offsetof(PyTypeObject, tp_free),       offsetof(PyTypeObject, tp_is_gc),
    offsetof(PyTypeObject, tp_finalize),   offsetof(PyTypeObject, tp_vectorcall),
};

void at_static_types_pin(at_image_space *space)
{
    const char *base = (const char *)&PyBaseObject_Type;
    for (size_t t = 0; t < sizeof static_types / sizeof static_types[0]; t++) {
        const char *type = (const char *)static_types[t];
        for (size_t s = 0; s < sizeof slots / sizeof slots[0]; s++) {
            const void *word = *(const void *const *)(type + slots[s]);
            const bool is_inherited =
                type != base && word == *(const void *const *)(base + slots[s]);
            if (word != NULL && !is_inherited &&
                at_image_space_pin_library_of(space, word)) {
                return;
            }
        }
    }
}
