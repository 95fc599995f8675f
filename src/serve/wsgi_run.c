/* The application's call, and what it gives back becomes the response; see wsgi.h. */
#define PY_SSIZE_T_CLEAN
#include <stddef.h>

#include "base/memory.h"
#include "serve/both.h"
#include "serve/wsgi.h"
#include "sys/clock.h"

/* ---- sending --------------------------------------------------------------------- */

int at_wsgi_respond(at_wsgi_call *call, const at_h1_header *another, at_span piece,
                    bool more, const char **why)
{
    at_h1_header small[AT_WSGI_INLINE_HEADERS];
    at_h1_header *headers = small;
    size_t count = call->header_count;
    small[0] = (at_h1_header){{NULL, 0}, {NULL, 0}};
    if (count + 1 > AT_WSGI_INLINE_HEADERS) {
        headers = at_calloc(count + 1, sizeof *headers);
        if (headers == NULL) {
            return AT_ENOMEM;
        }
    }
    for (size_t i = 0; i < count; i++) {
        headers[i].name = call->headers[i].name_text;
        headers[i].value = call->headers[i].value_text;
    }
    if (another != NULL) {
        headers[count++] = *another;
    }
    int result = at_exchange_respond(call->request->exchange, call->status, headers,
                                     count, piece, more, why);
    if (headers != small) {
        at_free(headers);
    }
    return result;
}

int at_wsgi_raise_outcome(at_wsgi_call *call, int result, const char *why)
{
    switch (result) {
    case AT_ECLOSED:
        PyErr_SetString(call->worker->gone_class,
                        "the client has closed the connection");
        return -1;
    case AT_EINVALID:
        PyErr_Format(PyExc_ValueError, "the response cannot be sent: %s", why);
        return -1;
    case AT_ELIMIT:
        PyErr_SetString(PyExc_RuntimeError,
                        "the response is longer than its Content-Length");
        return -1;
    case AT_EFORMAT:
        PyErr_SetString(PyExc_RuntimeError,
                        "the response is shorter than its Content-Length");
        return -1;
    case AT_ENOMEM:
        (void)PyErr_NoMemory();
        return -1;
    default:
        PyErr_SetString(PyExc_RuntimeError, "the response is complete already");
        return -1;
    }
}

int at_wsgi_wait_for_room(at_wsgi_call *call)
{
    at_wsgi_request *request = call->request;
    at_exchange *exchange = request->exchange;
    while (exchange->wants_writable && exchange->connection != NULL) {
        request->signalled = false;
        at_wsgi_wait(call->worker, request);
        if (call->worker->ended) {
            break;
        }
    }
    return exchange->connection == NULL ? AT_ECLOSED : 0;
}

int at_wsgi_send(at_wsgi_call *call, at_span piece, bool more)
{
    at_wsgi_worker *worker = call->worker;
    if (!call->start_given) {
        PyErr_SetString(
            PyExc_AssertionError,
            "the application gave a body before it called start_response()");
        return -1;
    }
    call->sent_bytes += (int64_t)piece.size;
    if (call->declared_bytes >= 0 && call->sent_bytes == call->declared_bytes) {
        more = false; /* the client shall not wait for close() and the like */
    }
    const char *why = NULL;
    at_wsgi_sit(worker);
    int result = call->complete ? AT_EBUSY
                 : call->started
                     ? at_exchange_write(call->request->exchange, piece, more)
                     : at_wsgi_respond(call, NULL, piece, more, &why);
    call->started = call->request->exchange->started;
    if (result == 1) {
        result = at_wsgi_wait_for_room(call);
    } else if (result == 0 && !more) {
        call->complete = true;
    }
    at_wsgi_rise(worker);
    return result < 0 ? at_wsgi_raise_outcome(call, result, why) : 0;
}

/* ---- what the application gave --------------------------------------------------- */

