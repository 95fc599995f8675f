/* The per-interpreter state of parcel; see state.h.
 *
 * It hangs on the interpreter's own dict, as a capsule. Looking it up there on every
 * message would cost more than a small message does, so each thread remembers the last
 * one by the interpreter's ID: IDs are never used again, so that what a thread
 * remembers of an interpreter that has gone is never asked for.
 *
 * Threads of a free-threaded interpreter share it without a GIL. It is made, and its
 * handles are registered, while `_atoll` is imported, which one thread does; what comes
 * later is put in its place once, by whoever is first. */
#define PY_SSIZE_T_CLEAN
#include "parcel/state.h"

#include "base/contexts.h"
#include "base/memory.h"
#include "parcel/buffer.h"

static const char state_key[] = "atoll.parcel";

static _Thread_local struct {
    int64_t interpreter_id;
    at_parcel_state *state;
} last = {-1, NULL};

static void home_free(at_shared *thing)
{
    at_free(thing);
}

static const at_shared_kind home_kind = {.name = "home of loans", .free = home_free};

static void state_free(PyObject *capsule) AT_ATTACHED
{
    at_parcel_state *state = PyCapsule_GetPointer(capsule, state_key);
    if (last.state == state) {
        last.interpreter_id = -1;
        last.state = NULL;
    }
    for (size_t i = 0; i < state->handle_count; i++) {
        Py_DECREF(state->handles[i].type);
    }
    Py_XDECREF(state->view_type);
    for (size_t i = 0; i < AT_PARCEL_SMALL_INTS; i++) {
        Py_XDECREF(state->small_ints[i]);
    }
    at_keys_clear(&state->keys);
    at_spares_clear(&state->spare_ints);
    at_spares_clear(&state->spare_floats);
    for (size_t i = 0; i < AT_SPARE_CLASSES; i++) {
        at_spares_clear(&state->spare_bytes[i]);
        at_spares_clear(&state->spare_strs[i]);
    }
    for (size_t i = 0; i < AT_SPARE_TUPLE_MOST; i++) {
        at_spares_clear(&state->spare_tuples[i]);
    }
    Py_XDECREF(state->dispatch);
    Py_XDECREF(state->reducers);
    Py_XDECREF(state->reduce_type);
    Py_XDECREF(state->reduce_array);
    Py_XDECREF(state->take_dataclasses);
    Py_XDECREF(state->find_global);
    Py_XDECREF(state->name_of);
    Py_XDECREF(state->known);
    Py_XDECREF(state->received);
    Py_XDECREF(state->make_received);
    Py_XDECREF(state->known_globals);
    Py_XDECREF(state->not_shareable);
    Py_XDECREF(state->pickling_error);
    if (state->home != NULL) {
        /* Loans that are still out keep the home, and their buffers stay exported: the
         * memory that others look at must outlive this interpreter. */
        atomic_store(&state->home->closed, true);
        at_parcel_take_returned(state->home);
        at_shared_unref(&state->home->shared);
    }
    at_free(state);
}

static int make_small_ints(at_parcel_state *state) AT_ATTACHED
{
    for (long i = 0; i < AT_PARCEL_SMALL_INTS; i++) {
        state->small_ints[i] = PyLong_FromLong(i);
        if (state->small_ints[i] == NULL) {
            return -1;
        }
    }
    return 0;
}

