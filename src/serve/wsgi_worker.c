/* The type WsgiWorker: one interpreter's part of a service, for WSGI; see wsgi.h. */
#define PY_SSIZE_T_CLEAN
#include "base/memory.h"
#include "serve/both.h"
#include "serve/wsgi.h"
#include "sys/clock.h"
#include "sys/park.h"

/* ---- making one ------------------------------------------------------------------ */

static int make_words(at_wsgi_words *words)
{
#define AT_WSGI_WORD_MAKE(name, text)                                                  \
    if ((words->name = PyUnicode_InternFromString(text)) == NULL) {                    \
        return -1;                                                                     \
    }
    AT_WSGI_WORDS(AT_WSGI_WORD_MAKE)
#undef AT_WSGI_WORD_MAKE
    return 0;
}

static int make_types(at_wsgi_worker *worker)
{
    worker->call_type = (PyTypeObject *)PyType_FromSpec(&at_wsgi_call_spec);
    worker->input_type = (PyTypeObject *)PyType_FromSpec(&at_wsgi_input_spec);
    worker->empty_bytes = PyBytes_FromStringAndSize(NULL, 0);
    return worker->call_type != NULL && worker->input_type != NULL &&
                   worker->empty_bytes != NULL
               ? 0
               : -1;
}

AT_UNCHECKED static PyObject *worker_new(PyTypeObject *type, PyObject *arguments,
                                         PyObject *names)
{
    static char *keywords[] = {"service",    "app",    "root_path", "threads",
                               "processes",  "errors", "on_error",  "file_wrapper",
                               "gone_class", "index",  NULL};
    unsigned long long number;
    int threads, processes, index = 0;
    PyObject *app, *root_path, *errors, *error, *wrapper, *gone;
    if (!PyArg_ParseTupleAndKeywords(arguments, names, "KOUiiOOO!O|i:WsgiWorker",
                                     keywords, &number, &app, &root_path, &threads,
                                     &processes, &errors, &error, &PyType_Type,
                                     &wrapper, &gone, &index)) {
        return NULL;
    }
    at_wsgi_worker *worker = (at_wsgi_worker *)type->tp_alloc(type, 0);
    if (worker == NULL) {
        return NULL;
    }
    (void)pthread_mutex_init(&worker->seat, NULL);
    worker->app = Py_NewRef(app);
    worker->on_error = Py_NewRef(error);
    worker->gone_class = Py_NewRef(gone);
    worker->file_wrapper = (PyTypeObject *)Py_NewRef(wrapper);
    if (make_words(&worker->words) < 0 || make_types(worker) < 0 ||
        (worker->timeout_class = at_serve_timeout_class()) == NULL ||
        (worker->no_input = at_wsgi_input_new(worker, NULL)) == NULL ||
        at_wsgi_environ_prepare(worker, root_path, errors, threads, processes) < 0 ||
        at_serve_open(number, &at_wsgi_hooks, worker, index, &worker->service,
                      &worker->reactor) < 0) {
        Py_DECREF(worker);
        return NULL;
    }
    return (PyObject *)worker;
}

/* ---- methods --------------------------------------------------------------------- */

AT_UNCHECKED static PyObject *worker_work(PyObject *self, PyObject *unused)
{
    (void)Py_NewRef(self);
    at_wsgi_work((at_wsgi_worker *)self);
    Py_DECREF(self);
    Py_RETURN_NONE;
}

static void await_milestone(at_wsgi_worker *worker, unsigned milestone,
                            int64_t deadline_ns) AT_DETACHED;
static void await_milestone(at_wsgi_worker *worker, unsigned milestone,
                            int64_t deadline_ns)
{
    int result = 0;
    while (result != AT_ETIMEOUT) {
        /* Pairs with the release in wsgi_pool.c: reach. */
        unsigned now = atomic_load_explicit(&worker->milestone, memory_order_acquire);
        if (now >= milestone) {
            return;
        }
        result = at_park_wait(&worker->milestone, now, deadline_ns, AT_PARK_PRIVATE);
    }
}

AT_UNCHECKED static PyObject *await_for(PyObject *self, PyObject *timeout,
                                        at_wsgi_milestone milestone)
{
    at_wsgi_worker *worker = (at_wsgi_worker *)self;
    int64_t deadline_ns = AT_NEVER;
    if (timeout != Py_None) {
        double seconds = PyFloat_AsDouble(timeout);
        if (seconds == -1 && PyErr_Occurred()) {
            return NULL;
        }
        if (seconds < 9e9) {
            deadline_ns = at_clock_ns() + (int64_t)(seconds * 1e9);
        }
    }
    PyThreadState *state = at_detach();
    await_milestone(worker, milestone, deadline_ns);
    at_attach(state);
    return PyBool_FromLong(
        atomic_load_explicit(&worker->milestone, memory_order_acquire) >= milestone);
}

static PyObject *worker_wait_drain(PyObject *self, PyObject *timeout)
{
    return await_for(self, timeout, AT_WSGI_DRAINS);
}

