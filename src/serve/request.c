/* The life of a request: scope, eager task, outcome; see worker.h.
 *
 * The application's coroutine runs in a task of its own, in a copy of the loop's
 * context. The task starts eagerly: its first step runs here, and an application that
 * waits for nothing is done when the call returns. One that goes on waiting is kept
 * alive by the worker's list until its task is done.
 */
#include "serve/both.h"
#include "serve/timeout.h"

#include <string.h>

#include "net/websocket.h"
#include "sys/clock.h"

/* ---- the list of those that wait ------------------------------------------------- */

static void link_running(at_request *request)
{
    at_worker *worker = request->worker;
    request->running = true;
    request->before = NULL;
    request->after = worker->running;
    if (worker->running != NULL) {
        worker->running->before = request;
    }
    worker->running = (at_request *)Py_NewRef((PyObject *)request);
    worker->running_count++;
}

static void unlink_running(at_request *request)
{
    if (!request->running) {
        return;
    }
    at_worker *worker = request->worker;
    request->running = false;
    if (request->before != NULL) {
        request->before->after = request->after;
    } else {
        worker->running = request->after;
    }
    if (request->after != NULL) {
        request->after->before = request->before;
    }
    request->before = request->after = NULL;
    worker->running_count--;
    Py_DECREF(request);
}

/* ---- the outcome ----------------------------------------------------------------- */

static void answer(at_exchange *exchange, int status, at_span text)
{
    static const at_h1_header headers[] = {
        {{"content-type", 12}, {"text/plain; charset=utf-8", 25}},
    };
    at_exchange_answer(exchange, status, headers, 1, text);
}

static void answer_500(at_exchange *exchange)
{
    answer(exchange, 500, (at_span){"Internal Server Error", 21});
}

static void answer_503(at_exchange *exchange)
{
    answer(exchange, 503, (at_span){"Service Unavailable", 19});
}

/* The application has returned, or raised the exception that is set. */
static void settle_response(at_request *request)
{
    at_exchange *exchange = request->exchange;
    at_worker *worker = request->worker;
    bool failed = PyErr_Occurred() != NULL;
    bool cancelled = false;
    bool timed_out = request->late_ns != 0;
    if (failed) {
        cancelled = PyErr_ExceptionMatches(worker->cancelled_class);
        timed_out =
            (timed_out && cancelled) || PyErr_ExceptionMatches(worker->timeout_class);
        if (cancelled) {
            PyErr_Clear();
        } else {
            at_serve_report(worker->on_error, request->scope, "in the application");
        }
    }
    if (exchange->complete) {
        return;
    }
    if (request->is_websocket && at_websocket_is_accepted(exchange) && !cancelled) {
        at_websocket_settle(request, failed);
    } else if (timed_out && failed && !exchange->started && !request->is_websocket &&
               exchange->connection != NULL) {
        answer_503(exchange);
    } else if (exchange->connection == NULL || cancelled ||
               (exchange->lost && !exchange->started && !failed)) {
        /* Who has heard http.disconnect owes nobody a response. */
        at_exchange_abort(exchange);
    } else if (!exchange->started) {
        if (!failed) {
            at_serve_report(worker->on_error, request->scope,
                            request->start_given
                                ? "the application returned after "
                                  "'http.response.start' without a body"
                                : "the application returned without a response");
        }
        answer_500(exchange);
    } else {
        if (!failed) {
            at_serve_report(
                worker->on_error, request->scope,
                "the application returned before its response was complete");
        }
        at_exchange_abort(exchange);
    }
}

/* The end of the application's part; an exception may be set. */
static void finish(at_request *request)
{
    if (request->exchange == NULL) {
        PyErr_Clear();
        return;
    }
    settle_response(request);
    at_exchange *exchange = request->exchange;
    request->exchange = NULL;
    exchange->user = NULL;
    at_exchange_unref(exchange);
    at_send_drop_headers(request);
    at_send_close_file(request);
    at_awaitable_wake_receivers(request);
    at_awaitable_wake_sender(request);
    Py_CLEAR(request->task);
    unlink_running(request);
}

/* The task is done: set its exception, if it has one, and finish. */
static void finish_task(at_request *request, PyObject *task)
{
    PyObject *exception = PyObject_CallOneArg(request->worker->task_exception, task);
    if (exception == Py_None) {
        Py_DECREF(exception);
    } else if (exception != NULL) {
        PyErr_SetRaisedException(exception);
    } /* else cancelled: task.exception() has raised that */
    finish(request);
}

static PyObject *task_done(PyObject *self, PyObject *task)
{
    at_request *request = (at_request *)Py_NewRef(self);
    finish_task(request, task);
    Py_DECREF(request);
    Py_RETURN_NONE;
}

static PyMethodDef task_done_method = {"task_done", task_done, METH_O,
                                       "The application's task is done."};

/* ---- the start ------------------------------------------------------------------- */

