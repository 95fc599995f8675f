/* Private doors to the protocol parsers, for tests and tools: bytes in, what the server
 * would read out. The server itself never comes through here. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/bytes.h"
#include "base/error.h"
#include "bind/bind.h"
#include "http/h1.h"
#include "http/websocket.h"
#include "http/websocket_deflate.h"

static PyObject *bytes_of(at_span span)
{
    return PyBytes_FromStringAndSize(span.size != 0 ? span.data : "",
                                     (Py_ssize_t)span.size);
}

static void set_refusal(int status, const char *text)
{
    PyObject *arguments = Py_BuildValue("(is)", status, text);
    if (arguments != NULL) {
        PyErr_SetObject(PyExc_ValueError, arguments);
        Py_DECREF(arguments);
    }
}

static PyObject *header_list(const at_h1_request *request)
{
    PyObject *list = PyList_New((Py_ssize_t)request->header_count);
    for (size_t i = 0; list != NULL && i < request->header_count; i++) {
        at_h1_header header = request->headers[i];
        PyObject *pair =
            Py_BuildValue("(NN)", bytes_of(header.name), bytes_of(header.value));
        if (pair == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, pair);
    }
    return list;
}

/* The body behind the head into `body`.
 * gives: bytes consumed; errs: AT_EAGAIN, or -1 with an exception set */
static long read_body(const at_h1_request *request, const char *data, size_t size,
                      at_bytes *body)
{
    if (request->framing != AT_H1_CHUNKED) {
        if (request->content_length > size) {
            return AT_EAGAIN;
        }
        if (at_bytes_append(body, data, request->content_length) != 0) {
            PyErr_NoMemory();
            return -1;
        }
        return (long)request->content_length;
    }
    at_h1_chunked chunked;
    at_h1_chunked_init(&chunked);
    size_t consumed = 0;
    int result;
    do {
        size_t used;
        at_span piece;
        result = at_h1_chunked_next(&chunked, data + consumed, size - consumed, &used,
                                    &piece);
        if (at_bytes_append(body, piece.data, piece.size) != 0) {
            PyErr_NoMemory();
            return -1;
        }
        consumed += used;
    } while (result == 1);
    if (result == 0) {
        return (long)consumed;
    }
    if (result != AT_EAGAIN) {
        set_refusal(chunked.error_status, chunked.error_text);
        return -1;
    }
    return AT_EAGAIN;
}

static PyObject *request_dict(const at_h1_request *request, const at_bytes *body,
                              long consumed)
{
    static const char *const framings[] = {"none", "length", "chunked"};
    return Py_BuildValue(
        "{s:N,s:N,s:N,s:N,s:N,s:N,s:i,s:s,s:K,s:O,s:O,s:O,s:N,s:N,s:l}", "method",
        bytes_of(request->method), "target", bytes_of(request->target), "path",
        bytes_of(request->path), "query", bytes_of(request->query), "authority",
        bytes_of(request->authority), "host", bytes_of(request->host), "version_minor",
        request->version_minor, "framing", framings[request->framing], "content_length",
        (unsigned long long)request->content_length, "keep_alive",
        request->keep_alive ? Py_True : Py_False, "expect_continue",
        request->expect_continue ? Py_True : Py_False, "upgrade_websocket",
        request->upgrade_websocket ? Py_True : Py_False, "headers",
        header_list(request), "body", bytes_of((at_span){body->data, body->size}),
        "consumed", consumed);
}

static PyObject *parse_copy(char *data, size_t size)
{
    at_h1_limits limits;
    at_h1_limits_init(&limits);
    at_h1_request request;
    long head = at_h1_parse_head(&request, data, size, 0, &limits);
    if (head == AT_EAGAIN) {
        Py_RETURN_NONE;
    }
    if (head < 0) {
        set_refusal(request.error_status, request.error_text);
        return NULL;
    }
    if (head == 0) {
        set_refusal(505, "HTTP/2 connection preface");
        return NULL;
    }
    at_bytes body;
    at_bytes_init(&body);
    PyObject *result = NULL;
    long used = read_body(&request, data + head, size - (size_t)head, &body);
    if (used >= 0) {
        result = request_dict(&request, &body, head + used);
    } else if (used == AT_EAGAIN) {
        result = Py_NewRef(Py_None);
    }
    at_bytes_fini(&body);
    return result;
}

PyDoc_STRVAR(h1_parse_doc,
             "h1_parse(data, /)\n--\n\n"
             "Read one HTTP/1.1 request, body included, from the front of bytes.\n\n"
             "Returns:\n"
             "    A dict of what was read, or None where data ends too early.\n\n"
             "Raises:\n"
             "    ValueError: (status, text) where the request is refused.");

