/* Interpreters for atoll._interpreter: functions by ID, and jobs as capsules.
 *
 * Every wait lets the GIL go and comes back for signals: on the main thread a handler
 * that raises (Ctrl-C) ends the wait.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/memory.h"
#include "bind/bind.h"
#include "bind/error.h"
#include "bind/wait.h"
#include "interp/attach.h"
#include "interp/close.h"
#include "interp/heap.h"
#include "interp/interpreter.h"
#include "interp/runtime.h"
#include "sys/clock.h"

#define JOB_CAPSULE "atoll._atoll.job"

static at_interpreter *find_open(long long id) AT_ATTACHED
{
    at_interpreter *interpreter = at_runtime_find(id);
    if (interpreter == NULL ||
        at_interpreter_state_now(interpreter) > AT_INTERPRETER_CLOSING) {
        at_interpreter_unref(interpreter);
        at_raise_format(AT_ECLOSED, "interpreter %lld is closed", id);
        return NULL;
    }
    return interpreter;
}

/* ---- life ------------------------------------------------------------------------ */

AT_UNCHECKED static PyObject *interpreter_create(PyObject *module, PyObject *arguments)
{
    const char *name;
    Py_buffer path;
    Py_buffer start;
    if (!PyArg_ParseTuple(arguments, "zy*y*:interpreter_create", &name, &path,
                          &start)) {
        return NULL;
    }
    PyObject *result = NULL;
    at_interpreter *interpreter = NULL;
    at_fault fault = {0};
    at_bytes path_copy;
    at_bytes start_copy;
    at_bytes_init(&path_copy);
    at_bytes_init(&start_copy);
    int failed = at_bytes_append(&path_copy, path.buf, (size_t)path.len);
    if (failed == 0) {
        failed = at_bytes_append(&start_copy, start.buf, (size_t)start.len);
    }
    if (failed < 0) {
        at_raise(failed);
        goto done;
    }
    PyThreadState *thread_state = at_detach();
    failed = at_interpreter_new(name, &path_copy, &start_copy, &interpreter, &fault);
    at_attach(thread_state);
    if (failed < 0) {
        at_raise_fault(&fault);
        goto done;
    }
    atomic_store(&interpreter->handles, 1);
    result = PyLong_FromLongLong(interpreter->id);
    at_interpreter_unref(interpreter);
done:
    at_bytes_fini(&path_copy);
    at_bytes_fini(&start_copy);
    PyBuffer_Release(&path);
    PyBuffer_Release(&start);
    return result;
}

AT_UNCHECKED static PyObject *interpreter_ids(PyObject *module, PyObject *unused)
{
    size_t capacity = at_runtime_count() + 16;
    at_interpreter **found = at_calloc(capacity, sizeof *found);
    if (found == NULL) {
        return PyErr_NoMemory();
    }
    size_t count = at_runtime_list(found, capacity);
    count = count < capacity ? count : capacity;
    PyObject *result = PyList_New(0);
    for (size_t i = 0; i < count; i++) {
        at_interpreter_state state = at_interpreter_state_now(found[i]);
        bool open = state == AT_INTERPRETER_IDLE || state == AT_INTERPRETER_RUNNING;
        PyObject *id =
            result != NULL && open ? PyLong_FromLongLong(found[i]->id) : NULL;
        if (id != NULL && PyList_Append(result, id) < 0) {
            Py_CLEAR(result);
        }
        Py_XDECREF(id);
        at_interpreter_unref(found[i]);
    }
    at_free(found);
    if (result != NULL && PyErr_Occurred()) {
        Py_CLEAR(result);
    }
    return result;
}

AT_UNCHECKED static PyObject *interpreter_state(PyObject *module, PyObject *argument)
{
    long long id = PyLong_AsLongLong(argument);
    if (id == -1 && PyErr_Occurred()) {
        return NULL;
    }
    at_interpreter *interpreter = at_runtime_find(id);
    at_interpreter_state state = interpreter != NULL
                                     ? at_interpreter_state_now(interpreter)
                                     : AT_INTERPRETER_CLOSED;
    at_interpreter_unref(interpreter);
    return PyUnicode_FromString(at_interpreter_state_name(state));
}

AT_UNCHECKED static PyObject *interpreter_name(PyObject *module, PyObject *argument)
{
    long long id = PyLong_AsLongLong(argument);
    if (id == -1 && PyErr_Occurred()) {
        return NULL;
    }
    at_interpreter *interpreter = at_runtime_find(id);
    PyObject *name = interpreter != NULL && interpreter->name != NULL
                         ? PyUnicode_FromString(interpreter->name)
                         : Py_NewRef(Py_None);
    at_interpreter_unref(interpreter);
    return name;
}

