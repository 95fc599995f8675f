/* start_response(): checked when it is called, as PEP 3333 wants; see wsgi.h.
 *
 * The headers are kept as the application's own strings, whose characters are the bytes
 * to send, until the first piece of body is there.
 */
#define PY_SSIZE_T_CLEAN
#include <string.h>

#include "serve/wsgi.h"

void at_wsgi_drop_headers(at_wsgi_call *call)
{
    for (size_t i = 0; i < call->header_count; i++) {
        Py_CLEAR(call->headers[i].name);
        Py_CLEAR(call->headers[i].value);
    }
    call->header_count = 0;
    if (call->headers != call->inline_headers) {
        PyMem_Free(call->headers);
    }
    call->headers = call->inline_headers;
}

/* The characters of a str as the bytes that they stand for; false with an exception. */
static bool as_span(PyObject *text, const char *what, at_span *span)
{
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "%s must be str, not %T", what, text);
        return false;
    }
    if (PyUnicode_KIND(text) != PyUnicode_1BYTE_KIND) {
        PyErr_Format(PyExc_ValueError, "%s has a character outside of Latin-1: %R",
                     what, text);
        return false;
    }
    span->data = (const char *)PyUnicode_1BYTE_DATA(text);
    span->size = (size_t)PyUnicode_GET_LENGTH(text);
    return true;
}

static bool is_digit(char letter)
{
    return letter >= '0' && letter <= '9';
}

static int take_status(at_wsgi_call *call, PyObject *status)
{
    at_span text;
    if (!as_span(status, "status", &text)) {
        return -1;
    }
    if (text.size < 3 || !is_digit(text.data[0]) || !is_digit(text.data[1]) ||
        !is_digit(text.data[2]) || (text.size > 3 && text.data[3] != ' ') ||
        text.data[0] < '2' || !at_h1_is_field_value(text)) {
        PyErr_Format(PyExc_ValueError,
                     "status must be three digits, 200 at least, and a reason, not %R",
                     status);
        return -1;
    }
    call->status =
        (text.data[0] - '0') * 100 + (text.data[1] - '0') * 10 + (text.data[2] - '0');
    return 0;
}

/* RFC 2616 13.5.1, by way of PEP 3333: what belongs to the connection. "Connection" and
 * "Transfer-Encoding" are taken as the wishes they are. */
static bool is_hop_by_hop(at_span name)
{
    static const char *const names[] = {"upgrade", "te", "trailers",
                                        "proxy-authenticate", "proxy-authorization"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (at_h1_equal(name, names[i])) {
            return true;
        }
    }
    return false;
}

static bool take_length(at_wsgi_call *call, at_span value)
{
    int64_t length = 0;
    for (size_t i = 0; i < value.size; i++) {
        if (!is_digit(value.data[i]) || length > (INT64_MAX - 9) / 10) {
            return false;
        }
        length = length * 10 + (value.data[i] - '0');
    }
    call->declared_bytes = length;
    return value.size != 0;
}

static int take_header(at_wsgi_call *call, PyObject *pair)
{
    struct at_wsgi_header *header = &call->headers[call->header_count];
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        PyErr_Format(PyExc_TypeError,
                     "a response header must be a tuple of a name and a value, not %R",
                     pair);
        return -1;
    }
    PyObject *name = PyTuple_GET_ITEM(pair, 0);
    PyObject *value = PyTuple_GET_ITEM(pair, 1);
    if (!as_span(name, "a response header's name", &header->name_text) ||
        !as_span(value, "a response header's value", &header->value_text)) {
        return -1;
    }
    if (!at_h1_is_token(header->name_text) ||
        !at_h1_is_field_value(header->value_text)) {
        PyErr_Format(PyExc_ValueError,
                     "the response header %R: %R has a character that may not be sent",
                     name, value);
        return -1;
    }
    if (is_hop_by_hop(header->name_text)) {
        PyErr_Format(PyExc_ValueError,
                     "the response header %R belongs to the connection, which is the "
                     "server's",
                     name);
        return -1;
    }
    if (at_h1_equal(header->name_text, "content-length") &&
        !take_length(call, header->value_text)) {
        PyErr_Format(PyExc_ValueError, "Content-Length is not a number: %R", value);
        return -1;
    }
    header->name = Py_NewRef(name);
    header->value = Py_NewRef(value);
    call->header_count++;
    return 0;
}