/* Call the application. Gives its task, or NULL with an exception. */
static PyObject *start_task(at_request *request)
{
    at_worker *worker = request->worker;
    PyObject *coroutine = NULL;
    PyObject *receive = at_receive_new(request);
    PyObject *send = at_send_new(request);
    if (receive != NULL && send != NULL) {
        PyObject *arguments[] = {NULL, request->scope, receive, send};
        coroutine = PyObject_Vectorcall(worker->app, arguments + 1,
                                        3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(receive);
    Py_XDECREF(send);
    if (coroutine == NULL) {
        return NULL;
    }
    /* Task has no vectorcall: with keywords in a dict at hand none is made of them. */
    PyObject *arguments = PyTuple_Pack(1, coroutine);
    Py_DECREF(coroutine);
    if (arguments == NULL) {
        return NULL;
    }
    PyObject *task = PyObject_Call(worker->task_type, arguments, worker->task_options);
    Py_DECREF(arguments);
    return task;
}

static void run(at_request *request)
{
    at_worker *worker = request->worker;
    at_words *words = &worker->words;
    PyObject *task = start_task(request);
    if (atomic_load_explicit(&worker->interrupted, memory_order_relaxed)) {
        at_timeout_withdraw(worker);
    }
    PyObject *done =
        task != NULL ? PyObject_CallOneArg(request->worker->task_done, task) : NULL;
    if (done == NULL) {
        finish(request);
    } else if (done == Py_True) {
        finish_task(request, task);
    } else {
        request->task = Py_NewRef(task);
        link_running(request);
        PyObject *callback = PyCFunction_New(&task_done_method, (PyObject *)request);
        PyObject *added =
            callback != NULL
                ? PyObject_CallMethodOneArg(task, words->add_done_callback, callback)
                : NULL;
        Py_XDECREF(callback);
        if (added == NULL) {
            finish(request);
        }
        Py_XDECREF(added);
    }
    Py_XDECREF(done);
    Py_XDECREF(task);
}

void at_request_begin(at_worker *worker, at_exchange *exchange,
                      const at_h1_request *head)
{
    at_request *request =
        (at_request *)at_spare_take(&worker->requests, worker->request_type);
    if (request == NULL) {
        at_serve_report(worker->on_error, NULL, "starting a request");
        answer_500(exchange);
        return;
    }
    request->worker = (at_worker *)Py_NewRef((PyObject *)worker);
    request->exchange = at_exchange_ref(exchange);
    request->headers = request->inline_headers;
    request->file.descriptor = -1;
    exchange->user = request;
    request->is_websocket = exchange->websocket != NULL;
    request->close_code = AT_WS_CODE_LOST;
    request->begun_ns = at_clock_ns();
    request->scope = at_scope_new(worker, exchange, head);
    if (request->scope != NULL) {
        run(request);
    } else {
        finish(request);
    }
    Py_DECREF(request);
}

void at_request_lost(at_request *request)
{
    at_awaitable_wake_receivers(request);
}

void at_request_cancel_all(at_worker *worker)
{
    /* Cancelling runs callbacks later, from the loop: the list stays as it is. */
    for (at_request *request = worker->running; request != NULL;
         request = request->after) {
        PyObject *done = PyObject_CallMethodNoArgs(request->task, worker->words.cancel);
        if (done == NULL) {
            at_serve_report(worker->on_error, request->scope, "cancelling a request");
        }
        Py_XDECREF(done);
    }
}

/* ---- the type -------------------------------------------------------------------- */

static int request_traverse(PyObject *self, visitproc visit, void *arg)
{
    at_request *request = (at_request *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(request->worker);
    Py_VISIT(request->scope);
    Py_VISIT(request->task);
    Py_VISIT(request->receivers);
    Py_VISIT(request->sender);
    Py_VISIT(request->trailers);
    return 0;
}

static int request_clear(PyObject *self)
{
    at_request *request = (at_request *)self;
    Py_CLEAR(request->scope);
    Py_CLEAR(request->task);
    Py_CLEAR(request->receivers);
    Py_CLEAR(request->sender);
    Py_CLEAR(request->trailers);
    return 0;
}

static void request_dealloc(PyObject *self)
{
    at_request *request = (at_request *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)request_clear(self);
    if (request->exchange != NULL) {
        /* Only where the worker died under it: finish() lets go of the exchange. */
        request->exchange->user = NULL;
        at_exchange_unref(request->exchange);
    }
    if (request->headers != NULL) {
        at_send_drop_headers(request);
    }
    at_worker *worker = request->worker;
    if (worker != NULL) {
        at_send_close_file(request);
        at_spare_give(&worker->requests, self);
        Py_DECREF(worker);
    } else {
        type->tp_free(self);
    }
    Py_DECREF(type);
}

static PyType_Slot request_slots[] = {
    {Py_tp_dealloc, request_dealloc},
    {Py_tp_traverse, request_traverse},
    {Py_tp_clear, request_clear},
    {0, NULL},
};

PyType_Spec at_request_spec = {
    .name = "atoll._atoll.Request",
    .basicsize = sizeof(at_request),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = request_slots,
};