static int send_item(at_wsgi_call *call, PyObject *item, bool more) AT_ATTACHED;
static int send_item(at_wsgi_call *call, PyObject *item, bool more)
{
    if (!PyBytes_Check(item)) {
        PyErr_Format(PyExc_TypeError,
                     "the application's iterable must give bytes, not %T", item);
        return -1;
    }
    at_span piece = {PyBytes_AS_STRING(item), (size_t)PyBytes_GET_SIZE(item)};
    /* Headers may still change until there is something to send behind them. */
    return piece.size == 0 && more ? 0 : at_wsgi_send(call, piece, more);
}

/* The end of the body, unless it is reached. */
static int send_end(at_wsgi_call *call) AT_ATTACHED;
static int send_end(at_wsgi_call *call)
{
    return call->complete ? 0 : at_wsgi_send(call, (at_span){NULL, 0}, false);
}

/* A list of one needs no iterator, and its length is the body's. */
static PyObject *only_item(PyObject *result)
{
    if (PyList_CheckExact(result) && PyList_GET_SIZE(result) == 1) {
        return Py_NewRef(PyList_GET_ITEM(result, 0));
    }
    if (PyTuple_CheckExact(result) && PyTuple_GET_SIZE(result) == 1) {
        return Py_NewRef(PyTuple_GET_ITEM(result, 0));
    }
    return NULL;
}

static int send_items(at_wsgi_call *call, PyObject *result) AT_ATTACHED;
static int send_items(at_wsgi_call *call, PyObject *result)
{
    PySequenceMethods *sequence = Py_TYPE(result)->tp_as_sequence;
    bool sized = sequence != NULL && sequence->sq_length != NULL;
    bool single = sized && PyObject_Size(result) == 1;
    if (PyErr_Occurred()) {
        return -1;
    }
    PyObject *iterator = PyObject_GetIter(result);
    if (iterator == NULL) {
        return -1;
    }
    int sent = 0;
    PyObject *item;
    while (sent == 0 && !call->complete && (item = PyIter_Next(iterator)) != NULL) {
        sent = send_item(call, item, !single || call->started);
        Py_DECREF(item);
    }
    if (call->complete && sent == 0) {
        /* More than was promised is the application's error, and is told. */
        while ((item = PyIter_Next(iterator)) != NULL) {
            bool empty = PyBytes_Check(item) && PyBytes_GET_SIZE(item) == 0;
            Py_DECREF(item);
            if (!empty) {
                sent = at_wsgi_raise_outcome(call, AT_ELIMIT, NULL);
                break;
            }
        }
    }
    Py_DECREF(iterator);
    return sent == 0 && !PyErr_Occurred() ? send_end(call) : -1;
}

static int send_result(at_wsgi_call *call, PyObject *result) AT_ATTACHED;
static int send_result(at_wsgi_call *call, PyObject *result)
{
    PyObject *item = only_item(result);
    if (item == NULL) {
        int file = at_wsgi_send_file(call, result);
        return file == 0 ? send_items(call, result) : file < 0 ? -1 : 0;
    }
    /* Behind write() it is one piece of several. */
    int sent = send_item(call, item, call->started);
    Py_DECREF(item);
    return sent == 0 ? send_end(call) : -1;
}