static int take_headers(at_wsgi_call *call, PyObject *headers)
{
    if (!PyList_Check(headers)) {
        PyErr_Format(PyExc_TypeError, "headers must be a list, not %T", headers);
        return -1;
    }
    at_wsgi_drop_headers(call);
    call->declared_bytes = -1;
    Py_ssize_t count = PyList_GET_SIZE(headers);
    if (count > AT_WSGI_INLINE_HEADERS) {
        struct at_wsgi_header *memory = PyMem_Calloc((size_t)count, sizeof *memory);
        if (memory == NULL) {
            (void)PyErr_NoMemory();
            return -1;
        }
        call->headers = memory;
    }
    for (Py_ssize_t i = 0; i < count && i < PyList_GET_SIZE(headers); i++) {
        PyObject *pair = Py_NewRef(PyList_GET_ITEM(headers, i));
        int result = take_header(call, pair);
        Py_DECREF(pair);
        if (result < 0) {
            at_wsgi_drop_headers(call);
            return -1;
        }
    }
    return 0;
}

/* Raise exc_info again: what was sent cannot be taken back. */
static int raise_again(PyObject *exc_info)
{
    PyObject *exception = PyTuple_GET_ITEM(exc_info, 1);
    PyObject *traceback = PyTuple_GET_ITEM(exc_info, 2);
    if (!PyExceptionInstance_Check(exception)) {
        PyErr_SetString(PyExc_TypeError, "exc_info holds no exception");
        return -1;
    }
    if (PyException_SetTraceback(exception, traceback) == 0) {
        PyErr_SetRaisedException(Py_NewRef(exception));
    }
    return -1;
}

static int check_order(at_wsgi_call *call, PyObject *exc_info)
{
    if (exc_info == NULL || exc_info == Py_None) {
        if (call->start_given) {
            PyErr_SetString(PyExc_AssertionError,
                            "start_response() was called before, and without exc_info");
            return -1;
        }
        return 0;
    }
    if (!PyTuple_Check(exc_info) || PyTuple_GET_SIZE(exc_info) != 3) {
        PyErr_SetString(PyExc_TypeError, "exc_info must be what sys.exc_info() gives");
        return -1;
    }
    return call->started ? raise_again(exc_info) : 0;
}

/* ---- write() --------------------------------------------------------------------- */

AT_UNCHECKED static PyObject *write_call(PyObject *self, PyObject *data)
{
    at_wsgi_call *call = (at_wsgi_call *)self;
    if (!PyBytes_Check(data)) {
        return PyErr_Format(PyExc_TypeError, "write() takes bytes, not %T", data);
    }
    if (call->request == NULL) {
        PyErr_SetString(PyExc_ValueError, "write() behind the response");
        return NULL;
    }
    at_span piece = {PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data)};
    if (piece.size != 0 && at_wsgi_send(call, piece, true) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef write_method = {"write", write_call, METH_O,
                                   "write(data): send a piece of the body now."};

PyObject *at_wsgi_start(PyObject *self, PyObject *const *arguments, size_t count,
                        PyObject *names)
{
    at_wsgi_call *call = (at_wsgi_call *)self;
    Py_ssize_t given = PyVectorcall_NARGS(count);
    PyObject *exc_info = given > 2 ? arguments[2] : NULL;
    if (names != NULL && PyTuple_GET_SIZE(names) == 1 && given == 2 &&
        PyUnicode_EqualToUTF8(PyTuple_GET_ITEM(names, 0), "exc_info")) {
        exc_info = arguments[2]; /* not of the specification, but of its examples */
    } else if (given < 2 || given > 3 || (names != NULL && PyTuple_GET_SIZE(names))) {
        PyErr_SetString(
            PyExc_TypeError,
            "start_response() takes status, headers and exc_info, by position");
        return NULL;
    }
    if (call->request == NULL) {
        PyErr_SetString(PyExc_ValueError, "start_response() behind the response");
        return NULL;
    }
    if (check_order(call, exc_info) < 0 || take_status(call, arguments[0]) < 0 ||
        take_headers(call, arguments[1]) < 0) {
        return NULL;
    }
    call->start_given = true;
    return PyCFunction_New(&write_method, self);
}