/* One handle more or less; the number there is now, or -1 for a closed interpreter. */
static PyObject *handles_add(PyObject *argument, int change) AT_ATTACHED
{
    long long id = PyLong_AsLongLong(argument);
    if (id == -1 && PyErr_Occurred()) {
        return NULL;
    }
    at_interpreter *interpreter = at_runtime_find(id);
    int count = -1;
    if (interpreter != NULL) {
        count = atomic_fetch_add(&interpreter->handles, change) + change;
        at_interpreter_unref(interpreter);
    }
    return PyLong_FromLong(count);
}

AT_UNCHECKED static PyObject *interpreter_ref(PyObject *module, PyObject *argument)
{
    return handles_add(argument, 1);
}

AT_UNCHECKED static PyObject *interpreter_unref(PyObject *module, PyObject *argument)
{
    return handles_add(argument, -1);
}

/* ---- jobs ------------------------------------------------------------------------ */

AT_UNCHECKED static void job_capsule_free(PyObject *capsule)
{
    at_job_unref(PyCapsule_GetPointer(capsule, JOB_CAPSULE));
}

AT_UNCHECKED static PyObject *interpreter_post(PyObject *module, PyObject *arguments)
{
    long long id;
    PyObject *object;
    int waits;
    int alone = 0;
    if (!PyArg_ParseTuple(arguments, "LOp|p:interpreter_post", &id, &object, &waits,
                          &alone)) {
        return NULL;
    }
    at_message *request = at_runtime_messages()->unwrap(object);
    if (request == NULL) {
        return NULL;
    }
    at_fault fault = {0};
    PyObject *capsule = NULL;
    at_interpreter *interpreter = find_open(id);
    at_job *job = NULL;
    if (interpreter == NULL) {
        goto done;
    }
    job = at_job_new(request);
    if (job == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    /* The capsule first: once posted, the job cannot be taken back. */
    capsule = PyCapsule_New(job, JOB_CAPSULE, job_capsule_free);
    if (capsule == NULL) {
        at_job_unref(job);
    } else if ((alone ? at_interpreter_post_alone(interpreter, job, &fault)
                      : at_interpreter_post(interpreter, job, waits, &fault)) < 0) {
        Py_CLEAR(capsule);
        at_raise_fault(&fault);
    }
done:
    at_interpreter_unref(interpreter);
    return capsule;
}

/* A descriptor, the caller's, that is readable when the job is over. */
AT_UNCHECKED static PyObject *job_listen(PyObject *module, PyObject *capsule)
{
    at_job *job = PyCapsule_GetPointer(capsule, JOB_CAPSULE);
    if (job == NULL) {
        return NULL;
    }
    at_fault fault = {0};
    int descriptor = at_job_listen(job, &fault);
    return descriptor < 0 ? at_raise_fault(&fault) : PyLong_FromLong(descriptor);
}

AT_UNCHECKED static PyObject *job_wait(PyObject *module, PyObject *arguments)
{
    PyObject *capsule;
    PyObject *timeout;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(arguments, "OO:job_wait", &capsule, &timeout) ||
        at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    at_job *job = PyCapsule_GetPointer(capsule, JOB_CAPSULE);
    if (job == NULL) {
        return NULL;
    }
    for (;;) {
        if (at_run_signal_handlers() < 0) {
            return NULL;
        }
        PyThreadState *thread_state = at_detach();
        int result = at_job_wait(job, deadline_ns);
        at_attach(thread_state);
        if (result == 0) {
            break;
        }
        if (result != AT_EINTERRUPTED) {
            return at_raise(result);
        }
    }
    if (atomic_load(&job->state) == AT_JOB_CANCELLED) {
        return at_raise_format(AT_ECLOSED,
                               "interpreter %lld closed before the call could run",
                               (long long)job->target->id);
    }
    return job->reply != NULL ? at_runtime_messages()->wrap(job->reply)
                              : Py_NewRef(Py_None);
}

AT_UNCHECKED static PyObject *interpreter_interrupt(PyObject *module,
                                                    PyObject *arguments)
{
    long long id;
    PyObject *capsule;
    const char *exception_name;
    if (!PyArg_ParseTuple(arguments, "LOs:interpreter_interrupt", &id, &capsule,
                          &exception_name)) {
        return NULL;
    }
    at_job *job = NULL;
    if (capsule != Py_None &&
        (job = PyCapsule_GetPointer(capsule, JOB_CAPSULE)) == NULL) {
        return NULL;
    }
    at_interpreter *interpreter = find_open(id);
    if (interpreter == NULL) {
        return NULL;
    }
    at_fault fault = {0};
    int failed = at_interpreter_interrupt(interpreter, job, exception_name, &fault);
    at_interpreter_unref(interpreter);
    return failed < 0 ? at_raise_fault(&fault) : Py_NewRef(Py_None);
}

/* ---- close ----------------------------------------------------------------------- */

AT_UNCHECKED static PyObject *interpreter_close_begin(PyObject *module,
                                                      PyObject *arguments)
{
    long long id;
    PyObject *timeout;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(arguments, "LO:interpreter_close_begin", &id, &timeout) ||
        at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    at_interpreter *interpreter = at_runtime_find(id);
    if (interpreter != NULL) {
        at_interpreter_close_begin(interpreter, deadline_ns);
        at_interpreter_unref(interpreter);
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *interpreter_reap(PyObject *module, PyObject *argument)
{
    long long id = PyLong_AsLongLong(argument);
    if (id == -1 && PyErr_Occurred()) {
        return NULL;
    }
    at_fault fault = {0};
    at_interpreter *interpreter = at_runtime_find(id);
    int failed = interpreter != NULL ? at_interpreter_reap(interpreter, &fault) : 0;
    at_interpreter_unref(interpreter);
    return failed < 0 ? at_raise_fault(&fault) : Py_NewRef(Py_None);
}

AT_UNCHECKED static PyObject *interpreter_close_hurry(PyObject *module,
                                                      PyObject *argument)
{
    long long id = PyLong_AsLongLong(argument);
    if (id == -1 && PyErr_Occurred()) {
        return NULL;
    }
    at_fault fault = {0};
    at_interpreter *interpreter = at_runtime_find(id);
    int failed =
        interpreter != NULL ? at_interpreter_close_hurry(interpreter, &fault) : 0;
    at_interpreter_unref(interpreter);
    return failed < 0 ? at_raise_fault(&fault) : Py_NewRef(Py_None);
}

/* (state, report) of an interpreter. */
static PyObject *outcome(at_interpreter *interpreter) AT_ATTACHED
{
    at_interpreter_state state = at_interpreter_state_now(interpreter);
    bool over = state == AT_INTERPRETER_LEFT; /* else the owner may still write it */
    return Py_BuildValue("ss#", at_interpreter_state_name(state),
                         over && interpreter->report.size > 0 ? interpreter->report.data
                                                              : "",
                         (Py_ssize_t)(over ? interpreter->report.size : 0));
}

AT_UNCHECKED static PyObject *interpreter_close_wait(PyObject *module,
                                                     PyObject *arguments)
{
    long long id;
    PyObject *timeout;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(arguments, "LO:interpreter_close_wait", &id, &timeout) ||
        at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    at_interpreter *interpreter = at_runtime_find(id);
    if (interpreter == NULL) {
        return Py_BuildValue("ss", "closed", "");
    }
    PyObject *result = NULL;
    for (;;) {
        PyThreadState *thread_state = at_detach();
        int code = at_interpreter_close_wait(interpreter, deadline_ns);
        at_attach(thread_state);
        if (code != AT_EINTERRUPTED) {
            result = outcome(interpreter);
            break;
        }
        if (at_run_signal_handlers() < 0) {
            break;
        }
    }
    at_interpreter_unref(interpreter);
    return result;
}

/* The job that is over when the interpreter is. */
AT_UNCHECKED static PyObject *interpreter_end(PyObject *module, PyObject *argument)
{
    long long id = PyLong_AsLongLong(argument);
    if (id == -1 && PyErr_Occurred()) {
        return NULL;
    }
    at_interpreter *interpreter = at_runtime_find(id);
    if (interpreter == NULL) {
        return at_raise_format(AT_ECLOSED, "interpreter %lld is closed", id);
    }
    at_job *end = interpreter->end;
    PyObject *capsule = PyCapsule_New(end, JOB_CAPSULE, job_capsule_free);
    if (capsule != NULL) {
        at_shared_ref(&end->shared);
    }
    at_interpreter_unref(interpreter);
    return capsule;
}

AT_UNCHECKED static PyObject *interpreter_freeze(PyObject *module, PyObject *arguments)
{
    long long id;
    PyObject *timeout;
    int64_t deadline_ns;
    if (!PyArg_ParseTuple(arguments, "LO:interpreter_freeze", &id, &timeout) ||
        at_bind_deadline(timeout, &deadline_ns) < 0) {
        return NULL;
    }
    at_interpreter *interpreter = at_runtime_find(id);
    if (interpreter == NULL) {
        Py_RETURN_TRUE;
    }
    PyThreadState *thread_state = at_detach();
    bool held = at_close_freeze(interpreter, deadline_ns);
    at_attach(thread_state);
    at_interpreter_unref(interpreter);
    return PyBool_FromLong(held);
}

AT_UNCHECKED static PyObject *interpreters_stop(PyObject *module, PyObject *unused)
{
    at_runtime_stop();
    Py_RETURN_NONE;
}

/* How many are there, left ones included: while any is, fork must be refused. */
AT_UNCHECKED static PyObject *interpreter_count(PyObject *module, PyObject *unused)
{
    return PyLong_FromSize_t(at_runtime_count());
}

AT_UNCHECKED static PyObject *interpreter_left(PyObject *module, PyObject *unused)
{
    at_interpreter *found[256];
    size_t count = at_runtime_list(found, 256);
    count = count < 256 ? count : 256;
    PyObject *result = PyList_New(0);
    for (size_t i = 0; i < count; i++) {
        PyObject *id = result != NULL ? PyLong_FromLongLong(found[i]->id) : NULL;
        if (id == NULL || PyList_Append(result, id) < 0) {
            Py_CLEAR(result);
        }
        Py_XDECREF(id);
        at_interpreter_unref(found[i]);
    }
    return result;
}

AT_UNCHECKED static PyObject *interpreter_here(PyObject *module, PyObject *unused)
{
    return PyLong_FromLongLong(PyInterpreterState_GetID(PyInterpreterState_Get()));
}

AT_UNCHECKED static PyObject *heap_install(PyObject *module, PyObject *ignored)
{
    at_heap_install();
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"interpreter_create", interpreter_create, METH_VARARGS,
     "interpreter_create(name, path, start) -> id"},
    {"interpreter_ids", interpreter_ids, METH_NOARGS, "The open ones, oldest first."},
    {"interpreter_state", interpreter_state, METH_O, "interpreter_state(id) -> str"},
    {"interpreter_name", interpreter_name, METH_O, "interpreter_name(id)"},
    {"interpreter_ref", interpreter_ref, METH_O, "One handle more; how many now."},
    {"interpreter_unref", interpreter_unref, METH_O, "One handle less; how many now."},
    {"interpreter_post", interpreter_post, METH_VARARGS,
     "interpreter_post(id, request, waits, alone=False) -> job"},
    {"job_wait", job_wait, METH_VARARGS, "job_wait(job, timeout) -> reply"},
    {"job_listen", job_listen, METH_O, "job_listen(job) -> fd, readable at its end"},
    {"interpreter_end", interpreter_end, METH_O, "interpreter_end(id) -> job"},
    {"interpreter_interrupt", interpreter_interrupt, METH_VARARGS,
     "interpreter_interrupt(id, job or None, 'module:Name')"},
    {"interpreter_close_begin", interpreter_close_begin, METH_VARARGS,
     "interpreter_close_begin(id, timeout)"},
    {"interpreter_close_wait", interpreter_close_wait, METH_VARARGS,
     "interpreter_close_wait(id, timeout) -> (state, report)"},
    {"interpreter_close_hurry", interpreter_close_hurry, METH_O,
     "Interrupt what still runs in a closing interpreter."},
    {"interpreter_reap", interpreter_reap, METH_O, "Put it away when it has ended."},
    {"interpreter_freeze", interpreter_freeze, METH_VARARGS,
     "interpreter_freeze(id, timeout) -> bool"},
    {"heap_install", heap_install, METH_NOARGS, "Keep ledgers from now on."},
    {"interpreters_stop", interpreters_stop, METH_NOARGS, "Create no more."},
    {"interpreter_count", interpreter_count, METH_NOARGS, "All, left ones included."},
    {"interpreter_left", interpreter_left, METH_NOARGS, "The IDs of all."},
    {"interpreter_here", interpreter_here, METH_NOARGS, "The caller's own ID."},
    {NULL, NULL, 0, NULL},
};

AT_UNCHECKED int at_bind_interpreter(PyObject *module)
{
    PyObject *file = PyModule_GetFilenameObject(module);
    const char *path = file != NULL ? PyUnicode_AsUTF8(file) : NULL;
    int failed = -1;
    if (path != NULL) {
        failed = at_runtime_set_module(PyModule_GetDef(module), path);
    }
    Py_XDECREF(file);
    if (path == NULL || failed < 0) {
        if (path != NULL) {
            at_raise(failed);
        }
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