static PyObject *h1_parse(PyObject *module, PyObject *argument)
{
    Py_buffer buffer;
    if (PyObject_GetBuffer(argument, &buffer, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    at_bytes copy; /* the parser writes names in lower case */
    at_bytes_init(&copy);
    PyObject *result = NULL;
    if (at_bytes_append(&copy, buffer.buf, (size_t)buffer.len) == 0) {
        result = parse_copy(copy.data, copy.size);
    } else {
        PyErr_NoMemory();
    }
    at_bytes_fini(&copy);
    PyBuffer_Release(&buffer);
    return result;
}

/* ---- WebSocket ------------------------------------------------------------ */

static int append_event(PyObject *list, const at_ws_event *event)
{
    PyObject *item =
        Py_BuildValue("(iNi)", event->opcode, bytes_of(event->data),
                      event->opcode == AT_WS_CLOSE ? event->close_code : 0);
    if (item == NULL) {
        return -1;
    }
    int result = PyList_Append(list, item);
    Py_DECREF(item);
    return result;
}

/* Read all events out of data, which is unmasked in place. Returns (events, error). */
static PyObject *read_events(at_ws_reader *reader, char *data, size_t size)
{
    PyObject *list = PyList_New(0);
    size_t at = 0;
    int result = 1;
    while (list != NULL && result == 1) {
        size_t used;
        at_ws_event event = {0};
        result = at_ws_read(reader, data + at, size - at, &used, &event);
        at += used;
        if (result == 1 && append_event(list, &event) < 0) {
            Py_CLEAR(list);
        }
    }
    if (list == NULL) {
        return NULL;
    }
    if (result == AT_ENOMEM) {
        Py_DECREF(list);
        return PyErr_NoMemory();
    }
    if (result == AT_EFORMAT || result == AT_ELIMIT) {
        return Py_BuildValue("(N(is))", list, reader->error_code, reader->error_text);
    }
    return Py_BuildValue("(NO)", list, Py_None);
}

/* A stream with default windows where `wanted`. Returns 0 or -1 with an exception. */
static int open_deflate(int wanted, at_ws_deflate **deflate)
{
    at_ws_deflate_options options;
    at_ws_deflate_options_init(&options);
    options.client_window_bits = 15;
    *deflate = NULL;
    if (wanted && at_ws_deflate_new(&options, deflate) != 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(ws_read_doc,
             "ws_read(data, message_bytes_max, deflate, /)\n--\n\n"
             "Read what a WebSocket client sent.\n\n"
             "Returns:\n"
             "    (events, error): a list of (opcode, data, close code), and None or\n"
             "    (close code, text) where the rest is refused.");

static PyObject *ws_read(PyObject *module, PyObject *arguments)
{
    Py_buffer buffer;
    Py_ssize_t message_bytes_max;
    int wants_deflate;
    if (!PyArg_ParseTuple(arguments, "y*np:ws_read", &buffer, &message_bytes_max,
                          &wants_deflate)) {
        return NULL;
    }
    PyObject *result = NULL;
    at_ws_deflate *deflate = NULL;
    at_bytes copy;
    at_bytes_init(&copy);
    if (open_deflate(wants_deflate, &deflate) == 0) {
        if (at_bytes_append(&copy, buffer.buf, (size_t)buffer.len) != 0) {
            PyErr_NoMemory();
        } else {
            at_ws_reader reader;
            at_ws_reader_init(&reader, (size_t)message_bytes_max, deflate);
            result = read_events(&reader, copy.data, copy.size);
            at_ws_reader_fini(&reader);
        }
    }
    at_bytes_fini(&copy);
    at_ws_deflate_free(deflate);
    PyBuffer_Release(&buffer);
    return result;
}

static int write_messages(at_bytes *out, at_ws_deflate *deflate, PyObject *messages)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(messages); i++) {
        int opcode;
        const char *data;
        Py_ssize_t size;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(messages, i), "iy#", &opcode, &data,
                              &size)) {
            return -1;
        }
        int result = at_ws_write_message(out, deflate, (at_ws_opcode)opcode,
                                         (at_span){data, (size_t)size});
        if (result != 0) {
            PyErr_SetString(PyExc_ValueError, at_error_text(result));
            return -1;
        }
    }
    return 0;
}

PyDoc_STRVAR(ws_write_doc, "ws_write(messages, deflate, /)\n--\n\n"
                           "The frames of a tuple of (opcode, data), as bytes.");

static PyObject *ws_write(PyObject *module, PyObject *arguments)
{
    PyObject *messages;
    int wants_deflate;
    if (!PyArg_ParseTuple(arguments, "O!p:ws_write", &PyTuple_Type, &messages,
                          &wants_deflate)) {
        return NULL;
    }
    at_ws_deflate *deflate;
    if (open_deflate(wants_deflate, &deflate) < 0) {
        return NULL;
    }
    at_bytes out;
    at_bytes_init(&out);
    PyObject *result = NULL;
    if (write_messages(&out, deflate, messages) == 0) {
        result = bytes_of((at_span){out.data, out.size});
    }
    at_bytes_fini(&out);
    at_ws_deflate_free(deflate);
    return result;
}

static PyMethodDef methods[] = {
    {"h1_parse", h1_parse, METH_O, h1_parse_doc},
    {"ws_read", ws_read, METH_VARARGS, ws_read_doc},
    {"ws_write", ws_write, METH_VARARGS, ws_write_doc},
    {0},
};

int at_bind_http(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
