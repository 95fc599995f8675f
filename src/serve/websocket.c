/* ASGI's `websocket` messages: receive() and send() of a request that is one; see
 * worker.h and net/websocket.h.
 *
 *   websocket.connect ──accept──▶ websocket.receive … ──▶ websocket.disconnect
 *          ├── close: 403
 *          └── http.response.start, .body: denied with a response of its own
 */
#define PY_SSIZE_T_CLEAN
#include "serve/worker.h"

#include "net/websocket.h"

/* ---- receive() ------------------------------------------------------------------- */

/* {"type": type}, with another key where `value`, whose reference is taken, is. */
static PyObject *message_of(at_worker *worker, PyObject *type, PyObject *key,
                            PyObject *value)
{
    PyObject *message = PyDict_New();
    if (message == NULL || PyDict_SetItem(message, worker->words.type, type) < 0 ||
        (key != NULL && (value == NULL || PyDict_SetItem(message, key, value) < 0))) {
        Py_CLEAR(message);
    }
    Py_XDECREF(value);
    return message;
}

static PyObject *disconnect_message(at_worker *worker, uint16_t code, at_span reason)
{
    at_words *words = &worker->words;
    PyObject *text =
        PyUnicode_DecodeUTF8(reason.data, (Py_ssize_t)reason.size, "replace");
    PyObject *message = message_of(worker, words->websocket_disconnect, words->code,
                                   PyLong_FromLong(code));
    if (message != NULL &&
        (text == NULL || PyDict_SetItem(message, words->reason, text) < 0)) {
        Py_CLEAR(message);
    }
    Py_XDECREF(text);
    return message;
}

PyObject *at_websocket_poll(at_request *request)
{
    at_worker *worker = request->worker;
    at_words *words = &worker->words;
    at_exchange *exchange = request->exchange;
    if (exchange == NULL) {
        return disconnect_message(worker, request->close_code, (at_span){NULL, 0});
    }
    if (!request->connect_given) {
        request->connect_given = true;
        return message_of(worker, words->websocket_connect, NULL, NULL);
    }
    if (!at_websocket_is_accepted(exchange)) {
        return exchange->lost || exchange->complete
                   ? disconnect_message(worker, AT_WS_CODE_LOST, (at_span){NULL, 0})
                   : NULL;
    }
    at_ws_opcode opcode;
    at_span data, reason;
    uint16_t code;
    int found = at_websocket_next(exchange, &opcode, &data, &code, &reason);
    if (found == AT_EAGAIN) {
        return NULL;
    }
    if (found < 0) {
        request->close_code = code;
        return disconnect_message(worker, code, reason);
    }
    bool is_text = opcode == AT_WS_TEXT;
    PyObject *value = is_text
                          ? PyUnicode_DecodeUTF8(data.data, (Py_ssize_t)data.size, NULL)
                          : PyBytes_FromStringAndSize(data.data, (Py_ssize_t)data.size);
    PyObject *message = message_of(worker, words->websocket_receive,
                                   is_text ? words->text : words->bytes, value);
    if (message != NULL) {
        at_websocket_take(exchange);
    }
    return message;
}

/* ---- send() ---------------------------------------------------------------------- */

static PyObject *is_over(at_request *request)
{
    PyErr_SetString(request->worker->gone_class, "the WebSocket is closed");
    return NULL;
}

static PyObject *outcome(at_request *request, int result, const char *why)
{
    switch (result) {
    case 0:
        return Py_NewRef(request->worker->ready);
    case 1:
        return at_awaitable_new(request->worker, AT_AWAIT_ROOM, NULL, request);
    case AT_ECLOSED:
        return is_over(request);
    case AT_EINVALID:
        return PyErr_Format(PyExc_ValueError,
                            "the WebSocket message cannot be sent: %s", why);
    default:
        return PyErr_NoMemory();
    }
}

/* The value of `key`, borrowed, or NULL for none or None; -1 with an exception. */
static int get(PyObject *message, PyObject *key, PyObject **value)
{
    *value = PyDict_GetItemWithError(message, key);
    if (*value == Py_None) {
        *value = NULL;
    }
    return *value == NULL && PyErr_Occurred() ? -1 : 0;
}

/* A str as UTF-8, borrowed from it; empty for NULL. */
static int text_of(PyObject *object, const char *what, at_span *text)
{
    *text = (at_span){NULL, 0};
    if (object == NULL) {
        return 0;
    }
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "'%s' must be a str, not %T", what, object);
        return -1;
    }
    Py_ssize_t size;
    text->data = PyUnicode_AsUTF8AndSize(object, &size);
    text->size = (size_t)size;
    return text->data != NULL ? 0 : -1;
}