static int close_result(at_wsgi_worker *worker, PyObject *result) AT_ATTACHED;
static int close_result(at_wsgi_worker *worker, PyObject *result)
{
    if (PyList_CheckExact(result) || PyTuple_CheckExact(result)) {
        return 0;
    }
    PyObject *close;
    int there = PyObject_GetOptionalAttr(result, worker->words.close, &close);
    if (there <= 0) {
        return there;
    }
    PyObject *done = PyObject_CallNoArgs(close);
    Py_DECREF(close);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* ---- the outcome ----------------------------------------------------------------- */

static void answer(at_wsgi_call *call, int status, at_span text) AT_ATTACHED;
static void answer(at_wsgi_call *call, int status, at_span text)
{
    static const at_h1_header headers[] = {
        {{"content-type", 12}, {"text/plain; charset=utf-8", 25}},
    };
    at_wsgi_worker *worker = call->worker;
    at_wsgi_sit(worker);
    at_exchange *exchange = call->request->exchange;
    if (exchange->started) {
        at_exchange_abort(exchange);
    } else {
        at_exchange_answer(exchange, status, headers, 1, text);
    }
    at_wsgi_rise(worker);
}

static at_wsgi_call *new_call(at_wsgi_worker *worker, at_wsgi_request *request)
{
    at_wsgi_call *call = PyObject_New(at_wsgi_call, worker->call_type);
    if (call != NULL) {
        call->vectorcall = at_wsgi_start;
        call->worker = (at_wsgi_worker *)Py_NewRef((PyObject *)worker);
        call->request = request;
        call->start_given = call->started = call->complete = false;
        call->status = 0;
        call->declared_bytes = -1;
        call->sent_bytes = 0;
        call->header_count = 0;
        call->headers = call->inline_headers;
    }
    return call;
}

/* Call the application and send what it gives. -1 with an exception set. */
static int serve(at_wsgi_call *call, PyObject *environ) AT_ATTACHED;
static int serve(at_wsgi_call *call, PyObject *environ)
{
    at_wsgi_worker *worker = call->worker;
    PyObject *arguments[] = {NULL, environ, (PyObject *)call};
    PyObject *result = PyObject_Vectorcall(worker->app, arguments + 1,
                                           2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (result == NULL) {
        return -1;
    }
    int sent = send_result(call, result);
    PyObject *failure = sent < 0 ? PyErr_GetRaisedException() : NULL;
    if (close_result(worker, result) < 0) {
        if (failure != NULL) {
            at_serve_report(worker->on_error, environ,
                            "closing the application's iterable");
        }
        sent = -1;
    }
    if (failure != NULL) {
        PyErr_SetRaisedException(failure);
    }
    Py_DECREF(result);
    return sent;
}

static void finish(at_wsgi_call *call)
{
    at_wsgi_worker *worker = call->worker;
    at_wsgi_request *request = call->request;
    call->request = NULL;
    at_wsgi_drop_headers(call);
    at_wsgi_sit(worker);
    at_wsgi_request_free(worker, request);
    at_wsgi_rise(worker);
}

/* False where the request has waited too long, and was answered. */
static bool admit(at_wsgi_worker *worker, at_wsgi_request *request)
{
    at_wsgi_sit(worker);
    bool admitted = at_exchange_admit(request->exchange);
    if (!admitted) {
        at_wsgi_request_free(worker, request);
    }
    at_wsgi_rise(worker);
    return admitted;
}

void at_wsgi_run(at_wsgi_worker *worker, at_wsgi_request *request)
{
    if (!admit(worker, request)) {
        return;
    }
    at_wsgi_call *call = new_call(worker, request);
    if (call == NULL) {
        at_serve_report(worker->on_error, NULL, "starting a request");
        at_wsgi_sit(worker);
        at_exchange_abort(request->exchange);
        at_wsgi_request_free(worker, request);
        at_wsgi_rise(worker);
        return;
    }
    PyObject *environ = at_wsgi_environ_new(call);
    bool timed_out = false;
    int served = environ != NULL ? serve(call, environ) : -1;
    at_wsgi_over(request);
    if (served < 0) {
        timed_out = PyErr_ExceptionMatches(worker->timeout_class);
        at_serve_report(worker->on_error, environ, "in the application");
    }
    if (!call->complete) {
        answer(call, timed_out ? 503 : 500,
               timed_out ? (at_span){"Service Unavailable", 19}
                         : (at_span){"Internal Server Error", 21});
    }
    Py_XDECREF(environ);
    finish(call);
    Py_DECREF(call);
}

/* ---- the type -------------------------------------------------------------------- */

static void call_dealloc(PyObject *self)
{
    at_wsgi_call *call = (at_wsgi_call *)self;
    PyTypeObject *type = Py_TYPE(self);
    at_wsgi_drop_headers(call);
    Py_DECREF(call->worker);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyMemberDef call_members[] = {
    {"__vectorcalloffset__", Py_T_PYSSIZET, offsetof(at_wsgi_call, vectorcall),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot call_slots[] = {
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_members, call_members},
    {Py_tp_call, PyVectorcall_Call},
    {0, NULL},
};

PyType_Spec at_wsgi_call_spec = {
    .name = "atoll._atoll.StartResponse",
    .basicsize = sizeof(at_wsgi_call),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = call_slots,
};
