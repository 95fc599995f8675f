/* The worker: the reactor's hooks and what requests share; see worker.h. */
#define PY_SSIZE_T_CLEAN
#include "serve/worker.h"

#include "interp/attach.h"
#include "serve/both.h"
#include "serve/timeout.h"
#include "sys/clock.h"

/* ---- the reactor's hooks --------------------------------------------------------- */

static void on_request(void *context, at_exchange *exchange, const at_h1_request *head)
{
    at_request_begin(context, exchange, head);
}

static void on_body(void *context, at_exchange *exchange)
{
    if (exchange->user != NULL) {
        at_awaitable_wake_receivers(exchange->user);
    }
}

static void on_writable(void *context, at_exchange *exchange)
{
    if (exchange->user != NULL) {
        at_awaitable_wake_sender(exchange->user);
    }
}

static void on_lost(void *context, at_exchange *exchange)
{
    if (exchange->user != NULL) {
        at_request_lost(exchange->user);
    }
}

static void on_forget(void *context, void *connection_user)
{
    Py_DECREF((PyObject *)connection_user);
}

static void call(at_worker *worker, PyObject *callback)
{
    PyObject *done = PyObject_CallNoArgs(callback);
    if (done == NULL) {
        at_serve_report(worker->on_error, NULL, "in a callback of the server");
    }
    Py_XDECREF(done);
}

static void on_complain(void *context, const char *text)
{
    at_worker *worker = context;
    at_serve_report(worker->on_error, NULL, text);
}

static void on_drain(void *context)
{
    at_worker *worker = context;
    call(worker, worker->on_drain);
}

static void on_drained(void *context)
{
    at_worker *worker = context;
    call(worker, worker->on_drained);
}

static const at_hooks worker_hooks = {
    .request = on_request,
    .body = on_body,
    .writable = on_writable,
    .lost = on_lost,
    .forget = on_forget,
    .drain = on_drain,
    .drained = on_drained,
    .complain = on_complain,
};

/* ---- making one ------------------------------------------------------------------ */

static int make_words(at_words *words)
{
#define AT_WORD_MAKE(name, text)                                                       \
    if ((words->name = PyUnicode_InternFromString(text)) == NULL) {                    \
        return -1;                                                                     \
    }
    AT_SERVE_WORDS(AT_WORD_MAKE)
#undef AT_WORD_MAKE
    return 0;
}

static PyTypeObject *make_type(PyType_Spec *spec)
{
    return (PyTypeObject *)PyType_FromSpec(spec);
}

static int make_types(at_worker *worker)
{
    worker->request_type = make_type(&at_request_spec);
    worker->receive_type = make_type(&at_receive_spec);
    worker->send_type = make_type(&at_send_spec);
    worker->awaitable_type = make_type(&at_awaitable_spec);
    return worker->request_type != NULL && worker->receive_type != NULL &&
                   worker->send_type != NULL && worker->awaitable_type != NULL
               ? 0
               : -1;
}

/* What asyncio gives. */
static int take_asyncio(at_worker *worker)
{
    PyObject *asyncio = PyImport_ImportModule("asyncio");
    if (asyncio == NULL) {
        return -1;
    }
    worker->task_type = PyObject_GetAttrString(asyncio, "Task");
    worker->cancelled_class = PyObject_GetAttrString(asyncio, "CancelledError");
    Py_DECREF(asyncio);
    if (worker->task_type == NULL) {
        return -1;
    }
    worker->task_done = PyObject_GetAttr(worker->task_type, worker->words.done);
    worker->task_exception =
        PyObject_GetAttr(worker->task_type, worker->words.exception);
    worker->task_options = Py_BuildValue("{OOOO}", worker->words.loop, worker->loop,
                                         worker->words.eager_start, Py_True);
    worker->create_future = PyObject_GetAttrString(worker->loop, "create_future");
    return worker->cancelled_class != NULL && worker->task_done != NULL &&
                   worker->task_exception != NULL && worker->task_options != NULL &&
                   worker->create_future != NULL
               ? 0
               : -1;
}

static PyObject *none_to_null(PyObject *object)
{
    return object == Py_None ? NULL : Py_NewRef(object);
}

