/* Module objects of extensions; see module.h.
 *
 * Single-phase modules are the delicate ones. Their init function returns a finished
 * module, made by PyModule_Create2 with a name that is often the last part of the
 * dotted one only; CPython completes it from a "package context" that its own importer
 * alone can set, so ours is kept here and used by the stand-in of PyModule_Create2.
 * That is also the moment when the module goes to sys.modules: two modules whose init
 * functions import each other find the half-made one there instead of running each
 * other's init for ever.
 */
#include "interp/module.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "interp/module_index.h"

/* The dotted name of the module whose init function runs on this thread, until the
 * module of that name is created. Nested imports save and restore it. */
static _Thread_local const char *package_context;

/* ---- single-phase modules that were imported before ------------------------------ */

/* The interpreter's dict of them, {(path, name): (definition, copy of the dict)}.
 * Borrowed. */
static PyObject *single_phase_modules(void)
{
    PyObject *state = PyInterpreterState_GetDict(PyInterpreterState_Get());
    if (state == NULL) {
        PyErr_SetString(PyExc_SystemError, "the interpreter has no dict");
        return NULL;
    }
    PyObject *known = PyDict_GetItemString(state, "atoll.single_phase_modules");
    if (known != NULL) {
        return known;
    }
    PyObject *key = PyUnicode_FromString("atoll.single_phase_modules");
    PyObject *fresh = PyDict_New();
    if (key != NULL && fresh != NULL &&
        PyDict_SetDefaultRef(state, key, fresh, &known) >= 0) {
        Py_DECREF(known); /* the state holds it */
    }
    Py_XDECREF(fresh);
    Py_XDECREF(key);
    return known;
}

static int remember(PyObject *name, PyObject *path, PyObject *module, PyModuleDef *def)
{
    if (def->m_size != -1) {
        return 0; /* its init function may run again: it has no global state */
    }
    int result = -1;
    PyObject *known = single_phase_modules();
    PyObject *key = PyTuple_Pack(2, path, name);
    PyObject *copy = PyDict_Copy(PyModule_GetDict(module));
    PyObject *definition = PyCapsule_New(def, NULL, NULL);
    PyObject *value =
        copy != NULL && definition != NULL ? PyTuple_Pack(2, definition, copy) : NULL;
    if (known != NULL && key != NULL && value != NULL) {
        result = PyDict_SetItem(known, key, value);
    }
    Py_XDECREF(key);
    Py_XDECREF(copy);
    Py_XDECREF(definition);
    Py_XDECREF(value);
    return result;
}

/* Make PyState_FindModule(def) give `module`. */
static int add_to_state(PyObject *module, PyModuleDef *def)
{
    /* Adding the same module twice is a fatal error of CPython's. */
    return PyState_FindModule(def) == module ? 0 : PyState_AddModule(module, def);
}

PyObject *at_module_again(PyObject *name, PyObject *path)
{
    PyObject *known = single_phase_modules();
    PyObject *key = known != NULL ? PyTuple_Pack(2, path, name) : NULL;
    if (key == NULL) {
        return NULL;
    }
    PyObject *value = PyDict_GetItemWithError(known, key);
    Py_DECREF(key);
    if (value == NULL) {
        return NULL;
    }
    Py_INCREF(value);
    PyModuleDef *def = PyCapsule_GetPointer(PyTuple_GET_ITEM(value, 0), NULL);
    PyObject *module = PyImport_AddModuleObject(name);
    Py_XINCREF(module);
    if (def == NULL || module == NULL ||
        PyDict_Update(PyModule_GetDict(module), PyTuple_GET_ITEM(value, 1)) < 0 ||
        add_to_state(module, def) < 0) {
        Py_CLEAR(module);
    }
    Py_DECREF(value);
    return module;
}

/* ---- stand-ins for what an image calls ------------------------------------------- */

/* Is `short_name` the last part of the dotted `full_name`? */
static bool names_same_module(const char *full_name, const char *short_name)
{
    const char *dot = strrchr(full_name, '.');
    return strcmp(dot != NULL ? dot + 1 : full_name, short_name) == 0;
}

