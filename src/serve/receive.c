/* receive(): what the client sends, as ASGI messages; see worker.h. */
#include "serve/worker.h"

#include <stddef.h>

typedef struct at_receive {
    PyObject_HEAD vectorcallfunc vectorcall;
    at_request *request; /* a reference */
} at_receive;

static PyObject *disconnect_message(at_worker *worker)
{
    PyObject *message = PyDict_New();
    if (message != NULL && PyDict_SetItem(message, worker->words.type,
                                          worker->words.http_disconnect) < 0) {
        Py_CLEAR(message);
    }
    return message;
}

static PyObject *body_message(at_worker *worker, at_span piece, bool more)
{
    at_words *words = &worker->words;
    PyObject *message = PyDict_New();
    PyObject *body =
        piece.size == 0 ? Py_NewRef(worker->empty_bytes)
                        : PyBytes_FromStringAndSize(piece.data, (Py_ssize_t)piece.size);
    if (message == NULL || body == NULL ||
        PyDict_SetItem(message, words->type, words->http_request) < 0 ||
        PyDict_SetItem(message, words->body, body) < 0 ||
        PyDict_SetItem(message, words->more_body, more ? Py_True : Py_False) < 0) {
        Py_CLEAR(message);
    }
    Py_XDECREF(body);
    return message;
}

PyObject *at_receive_poll(at_request *request)
{
    at_exchange *exchange = request->exchange;
    at_worker *worker = request->worker;
    if (request->is_websocket) {
        return at_websocket_poll(request);
    }
    if (exchange == NULL || exchange->complete) {
        return disconnect_message(worker);
    }
    if (request->body_delivered) {
        return exchange->lost ? disconnect_message(worker) : NULL;
    }
    at_span piece;
    int more = at_exchange_body(exchange, &piece);
    if (more < 0) {
        request->body_delivered = true;
        return disconnect_message(worker);
    }
    if (more == 1 && piece.size == 0) {
        return NULL;
    }
    PyObject *message = body_message(worker, piece, more == 1);
    if (message != NULL) {
        request->body_delivered = more == 0;
        at_exchange_take_body(exchange, piece.size);
    }
    return message;
}

static PyObject *receive_call(PyObject *self, PyObject *const *arguments, size_t flags,
                              PyObject *names)
{
    at_request *request = ((at_receive *)self)->request;
    if (PyVectorcall_NARGS(flags) != 0 || names != NULL) {
        PyErr_SetString(PyExc_TypeError, "receive() takes no arguments");
        return NULL;
    }
    PyObject *message = at_receive_poll(request);
    if (message == NULL) {
        return PyErr_Occurred()
                   ? NULL
                   : at_awaitable_new(request->worker, AT_AWAIT_MESSAGE, NULL, request);
    }
    PyObject *awaitable =
        at_awaitable_new(request->worker, AT_AWAIT_RESULT, message, request);
    Py_DECREF(message);
    return awaitable;
}

PyObject *at_receive_new(at_request *request)
{
    at_worker *worker = request->worker;
    at_receive *self =
        (at_receive *)at_spare_take(&worker->receives, worker->receive_type);
    if (self != NULL) {
        self->vectorcall = receive_call;
        self->request = (at_request *)Py_NewRef((PyObject *)request);
    }
    return (PyObject *)self;
}

static int receive_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((at_receive *)self)->request);
    return 0;
}

static int receive_clear(PyObject *self)
{
    Py_CLEAR(((at_receive *)self)->request);
    return 0;
}

static void receive_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    at_request *request = ((at_receive *)self)->request;
    PyObject_GC_UnTrack(self);
    if (request != NULL) {
        at_spare_give(&request->worker->receives, self);
        Py_DECREF(request);
    } else {
        type->tp_free(self); /* the collector has cleared it */
    }
    Py_DECREF(type);
}

static PyMemberDef receive_members[] = {
    {"__vectorcalloffset__", Py_T_PYSSIZET, offsetof(at_receive, vectorcall),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot receive_slots[] = {
    {Py_tp_dealloc, receive_dealloc}, {Py_tp_traverse, receive_traverse},
    {Py_tp_clear, receive_clear},     {Py_tp_members, receive_members},
    {Py_tp_call, PyVectorcall_Call},  {0, NULL},
};

PyType_Spec at_receive_spec = {
    .name = "atoll._atoll.Receive",
    .basicsize = sizeof(at_receive),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = receive_slots,
};