static at_parcel_state *state_make(PyObject *interpreter_dict,
                                   int64_t interpreter_id) AT_ATTACHED
{
    at_parcel_state *state = at_calloc(1, sizeof *state);
    if (state == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    state->interpreter_id = interpreter_id;
    PyObject *capsule = PyCapsule_New(state, state_key, state_free);
    if (capsule == NULL) {
        at_free(state);
        return NULL;
    }
    int status = -1;
    state->home = at_calloc(1, sizeof *state->home);
    if (state->home == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    at_shared_init(&state->home->shared, &home_kind);
    state->view_type = at_parcel_view_type_new();
    state->known_globals = PyDict_New();
    if (state->view_type != NULL && state->known_globals != NULL &&
        make_small_ints(state) == 0) {
        status = PyDict_SetItemString(interpreter_dict, state_key, capsule);
    }
done:
    Py_DECREF(capsule);
    return status == 0 ? state : NULL;
}

at_parcel_state *at_parcel_state_get(void)
{
    PyInterpreterState *interpreter = PyInterpreterState_Get();
    int64_t interpreter_id = PyInterpreterState_GetID(interpreter);
    if (last.interpreter_id == interpreter_id) {
        return last.state;
    }
    PyObject *dict = PyInterpreterState_GetDict(interpreter);
    if (dict == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this interpreter is ending");
        return NULL;
    }
    at_parcel_state *state = NULL;
    PyObject *capsule = PyDict_GetItemString(dict, state_key); /* borrowed */
    if (capsule != NULL) {
        state = PyCapsule_GetPointer(capsule, state_key);
    } else {
        state = state_make(dict, interpreter_id);
    }
    if (state != NULL) {
        last.interpreter_id = interpreter_id;
        last.state = state;
    }
    return state;
}

static int fetch(at_parcel_late *place, const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL) {
        return -1;
    }
    PyObject *found = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    PyObject *none = NULL;
    if (found != NULL && !atomic_compare_exchange_strong(place, &none, found)) {
        Py_DECREF(found); /* another thread was first */
    }
    return found != NULL ? 0 : -1;
}

int at_parcel_state_complete(at_parcel_state *state)
{
    if (state->pickling_error != NULL) {
        return 0;
    }
    struct {
        at_parcel_late *place;
        const char *module, *name;
    } wanted[] = {
        {&state->dispatch, "copyreg", "dispatch_table"},
        {&state->reducers, "atoll._parcel", "REDUCERS"},
        {&state->reduce_type, "atoll._parcel", "reduce_type"},
        {&state->reduce_array, "atoll._parcel", "reduce_array"},
        {&state->take_dataclasses, "atoll._parcel", "take_dataclasses"},
        {&state->find_global, "atoll._parcel", "find_global"},
        {&state->name_of, "atoll._parcel", "name_of"},
        {&state->known, "atoll._parcel.known", "_known"},
        {&state->received, "atoll._parcel.known", "_received"},
        {&state->make_received, "atoll._parcel.known", "received"},
        {&state->not_shareable, "atoll._errors", "NotShareableError"},
        {&state->pickling_error, "_pickle", "PicklingError"},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        if (*wanted[i].place == NULL &&
            fetch(wanted[i].place, wanted[i].module, wanted[i].name) < 0) {
            return -1;
        }
    }
    return 0;
}

int at_parcel_register_handle(PyTypeObject *type, const at_parcel_handle *handle)
{
    at_parcel_state *state = at_parcel_state_get();
    if (state == NULL) {
        return -1;
    }
    for (size_t i = 0; i < state->handle_count; i++) {
        if (state->handles[i].type == type && state->handles[i].handle == handle) {
            return 0;
        }
    }
    if (state->handle_count == AT_PARCEL_HANDLES) {
        PyErr_SetString(PyExc_SystemError, "too many kinds of handles");
        return -1;
    }
    state->handles[state->handle_count].type = (PyTypeObject *)Py_NewRef(type);
    state->handles[state->handle_count++].handle = handle;
    return 0;
}

PyTypeObject *at_parcel_handle_type(const at_parcel_handle *handle)
{
    at_parcel_state *state = at_parcel_state_get();
    for (size_t i = 0; state != NULL && i < state->handle_count; i++) {
        if (state->handles[i].handle == handle) {
            return state->handles[i].type;
        }
    }
    if (state != NULL) {
        PyErr_SetString(PyExc_SystemError, "no type was registered for this handle");
    }
    return NULL;
}