/* So that an import of the module from within its own init function finds it. */
static int publish(PyObject *module, const char *full_name)
{
    PyObject *modules = PyImport_GetModuleDict();
    PyObject *key = PyUnicode_FromString(full_name);
    int result = -1;
    if (key != NULL) {
        result = PyDict_Contains(modules, key);
        if (result == 0) {
            result = PyDict_SetItem(modules, key, module);
        }
        Py_DECREF(key);
    }
    return result < 0 ? -1 : 0;
}

PyObject *at_module_create(PyModuleDef *def, int api_version)
{
    const char *context = package_context;
    (void)at_module_def_init(def);
    if (context == NULL || def->m_name == NULL ||
        !names_same_module(context, def->m_name)) {
        return PyModule_Create2(def, api_version);
    }
    package_context = NULL;
    const char *short_name = def->m_name;
    def->m_name = context;
    PyObject *module = PyModule_Create2(def, api_version);
    def->m_name = short_name;
    if (module != NULL && publish(module, context) < 0) {
        Py_CLEAR(module);
    }
    return module;
}

static size_t slot_count(const PyModuleDef_Slot *slots)
{
    size_t count = 0;
    while (slots != NULL && slots[count].slot != 0) {
        count++;
    }
    return count;
}

static bool declares_own_gil(const PyModuleDef_Slot *slots, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (at_compat_is_multiple_interpreters(slots[i].slot)) {
            return slots[i].value == Py_MOD_PER_INTERPRETER_GIL_SUPPORTED;
        }
    }
    return false;
}

/* `count` slots into `to`, which has room for two more and is zeroed, with the
 * declaration that a GIL of its own is fine. */
static void correct_slots(PyModuleDef_Slot *to, const PyModuleDef_Slot *from,
                          size_t count)
{
    bool declared = false;
    for (size_t i = 0; i < count; i++) {
        to[i] = from[i];
        if (at_compat_is_multiple_interpreters(to[i].slot)) {
            to[i].value = Py_MOD_PER_INTERPRETER_GIL_SUPPORTED;
            declared = true;
        }
    }
    if (!declared) {
        to[count].slot = Py_mod_multiple_interpreters;
        to[count].value = Py_MOD_PER_INTERPRETER_GIL_SUPPORTED;
    }
}

/* Memory that lives as long as the images of the calling interpreter. */
static void *image_block(size_t count, size_t element_bytes)
{
    at_slot *slot = at_slot_find(PyInterpreterState_GetID(PyInterpreterState_Get()));
    void *block = slot != NULL ? at_calloc(count, element_bytes) : NULL;
    if (block != NULL && at_slot_own_block(slot, block) < 0) {
        at_free(block);
        block = NULL;
    }
    if (block == NULL) {
        (void)PyErr_NoMemory();
    }
    return block;
}

PyObject *at_module_from_def(PyModuleDef *def, PyObject *spec, int api_version)
{
    size_t count = slot_count(def->m_slots);
    if (!declares_own_gil(def->m_slots, count)) {
        /* The module is right that its file does not support a second interpreter; its
         * image has one only. The definition is the image's own, so the change is seen
         * by nobody else. */
        PyModuleDef_Slot *slots = image_block(count + 2, sizeof *slots);
        if (slots == NULL) {
            return NULL;
        }
        correct_slots(slots, def->m_slots, count);
        def->m_slots = slots;
    }
    return PyModule_FromDefAndSpec2(def, spec, api_version);
}

#if AT_HAVE_MODULE_EXPORT
PyObject *at_module_from_slots(const PySlot *slots, PyObject *spec)
{
    size_t count = 0;
    while (slots[count].sl_id != 0) {
        count++;
    }
    PySlot *copy = image_block(count + 2, sizeof *copy);
    if (copy == NULL) {
        return NULL;
    }
    memcpy(copy, slots, count * sizeof *copy);
    bool declared = false;
    for (size_t i = 0; i < count; i++) {
        if (at_compat_is_multiple_interpreters(copy[i].sl_id)) {
            copy[i].sl_ptr = Py_MOD_PER_INTERPRETER_GIL_SUPPORTED;
            declared = true;
        }
    }
    if (!declared) {
        copy[count].sl_id = Py_mod_multiple_interpreters;
        copy[count].sl_flags = PySlot_INTPTR;
        copy[count].sl_ptr = Py_MOD_PER_INTERPRETER_GIL_SUPPORTED;
    }
    return PyModule_FromSlotsAndSpec(copy, spec);
}
#endif

