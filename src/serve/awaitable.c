/* What receive() and send() return; see worker.h.
 *
 * Mostly the answer is at hand, and the awaitable gives it at the first step: the event
 * loop never hears of it. Otherwise it makes a future, lets the task wait for that, and
 * looks again when the future is done: nothing is taken before the task really has it,
 * so a receive() that is cancelled loses no body.
 */
#include "serve/both.h"
#include "serve/worker.h"

static void forget_wait(at_awaitable *self)
{
    Py_CLEAR(self->steps);
    Py_CLEAR(self->future);
}

static void unregister(at_awaitable *self)
{
    at_request *request = self->request;
    if (request == NULL) {
        return;
    }
    if (request->sender == (PyObject *)self) {
        Py_CLEAR(request->sender);
    }
    PyObject *list = request->receivers;
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
        if (PyList_GET_ITEM(list, i) == (PyObject *)self) {
            if (PyList_SetSlice(list, i, i + 1, NULL) < 0) {
                PyErr_Clear();
            }
            return;
        }
    }
}

static int enlist(at_awaitable *self)
{
    at_request *request = self->request;
    if (self->awaited == AT_AWAIT_ROOM || self->awaited == AT_AWAIT_FILE) {
        Py_XSETREF(request->sender, Py_NewRef(self));
        return 0;
    }
    if (request->receivers == NULL && (request->receivers = PyList_New(0)) == NULL) {
        return -1;
    }
    if (PyList_Append(request->receivers, (PyObject *)self) < 0) {
        return -1;
    }
    if (request->exchange != NULL && !request->body_delivered) {
        at_exchange_want_body(request->exchange);
    }
    return 0;
}

/* What is awaited, if it is there: a new reference; NULL without an exception: not yet.
 */
static PyObject *look(at_awaitable *self)
{
    at_request *request = self->request;
    switch (self->awaited) {
    case AT_AWAIT_RESULT:
        return Py_NewRef(self->result);
    case AT_AWAIT_MESSAGE:
        return at_receive_poll(request);
    case AT_AWAIT_FILE:
        return at_send_file_poll(request);
    case AT_AWAIT_ROOM:
        if (request->exchange == NULL || !request->exchange->wants_writable) {
            Py_RETURN_NONE;
        }
        break;
    }
    return NULL;
}

static PySendResult step(at_awaitable *self, PyObject **result)
{
    if (self->awaited != AT_AWAIT_RESULT && self->future != NULL) {
        unregister(self);
        forget_wait(self);
    }
    *result = look(self);
    if (*result != NULL) {
        return PYGEN_RETURN;
    }
    if (PyErr_Occurred()) {
        return PYGEN_ERROR;
    }
    self->future = PyObject_CallNoArgs(self->request->worker->create_future);
    if (self->future == NULL) {
        return PYGEN_ERROR;
    }
    PyAsyncMethods *async = Py_TYPE(self->future)->tp_as_async;
    if (async == NULL || async->am_await == NULL) {
        PyErr_SetString(PyExc_TypeError, "the loop's futures cannot be awaited");
        forget_wait(self);
        return PYGEN_ERROR;
    }
    self->steps = async->am_await(self->future);
    if (self->steps == NULL || enlist(self) < 0) {
        forget_wait(self);
        return PYGEN_ERROR;
    }
    PySendResult sent = PyIter_Send(self->steps, Py_None, result);
    if (sent != PYGEN_NEXT) {
        unregister(self);
        forget_wait(self);
    }
    return sent;
}

static PySendResult awaitable_send(PyObject *self, PyObject *value, PyObject **result)
{
    return step((at_awaitable *)self, result);
}

/* StopIteration with the value; None needs no exception object. */
static PyObject *stop_with(PyObject *value)
{
    if (value != Py_None) {
        PyErr_SetObject(PyExc_StopIteration, value);
    }
    Py_DECREF(value);
    return NULL;
}

static PyObject *awaitable_next(PyObject *self)
{
    PyObject *result;
    switch (step((at_awaitable *)self, &result)) {
    case PYGEN_NEXT:
        return result;
    case PYGEN_RETURN:
        return stop_with(result);
    case PYGEN_ERROR:
        break;
    }
    return NULL;
}

static PyObject *awaitable_send_method(PyObject *self, PyObject *value)
{
    PyObject *result = awaitable_next(self);
    if (result == NULL && !PyErr_Occurred()) {
        PyErr_SetNone(PyExc_StopIteration);
    }
    return result;
}