static PyObject *send_accept(at_request *request, PyObject *message)
{
    at_words *words = &request->worker->words;
    PyObject *subprotocol, *headers;
    at_span protocol;
    if (get(message, words->subprotocol, &subprotocol) < 0 ||
        get(message, words->headers, &headers) < 0 ||
        text_of(subprotocol, "subprotocol", &protocol) < 0 ||
        at_send_keep_headers(request, headers) < 0) {
        return NULL;
    }
    at_h1_header *all = PyMem_Calloc(request->header_count + 1, sizeof *all);
    if (all == NULL) {
        return PyErr_NoMemory();
    }
    at_send_copy_headers(request, all);
    size_t count = request->header_count;
    if (protocol.size != 0) {
        all[count++] = (at_h1_header){{"sec-websocket-protocol", 22}, protocol};
    }
    const char *why = "";
    int result = at_websocket_accept(request->exchange, all, count, &why);
    PyMem_Free(all);
    at_send_drop_headers(request);
    return outcome(request, result, why);
}

static PyObject *send_data(at_request *request, PyObject *message)
{
    at_words *words = &request->worker->words;
    PyObject *text, *bytes;
    at_span data;
    if (get(message, words->text, &text) < 0 ||
        get(message, words->bytes, &bytes) < 0) {
        return NULL;
    }
    if ((text == NULL) == (bytes == NULL)) {
        PyErr_SetString(PyExc_ValueError,
                        "'websocket.send' needs one of 'text' and 'bytes'");
        return NULL;
    }
    if (text != NULL) {
        return text_of(text, "text", &data) < 0
                   ? NULL
                   : outcome(request,
                             at_websocket_send(request->exchange, AT_WS_TEXT, data),
                             "");
    }
    Py_buffer buffer;
    if (PyObject_GetBuffer(bytes, &buffer, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    data = (at_span){buffer.buf, (size_t)buffer.len};
    int result = at_websocket_send(request->exchange, AT_WS_BINARY, data);
    PyBuffer_Release(&buffer);
    return outcome(request, result, "");
}

static PyObject *send_close(at_request *request, PyObject *message)
{
    at_words *words = &request->worker->words;
    PyObject *code_object, *reason_object;
    at_span reason;
    if (get(message, words->code, &code_object) < 0 ||
        get(message, words->reason, &reason_object) < 0 ||
        text_of(reason_object, "reason", &reason) < 0) {
        return NULL;
    }
    if (!at_websocket_is_accepted(request->exchange)) {
        const char *why;
        return outcome(request,
                       at_exchange_respond(request->exchange, 403, NULL, 0,
                                           (at_span){NULL, 0}, false, &why),
                       "");
    }
    long code = code_object != NULL ? PyLong_AsLong(code_object) : AT_WS_CODE_NORMAL;
    if (code == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (code < 1000 || code > 4999) {
        return PyErr_Format(PyExc_ValueError, "%ld is no code to close with", code);
    }
    return outcome(request,
                   at_websocket_close(request->exchange, (uint16_t)code, reason),
                   "the code or the reason");
}

static int is_word(PyObject *text, PyObject *word)
{
    return text == word || PyUnicode_Compare(text, word) == 0;
}

static PyObject *out_of_order(PyObject *type, const char *state)
{
    return PyErr_Format(PyExc_RuntimeError, "ASGI message '%U' cannot be sent %s", type,
                        state);
}

PyObject *at_websocket_message(at_request *request, PyObject *type, PyObject *message)
{
    at_words *words = &request->worker->words;
    at_exchange *exchange = request->exchange;
    bool accepted = at_websocket_is_accepted(exchange);
    if (is_word(type, words->websocket_send)) {
        return accepted            ? send_data(request, message)
               : exchange->started ? is_over(request)
                                   : out_of_order(type, "before 'websocket.accept'");
    }
    if (is_word(type, words->websocket_close)) {
        return exchange->started && !accepted ? is_over(request)
                                              : send_close(request, message);
    }
    if (is_word(type, words->websocket_accept)) {
        return exchange->started || request->start_given
                   ? out_of_order(type, "again, or after a response")
                   : send_accept(request, message);
    }
    return out_of_order(type, "to a WebSocket");
}

void at_websocket_settle(at_request *request, bool failed)
{
    (void)at_websocket_close(request->exchange,
                             failed ? AT_WS_CODE_INTERNAL_ERROR : AT_WS_CODE_NORMAL,
                             (at_span){NULL, 0});
}