static PyObject *worker_new(PyTypeObject *type, PyObject *arguments, PyObject *names)
{
    static char *keywords[] = {"service",    "app",      "loop",     "state",
                               "root_path",  "on_error", "on_drain", "on_drained",
                               "gone_class", "index",    "on_debug", NULL};
    unsigned long long number;
    PyObject *app, *loop, *state, *root_path, *error, *drain, *drained, *gone;
    PyObject *debug = Py_None;
    int index = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, names, "KOOOUOOOO|iO:Worker", keywords,
                                     &number, &app, &loop, &state, &root_path, &error,
                                     &drain, &drained, &gone, &index, &debug)) {
        return NULL;
    }
    if (state != Py_None && !PyDict_Check(state)) {
        PyErr_SetString(PyExc_TypeError, "state must be a dict or None");
        return NULL;
    }
    at_worker *worker = (at_worker *)type->tp_alloc(type, 0);
    if (worker == NULL) {
        return NULL;
    }
    worker->app = Py_NewRef(app);
    worker->loop = Py_NewRef(loop);
    worker->state = none_to_null(state);
    worker->on_error = Py_NewRef(error);
    worker->on_drain = Py_NewRef(drain);
    worker->on_drained = Py_NewRef(drained);
    worker->on_debug = none_to_null(debug);
    worker->gone_class = Py_NewRef(gone);
    if (make_words(&worker->words) < 0 || make_types(worker) < 0 ||
        take_asyncio(worker) < 0 || at_timeout_prepare(worker) < 0 ||
        at_scope_prepare(worker, root_path) < 0 ||
        (worker->ready = at_awaitable_new(worker, AT_AWAIT_RESULT, Py_None, NULL)) ==
            NULL ||
        at_serve_open(number, &worker_hooks, worker, index, &worker->service,
                      &worker->reactor) < 0) {
        Py_DECREF(worker);
        return NULL;
    }
    return (PyObject *)worker;
}

/* ---- methods --------------------------------------------------------------------- */

static at_worker *opened(PyObject *self)
{
    at_worker *worker = (at_worker *)self;
    if (worker->reactor == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the worker is closed");
        return NULL;
    }
    return worker;
}

/* How long a thread of this interpreter waits for its GIL, once a second: give it back
 * and ask for it again. Where nobody else wants it that costs nothing. */
AT_UNCHECKED static void sample_gil(at_worker *worker)
{
    int64_t before_ns = at_clock_ns();
    if (before_ns - worker->gil_sampled_ns < 1000000000) {
        return;
    }
    PyThreadState *state = at_detach();
    at_attach(state);
    worker->gil_sampled_ns = at_clock_ns();
    at_reactor_count_gil_wait(worker->reactor, worker->gil_sampled_ns - before_ns);
}

static PyObject *worker_run(PyObject *self, PyObject *unused)
{
    at_worker *worker = opened(self);
    if (worker == NULL) {
        return NULL;
    }
    if (worker->in_run) {
        PyErr_SetString(PyExc_RuntimeError, "run() is running already");
        return NULL;
    }
    if (atomic_load_explicit(&worker->interrupted, memory_order_relaxed)) {
        at_timeout_withdraw(worker); /* it was for what ran before */
    }
    worker->in_run = true;
    (void)Py_NewRef(self);
    sample_gil(worker);
    at_reactor_run(worker->reactor, 0);
    worker->in_run = false;
    Py_DECREF(self);
    Py_RETURN_NONE;
}

static PyObject *worker_fileno(PyObject *self, PyObject *unused)
{
    at_worker *worker = opened(self);
    return worker != NULL ? PyLong_FromLong(at_reactor_descriptor(worker->reactor))
                          : NULL;
}

static PyObject *worker_drain(PyObject *self, PyObject *unused)
{
    at_worker *worker = opened(self);
    if (worker == NULL) {
        return NULL;
    }
    at_reactor_drain(worker->reactor);
    Py_RETURN_NONE;
}

static PyObject *worker_abort(PyObject *self, PyObject *unused)
{
    at_worker *worker = opened(self);
    if (worker == NULL) {
        return NULL;
    }
    at_request_cancel_all(worker);
    at_reactor_abort(worker->reactor);
    Py_RETURN_NONE;
}

static PyObject *worker_close(PyObject *self, PyObject *unused)
{
    at_worker *worker = (at_worker *)self;
    if (worker->in_run) {
        PyErr_SetString(PyExc_RuntimeError, "close() from inside run()");
        return NULL;
    }
    at_reactor *reactor = worker->reactor;
    worker->reactor = NULL;
    at_reactor_close(reactor);
    Py_RETURN_NONE;
}

static PyObject *worker_overdue(PyObject *self, PyObject *argument)
{
    double seconds = PyFloat_AsDouble(argument);
    if (seconds == -1 && PyErr_Occurred()) {
        return NULL;
    }
    return at_timeout_overdue((at_worker *)self, (int64_t)(seconds * 1e9));
}

static PyObject *worker_ask(PyObject *self, PyObject *unused)
{
    at_worker *worker = opened(self);
    return worker != NULL ? PyLong_FromUnsignedLongLong(at_reactor_ask(worker->reactor))
                          : NULL;
}