/* ---- the GIL of a free-threaded build -------------------------------------------- */

#ifdef Py_GIL_DISABLED
/* The single-phase module that said so last on this thread. Borrowed, and only compared
 * with. */
static _Thread_local PyObject *said_no_gil;

int at_module_set_gil(PyObject *module, void *gil)
{
    if (gil == Py_MOD_GIL_NOT_USED) {
        said_no_gil = module;
    }
    return PyUnstable_Module_SetGIL(module, gil);
}

bool at_module_needs_no_gil(PyObject *module)
{
    PyModuleDef *def = PyModule_Check(module) ? PyModule_GetDef(module) : NULL;
    size_t count = def != NULL ? slot_count(def->m_slots) : 0;
    for (size_t i = 0; i < count; i++) {
        if (def->m_slots[i].slot == Py_mod_gil) {
            return def->m_slots[i].value == Py_MOD_GIL_NOT_USED;
        }
    }
    return module == said_no_gil;
}
#else
bool at_module_needs_no_gil(PyObject *module)
{
    return false;
}
#endif

/* ---- the init function ----------------------------------------------------------- */

typedef enum init_kind { INIT_ASCII, INIT_PUNYCODE } init_kind;

/* The last part of the dotted name as PEP 489 spells it in an exported symbol. A new
 * bytes object. */
static PyObject *encoded_name(PyObject *name, init_kind *kind)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(name);
    Py_ssize_t dot = PyUnicode_FindChar(name, '.', 0, length, -1);
    PyObject *last = dot == -2 ? NULL : PyUnicode_Substring(name, dot + 1, length);
    if (last == NULL) {
        return NULL;
    }
    *kind = PyUnicode_IS_ASCII(last) ? INIT_ASCII : INIT_PUNYCODE;
    PyObject *encoded = *kind == INIT_ASCII
                            ? PyUnicode_AsASCIIString(last)
                            : PyUnicode_AsEncodedString(last, "punycode", NULL);
    Py_DECREF(last);
    if (encoded == NULL) {
        return NULL;
    }
    for (char *c = PyBytes_AS_STRING(encoded); *c != '\0'; c++) {
        if (*c == '-') {
            *c = '_';
        }
    }
    return encoded;
}

/* Look up PREFIX_NAME; NULL with ImportError when `required`. */
static void *find_function(const char *prefix, PyObject *encoded, PyObject *name,
                           PyObject *path, at_module_lookup lookup, void *context,
                           bool required)
{
    PyObject *symbol = PyBytes_FromFormat("%s_%s", prefix, PyBytes_AS_STRING(encoded));
    if (symbol == NULL) {
        return NULL;
    }
    void *function = lookup(context, PyBytes_AS_STRING(symbol));
    if (function == NULL && required) {
        const char *wanted = PyBytes_AS_STRING(symbol);
        PyObject *message =
            AT_HAVE_MODULE_EXPORT
                ? PyUnicode_FromFormat("dynamic module does not define module export "
                                       "function (PyModExport%s or %s)",
                                       wanted + strlen("PyInit"), wanted)
                : PyUnicode_FromFormat("dynamic module does not define module export "
                                       "function (%s)",
                                       wanted);
        if (message != NULL) {
            (void)PyErr_SetImportError(message, name, path);
            Py_DECREF(message);
        }
    }
    Py_DECREF(symbol);
    return function;
}

/* SystemError with what is raised now as its cause. */
static void raise_from_current(const char *format, const char *name)
{
    PyObject *cause = PyErr_GetRaisedException();
    PyErr_Format(PyExc_SystemError, format, name);
    PyObject *raised = PyErr_GetRaisedException();
    PyException_SetCause(raised, Py_NewRef(cause));
    PyException_SetContext(raised, cause);
    PyErr_SetRaisedException(raised);
}

/* What is wrong with how an init function returned, worded as CPython's import.c does;
 * 0 where nothing is. A result that comes with an exception is not freed: a module that
 * is broken in one way may be in another. */
