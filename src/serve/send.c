/* send(): ASGI messages become the response; see worker.h.
 *
 * A start is kept until the first body message, so that head and body leave in one
 * system call and a response that is whole gets its Content-Length.
 */
#define PY_SSIZE_T_CLEAN
#include "serve/worker.h"

#include <stddef.h>

#include "net/websocket.h"

typedef struct at_send {
    PyObject_HEAD vectorcallfunc vectorcall;
    at_request *request; /* a reference */
} at_send;

static PyObject *wrong_order(PyObject *type, const char *expected)
{
    return PyErr_Format(PyExc_RuntimeError,
                        "ASGI message '%U' came where %s was expected", type, expected);
}

static PyObject *client_gone(at_request *request)
{
    PyErr_SetString(request->worker->gone_class,
                    "the client has closed the connection");
    return NULL;
}

/* ---- http.response.start --------------------------------------------------------- */

void at_send_drop_headers(at_request *request)
{
    for (size_t i = 0; i < request->header_count; i++) {
        Py_CLEAR(request->headers[i].name);
        Py_CLEAR(request->headers[i].value);
    }
    request->header_count = 0;
    if (request->headers != request->inline_headers) {
        PyMem_Free(request->headers);
    }
    request->headers = request->inline_headers;
}

/* A header's name or value: bytes, or what has a buffer. A new reference. */
static PyObject *as_bytes(PyObject *object, const char *what)
{
    if (PyBytes_Check(object)) {
        return Py_NewRef(object);
    }
    if (!PyObject_CheckBuffer(object)) {
        return PyErr_Format(PyExc_TypeError,
                            "a response header's %s must be bytes, not %T", what,
                            object);
    }
    return PyBytes_FromObject(object);
}

static int keep_header(at_request *request, PyObject *pair)
{
    PyObject *items = PySequence_Fast(
        pair, "a response header must be an iterable of a name and a value");
    if (items == NULL) {
        return -1;
    }
    PyObject *name = NULL;
    PyObject *value = NULL;
    if (PySequence_Fast_GET_SIZE(items) != 2) {
        PyErr_Format(PyExc_ValueError,
                     "a response header must be a name and a value, not %zd items",
                     PySequence_Fast_GET_SIZE(items));
    } else if ((name = as_bytes(PySequence_Fast_GET_ITEM(items, 0), "name")) != NULL) {
        value = as_bytes(PySequence_Fast_GET_ITEM(items, 1), "value");
    }
    Py_DECREF(items);
    if (value == NULL) {
        Py_XDECREF(name);
        return -1;
    }
    request->headers[request->header_count++] = (at_header_objects){name, value};
    return 0;
}

/* Are all of them tuples of two bytes objects? Then none of them can run code, and
 * with a GIL nobody else can change the list either. */
static bool is_plain(PyObject *list)
{
#ifdef Py_GIL_DISABLED
    return false;
#endif
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(list); i++) {
        PyObject *pair = PySequence_Fast_GET_ITEM(list, i);
        if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2 ||
            !PyBytes_CheckExact(PyTuple_GET_ITEM(pair, 0)) ||
            !PyBytes_CheckExact(PyTuple_GET_ITEM(pair, 1))) {
            return false;
        }
    }
    return true;
}

int at_send_keep_headers(at_request *request, PyObject *headers)
{
    request->headers = request->inline_headers;
    if (headers == NULL || headers == Py_None) {
        return 0;
    }
    PyObject *list = PySequence_Fast(headers, "'headers' must be iterable");
    if (list == NULL) {
        return -1;
    }
    /* A tuple of our own where it is a list: making bytes of an item may run code that
     * changes the list. */
    PyObject *fixed = is_plain(list) ? Py_NewRef(list) : PySequence_Tuple(list);
    Py_DECREF(list);
    if (fixed == NULL) {
        return -1;
    }
    Py_ssize_t count = PySequence_Fast_GET_SIZE(fixed);
    if (count > AT_INLINE_HEADERS) {
        at_header_objects *memory = PyMem_Calloc((size_t)count, sizeof *memory);
        if (memory == NULL) {
            Py_DECREF(fixed);
            (void)PyErr_NoMemory();
            return -1;
        }
        request->headers = memory;
    }
    int result = 0;
    for (Py_ssize_t i = 0; i < count && result == 0; i++) {
        result = keep_header(request, PySequence_Fast_GET_ITEM(fixed, i));
    }
    Py_DECREF(fixed);
    if (result < 0) {
        at_send_drop_headers(request);
    }
    return result;
}