static PyObject *worker_interrupt(PyObject *self, PyObject *batches)
{
    unsigned long long count = PyLong_AsUnsignedLongLong(batches);
    if (count == (unsigned long long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    return PyBool_FromLong(at_timeout_interrupt((at_worker *)self, count));
}

static PyObject *worker_running(PyObject *self, void *unused)
{
    return PyLong_FromSize_t(((at_worker *)self)->running_count);
}

/* ---- the type -------------------------------------------------------------------- */

static int worker_traverse(PyObject *self, visitproc visit, void *arg)
{
    at_worker *worker = (at_worker *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(worker->app);
    Py_VISIT(worker->loop);
    Py_VISIT(worker->state);
    Py_VISIT(worker->on_error);
    Py_VISIT(worker->on_drain);
    Py_VISIT(worker->on_drained);
    Py_VISIT(worker->on_debug);
    Py_VISIT(worker->gone_class);
    Py_VISIT(worker->timeout_class);
    Py_VISIT(worker->task_type);
    Py_VISIT(worker->task_options);
    Py_VISIT(worker->cancelled_class);
    Py_VISIT(worker->create_future);
    Py_VISIT(worker->scope_template);
    Py_VISIT(worker->websocket_template);
    Py_VISIT(worker->ready);
    Py_VISIT(worker->request_type);
    Py_VISIT(worker->receive_type);
    Py_VISIT(worker->send_type);
    Py_VISIT(worker->awaitable_type);
    for (at_request *request = worker->running; request != NULL;
         request = request->after) {
        Py_VISIT(request);
    }
    return 0;
}

static int worker_clear(PyObject *self)
{
    at_worker *worker = (at_worker *)self;
    /* Not while a request could still need what goes here: each has a reference, so a
     * worker that is cleared has a reactor whose connections have lost their users. */
    at_reactor *reactor = worker->reactor;
    worker->reactor = NULL;
    at_reactor_close(reactor);
    Py_CLEAR(worker->app);
    Py_CLEAR(worker->loop);
    Py_CLEAR(worker->task_options);
    Py_CLEAR(worker->state);
    Py_CLEAR(worker->create_future);
    Py_CLEAR(worker->scope_template);
    Py_CLEAR(worker->websocket_template);
    return 0;
}

static void worker_dealloc(PyObject *self)
{
    at_worker *worker = (at_worker *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)worker_clear(self);
    Py_CLEAR(worker->on_error);
    Py_CLEAR(worker->on_drain);
    Py_CLEAR(worker->on_drained);
    Py_CLEAR(worker->on_debug);
    Py_CLEAR(worker->gone_class);
    Py_CLEAR(worker->timeout_class);
    Py_CLEAR(worker->task_type);
    Py_CLEAR(worker->task_done);
    Py_CLEAR(worker->task_exception);
    Py_CLEAR(worker->cancelled_class);
    Py_CLEAR(worker->empty_bytes);
    Py_CLEAR(worker->root_path);
    Py_CLEAR(worker->ready);
    at_spare_drop(&worker->requests);
    at_spare_drop(&worker->receives);
    at_spare_drop(&worker->sends);
    at_spare_drop(&worker->awaitables);
    Py_CLEAR(worker->request_type);
    Py_CLEAR(worker->receive_type);
    Py_CLEAR(worker->send_type);
    Py_CLEAR(worker->awaitable_type);
#define AT_WORD_DROP(name, text) Py_CLEAR(worker->words.name);
    AT_SERVE_WORDS(AT_WORD_DROP)
#undef AT_WORD_DROP
    for (int i = 0; i < AT_METHODS_MAX; i++) {
        Py_CLEAR(worker->methods[i]);
    }
    for (int i = 0; i < AT_NAME_SLOTS; i++) {
        Py_CLEAR(worker->names[i]);
    }
    at_service_unref(worker->service);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef worker_methods[] = {
    {"run", worker_run, METH_NOARGS, "Work off what is ready; called by the loop."},
    {"fileno", worker_fileno, METH_NOARGS, "The descriptor that the loop watches."},
    {"drain", worker_drain, METH_NOARGS,
     "Accept no more; on_drained is called when the last connection has gone."},
    {"abort", worker_abort, METH_NOARGS,
     "Cancel the requests that run and reset their connections."},
    {"overdue", worker_overdue, METH_O,
     "overdue(seconds): ([(task, scope)] of requests without a response after so long, "
     "seconds to the next look)."},
    {"ask", worker_ask, METH_NOARGS,
     "Ask the loop for a batch; how many have begun so far. From any thread."},
    {"interrupt", worker_interrupt, METH_O,
     "interrupt(batches): raise RequestTimeout in what runs on the loop's thread, if "
     "only so many batches have begun still; will it be raised?"},
    {"close", worker_close, METH_NOARGS, "Close every connection, and the worker."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef worker_getset[] = {
    {"running", worker_running, NULL, "How many requests wait for something.", NULL},
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

PyType_Spec at_worker_spec = {
    .name = "atoll._atoll.Worker",
    .basicsize = sizeof(at_worker),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = worker_slots,
};