static PyObject *worker_wait_drained(PyObject *self, PyObject *timeout)
{
    return await_for(self, timeout, AT_WSGI_DRAINED);
}

static PyObject *worker_drain(PyObject *self, PyObject *unused)
{
    at_wsgi_worker *worker = (at_wsgi_worker *)self;
    at_wsgi_sit(worker);
    at_reactor_drain(worker->reactor);
    at_wsgi_rise(worker);
    Py_RETURN_NONE;
}

static PyObject *worker_interrupt(PyObject *self, PyObject *argument)
{
    double seconds = PyFloat_AsDouble(argument);
    if (seconds == -1 && PyErr_Occurred()) {
        return NULL;
    }
    return PyLong_FromLong(
        at_wsgi_interrupt((at_wsgi_worker *)self, (int64_t)(seconds * 1e9)));
}

static PyObject *worker_end(PyObject *self, PyObject *unused)
{
    at_wsgi_end((at_wsgi_worker *)self);
    Py_RETURN_NONE;
}

static PyObject *worker_running(PyObject *self, void *unused)
{
    at_wsgi_worker *worker = (at_wsgi_worker *)self;
    at_wsgi_sit(worker);
    size_t count = worker->running_count;
    at_wsgi_rise(worker);
    return PyLong_FromSize_t(count);
}

/* ---- the type -------------------------------------------------------------------- */

static int worker_traverse(PyObject *self, visitproc visit, void *arg)
{
    at_wsgi_worker *worker = (at_wsgi_worker *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(worker->app);
    Py_VISIT(worker->on_error);
    Py_VISIT(worker->gone_class);
    Py_VISIT(worker->timeout_class);
    Py_VISIT(worker->file_wrapper);
    Py_VISIT(worker->environ_template);
    Py_VISIT(worker->call_type);
    Py_VISIT(worker->input_type);
    return 0;
}

static int worker_clear(PyObject *self)
{
    at_wsgi_worker *worker = (at_wsgi_worker *)self;
    Py_CLEAR(worker->app);
    Py_CLEAR(worker->environ_template);
    return 0;
}

static void drop_requests(at_wsgi_worker *worker)
{
    while (worker->queue != NULL) {
        at_wsgi_request *request = worker->queue;
        worker->queue = request->next;
        at_wsgi_request_free(worker, request);
    }
}

/* No thread is inside: each has a reference. */
static void worker_dealloc(PyObject *self)
{
    at_wsgi_worker *worker = (at_wsgi_worker *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    at_reactor_close(worker->reactor);
    drop_requests(worker);
    (void)worker_clear(self);
    Py_CLEAR(worker->on_error);
    Py_CLEAR(worker->gone_class);
    Py_CLEAR(worker->timeout_class);
    Py_CLEAR(worker->file_wrapper);
    Py_CLEAR(worker->empty_bytes);
    Py_CLEAR(worker->no_input);
    Py_CLEAR(worker->call_type);
    Py_CLEAR(worker->input_type);
#define AT_WSGI_WORD_DROP(name, text) Py_CLEAR(worker->words.name);
    AT_WSGI_WORDS(AT_WSGI_WORD_DROP)
#undef AT_WSGI_WORD_DROP
    for (int i = 0; i < AT_WSGI_METHODS_MAX; i++) {
        Py_CLEAR(worker->methods[i]);
    }
    for (int i = 0; i < AT_WSGI_NAME_SLOTS; i++) {
        Py_CLEAR(worker->names[i].key);
    }
    at_service_unref(worker->service);
    (void)pthread_mutex_destroy(&worker->seat);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef worker_methods[] = {
    {"work", worker_work, METH_NOARGS,
     "Serve on the calling thread until end(); any number of threads may."},
    {"wait_drain", worker_wait_drain, METH_O,
     "wait_drain(timeout): wait for the service to ask for an end; was it in time?"},
    {"wait_drained", worker_wait_drained, METH_O,
     "wait_drained(timeout): wait for the last connection to go; was it in time?"},
    {"drain", worker_drain, METH_NOARGS, "Accept no more, finish what runs."},
    {"interrupt", worker_interrupt, METH_O,
     "interrupt(seconds): raise RequestTimeout in requests without a response after so "
     "long; in how many?"},
    {"end", worker_end, METH_NOARGS,
     "Reset what is left and let the threads return from work()."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef worker_getset[] = {
    {"running", worker_running, NULL, "How many requests run or wait to.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot worker_slots[] = {
    {Py_tp_new, worker_new},
    {Py_tp_dealloc, worker_dealloc},
    {Py_tp_traverse, worker_traverse},
    {Py_tp_clear, worker_clear},
    {Py_tp_methods, worker_methods},
    {Py_tp_getset, worker_getset},
    {0, NULL},
};

PyType_Spec at_wsgi_worker_spec = {
    .name = "atoll._atoll.WsgiWorker",
    .basicsize = sizeof(at_wsgi_worker),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = worker_slots,
};
