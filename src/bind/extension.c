/* Private functions of _atoll for the importer (python/atoll/_importer.py). */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "bind/bind.h"
#include "bind/error.h"
#include "bind/numbers.h"
#include "elf/image.h"
#include "elf/rebind.h"
#include "interp/extension.h"
#include "interp/fork.h"
#include "interp/install.h"
#include "interp/module.h"
#include "sys/clock.h"

PyDoc_STRVAR(load_extension_doc,
             "load_extension(spec, private, /)\n--\n\n"
             "The extension module of `spec`, created in this interpreter: from a "
             "private image of its file, or from the file itself.");

static PyObject *load_extension(PyObject *module, PyObject *args) AT_UNCHECKED;
static PyObject *load_extension(PyObject *module, PyObject *args)
{
    PyObject *spec;
    int private;
    if (!PyArg_ParseTuple(args, "Op:load_extension", &spec, &private)) {
        return NULL;
    }
    return at_extensions_load(spec, private ? AT_EXTENSION_IMAGE : AT_EXTENSION_SHARED);
}

PyDoc_STRVAR(load_builtin_doc,
             "load_builtin(spec, refuses=False, /)\n--\n\n"
             "The module of `spec` that is compiled into CPython, created in this "
             "interpreter, or None where only CPython can. `refuses` passes over its "
             "not supporting an interpreter with its own GIL.");

static PyObject *load_builtin(PyObject *module, PyObject *args) AT_UNCHECKED;
static PyObject *load_builtin(PyObject *module, PyObject *args)
{
    PyObject *spec;
    int refuses = 0;
    if (!PyArg_ParseTuple(args, "O|p:load_builtin", &spec, &refuses)) {
        return NULL;
    }
    return at_extensions_load_builtin(spec, refuses != 0);
}

PyDoc_STRVAR(needs_no_gil_doc,
             "needs_no_gil(module, /)\n--\n\n"
             "Has the extension module that this thread imported last declared that it "
             "runs without the GIL? False on a build that has one.");

static PyObject *needs_no_gil(PyObject *self, PyObject *module) AT_UNCHECKED;
static PyObject *needs_no_gil(PyObject *self, PyObject *module)
{
    return PyBool_FromLong(at_module_needs_no_gil(module));
}

PyDoc_STRVAR(
    prepare_close_doc,
    "prepare_close_extensions(timeout, /)\n--\n\n"
    "Refuse foreign threads, wait up to `timeout` seconds for those inside this "
    "interpreter, and run its Py_AtExit functions: for an interpreter whose end nobody "
    "tells of. Returns how many foreign "
    "threads are still inside, and how many came too late and sleep for ever.");

static PyObject *prepare_close(PyObject *module, PyObject *timeout) AT_UNCHECKED;
static PyObject *prepare_close(PyObject *module, PyObject *timeout)
{
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    if (!(seconds >= 0 && seconds < 1e9)) {
        PyErr_SetString(PyExc_ValueError, "timeout must be 0 or more seconds");
        return NULL;
    }
    int64_t interpreter_id = PyInterpreterState_GetID(PyInterpreterState_Get());
    at_extensions_left left;
    at_extensions_prepare_close(interpreter_id,
                                at_clock_deadline((int64_t)(seconds * 1e9)), &left);
    at_extensions_disown(interpreter_id);
    return Py_BuildValue("nn", (Py_ssize_t)left.foreign_thread_count,
                         (Py_ssize_t)left.hung_thread_count);
}

PyDoc_STRVAR(extensions_closed_doc,
             "extensions_closed(interpreter_id, /)\n--\n\n"
             "The interpreter is destroyed: let go of its images.");

static PyObject *extensions_closed(PyObject *module, PyObject *id) AT_UNCHECKED;
static PyObject *extensions_closed(PyObject *module, PyObject *id)
{
    long long interpreter_id = PyLong_AsLongLong(id);
    if (interpreter_id == -1 && PyErr_Occurred()) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS at_extensions_closed(interpreter_id);
    Py_END_ALLOW_THREADS Py_RETURN_NONE;
}