static PyObject *send_start(at_request *request, PyObject *message)
{
    at_words *words = &request->worker->words;
    if (request->start_given) {
        return wrong_order(words->http_response_start, "'http.response.body'");
    }
    PyObject *status = PyDict_GetItemWithError(message, words->status);
    if (status == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_KeyError, "'http.response.start' needs a 'status'");
        }
        return NULL;
    }
    long code = PyLong_AsLong(status);
    if (code == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (code < 200 || code > 999) {
        return PyErr_Format(PyExc_ValueError,
                            "'status' must be from 200 to 999, not %ld", code);
    }
    PyObject *headers = PyDict_GetItemWithError(message, words->headers);
    if ((headers == NULL && PyErr_Occurred()) ||
        at_send_keep_headers(request, headers) < 0) {
        return NULL;
    }
    PyObject *trailers = PyDict_GetItemWithError(message, words->trailers);
    int wanted = trailers != NULL ? PyObject_IsTrue(trailers) : 0;
    if (wanted < 0 || PyErr_Occurred()) {
        return NULL;
    }
    request->trailers_wanted = wanted != 0;
    request->start_given = true;
    request->status = (int)code;
    return Py_NewRef(request->worker->ready);
}

/* ---- http.response.body ---------------------------------------------------------- */

void at_send_copy_headers(const at_request *request, at_h1_header *headers)
{
    for (size_t i = 0; i < request->header_count; i++) {
        PyObject *name = request->headers[i].name;
        PyObject *value = request->headers[i].value;
        headers[i].name =
            (at_span){PyBytes_AS_STRING(name), (size_t)PyBytes_GET_SIZE(name)};
        headers[i].value =
            (at_span){PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value)};
    }
}

static int respond(at_request *request, at_span piece, bool more, const char **why)
{
    at_h1_header small[AT_INLINE_HEADERS];
    at_h1_header *headers = small;
    size_t count = request->header_count;
    if (count > AT_INLINE_HEADERS) {
        headers = PyMem_Calloc(count, sizeof *headers);
        if (headers == NULL) {
            return AT_ENOMEM;
        }
    }
    at_send_copy_headers(request, headers);
    int result = at_exchange_respond(request->exchange, request->status, headers, count,
                                     piece, more, why);
    if (headers != small) {
        PyMem_Free(headers);
    }
    if (result >= 0) {
        at_send_drop_headers(request);
    }
    return result;
}

static PyObject *outcome(at_request *request, int result, const char *why)
{
    if (request->exchange->complete && request->receivers != NULL) {
        at_awaitable_wake_receivers(request);
    }
    switch (result) {
    case 0:
        return Py_NewRef(request->worker->ready);
    case 1:
        return at_awaitable_new(request->worker, AT_AWAIT_ROOM, NULL, request);
    case AT_ECLOSED:
        return client_gone(request);
    case AT_EINVALID:
        return PyErr_Format(PyExc_ValueError, "the response cannot be sent: %s", why);
    case AT_ELIMIT:
        PyErr_SetString(PyExc_RuntimeError,
                        "the response is longer than its Content-Length");
        return NULL;
    case AT_EFORMAT:
        PyErr_SetString(PyExc_RuntimeError,
                        "the response is shorter than its Content-Length");
        return NULL;
    default:
        return PyErr_NoMemory();
    }
}

static PyObject *send_body(at_request *request, PyObject *message)
{
    at_words *words = &request->worker->words;
    if (!request->start_given) {
        return wrong_order(words->http_response_body, "'http.response.start'");
    }
    if (request->exchange->complete || request->body_given) {
        return wrong_order(words->http_response_body,
                           "nothing, the response is complete,");
    }
    PyObject *body = PyDict_GetItemWithError(message, words->body);
    PyObject *more_object = body != NULL || !PyErr_Occurred()
                                ? PyDict_GetItemWithError(message, words->more_body)
                                : NULL;
    if (more_object == NULL && PyErr_Occurred()) {
        return NULL;
    }
    int more = more_object != NULL ? PyObject_IsTrue(more_object) : 0;
    if (more < 0) {
        return NULL;
    }
    request->body_given = !more;
    more = more || request->trailers_wanted;
    Py_buffer buffer = {0};
    at_span piece = {NULL, 0};
    if (body != NULL && PyBytes_CheckExact(body)) {
        piece = (at_span){PyBytes_AS_STRING(body), (size_t)PyBytes_GET_SIZE(body)};
    } else if (body != NULL) {
        if (PyObject_GetBuffer(body, &buffer, PyBUF_SIMPLE) < 0) {
            return NULL;
        }
        piece = (at_span){buffer.buf, (size_t)buffer.len};
    }
    const char *why = "";
    int result = request->exchange->started
                     ? at_exchange_write(request->exchange, piece, more != 0)
                     : respond(request, piece, more != 0, &why);
    PyBuffer_Release(&buffer);
    return outcome(request, result, why);
}