static int check_return(const void *result, const char *name)
{
    if (result == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_SystemError,
                         "initialization of %s failed without raising an exception",
                         name);
        }
        return -1;
    }
    if (PyErr_Occurred()) {
        raise_from_current("initialization of %s raised unreported exception", name);
        return -1;
    }
    return 0;
}

/* Whose init function it was. */
typedef enum init_owner {
    OWNER_IMAGE,    /* the interpreter's own image: `slot` is set */
    OWNER_SHARED,   /* one file, or CPython itself, for every interpreter */
    OWNER_REFUSING, /* the same, and CPython's check is to be passed over */
} init_owner;

/* Only one thread at a time: PyModuleDef_Init writes to a definition that all
 * interpreters share. Waiting lets go of the GIL. Init functions of the standard
 * library do nothing else. */
static PyMutex shared_init_lock;

/* ---- builtin modules that refuse, on a free-threaded build ----------------------- */

/* A definition that says what the original ought to. The original is CPython's, and
 * interpreters that atoll does not know read it. Kept for good: the process has two. */
typedef struct corrected {
    struct corrected *next;
    PyModuleDef *original;
    PyModuleDef def;
} corrected;

static corrected *corrected_defs; /* guarded: shared_init_lock */

static PyModuleDef *corrected_find(PyModuleDef *original)
{
    corrected *each = corrected_defs;
    while (each != NULL && each->original != original) {
        each = each->next;
    }
    return each != NULL ? &each->def : NULL;
}

static PyModuleDef *corrected_add(PyModuleDef *original)
{
    size_t count = slot_count(original->m_slots);
    corrected *fresh = at_calloc(1, sizeof *fresh);
    PyModuleDef_Slot *slots = at_calloc(count + 2, sizeof *slots);
    if (fresh == NULL || slots == NULL) {
        at_free(fresh);
        at_free(slots);
        return NULL;
    }
    correct_slots(slots, original->m_slots, count);
    fresh->original = original;
    fresh->def = *original;
    fresh->def.m_slots = slots;
    fresh->next = corrected_defs;
    corrected_defs = fresh;
    return &fresh->def;
}

static PyModuleDef *corrected_def(PyModuleDef *original)
{
    PyMutex_Lock(&shared_init_lock);
    PyModuleDef *def = corrected_find(original);
    if (def == NULL) {
        def = corrected_add(original);
    }
    PyMutex_Unlock(&shared_init_lock);
    if (def == NULL) {
        (void)PyErr_NoMemory();
    }
    return def;
}

/* ---- the init function, continued ------------------------------------------------ */

static PyObject *call_init(PyObject *(*init)(void), const char *name, init_owner owner)
{
    if (owner != OWNER_IMAGE) {
        PyMutex_Lock(&shared_init_lock);
        PyObject *result = init();
        PyMutex_Unlock(&shared_init_lock);
        return result;
    }
    const char *outer = package_context;
    package_context = name;
    PyObject *result = init();
    package_context = outer;
    return result;
}

/* What CPython does with a finished module: __file__, the interpreter's list of modules
 * by definition, sys.modules. Takes `module`. */
static PyObject *finish_single_phase(PyObject *module, PyObject *name, PyObject *path)
{
    PyModuleDef *def = PyModule_Check(module) ? PyModule_GetDef(module) : NULL;
    if (def == NULL) {
        PyErr_Format(PyExc_SystemError,
                     "initialization of %U did not return an extension module", name);
        goto fail;
    }
    if (path != Py_None && PyModule_AddObjectRef(module, "__file__", path) < 0) {
        PyErr_Clear(); /* as CPython: not important enough to report */
    }
    if (add_to_state(module, def) < 0 ||
        PyObject_SetItem(PyImport_GetModuleDict(), name, module) < 0 ||
        remember(name, path, module, def) < 0) {
        goto fail;
    }
    return module;
fail:
    Py_DECREF(module);
    return NULL;
}

