/* A file behind wsgi.file_wrapper, sent without its bytes coming through Python; see
 * wsgi.h.
 *
 * The wrapper says which part of which descriptor it is (`FileWrapper.extent` of
 * atoll._server.wsgi), or that it is something whose bytes are not the descriptor's.
 * What a connection without TLS and HTTP/2 takes goes from the page cache to the
 * socket; otherwise the file is read in pieces.
 */
#define PY_SSIZE_T_CLEAN
#include <stdio.h>

#include "serve/wsgi.h"
#include "sys/file.h"

enum {
    PIECE_BYTES = 64 << 10,
    AT_ONCE_BYTES = 256 << 10, /* the other threads' connections wait meanwhile */
};

/* A part of a file. */
typedef struct extent {
    int descriptor;
    uint64_t offset, left;
} extent;

/* Returns 1, or 0 where the wrapper shall be iterated over, or -1. */
static int find_extent(const at_wsgi_call *call, PyObject *wrapper,
                       extent *part) AT_ATTACHED;
static int find_extent(const at_wsgi_call *call, PyObject *wrapper, extent *part)
{
    PyObject *found = PyObject_CallMethodNoArgs(wrapper, call->worker->words.extent);
    if (found == NULL || found == Py_None) {
        Py_XDECREF(found);
        return found == NULL ? -1 : 0;
    }
    long long offset;
    int parsed = PyArg_ParseTuple(found, "iL", &part->descriptor, &offset);
    Py_DECREF(found);
    if (!parsed) {
        return -1;
    }
    int64_t size = at_file_size(part->descriptor);
    if (offset < 0 || size <= offset) {
        return 0; /* not regular; or at its end, or with a size that is not kept */
    }
    part->offset = (uint64_t)offset;
    part->left = (uint64_t)(size - offset);
    return 1;
}

static bool names_framing(const at_wsgi_call *call)
{
    for (size_t i = 0; i < call->header_count; i++) {
        if (at_h1_equal(call->headers[i].name_text, "transfer-encoding")) {
            return true;
        }
    }
    return false;
}

/* The response's head, with the length where the application gave none. The seat is
 * held. Returns as at_exchange_respond. */
static int start(at_wsgi_call *call, uint64_t size, const char **why)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)size);
    at_h1_header header = {{"content-length", 14}, {digits, (size_t)length}};
    return at_wsgi_respond(call, call->declared_bytes < 0 ? &header : NULL,
                           (at_span){NULL, 0}, true, why);
}

/* Send the next part. Returns as at_exchange_write. */
static int send_part(at_wsgi_call *call, extent *part) AT_DETACHED;
static int send_part(at_wsgi_call *call, extent *part)
{
    at_exchange *exchange = call->request->exchange;
    char piece[PIECE_BYTES];
    size_t most = part->left < AT_ONCE_BYTES ? (size_t)part->left : AT_ONCE_BYTES;
    at_wsgi_sit(call->worker);
    long sent = at_exchange_send_file(exchange, part->descriptor, part->offset, most);
    bool was_read = sent == 0;
    if (was_read) {
        at_wsgi_rise(call->worker); /* a disk keeps nobody else waiting */
        sent = at_file_read_at(part->descriptor, piece,
                               most < sizeof piece ? most : sizeof piece, part->offset);
        sent = sent > 0 ? sent : AT_EFORMAT; /* it is shorter than it was */
        at_wsgi_sit(call->worker);
    }
    int result = sent < 0 ? (int)sent : 0;
    if (result == 0) {
        part->offset += (uint64_t)sent;
        part->left -= (uint64_t)sent;
        call->sent_bytes += sent;
    }
    if (result == 0 && (was_read || part->left == 0)) {
        at_span rest = {was_read ? piece : NULL, was_read ? (size_t)sent : 0};
        result = at_exchange_write(exchange, rest, part->left != 0);
    }
    at_wsgi_rise(call->worker);
    return result;
}

/* Returns 0 or an error. */
static int send_parts(at_wsgi_call *call, extent *part) AT_ATTACHED;
static int send_parts(at_wsgi_call *call, extent *part)
{
    int sent = 0;
    while (sent >= 0 && part->left != 0) {
        PyThreadState *state = at_detach();
        sent = send_part(call, part);
        at_attach(state);
        if (sent == 1) {
            at_wsgi_sit(call->worker);
            sent = at_wsgi_wait_for_room(call);
            at_wsgi_rise(call->worker);
        }
    }
    return sent;
}

int at_wsgi_send_file(at_wsgi_call *call, PyObject *result)
{
    if (Py_TYPE(result) != call->worker->file_wrapper || !call->start_given ||
        call->started || call->status == 204 || call->status == 304 ||
        call->request->exchange->head_request || names_framing(call)) {
        return 0;
    }
    extent part;
    int found = find_extent(call, result, &part);
    if (found <= 0) {
        return found;
    }
    if (call->declared_bytes == 0) {
        return 0;
    }
    if (call->declared_bytes > 0 && part.left > (uint64_t)call->declared_bytes) {
        part.left = (uint64_t)call->declared_bytes; /* as much as was promised */
    }
    const char *why = NULL;
    at_wsgi_sit(call->worker);
    int sent = start(call, part.left, &why);
    at_wsgi_rise(call->worker);
    call->started = call->request->exchange->started;
    if (sent >= 0) {
        sent = send_parts(call, &part);
    }
    call->complete = sent >= 0 && call->request->exchange->complete;
    if (sent >= 0 && !call->complete) {
        sent = AT_EFORMAT; /* less than was promised */
    }
    return sent < 0 ? at_wsgi_raise_outcome(call, sent, why) : 1;
}
