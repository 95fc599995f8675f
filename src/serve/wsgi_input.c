/* wsgi.input: the request's body, read as it comes; see wsgi.h.
 *
 * A read blocks with the GIL released, and while nobody leads the pool its thread does.
 * What is behind a line that was asked for waits in `ahead`.
 */
#define PY_SSIZE_T_CLEAN
#include <string.h>

#include "base/bytes.h"
#include "serve/wsgi.h"

enum { READ_BYTES = 64 << 10 };

typedef struct at_wsgi_input {
    PyObject_HEAD at_wsgi_call *call; /* a reference; NULL: there is no body */
    at_bytes ahead;
    size_t ahead_start;
    bool ended;
} at_wsgi_input;

PyObject *at_wsgi_input_new(at_wsgi_worker *worker, at_wsgi_call *call)
{
    at_wsgi_input *input = PyObject_New(at_wsgi_input, worker->input_type);
    if (input != NULL) {
        input->call = (at_wsgi_call *)Py_XNewRef((PyObject *)call);
        at_bytes_init(&input->ahead);
        input->ahead_start = 0;
        input->ended = call == NULL;
    }
    return (PyObject *)input;
}

static void input_dealloc(PyObject *self)
{
    at_wsgi_input *input = (at_wsgi_input *)self;
    PyTypeObject *type = Py_TYPE(self);
    at_bytes_fini(&input->ahead);
    Py_XDECREF(input->call);
    PyObject_Free(self);
    Py_DECREF(type);
}

static int gone(at_wsgi_call *call)
{
    PyErr_SetString(call->worker->gone_class,
                    "the client went before its request was complete");
    return -1;
}

/* Up to `size` bytes from the connection, waiting for the first.
 * gives: how many; 0 at the end; -1 with an exception */
AT_UNCHECKED static Py_ssize_t receive(at_wsgi_input *input, char *data, size_t size)
{
    at_wsgi_call *call = input->call;
    if (input->ended || size == 0) {
        return 0;
    }
    at_wsgi_worker *worker = call->worker;
    at_span piece;
    int more = AT_ECLOSED;
    at_wsgi_sit(worker);
    while (call->request != NULL && !worker->ended) {
        at_exchange *exchange = call->request->exchange;
        more = at_exchange_body(exchange, &piece);
        if (more < 0) {
            break;
        }
        if (piece.size != 0 || more == 0) {
            size = piece.size < size ? piece.size : size;
            if (size != 0) {
                memcpy(data, piece.data, size);
            }
            input->ended = more == 0 && size == piece.size;
            at_exchange_take_body(exchange, size);
            at_wsgi_rise(worker);
            return (Py_ssize_t)size;
        }
        call->request->signalled = false;
        at_exchange_want_body(exchange);
        at_wsgi_wait(worker, call->request);
    }
    at_wsgi_rise(worker);
    if (more >= 0 || call->request == NULL) {
        PyErr_SetString(PyExc_ValueError, "read from wsgi.input behind the response");
        return -1;
    }
    return gone(call);
}

/* ---- reading --------------------------------------------------------------------- */

static size_t ahead_size(const at_wsgi_input *input)
{
    return input->ahead.size - input->ahead_start;
}

static size_t take_ahead(at_wsgi_input *input, char *data, size_t size)
{
    size_t there = ahead_size(input);
    size = there < size ? there : size;
    if (size != 0) {
        memcpy(data, input->ahead.data + input->ahead_start, size);
        input->ahead_start += size;
    }
    if (input->ahead_start == input->ahead.size) {
        input->ahead.size = input->ahead_start = 0;
    }
    return size;
}

/* A size argument: None and negative numbers mean all. -2 with an exception. */
static Py_ssize_t read_size(PyObject *const *arguments, Py_ssize_t count,
                            const char *what)
{
    if (count > 1) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most one argument", what);
        return -2;
    }
    if (count == 0 || arguments[0] == Py_None) {
        return -1;
    }
    Py_ssize_t size = PyNumber_AsSsize_t(arguments[0], PyExc_OverflowError);
    if (size == -1 && PyErr_Occurred()) {
        return -2;
    }
    return size < 0 ? -1 : size;
}

static PyObject *read_most(at_wsgi_input *input, size_t most)
{
    size_t room = most;
    if (room > READ_BYTES) {
        /* As much as the client said it sends, so that a large body is copied once. */
        at_wsgi_request *request = input->call != NULL ? input->call->request : NULL;
        uint64_t length = request != NULL && request->head.framing == AT_H1_LENGTH
                              ? request->head.content_length
                              : 0;
        length = length > (16u << 20) ? (16u << 20) : length;
        room = length > READ_BYTES ? (size_t)length : READ_BYTES;
        room = room < most ? room : most;
    }
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room);
    size_t size =
        result != NULL ? take_ahead(input, PyBytes_AS_STRING(result), room) : 0;
    while (result != NULL && size < most) {
        if (size == room) {
            room = room > most / 2 ? most : room * 2;
            if (_PyBytes_Resize(&result, (Py_ssize_t)room) < 0) {
                return NULL;
            }
        }
        Py_ssize_t got = receive(input, PyBytes_AS_STRING(result) + size, room - size);
        if (got < 0) {
            Py_DECREF(result);
            return NULL;
        }
        if (got == 0) {
            break;
        }
        size += (size_t)got;
    }
    if (result != NULL && size != room) {
        (void)_PyBytes_Resize(&result, (Py_ssize_t)size);
    }
    return result;
}