/* ---- what stands around the body ------------------------------------------------- */

/* https://asgi.readthedocs.io/en/latest/extensions.html#debug: for tests, and so for
 * who asked to be told everything. */
static PyObject *send_debug(at_request *request, PyObject *message)
{
    at_worker *worker = request->worker;
    PyObject *info = PyDict_GetItemWithError(message, worker->words.info);
    if (info == NULL) {
        return PyErr_Occurred() ? NULL
                                : PyErr_Format(PyExc_KeyError, "'%U' needs 'info'",
                                               worker->words.http_response_debug);
    }
    PyObject *arguments[] = {NULL, request->scope, info};
    PyObject *done = PyObject_Vectorcall(worker->on_debug, arguments + 1,
                                         2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (done == NULL) {
        return NULL;
    }
    Py_DECREF(done);
    return Py_NewRef(worker->ready);
}

static PyObject *send_early_hint(at_request *request, PyObject *message)
{
    at_words *words = &request->worker->words;
    PyObject *links = PyDict_GetItemWithError(message, words->links);
    if (request->start_given || links == NULL) {
        return PyErr_Occurred() ? NULL
               : links == NULL  ? PyErr_Format(PyExc_KeyError, "'%U' needs 'links'",
                                               words->http_response_early_hint)
                                : wrong_order(words->http_response_early_hint,
                                              "'http.response.body'");
    }
    PyObject *list = PySequence_Tuple(links);
    if (list == NULL) {
        return NULL;
    }
    size_t count = (size_t)PyTuple_GET_SIZE(list);
    at_h1_header *headers = PyMem_Calloc(count + 1, sizeof *headers);
    int result = headers != NULL ? 0 : AT_ENOMEM;
    for (size_t i = 0; i < count && result == 0; i++) {
        PyObject *link = PyTuple_GET_ITEM(list, (Py_ssize_t)i);
        char *data;
        Py_ssize_t size;
        result = PyBytes_AsStringAndSize(link, &data, &size) < 0 ? AT_EFORMAT : 0;
        if (result == 0) {
            headers[i] = (at_h1_header){{"link", 4}, {data, (size_t)size}};
        }
    }
    if (result == 0) {
        result = at_exchange_interim(request->exchange, 103, headers, count);
    }
    PyMem_Free(headers);
    Py_DECREF(list);
    return PyErr_Occurred() ? NULL : outcome(request, result, "a link");
}

static PyObject *send_trailers(at_request *request, PyObject *message)
{
    at_words *words = &request->worker->words;
    if (!request->trailers_wanted || !request->body_given ||
        request->exchange->complete) {
        return wrong_order(words->http_response_trailers,
                           "something else (they are announced with 'trailers', and "
                           "follow the body)");
    }
    PyObject *headers = PyDict_GetItemWithError(message, words->headers);
    PyObject *more = headers != NULL || !PyErr_Occurred()
                         ? PyDict_GetItemWithError(message, words->more_trailers)
                         : NULL;
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (request->trailers == NULL && (request->trailers = PyList_New(0)) == NULL) {
        return NULL;
    }
    PyObject *list = request->trailers;
    if (headers != NULL && PyList_SetSlice(list, PyList_GET_SIZE(list),
                                           PyList_GET_SIZE(list), headers) < 0) {
        return NULL;
    }
    int has_more = more != NULL ? PyObject_IsTrue(more) : 0;
    if (has_more != 0) {
        return has_more < 0 ? NULL : Py_NewRef(request->worker->ready);
    }
    if (at_send_keep_headers(request, list) < 0) {
        return NULL;
    }
    at_h1_header *all = PyMem_Calloc(request->header_count + 1, sizeof *all);
    if (all == NULL) {
        return PyErr_NoMemory();
    }
    at_send_copy_headers(request, all);
    int result =
        at_exchange_write_trailers(request->exchange, all, request->header_count);
    PyMem_Free(all);
    at_send_drop_headers(request);
    return outcome(request, result, "a trailer");
}

/* A file instead of bytes. */
static PyObject *send_file(at_request *request, PyObject *type, PyObject *message)
{
    at_words *words = &request->worker->words;
    if (!request->start_given || request->exchange->complete || request->body_given) {
        return wrong_order(type, request->start_given
                                     ? "nothing, the response is complete,"
                                     : "'http.response.start'");
    }
    if (type == words->http_response_pathsend) {
        request->body_given = true;
        return at_send_path(request, message);
    }
    PyObject *more_object = PyDict_GetItemWithError(message, words->more_body);
    int more = more_object != NULL ? PyObject_IsTrue(more_object) : 0;
    if (more < 0 || PyErr_Occurred()) {
        return NULL;
    }
    request->body_given = !more;
    return at_send_descriptor(request, message, more || request->trailers_wanted);
}

/* ---- the callable ---------------------------------------------------------------- */

static int is_word(PyObject *text, PyObject *word)
{
    return text == word || PyUnicode_Compare(text, word) == 0;
}

static PyObject *send_message(at_request *request, PyObject *message)
{
    at_words *words = &request->worker->words;
    if (!PyDict_Check(message)) {
        return PyErr_Format(PyExc_TypeError, "an ASGI message must be a dict, not %T",
                            message);
    }
    PyObject *type = PyDict_GetItemWithError(message, words->type);
    if (type == NULL || !PyUnicode_Check(type)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_KeyError, "an ASGI message needs a 'type', a str");
        }
        return NULL;
    }
    if (request->exchange == NULL) {
        return wrong_order(type, "nothing, the application has returned,");
    }
    bool is_http = !request->is_websocket;
    bool denies = request->is_websocket && !at_websocket_is_accepted(request->exchange);
    if ((is_http && is_word(type, words->http_response_start)) ||
        (denies && is_word(type, words->websocket_http_response_start))) {
        return send_start(request, message);
    }
    if ((is_http && is_word(type, words->http_response_body)) ||
        (denies && is_word(type, words->websocket_http_response_body))) {
        return send_body(request, message);
    }
    if (is_http && is_word(type, words->http_response_pathsend)) {
        return send_file(request, words->http_response_pathsend, message);
    }
    if (is_http && is_word(type, words->http_response_zerocopysend)) {
        return send_file(request, words->http_response_zerocopysend, message);
    }
    if (is_http && is_word(type, words->http_response_early_hint)) {
        return send_early_hint(request, message);
    }
    if (is_http && request->worker->on_debug != NULL &&
        is_word(type, words->http_response_debug)) {
        return send_debug(request, message);
    }
    if (is_http && is_word(type, words->http_response_trailers)) {
        return send_trailers(request, message);
    }
    if (request->is_websocket) {
        return at_websocket_message(request, type, message);
    }
    return wrong_order(type, request->start_given ? "'http.response.body'"
                                                  : "'http.response.start'");
}