static PyObject *module_of_result(PyObject *result, init_kind kind, PyObject *spec,
                                  PyObject *name, PyObject *path, init_owner owner)
{
    if (Py_TYPE(result) == NULL) {
        PyErr_Format(PyExc_SystemError,
                     "init function of %U returned uninitialized object", name);
        return NULL;
    }
    if (PyObject_TypeCheck(result, &PyModuleDef_Type)) {
        /* A definition is not counted: it is static, or kept by who made it. */
        PyModuleDef *def = (PyModuleDef *)result;
        if (owner == OWNER_IMAGE) {
            return at_module_from_def(def, spec, PYTHON_API_VERSION);
        }
        if (owner == OWNER_REFUSING && (def = corrected_def(def)) == NULL) {
            return NULL;
        }
        return PyModule_FromDefAndSpec2(def, spec, PYTHON_API_VERSION);
    }
    if (kind == INIT_PUNYCODE) {
        PyErr_Format(PyExc_SystemError,
                     "initialization of %U did not return PyModuleDef", name);
        Py_DECREF(result);
        return NULL;
    }
    if (owner == OWNER_SHARED) {
        PyObject *message = PyUnicode_FromFormat(
            "module %U does not support loading in subinterpreters", name);
        if (message != NULL) {
            (void)PyErr_SetImportError(message, name, path);
            Py_DECREF(message);
        }
        Py_DECREF(result);
        return NULL;
    }
    return finish_single_phase(result, name, path);
}

/* After a failure: what publish() put there must not be found by the next import. */
static void unpublish(PyObject *name)
{
    PyObject *raised = PyErr_GetRaisedException();
    if (PyDict_Pop(PyImport_GetModuleDict(), name, NULL) < 0) {
        PyErr_Clear();
    }
    PyErr_SetRaisedException(raised);
}

static PyObject *run_init(PyObject *(*init)(void), init_kind kind, PyObject *spec,
                          PyObject *name, PyObject *path, init_owner owner)
{
    const char *text = PyUnicode_AsUTF8(name);
    int known = text != NULL ? PyDict_Contains(PyImport_GetModuleDict(), name) : -1;
    if (known < 0) {
        return NULL;
    }
    PyObject *result = call_init(init, text, owner);
    PyObject *module = NULL;
    if (check_return(result, text) == 0) {
        module = module_of_result(result, kind, spec, name, path, owner);
    }
    if (module == NULL && !known) {
        unpublish(name);
    }
    return module;
}

PyObject *at_module_import(PyObject *spec, PyObject *name, PyObject *path,
                           at_module_lookup lookup, void *context, at_slot *slot)
{
    init_kind kind;
    PyObject *encoded = encoded_name(name, &kind);
    PyObject *module = NULL;
    if (encoded == NULL) {
        return NULL;
    }
#if AT_HAVE_MODULE_EXPORT
    const PySlot *(*module_export)(void) = (const PySlot *(*)(void))find_function(
        kind == INIT_ASCII ? "PyModExport" : "PyModExportU", encoded, name, path,
        lookup, context, false);
    if (module_export != NULL) {
        const PySlot *slots = module_export();
        if (check_return(slots, PyUnicode_AsUTF8(name)) == 0) {
            module = slot != NULL ? at_module_from_slots(slots, spec)
                                  : PyModule_FromSlotsAndSpec(slots, spec);
        }
        goto done;
    }
    if (PyErr_Occurred()) {
        goto done;
    }
#endif
    PyObject *(*init)(void) = (PyObject * (*)(void))
        find_function(kind == INIT_ASCII ? "PyInit" : "PyInitU", encoded, name, path,
                      lookup, context, true);
    if (init != NULL) {
        module = run_init(init, kind, spec, name, path,
                          slot != NULL ? OWNER_IMAGE : OWNER_SHARED);
    }
#if AT_HAVE_MODULE_EXPORT
done:
#endif
    Py_DECREF(encoded);
    return module;
}

PyObject *at_module_builtin(PyObject *spec, PyObject *name, bool refuses)
{
    for (const struct _inittab *entry = PyImport_Inittab; entry->name != NULL;
         entry++) {
        if (PyUnicode_EqualToUTF8(name, entry->name) && entry->initfunc != NULL) {
            return run_init(entry->initfunc, INIT_ASCII, spec, name, Py_None,
                            refuses ? OWNER_REFUSING : OWNER_SHARED);
        }
    }
    return NULL;
}
