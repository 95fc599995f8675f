/* DLPack; see dlpack.h. The layouts are those of
 * https://dmlc.github.io/dlpack/latest/c_api.html: with a version for consumers that
 * ask for it, and the older one, without, that every consumer understands. */
#include "bind/dlpack.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "bind/error.h"

#define UNVERSIONED "dltensor"
#define VERSIONED "dltensor_versioned"

enum { DL_READ_ONLY = 1 };
enum { DL_CPU = 1, DL_INT = 0, DL_UINT = 1, DL_FLOAT = 2, DL_COMPLEX = 5, DL_BOOL = 6 };

typedef struct dl_tensor {
    void *data;
    int32_t device_type;
    int32_t device_id;
    int32_t dimension_count;
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
    int64_t *shape;
    int64_t *strides; /* in items */
    uint64_t offset_bytes;
} dl_tensor;

/* What is exported, in either version: the consumer sees from its own head on. */
typedef struct dl_export {
    struct dl_unversioned {
        dl_tensor tensor;
        void *context; /* the dl_export */
        void (*deleter)(struct dl_unversioned *self);
    } unversioned;
    struct dl_versioned {
        uint32_t major;
        uint32_t minor;
        void *context; /* the dl_export */
        void (*deleter)(struct dl_versioned *self);
        uint64_t flags;
        dl_tensor tensor;
    } versioned;
    at_view *view; /* a reference */
    int64_t shape[AT_VIEW_DIMENSIONS];
    int64_t strides[AT_VIEW_DIMENSIONS];
} dl_export;

/* The deleters: called by the consumer, on any thread, attached or not. */
static void export_free(dl_export *self)
{
    at_shared_unref(&self->view->shared);
    at_free(self);
}

static void unversioned_delete(struct dl_unversioned *self)
{
    export_free(self->context);
}

static void versioned_delete(struct dl_versioned *self)
{
    export_free(self->context);
}

/* A consumer renames the capsule, and then it calls the deleter itself. */
static void capsule_free(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, UNVERSIONED)) {
        unversioned_delete(PyCapsule_GetPointer(capsule, UNVERSIONED));
    } else if (PyCapsule_IsValid(capsule, VERSIONED)) {
        versioned_delete(PyCapsule_GetPointer(capsule, VERSIONED));
    }
}

static int code_of(const at_view *view)
{
    if (view->format[0] == 'Z') {
        return DL_COMPLEX;
    }
    if (strchr("efd", view->format[0]) != NULL) {
        return DL_FLOAT;
    }
    if (view->format[0] == '?') {
        return DL_BOOL;
    }
    return strchr("bhiq", view->format[0]) != NULL ? DL_INT : DL_UINT;
}

/* Does the consumer say max_version=(1, ...) or more? -1 with an exception set. */
static int wants_version(PyObject *keywords) AT_ATTACHED
{
    PyObject *limit =
        keywords != NULL ? PyDict_GetItemString(keywords, "max_version") : NULL;
    if (limit == NULL || limit == Py_None) {
        return 0;
    }
    int major;
    int minor;
    if (!PyArg_Parse(limit, "(ii)", &major, &minor)) {
        return -1;
    }
    return major >= 1;
}

/* Does the consumer ask for another device? -1 with an exception set. */
static int wants_elsewhere(PyObject *keywords) AT_ATTACHED
{
    PyObject *device =
        keywords != NULL ? PyDict_GetItemString(keywords, "dl_device") : NULL;
    if (device == NULL || device == Py_None) {
        return 0;
    }
    int kind;
    int number;
    if (!PyArg_Parse(device, "(ii)", &kind, &number)) {
        return -1;
    }
    return kind != DL_CPU;
}

/* The unversioned layout cannot mark memory read-only, and a copy, here or on another
 * device, is not what shared memory is for. */
static int refuse(const at_view *view, PyObject *keywords, bool versioned) AT_ATTACHED
{
    if (view->readonly && !versioned) {
        PyErr_SetString(PyExc_BufferError,
                        "a read-only buffer needs a consumer of DLPack 1.0");
        return -1;
    }
    int elsewhere = wants_elsewhere(keywords);
    if (elsewhere != 0) {
        if (elsewhere > 0) {
            PyErr_SetString(PyExc_BufferError, "shared memory is memory of the CPU");
        }
        return -1;
    }
    PyObject *copy = keywords != NULL ? PyDict_GetItemString(keywords, "copy") : NULL;
    if (copy == Py_True) {
        PyErr_SetString(PyExc_BufferError, "shared memory is exported without a copy");
        return -1;
    }
    return 0;
}

static void export_fill(dl_export *self, at_view *view)
{
    for (int i = 0; i < view->dimension_count; i++) {
        self->shape[i] = view->shape[i];
        self->strides[i] = view->strides[i] / (ptrdiff_t)view->item_bytes;
    }
    dl_tensor tensor = {
        .data = at_view_data(view),
        .device_type = DL_CPU,
        .dimension_count = view->dimension_count,
        .code = (uint8_t)code_of(view),
        .bits = (uint8_t)(view->item_bytes * 8),
        .lanes = 1,
        .shape = self->shape,
        .strides = self->strides,
    };
    self->view = (at_view *)at_shared_ref(&view->shared);
    self->unversioned.tensor = tensor;
    self->unversioned.context = self;
    self->unversioned.deleter = unversioned_delete;
    self->versioned.major = 1;
    self->versioned.context = self;
    self->versioned.deleter = versioned_delete;
    self->versioned.flags = view->readonly ? DL_READ_ONLY : 0;
    self->versioned.tensor = tensor;
}

PyObject *at_dlpack_export(at_view *view, PyObject *keywords)
{
    int versioned = wants_version(keywords);
    if (versioned < 0 || refuse(view, keywords, versioned) < 0) {
        return NULL;
    }
    dl_export *made = at_calloc(1, sizeof *made);
    if (made == NULL) {
        return at_raise(AT_ENOMEM);
    }
    export_fill(made, view);
    PyObject *capsule =
        versioned ? PyCapsule_New(&made->versioned, VERSIONED, capsule_free)
                  : PyCapsule_New(&made->unversioned, UNVERSIONED, capsule_free);
    if (capsule == NULL) {
        export_free(made);
    }
    return capsule;
}

PyObject *at_dlpack_device(void)
{
    return Py_BuildValue("(ii)", DL_CPU, 0);
}
