/* Imports of extensions, and the end of their interpreters; see extension.h. */
#include "interp/extension.h"

#include <dlfcn.h>

#include "elf/image.h"
#include "interp/compat.h"
#include "interp/hooks.h"
#include "interp/module.h"
#include "interp/parsers.h"
#include "interp/remedy.h"
#include "interp/slot.h"
#include "interp/static_types.h"

/* ---- records --------------------------------------------------------------------- */

/* Does the interpreter still exist? Where CPython does not say, yes. */
static bool interpreter_exists(int64_t interpreter_id) AT_UNCHECKED;
static bool interpreter_exists(int64_t interpreter_id)
{
    if (_PyInterpreterState_LookUpID == NULL ||
        _PyInterpreterState_LookUpID(interpreter_id) != NULL) {
        return true;
    }
    PyErr_Clear();
    return false;
}

void at_extensions_ended(int64_t interpreter_id) AT_UNCHECKED;
void at_extensions_ended(int64_t interpreter_id)
{
    at_slot *slot = at_slot_find(interpreter_id);
    if (slot != NULL && at_slot_take_disowned(slot, interpreter_id)) {
        if (interpreter_exists(interpreter_id)) {
            at_extensions_disown(interpreter_id);
            return;
        }
        Py_BEGIN_ALLOW_THREADS at_extensions_closed(interpreter_id);
        Py_END_ALLOW_THREADS
    }
}

/* Retire the records of interpreters that ended without telling: those that others
 * created, and ended by ways that the importer does not see. */
static void retire_ended(void) AT_UNCHECKED;
static void retire_ended(void)
{
    int64_t ids[AT_SLOT_COUNT];
    size_t count = at_slot_list_disowned(ids);
    for (size_t i = 0; i < count; i++) {
        at_extensions_ended(ids[i]);
    }
}

/* The record of the calling thread's interpreter, made now unless it is there. NULL
 * with ImportError. */
static at_slot *current_record(void) AT_UNCHECKED;
static at_slot *make_record(PyInterpreterState *interpreter, int64_t id) AT_UNCHECKED;
static at_slot *make_record(PyInterpreterState *interpreter, int64_t id)
{
    at_slot *slot = at_slot_take(id, interpreter);
    if (slot == NULL) {
        PyErr_Format(PyExc_ImportError,
                     "all %d places for interpreters with private images are taken; "
                     "closed interpreters keep theirs while threads that their "
                     "extensions started may live",
                     AT_SLOT_COUNT);
        return NULL;
    }
    at_image_hooks hooks = {.replacement = at_hook_replacement, .context = slot};
    if (at_image_space_new(id, &hooks, &slot->space) < 0) {
        at_slot_give(slot, false);
        (void)PyErr_NoMemory();
        return NULL;
    }
    return slot;
}

/* Two threads of one interpreter must not make two records. Waiting lets go of the
 * GIL. */
static PyMutex record_lock;

static at_slot *current_record(void)
{
    PyInterpreterState *interpreter = PyInterpreterState_Get();
    int64_t id = PyInterpreterState_GetID(interpreter);
    if (at_slot_find(id) == NULL) {
        retire_ended();
    }
    PyMutex_Lock(&record_lock);
    at_slot *slot = at_slot_find(id);
    if (slot == NULL) {
        slot = make_record(interpreter, id);
    }
    PyMutex_Unlock(&record_lock);
    return slot;
}

/* ---- import ---------------------------------------------------------------------- */

/* The flags of sys.setdlopenflags(); -1 with an exception. */
static int dlopen_flags(void)
{
    PyObject *get_flags = PySys_GetObject("getdlopenflags"); /* borrowed */
    if (get_flags == NULL) {
        return RTLD_NOW;
    }
    PyObject *flags = PyObject_CallNoArgs(get_flags);
    if (flags == NULL) {
        return -1;
    }
    int value = PyLong_AsInt(flags);
    Py_DECREF(flags);
    return value;
}

static void raise_import_error(const char *text, PyObject *name, PyObject *path)
{
    PyObject *message = PyUnicode_DecodeLocale(text, "surrogateescape");
    if (message != NULL) {
        (void)PyErr_SetImportError(message, name, path);
        Py_DECREF(message);
    }
}

static void *lookup_image(void *image, const char *symbol)
{
    return at_image_symbol(image, symbol);
}

static PyObject *import_image(PyObject *spec, PyObject *name, PyObject *path,
                              const char *file, int flags) AT_UNCHECKED;
static PyObject *import_image(PyObject *spec, PyObject *name, PyObject *path,
                              const char *file, int flags)
{
    at_slot *slot = current_record();
    if (slot == NULL) {
        return NULL;
    }
    at_image *image = NULL;
    at_fault fault = {0};
    int result;
    Py_BEGIN_ALLOW_THREADS result =
        at_image_load(slot->space, file, flags, &image, &fault);
    Py_END_ALLOW_THREADS if (result < 0)
    {
        raise_import_error(fault.text, name, path);
        return NULL;
    }
    return at_module_import(spec, name, path, lookup_image, image, slot);
}

static void *lookup_shared(void *handle, const char *symbol)
{
    return dlsym(handle, symbol);
}