static PyObject *awaitable_throw(PyObject *self, PyObject *const *arguments,
                                 Py_ssize_t count)
{
    at_awaitable *awaitable = (at_awaitable *)self;
    unregister(awaitable);
    forget_wait(awaitable);
    if (count < 1 || count > 3) {
        PyErr_SetString(PyExc_TypeError, "throw() takes 1 to 3 arguments");
    } else if (PyExceptionInstance_Check(arguments[0])) {
        PyErr_SetRaisedException(Py_NewRef(arguments[0]));
    } else if (PyExceptionClass_Check(arguments[0])) {
        PyErr_SetObject(arguments[0], count > 1 ? arguments[1] : NULL);
    } else {
        PyErr_SetString(PyExc_TypeError, "throw() needs an exception");
    }
    return NULL;
}

static PyObject *awaitable_close(PyObject *self, PyObject *unused)
{
    unregister((at_awaitable *)self);
    forget_wait((at_awaitable *)self);
    Py_RETURN_NONE;
}

static int awaitable_traverse(PyObject *self, visitproc visit, void *arg)
{
    at_awaitable *awaitable = (at_awaitable *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(awaitable->result);
    Py_VISIT(awaitable->request);
    Py_VISIT(awaitable->future);
    Py_VISIT(awaitable->steps);
    return 0;
}

static int awaitable_clear(PyObject *self)
{
    at_awaitable *awaitable = (at_awaitable *)self;
    Py_CLEAR(awaitable->result);
    Py_CLEAR(awaitable->request);
    forget_wait(awaitable);
    return 0;
}

static void awaitable_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    at_awaitable *awaitable = (at_awaitable *)self;
    at_request *request = awaitable->request;
    PyObject_GC_UnTrack(self);
    Py_CLEAR(awaitable->result);
    forget_wait(awaitable);
    if (request != NULL) {
        at_spare_give(&request->worker->awaitables, self);
        Py_DECREF(request);
    } else {
        type->tp_free(self);
    }
    Py_DECREF(type);
}

PyObject *at_awaitable_new(at_worker *worker, at_awaited awaited, PyObject *result,
                           at_request *request)
{
    at_awaitable *self =
        (at_awaitable *)at_spare_take(&worker->awaitables, worker->awaitable_type);
    if (self != NULL) {
        self->awaited = awaited;
        self->result = Py_XNewRef(result);
        self->request = (at_request *)Py_XNewRef((PyObject *)request);
    }
    return (PyObject *)self;
}

/* Let the task that waits with `awaitable` go on. */
static void wake(at_worker *worker, at_awaitable *awaitable)
{
    if (awaitable->future == NULL) {
        return;
    }
    PyObject *future = Py_NewRef(awaitable->future);
    PyObject *done = PyObject_CallMethodNoArgs(future, worker->words.done);
    if (done == Py_False) {
        PyObject *set =
            PyObject_CallMethodOneArg(future, worker->words.set_result, Py_None);
        Py_XDECREF(set);
    }
    Py_XDECREF(done);
    Py_DECREF(future);
    if (PyErr_Occurred()) {
        at_serve_report(worker->on_error, NULL, "waking a task");
    }
}

void at_awaitable_wake_receivers(at_request *request)
{
    PyObject *list = request->receivers;
    request->receivers = NULL;
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
        wake(request->worker, (at_awaitable *)PyList_GET_ITEM(list, i));
    }
    Py_XDECREF(list);
}

void at_awaitable_wake_sender(at_request *request)
{
    PyObject *sender = request->sender;
    request->sender = NULL;
    if (sender != NULL) {
        wake(request->worker, (at_awaitable *)sender);
        Py_DECREF(sender);
    }
}

static PyMethodDef awaitable_methods[] = {
    {"send", awaitable_send_method, METH_O, "Go on to the next step."},
    {"throw", (PyCFunction)(void (*)(void))awaitable_throw, METH_FASTCALL,
     "Give up waiting with an exception."},
    {"close", awaitable_close, METH_NOARGS, "Give up waiting."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot awaitable_slots[] = {
    {Py_tp_dealloc, awaitable_dealloc},
    {Py_tp_traverse, awaitable_traverse},
    {Py_tp_clear, awaitable_clear},
    {Py_tp_methods, awaitable_methods},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, awaitable_next},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, awaitable_send},
    {0, NULL},
};

PyType_Spec at_awaitable_spec = {
    .name = "atoll._atoll.Awaitable",
    .basicsize = sizeof(at_awaitable),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = awaitable_slots,
};
