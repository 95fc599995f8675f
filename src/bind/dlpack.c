/* DLPack; see dlpack.h. The layouts are those of
 * https://dmlc.github.io/dlpack/latest/c_api.html: with a version for consumers that
 * ask for it, and the older one, without, that every consumer understands. */
#include "bind/dlpack.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "bind/buffer.h"
#include "bind/error.h"

#define UNVERSIONED "dltensor"
#define VERSIONED "dltensor_versioned"

enum { DL_READ_ONLY = 1, DL_IS_COPIED = 2 };
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
    at_view *view;        /* a reference */
    at_dlpack_lent *lent; /* a reference, and counted there; or NULL */
    int64_t shape[AT_VIEW_DIMENSIONS];
    int64_t strides[AT_VIEW_DIMENSIONS];
} dl_export;

/* ---- how many are lent ----------------------------------------------------------- */

struct at_dlpack_lent {
    at_shared shared;
    atomic_long count;
};

static void lent_free(at_shared *thing)
{
    at_free(thing);
}

static const at_shared_kind lent_kind = {"exports by DLPack", lent_free};

at_dlpack_lent *at_dlpack_lent_new(void)
{
    at_dlpack_lent *lent = at_calloc(1, sizeof *lent);
    if (lent != NULL) {
        at_shared_init(&lent->shared, &lent_kind);
    }
    return lent;
}

void at_dlpack_lent_unref(at_dlpack_lent *lent)
{
    at_shared_unref(lent != NULL ? &lent->shared : NULL);
}

long at_dlpack_lent_count(const at_dlpack_lent *lent)
{
    return lent != NULL ? atomic_load(&lent->count) : 0;
}

/* ---- exports --------------------------------------------------------------------- */

/* The deleters: called by the consumer, on any thread, attached or not. */
static void export_free(dl_export *self)
{
    at_shared_unref(&self->view->shared);
    if (self->lent != NULL) {
        atomic_fetch_sub(&self->lent->count, 1);
        at_dlpack_lent_unref(self->lent);
    }
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

/* The unversioned layout cannot mark memory read-only, and memory of another device is
 * not what this is for. */
static int refuse(const at_view *view, PyObject *keywords, bool versioned,
                  bool copied) AT_ATTACHED
{
    if (view->readonly && !versioned && !copied) {
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
    return 0;
}

/* Takes a reference of the caller's to the view. */
static void export_fill(dl_export *self, at_view *view, at_dlpack_lent *lent)
{
    if (lent != NULL) {
        self->lent = (at_dlpack_lent *)at_shared_ref(&lent->shared);
        atomic_fetch_add(&lent->count, 1);
    }
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
    self->view = view;
    self->unversioned.tensor = tensor;
    self->unversioned.context = self;
    self->unversioned.deleter = unversioned_delete;
    self->versioned.major = 1;
    self->versioned.context = self;
    self->versioned.deleter = versioned_delete;
    self->versioned.flags = lent == NULL     ? DL_IS_COPIED
                            : view->readonly ? DL_READ_ONLY
                                             : 0;
    self->versioned.tensor = tensor;
}

PyObject *at_dlpack_export(at_view *view, at_dlpack_lent *lent, PyObject *keywords)
{
    int versioned = wants_version(keywords);
    PyObject *copy = keywords != NULL ? PyDict_GetItemString(keywords, "copy") : NULL;
    bool copied = copy == Py_True;
    if (versioned < 0 || refuse(view, keywords, versioned, copied) < 0) {
        return NULL;
    }
    dl_export *made = at_calloc(1, sizeof *made);
    if (made == NULL) {
        return at_raise(AT_ENOMEM);
    }
    if (!copied) {
        at_shared_ref(&view->shared);
    } else if ((view = at_buffer_duplicate(view)) == NULL) {
        at_free(made);
        return NULL;
    }
    export_fill(made, view, copied ? NULL : lent);
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