static PyObject *import_shared(PyObject *spec, PyObject *name, PyObject *path,
                               const char *file, int flags) AT_UNCHECKED;
static PyObject *import_shared(PyObject *spec, PyObject *name, PyObject *path,
                               const char *file, int flags)
{
    void *handle;
    Py_BEGIN_ALLOW_THREADS handle = dlopen(file, flags);
    Py_END_ALLOW_THREADS if (handle == NULL)
    {
        const char *error = dlerror();
        raise_import_error(error != NULL ? error : "unknown dlopen() error", name,
                           path);
        return NULL;
    }
    return at_module_import(spec, name, path, lookup_shared, handle, NULL);
}

PyObject *at_extensions_load(PyObject *spec, at_extension_way way)
{
    PyObject *module = NULL;
    PyObject *file = NULL;
    PyObject *name = PyObject_GetAttrString(spec, "name");
    PyObject *path = name != NULL ? PyObject_GetAttrString(spec, "origin") : NULL;
    if (path == NULL) {
        goto done;
    }
    if (!PyUnicode_Check(name) || !PyUnicode_Check(path)) {
        PyErr_SetString(PyExc_TypeError, "spec.name and spec.origin must be str");
        goto done;
    }
    if (PyInterpreterState_Get() == PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError,
                        "the main interpreter imports extensions by itself");
        goto done;
    }
    module = at_module_again(name, path);
    if (module != NULL || PyErr_Occurred()) {
        goto done;
    }
    if (PySys_Audit("import", "OOOOO", name, path, Py_None, Py_None, Py_None) < 0) {
        goto done;
    }
    file = PyUnicode_EncodeFSDefault(path);
    if (file == NULL) {
        goto done;
    }
    int flags = dlopen_flags();
    if (flags == -1 && PyErr_Occurred()) {
        goto done;
    }
    module = (way == AT_EXTENSION_IMAGE ? import_image : import_shared)(
        spec, name, path, PyBytes_AS_STRING(file), flags);
done:
    Py_XDECREF(file);
    Py_XDECREF(path);
    Py_XDECREF(name);
    return module;
}

PyObject *at_extensions_load_builtin(PyObject *spec, bool refuses)
{
    PyObject *name = PyObject_GetAttrString(spec, "name");
    if (name == NULL) {
        return NULL;
    }
    PyObject *module = NULL;
    if (PyUnicode_Check(name)) {
        module = at_module_builtin(spec, name, refuses);
    } else {
        PyErr_SetString(PyExc_TypeError, "spec.name must be str");
    }
    Py_DECREF(name);
    if (module == NULL && !PyErr_Occurred()) {
        Py_RETURN_NONE;
    }
    return module;
}

/* ---- close ----------------------------------------------------------------------- */

int at_extensions_anchor(PyThreadState *state)
{
    at_slot *slot = current_record();
    if (slot == NULL) {
        return -1;
    }
    slot->anchor = state;
    return 0;
}

static void drop_anchor(at_slot *slot)
{
    PyThreadState *anchor = slot->anchor;
    slot->anchor = NULL;
    /* CPython ends an interpreter that is left at the exit of the process with the
     * thread state that it finds there, which is then its own to delete. */
    if (anchor != NULL && anchor != PyThreadState_Get()) {
        PyThreadState_Clear(anchor);
        PyThreadState_Delete(anchor);
    }
}

void at_extensions_prepare_close(int64_t interpreter_id, int64_t deadline_ns,
                                 at_extensions_left *left) AT_UNCHECKED;
void at_extensions_prepare_close(int64_t interpreter_id, int64_t deadline_ns,
                                 at_extensions_left *left)
{
    at_extensions_left found = {0};
    at_slot *slot = at_slot_find(interpreter_id);
    if (slot != NULL) {
        at_slot_close(slot);
        Py_BEGIN_ALLOW_THREADS found.foreign_thread_count =
            at_slot_wait_empty(slot, deadline_ns);
        Py_END_ALLOW_THREADS for (void (*function)(void) = at_slot_take_exit(slot);
                                  function != NULL; function = at_slot_take_exit(slot))
        {
            function();
        }
        drop_anchor(slot);
        found.hung_thread_count = atomic_load(&slot->hung_count);
        found.started_threads = at_image_space_has_threads(slot->space);
    }
    if (left != NULL) {
        *left = found;
    }
}

void at_extensions_disown(int64_t interpreter_id)
{
    at_slot *slot = at_slot_find(interpreter_id);
    if (slot != NULL) {
        atomic_store(&slot->disowned, true);
    }
}

void at_extensions_closed(int64_t interpreter_id)
{
    at_slot *slot = at_slot_find(interpreter_id);
    if (slot == NULL) {
        return;
    }
    at_slot_close(slot);
    /* A thread that sleeps for ever stands in the code of an image. */
    bool quiet = at_slot_inside_count(slot) == 0 && atomic_load(&slot->hung_count) == 0;
    at_parsers_forget(slot->space);
    if (!at_remedy_is_left_out(AT_REMEDY_STATIC_TYPES)) {
        at_static_types_pin(slot->space);
    }
    bool gone = at_image_space_end(slot->space, quiet ? AT_IMAGE_UNMAP : AT_IMAGE_KEEP);
    at_slot_give(slot, !gone);
}
