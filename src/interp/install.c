/* The importer in an interpreter; see install.h. */
#include "interp/install.h"

#include <string.h>

#include "base/memory.h"
#include "interp/compat.h"
#include "interp/constants.h"
#include "interp/extension.h"
#include "interp/runtime.h"

/* importlib's spec for the file at `path`, which is `directory`/`file` where `file` is
 * given. A new reference. */
static PyObject *spec_of(const char *name, PyObject *path)
{
    PyObject *external = PyImport_ImportModule("_frozen_importlib_external");
    if (external == NULL) {
        return NULL;
    }
    PyObject *spec =
        PyObject_CallMethod(external, "spec_from_file_location", "sO", name, path);
    Py_DECREF(external);
    return spec;
}

/* Call a function of importlib._bootstrap. A new reference. */
static PyObject *call_bootstrap(const char *function, PyObject *first, PyObject *second)
{
    PyObject *bootstrap = PyImport_ImportModule("_frozen_importlib");
    if (bootstrap == NULL) {
        return NULL;
    }
    PyObject *result = PyObject_CallMethod(bootstrap, function,
                                           second != NULL ? "OO" : "O", first, second);
    Py_DECREF(bootstrap);
    return result;
}

/* _atoll, made without an importer. */
static int add_runtime_module(PyModuleDef *def, const char *file)
{
    PyObject *modules = PyImport_GetModuleDict();
    int known = PyMapping_HasKeyStringWithError(modules, "atoll._atoll");
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    int result = -1;
    PyObject *path = PyUnicode_DecodeFSDefault(file);
    PyObject *spec = path != NULL ? spec_of("atoll._atoll", path) : NULL;
    PyObject *module = spec != NULL ? PyModule_FromDefAndSpec(def, spec) : NULL;
    PyObject *done =
        module != NULL ? call_bootstrap("_init_module_attrs", spec, module) : NULL;
    if (done != NULL && PyMapping_SetItemString(modules, "atoll._atoll", module) == 0) {
        result = PyModule_ExecDef(module, def);
    }
    Py_XDECREF(done);
    Py_XDECREF(module);
    Py_XDECREF(spec);
    Py_XDECREF(path);
    return result;
}

/* The module atoll._importer, run from its file without its package. */
static PyObject *importer_module(const char *file)
{
    PyObject *modules = PyImport_GetModuleDict();
    PyObject *known = NULL;
    if (PyMapping_GetOptionalItemString(modules, "atoll._importer", &known) != 0) {
        return known;
    }
    const char *slash = strrchr(file, '/');
    PyObject *directory =
        PyUnicode_DecodeFSDefaultAndSize(file, slash != NULL ? slash - file : 0);
    PyObject *path =
        directory != NULL ? PyUnicode_FromFormat("%U/_importer.py", directory) : NULL;
    PyObject *spec = path != NULL ? spec_of("atoll._importer", path) : NULL;
    PyObject *module = spec != NULL ? call_bootstrap("_load", spec, NULL) : NULL;
    Py_XDECREF(spec);
    Py_XDECREF(path);
    Py_XDECREF(directory);
    return module;
}

int at_install_here(bool at_exit)
{
    if (PyInterpreterState_Get() == PyInterpreterState_Main()) {
        return 0;
    }
    const char *file;
    PyModuleDef *def = at_runtime_module(&file);
    if (def == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "atoll was never imported in main");
        return -1;
    }
    int known =
        PyMapping_HasKeyStringWithError(PyImport_GetModuleDict(), "atoll._importer");
    if (known < 0 || add_runtime_module(def, file) < 0) {
        return -1;
    }
    /* Not where Python code may have run by now (PEP 734): copies of a code object have
     * its tuple of constants, and from 3.15 on what runs borrows them from there. */
    if (!known && !at_exit) {
        at_constants_share_here();
    }
    PyObject *importer = importer_module(file);
    PyObject *done = importer != NULL
                         ? PyObject_CallMethod(importer, "install", "O",
                                               at_exit ? Py_True : Py_False)
                         : NULL;
    Py_XDECREF(importer);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* What was raised, as text that may cross to another interpreter; to be freed. */
static char *raised_text(void)
{
    PyObject *raised = PyErr_GetRaisedException();
    PyObject *text = raised != NULL ? PyObject_Repr(raised) : NULL;
    const char *bytes = text != NULL ? PyUnicode_AsUTF8(text) : NULL;
    char *copy = at_strdup(bytes != NULL ? bytes : "unknown error");
    PyErr_Clear();
    Py_XDECREF(text);
    Py_XDECREF(raised);
    return copy;
}

int at_install_in(int64_t interpreter_id, bool at_exit)
{
    if (_PyInterpreterState_LookUpID == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "this CPython does not export what finds an interpreter");
        return -1;
    }
    PyInterpreterState *interpreter = _PyInterpreterState_LookUpID(interpreter_id);
    if (interpreter == NULL) {
        return -1;
    }
    PyThreadState *inside = PyThreadState_New(interpreter);
    if (inside == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    PyThreadState *outside = PyThreadState_Swap(inside);
    int result = at_install_here(at_exit);
    bool anchored = false;
    if (AT_NEEDS_ANCHOR && at_exit && result == 0) {
        result = at_extensions_anchor(inside);
        anchored = result == 0;
    }
    char *error = result < 0 ? raised_text() : NULL;
    if (!anchored) {
        PyThreadState_Clear(inside);
    }
    (void)PyThreadState_Swap(outside);
    if (!anchored) {
        PyThreadState_Delete(inside);
    }
    if (result < 0) {
        PyErr_Format(PyExc_RuntimeError, "the importer could not be installed: %s",
                     error != NULL ? error : "out of memory");
        at_free(error);
    }
    return result;
}