PyDoc_STRVAR(extensions_ended_doc,
             "extensions_ended(interpreter_id, /)\n--\n\n"
             "The interpreter, which atoll did not create, may be destroyed: if it is, "
             "let go of its images.");

static PyObject *extensions_ended(PyObject *module, PyObject *id) AT_UNCHECKED;
static PyObject *extensions_ended(PyObject *module, PyObject *id)
{
    long long interpreter_id = PyLong_AsLongLong(id);
    if (interpreter_id == -1 && PyErr_Occurred()) {
        return NULL;
    }
    at_extensions_ended(interpreter_id);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    install_importer_doc,
    "install_importer(interpreter_id, /)\n--\n\n"
    "Make extensions import in an idle interpreter that atoll did not create.");

static PyObject *install_importer(PyObject *module, PyObject *id) AT_UNCHECKED;
static PyObject *install_importer(PyObject *module, PyObject *id)
{
    long long interpreter_id = PyLong_AsLongLong(id);
    if ((interpreter_id == -1 && PyErr_Occurred()) ||
        at_install_in(interpreter_id, true) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(set_image_policy_doc,
             "set_image_policy(private_names, shared_names, /)\n--\n\n"
             "Libraries that must be private, or shared: base names with ':' between.");

static PyObject *set_image_policy(PyObject *module, PyObject *args) AT_UNCHECKED;
static PyObject *set_image_policy(PyObject *module, PyObject *args)
{
    const char *private_names;
    const char *shared_names;
    if (!PyArg_ParseTuple(args, "zz:set_image_policy", &private_names, &shared_names)) {
        return NULL;
    }
    int result = at_image_set_policy(private_names, shared_names);
    if (result < 0) {
        return at_raise(result);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(spare_children_doc,
             "spare_children(path, /)\n--\n\n"
             "Keep the children that the loaded extension at `path` forks from "
             "crashing while interpreters live; see interp/fork.h.");

AT_UNCHECKED static PyObject *spare_children(PyObject *module, PyObject *path)
{
    PyObject *bytes = NULL;
    if (!PyUnicode_FSConverter(path, &bytes)) {
        return NULL;
    }
    at_fault fault = {0};
    int result = at_rebind(PyBytes_AS_STRING(bytes), "PyOS_AfterFork_Child",
                           (void *)at_fork_child, &fault);
    Py_DECREF(bytes);
    if (result < 0) {
        return at_raise_fault(&fault);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(image_stats_doc, "image_stats()\n--\n\n"
                              "Counts of images and bytes in this process, a dict.");

AT_UNCHECKED static PyObject *image_stats(PyObject *module, PyObject *unused)
{
    at_image_stats stats = at_image_get_stats();
    const at_named_number numbers[] = {
        {"loaded_count", (int64_t)stats.loaded_count},
        {"unmapped_count", (int64_t)stats.unmapped_count},
        {"bytes_copied", (int64_t)stats.bytes_copied},
        {"bytes_shared", (int64_t)stats.bytes_shared},
    };
    return AT_NUMBERS_DICT(numbers);
}

static PyMethodDef functions[] = {
    {"load_extension", load_extension, METH_VARARGS, load_extension_doc},
    {"load_builtin", load_builtin, METH_VARARGS, load_builtin_doc},
    {"needs_no_gil", needs_no_gil, METH_O, needs_no_gil_doc},
    {"prepare_close_extensions", prepare_close, METH_O, prepare_close_doc},
    {"extensions_closed", extensions_closed, METH_O, extensions_closed_doc},
    {"extensions_ended", extensions_ended, METH_O, extensions_ended_doc},
    {"install_importer", install_importer, METH_O, install_importer_doc},
    {"set_image_policy", set_image_policy, METH_VARARGS, set_image_policy_doc},
    {"spare_children", spare_children, METH_O, spare_children_doc},
    {"image_stats", image_stats, METH_NOARGS, image_stats_doc},
    {NULL, NULL, 0, NULL},
};

int at_bind_extension(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
