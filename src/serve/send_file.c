/* Files as response bodies: ASGI's pathsend and zerocopysend; see worker.h.
 *
 * What a connection without TLS and HTTP/2 takes goes from the page cache to the
 * socket; otherwise the file is read in pieces, each when the one before it has room
 * made.
 */
#define PY_SSIZE_T_CLEAN
#include "serve/worker.h"

#include "sys/file.h"

enum { PIECE_BYTES = 64 << 10, AT_ONCE_BYTES = 1 << 20 };

void at_send_close_file(at_request *request)
{
    if (request->file.owned) {
        at_file_close(request->file.descriptor);
    }
    request->file = (at_request_file){.descriptor = -1};
}

/* Send the next part. Returns as at_exchange_write. */
static int send_part(at_request *request)
{
    at_exchange *exchange = request->exchange;
    at_request_file *file = &request->file;
    size_t most = file->left < AT_ONCE_BYTES ? (size_t)file->left : AT_ONCE_BYTES;
    long sent = at_exchange_send_file(exchange, file->descriptor, file->offset, most);
    if (sent < 0) {
        return (int)sent;
    }
    if (sent == 0 && most != 0) {
        char piece[PIECE_BYTES];
        size_t size = most < sizeof piece ? most : sizeof piece;
        sent = at_file_read_at(file->descriptor, piece, size, file->offset);
        if (sent <= 0) {
            return AT_EFORMAT; /* it is shorter than it was */
        }
        file->offset += (uint64_t)sent;
        file->left -= (uint64_t)sent;
        return at_exchange_write(exchange, (at_span){piece, (size_t)sent},
                                 file->left != 0 || file->more);
    }
    file->offset += (uint64_t)sent;
    file->left -= (uint64_t)sent;
    if (file->left != 0) {
        return 0;
    }
    return at_exchange_write(exchange, (at_span){NULL, 0}, file->more);
}

PyObject *at_send_file_poll(at_request *request)
{
    while (request->file.descriptor >= 0) {
        if (request->exchange == NULL || request->exchange->connection == NULL) {
            at_send_close_file(request);
            PyErr_SetString(request->worker->gone_class,
                            "the client has closed the connection");
            return NULL;
        }
        if (request->exchange->wants_writable) {
            return NULL;
        }
        int result = send_part(request);
        if (result < 0) {
            at_send_close_file(request);
            at_exchange_abort(request->exchange);
            if (result == AT_ENOMEM) {
                return PyErr_NoMemory();
            }
            PyErr_SetString(
                result == AT_ECLOSED ? request->worker->gone_class : PyExc_RuntimeError,
                result == AT_ECLOSED ? "the client has closed the connection"
                                     : "the file does not fit the response's length");
            return NULL;
        }
        if (request->file.left == 0) {
            at_send_close_file(request);
        }
    }
    if (request->exchange != NULL && request->exchange->complete) {
        at_awaitable_wake_receivers(request);
    }
    Py_RETURN_NONE;
}

/* Start the response where it has not, with room for a length. Returns 0 or -1. */
static int start(at_request *request, uint64_t size, bool more)
{
    if (request->exchange->started) {
        return 0;
    }
    at_h1_header *all = PyMem_Calloc(request->header_count + 1, sizeof *all);
    if (all == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    at_send_copy_headers(request, all);
    size_t count = request->header_count;
    bool has_length = more;
    for (size_t i = 0; i < count; i++) {
        has_length = has_length || at_h1_equal(all[i].name, "content-length") ||
                     at_h1_equal(all[i].name, "transfer-encoding");
    }
    char digits[24];
    if (!has_length) {
        int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)size);
        all[count++] = (at_h1_header){{"content-length", 14}, {digits, (size_t)length}};
    }
    const char *why = "";
    int result = at_exchange_respond(request->exchange, request->status, all, count,
                                     (at_span){NULL, 0}, true, &why);
    PyMem_Free(all);
    at_send_drop_headers(request);
    if (result == AT_ECLOSED) {
        PyErr_SetString(request->worker->gone_class,
                        "the client has closed the connection");
    } else if (result == AT_ENOMEM) {
        (void)PyErr_NoMemory();
    } else if (result < 0) {
        PyErr_Format(PyExc_ValueError, "the response cannot be sent: %s", why);
    }
    return result < 0 ? -1 : 0;
}

static PyObject *begin(at_request *request, at_request_file file)
{
    if (start(request, file.left, file.more) < 0) {
        if (file.owned) {
            at_file_close(file.descriptor);
        }
        return NULL;
    }
    at_send_close_file(request);
    request->file = file;
    return at_awaitable_new(request->worker, AT_AWAIT_FILE, NULL, request);
}

PyObject *at_send_path(at_request *request, PyObject *message)
{
    PyObject *path = PyDict_GetItemWithError(message, request->worker->words.path);
    PyObject *encoded;
    if (path == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_KeyError, "'http.response.pathsend' needs a 'path'");
        }
        return NULL;
    }
    if (!PyUnicode_FSConverter(path, &encoded)) {
        return NULL;
    }
    at_file_identity identity;
    at_fault fault;
    int descriptor = at_file_open(PyBytes_AS_STRING(encoded), &identity, &fault);
    Py_DECREF(encoded);
    if (descriptor < 0) {
        return PyErr_Format(PyExc_OSError, "%s", fault.text);
    }
    return begin(request, (at_request_file){.descriptor = descriptor,
                                            .owned = true,
                                            .left = identity.size_bytes,
                                            .more = request->trailers_wanted});
}

/* An int of the message, or `otherwise` for none or None. Returns 0 or -1. */
static int number(PyObject *message, PyObject *key, int64_t otherwise, int64_t *value)
{
    PyObject *object = PyDict_GetItemWithError(message, key);
    *value = otherwise;
    if (object == NULL || object == Py_None) {
        return PyErr_Occurred() ? -1 : 0;
    }
    *value = PyLong_AsLongLong(object);
    if (*value < 0 && !PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "'%U' must not be negative", key);
    }
    return PyErr_Occurred() ? -1 : 0;
}

PyObject *at_send_descriptor(at_request *request, PyObject *message, bool more)
{
    at_words *words = &request->worker->words;
    PyObject *object = PyDict_GetItemWithError(message, words->file);
    int descriptor = object != NULL ? PyObject_AsFileDescriptor(object) : -1;
    if (descriptor < 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_KeyError,
                            "'http.response.zerocopysend' needs a 'file'");
        }
        return NULL;
    }
    int64_t at = at_file_position(descriptor);
    int64_t size = at_file_size(descriptor);
    int64_t offset, count;
    if (at < 0 || size < 0) {
        PyErr_SetString(PyExc_ValueError, "'file' must be a regular file");
        return NULL;
    }
    if (number(message, words->offset, at, &offset) < 0 ||
        number(message, words->count, size > offset ? size - offset : 0, &count) < 0) {
        return NULL;
    }
    return begin(request, (at_request_file){.descriptor = descriptor,
                                            .offset = (uint64_t)offset,
                                            .left = (uint64_t)count,
                                            .more = more});
}