static PyObject *send_call(PyObject *self, PyObject *const *arguments, size_t flags,
                           PyObject *names)
{
    if (PyVectorcall_NARGS(flags) + (names != NULL ? PyTuple_GET_SIZE(names) : 0) !=
        1) {
        PyErr_SetString(PyExc_TypeError, "send() takes one argument, the message");
        return NULL;
    }
    at_request *request =
        (at_request *)Py_NewRef((PyObject *)((at_send *)self)->request);
    PyObject *result = send_message(request, arguments[0]);
    Py_DECREF(request);
    return result;
}

PyObject *at_send_new(at_request *request)
{
    at_worker *worker = request->worker;
    at_send *self = (at_send *)at_spare_take(&worker->sends, worker->send_type);
    if (self != NULL) {
        self->vectorcall = send_call;
        self->request = (at_request *)Py_NewRef((PyObject *)request);
    }
    return (PyObject *)self;
}

static int send_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((at_send *)self)->request);
    return 0;
}

static int send_clear(PyObject *self)
{
    Py_CLEAR(((at_send *)self)->request);
    return 0;
}

static void send_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    at_request *request = ((at_send *)self)->request;
    PyObject_GC_UnTrack(self);
    if (request != NULL) {
        at_spare_give(&request->worker->sends, self);
        Py_DECREF(request);
    } else {
        type->tp_free(self); /* the collector has cleared it */
    }
    Py_DECREF(type);
}

static PyMemberDef send_members[] = {
    {"__vectorcalloffset__", Py_T_PYSSIZET, offsetof(at_send, vectorcall), Py_READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot send_slots[] = {
    {Py_tp_dealloc, send_dealloc},   {Py_tp_traverse, send_traverse},
    {Py_tp_clear, send_clear},       {Py_tp_members, send_members},
    {Py_tp_call, PyVectorcall_Call}, {0, NULL},
};

PyType_Spec at_send_spec = {
    .name = "atoll._atoll.Send",
    .basicsize = sizeof(at_send),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = send_slots,
};