static PyObject *input_read(PyObject *self, PyObject *const *arguments,
                            Py_ssize_t count)
{
    Py_ssize_t size = read_size(arguments, count, "read");
    if (size == -2) {
        return NULL;
    }
    return read_most((at_wsgi_input *)self,
                     size < 0 ? (size_t)PY_SSIZE_T_MAX : (size_t)size);
}

static PyObject *read_line(at_wsgi_input *input, size_t most)
{
    size_t seen = 0;
    for (;;) {
        size_t there = ahead_size(input);
        size_t looked = there < most ? there : most;
        const char *data = input->ahead.data + input->ahead_start;
        const char *end =
            looked > seen ? memchr(data + seen, '\n', looked - seen) : NULL;
        if (end != NULL || there >= most || input->ended) {
            size_t size = end != NULL ? (size_t)(end - data) + 1 : looked;
            PyObject *line = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
            if (line != NULL) {
                (void)take_ahead(input, PyBytes_AS_STRING(line), size);
            }
            return line;
        }
        seen = there;
        at_bytes_consume(&input->ahead, input->ahead_start);
        input->ahead_start = 0;
        if (at_bytes_reserve(&input->ahead, READ_BYTES) < 0) {
            return PyErr_NoMemory();
        }
        Py_ssize_t got =
            receive(input, input->ahead.data + input->ahead.size, READ_BYTES);
        if (got < 0) {
            return NULL;
        }
        input->ahead.size += (size_t)got;
    }
}

static PyObject *input_readline(PyObject *self, PyObject *const *arguments,
                                Py_ssize_t count)
{
    Py_ssize_t size = read_size(arguments, count, "readline");
    if (size == -2) {
        return NULL;
    }
    return read_line((at_wsgi_input *)self,
                     size < 0 ? (size_t)PY_SSIZE_T_MAX : (size_t)size);
}

static PyObject *input_next(PyObject *self)
{
    PyObject *line = read_line((at_wsgi_input *)self, (size_t)PY_SSIZE_T_MAX);
    if (line != NULL && PyBytes_GET_SIZE(line) == 0) {
        Py_CLEAR(line);
    }
    return line;
}

static PyObject *input_readlines(PyObject *self, PyObject *const *arguments,
                                 Py_ssize_t count)
{
    Py_ssize_t hint = read_size(arguments, count, "readlines");
    PyObject *lines = hint != -2 ? PyList_New(0) : NULL;
    Py_ssize_t size = 0;
    while (lines != NULL && (hint <= 0 || size < hint)) {
        PyObject *line = input_next(self);
        if (line == NULL) {
            if (PyErr_Occurred()) {
                Py_CLEAR(lines);
            }
            break;
        }
        size += PyBytes_GET_SIZE(line);
        if (PyList_Append(lines, line) < 0) {
            Py_CLEAR(lines);
        }
        Py_DECREF(line);
    }
    return lines;
}

static PyObject *input_readinto(PyObject *self, PyObject *target)
{
    at_wsgi_input *input = (at_wsgi_input *)self;
    Py_buffer view;
    if (PyObject_GetBuffer(target, &view, PyBUF_WRITABLE) < 0) {
        return NULL;
    }
    Py_ssize_t size = (Py_ssize_t)take_ahead(input, view.buf, (size_t)view.len);
    if (size == 0) {
        size = receive(input, view.buf, (size_t)view.len);
    }
    PyBuffer_Release(&view);
    return size < 0 ? NULL : PyLong_FromSsize_t(size);
}

static PyObject *input_close(PyObject *self, PyObject *unused)
{
    Py_RETURN_NONE; /* PEP 3333: not the application's to close */
}

static PyMethodDef input_methods[] = {
    {"read", (PyCFunction)(void (*)(void))input_read, METH_FASTCALL,
     "read(size=-1): that many bytes of the body, fewer at its end only."},
    {"readline", (PyCFunction)(void (*)(void))input_readline, METH_FASTCALL,
     "readline(size=-1): the next line, with its end."},
    {"readlines", (PyCFunction)(void (*)(void))input_readlines, METH_FASTCALL,
     "readlines(hint=-1): a list of lines, all or about `hint` bytes."},
    {"readinto", input_readinto, METH_O,
     "readinto(buffer): what there is, at least a byte unless at the end."},
    {"close", input_close, METH_NOARGS, "Does nothing."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot input_slots[] = {
    {Py_tp_dealloc, input_dealloc},
    {Py_tp_methods, input_methods},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, input_next},
    {0, NULL},
};

PyType_Spec at_wsgi_input_spec = {
    .name = "atoll._atoll.Input",
    .basicsize = sizeof(at_wsgi_input),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = input_slots,
};
