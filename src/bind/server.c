/* The server's types for Python: Service, for the main interpreter, and Worker. */
#define PY_SSIZE_T_CLEAN
#include "bind/bind.h"

#include "base/contexts.h"
#include "bind/error.h"
#include "bind/server.h"
#include "interp/attach.h"
#include "net/service.h"
#include "net/tls.h"
#include "serve/worker.h"
#include "serve/wsgi.h"

typedef struct service_object {
    PyObject_HEAD at_service *service; /* a reference */
} service_object;

at_service *at_server_service_of(PyObject *self)
{
    return ((service_object *)self)->service;
}

static at_service *service_of(PyObject *self)
{
    return at_server_service_of(self);
}

static int64_t seconds_to_ns(double seconds)
{
    return seconds > 0 && seconds < 9e9 ? (int64_t)(seconds * 1e9) : 0;
}

/* What Service() takes, as Python has it. */
typedef struct asked_limits {
    Py_ssize_t line_bytes, head_bytes, header_count, ws_bytes;
    unsigned long long body_bytes;
    double head_s, body_s, idle_s, write_s, linger_s, handshake_s;
    double ws_ping_s, ws_pong_s;
    unsigned ws_queue;
    int ws_deflate, proxy_headers, proxy_protocol;
    const char *allow; /* borrowed of the arguments */
    Py_ssize_t allow_size;
} asked_limits;

static double ns_to_seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

/* What is asked for where nothing is said. */
static asked_limits usual_limits(const at_service_limits *usual)
{
    return (asked_limits){
        .line_bytes = (Py_ssize_t)usual->head.request_line_bytes,
        .head_bytes = (Py_ssize_t)usual->head.head_bytes,
        .header_count = (Py_ssize_t)usual->head.header_count,
        .body_bytes = usual->body_bytes,
        .head_s = ns_to_seconds(usual->head_timeout_ns),
        .body_s = ns_to_seconds(usual->body_timeout_ns),
        .idle_s = ns_to_seconds(usual->idle_timeout_ns),
        .write_s = ns_to_seconds(usual->write_timeout_ns),
        .linger_s = ns_to_seconds(usual->linger_timeout_ns),
        .handshake_s = ns_to_seconds(usual->handshake_timeout_ns),
        .ws_bytes = (Py_ssize_t)usual->websocket.message_bytes,
        .ws_queue = usual->websocket.queue_count,
        .ws_ping_s = ns_to_seconds(usual->websocket.ping_interval_ns),
        .ws_pong_s = ns_to_seconds(usual->websocket.ping_timeout_ns),
        .ws_deflate = usual->websocket.deflate,
        .allow = "",
    };
}

/* False with an exception set. */
static bool parse_limits(PyObject *arguments, PyObject *names, asked_limits *asked)
{
    static char *keywords[] = {"request_line_bytes",
                               "head_bytes",
                               "header_count",
                               "body_bytes",
                               "head_timeout",
                               "body_timeout",
                               "idle_timeout",
                               "write_timeout",
                               "linger_timeout",
                               "ws_message_bytes",
                               "ws_queue",
                               "ws_ping_interval",
                               "ws_ping_timeout",
                               "ws_deflate",
                               "handshake_timeout",
                               "forwarded_allow",
                               "proxy_headers",
                               "proxy_protocol",
                               NULL};
    return PyArg_ParseTupleAndKeywords(
               arguments, names, "|$nnnKdddddnIddpds#pp:Service", keywords,
               &asked->line_bytes, &asked->head_bytes, &asked->header_count,
               &asked->body_bytes, &asked->head_s, &asked->body_s, &asked->idle_s,
               &asked->write_s, &asked->linger_s, &asked->ws_bytes, &asked->ws_queue,
               &asked->ws_ping_s, &asked->ws_pong_s, &asked->ws_deflate,
               &asked->handshake_s, &asked->allow, &asked->allow_size,
               &asked->proxy_headers, &asked->proxy_protocol) != 0;
}

/* False with an exception set: they make no sense. */
static bool take_limits(const asked_limits *asked, at_service_limits *limits)
{
    if (asked->line_bytes <= 0 || asked->ws_bytes <= 0 || asked->ws_queue == 0 ||
        asked->head_bytes <= 0 || asked->header_count <= 0 ||
        asked->header_count > AT_H1_HEADERS_MAX) {
        PyErr_Format(PyExc_ValueError,
                     "limits must be positive, and of headers at most %d",
                     (int)AT_H1_HEADERS_MAX);
        return false;
    }
    limits->head = (at_h1_limits){(size_t)asked->line_bytes, (size_t)asked->head_bytes,
                                  (size_t)asked->header_count};
    limits->body_bytes = asked->body_bytes;
    limits->head_timeout_ns = seconds_to_ns(asked->head_s);
    limits->body_timeout_ns = seconds_to_ns(asked->body_s);
    limits->idle_timeout_ns = seconds_to_ns(asked->idle_s);
    limits->write_timeout_ns = seconds_to_ns(asked->write_s);
    limits->linger_timeout_ns = seconds_to_ns(asked->linger_s);
    limits->handshake_timeout_ns = seconds_to_ns(asked->handshake_s);
    limits->websocket.message_bytes = (size_t)asked->ws_bytes;
    limits->websocket.queue_count = asked->ws_queue;
    limits->websocket.ping_interval_ns = seconds_to_ns(asked->ws_ping_s);
    limits->websocket.ping_timeout_ns = seconds_to_ns(asked->ws_pong_s);
    limits->websocket.deflate = asked->ws_deflate != 0;
    limits->proxy_protocol = asked->proxy_protocol != 0;
    limits->forwarded_headers = asked->proxy_headers != 0;
    at_span allow = {asked->allow, (size_t)asked->allow_size};
    if (allow.size != 0 && at_trust_parse(&limits->forwarded, allow) < 0) {
        PyErr_Format(PyExc_ValueError, "not a list of addresses: %s", asked->allow);
        return false;
    }
    return true;
}

static PyObject *service_new(PyTypeObject *type, PyObject *arguments, PyObject *names)
{
    at_service_limits limits;
    at_service_limits_init(&limits);
    asked_limits asked = usual_limits(&limits);
    if (!parse_limits(arguments, names, &asked) || !take_limits(&asked, &limits)) {
        return NULL;
    }
    service_object *self = (service_object *)type->tp_alloc(type, 0);
    if (self != NULL && (self->service = at_service_new(&limits)) == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void service_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    at_service_unref(service_of(self));
    type->tp_free(self);
    Py_DECREF(type);
}

AT_UNCHECKED static PyObject *service_listen(PyObject *self, PyObject *arguments)
{
    const char *host;
    int port, backlog;
    if (!PyArg_ParseTuple(arguments, "sii:listen", &host, &port, &backlog)) {
        return NULL;
    }
    at_fault fault;
    int result;
    PyThreadState *state = PyEval_SaveThread();
    result = at_service_listen(service_of(self), host, port, backlog, &fault);
    PyEval_RestoreThread(state);
    if (result < 0) {
        return at_raise_fault(&fault);
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *service_listen_unix(PyObject *self, PyObject *arguments)
{
    const char *path;
    int backlog;
    if (!PyArg_ParseTuple(arguments, "si:listen_unix", &path, &backlog)) {
        return NULL;
    }
    at_fault fault;
    if (at_service_listen_unix(service_of(self), path, backlog, &fault) < 0) {
        return at_raise_fault(&fault);
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *service_adopt(PyObject *self, PyObject *arguments)
{
    int descriptor;
    if (!PyArg_ParseTuple(arguments, "i:adopt", &descriptor)) {
        return NULL;
    }
    at_fault fault;
    if (at_service_adopt(service_of(self), descriptor, &fault) < 0) {
        return at_raise_fault(&fault);
    }
    Py_RETURN_NONE;
}

/* (certificates, password, ca, verify, ciphers, h2), None for what is not given */
AT_UNCHECKED static PyObject *service_set_tls(PyObject *self, PyObject *arguments)
{
    at_tls_options options = {0};
    PyObject *certificates;
    int verify, h2;
    if (!PyArg_ParseTuple(arguments, "O!zzizp:set_tls", &PyTuple_Type, &certificates,
                          &options.password, &options.ca_path, &verify,
                          &options.ciphers, &h2)) {
        return NULL;
    }
    if (verify < AT_TLS_VERIFY_NONE || verify > AT_TLS_VERIFY_REQUIRED ||
        PyTuple_GET_SIZE(certificates) > AT_TLS_CERTIFICATES_MAX) {
        PyErr_SetString(PyExc_ValueError, "verify is 0, 1 or 2; certificates 1 to 64");
        return NULL;
    }
    options.verify = (at_tls_verify)verify;
    options.h2 = h2 != 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(certificates); i++) {
        size_t at = options.certificate_count++;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(certificates, i), "sz",
                              &options.certificate_paths[at], &options.key_paths[at])) {
            return NULL;
        }
    }
    at_service *service = service_of(self);
    at_fault fault;
    at_tls_context *context = NULL;
    int result;
    PyThreadState *state = PyEval_SaveThread();
    at_tls_context *before = at_service_tls(service);
    result = at_tls_context_new(&context, &options, before, &fault);
    at_tls_context_unref(before);
    if (result == 0) {
        at_service_set_tls(service, context);
        at_tls_context_unref(context);
    }
    PyEval_RestoreThread(state);
    if (result < 0) {
        return at_raise_fault(&fault);
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *service_mount(PyObject *self, PyObject *arguments)
{
    const char *prefix, *folder;
    if (!PyArg_ParseTuple(arguments, "ss:mount", &prefix, &folder)) {
        return NULL;
    }
    at_fault fault;
    if (at_service_mount(service_of(self), prefix, folder, &fault) < 0) {
        return at_raise_fault(&fault);
    }
    Py_RETURN_NONE;
}

static PyObject *service_addresses(PyObject *self, PyObject *unused)
{
    PyObject *list = PyList_New(0);
    at_address address;
    for (int i = 0; list != NULL && at_service_address(service_of(self), i, &address);
         i++) {
        PyObject *pair = Py_BuildValue("(si)", address.host, address.port);
        if (pair == NULL || PyList_Append(list, pair) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(pair);
    }
    return list;
}

static PyObject *service_retire(PyObject *self, PyObject *unused)
{
    at_service_retire(service_of(self));
    Py_RETURN_NONE;
}

AT_UNCHECKED static PyObject *service_join_passage(PyObject *self, PyObject *arguments)
{
    int receiving, sending;
    if (!PyArg_ParseTuple(arguments, "ii:join_passage", &receiving, &sending)) {
        return NULL;
    }
    at_fault fault;
    if (at_service_join_passage(service_of(self), receiving, sending, &fault) < 0) {
        return at_raise_fault(&fault);
    }
    Py_RETURN_NONE;
}

static PyObject *service_descriptors(PyObject *self, PyObject *unused)
{
    int descriptors[AT_LISTENERS_MAX];
    int count = at_service_listeners(service_of(self), descriptors);
    PyObject *list = PyList_New(count);
    for (int i = 0; list != NULL && i < count; i++) {
        PyObject *number = PyLong_FromLong(descriptors[i]);
        if (number == NULL) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, i, number);
        }
    }
    return list;
}

static PyObject *service_drain(PyObject *self, PyObject *unused)
{
    at_service_drain(service_of(self));
    Py_RETURN_NONE;
}

static PyObject *service_drain_thread(PyObject *self, PyObject *thread)
{
    int number = PyLong_AsInt(thread);
    if (number == -1 && PyErr_Occurred()) {
        return NULL;
    }
    return PyBool_FromLong(at_service_drain_thread(service_of(self), number));
}

/* [(thread, seconds)] */
static PyObject *service_probe(PyObject *self, PyObject *unused)
{
    PyObject *list = PyList_New(0);
    at_probe probe;
    for (int i = 0; list != NULL && at_service_probe(service_of(self), i, &probe);
         i++) {
        if (probe.thread == 0) {
            continue;
        }
        PyObject *pair =
            Py_BuildValue("(id)", probe.thread, (double)probe.silent_ns / 1e9);
        if (pair == NULL || PyList_Append(list, pair) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(pair);
    }
    return list;
}

static PyObject *service_signal_thread(PyObject *self, PyObject *arguments)
{
    int thread, number;
    if (!PyArg_ParseTuple(arguments, "ii:signal_thread", &thread, &number)) {
        return NULL;
    }
    return PyBool_FromLong(at_service_signal_thread(service_of(self), thread, number));
}

AT_UNCHECKED static PyObject *service_give_up(PyObject *self, PyObject *arguments)
{
    int thread, retry_after_s;
    if (!PyArg_ParseTuple(arguments, "ii:give_up", &thread, &retry_after_s)) {
        return NULL;
    }
    at_given_up result;
    at_service *service = service_of(self);
    PyThreadState *thread_state = at_detach();
    int failed = at_service_give_up(service, thread, retry_after_s, &result);
    at_attach(thread_state);
    if (failed < 0) {
        return at_raise(failed);
    }
    return Py_BuildValue("(ii)", result.moved, result.answered);
}

AT_UNCHECKED static PyObject *service_cut(PyObject *self, PyObject *arguments)
{
    int thread, retry_after_s;
    if (!PyArg_ParseTuple(arguments, "ii:cut", &thread, &retry_after_s)) {
        return NULL;
    }
    at_given_up result;
    at_service *service = service_of(self);
    PyThreadState *thread_state = at_detach();
    int failed = at_service_cut(service, thread, retry_after_s, &result);
    at_attach(thread_state);
    if (failed < 0) {
        return at_raise(failed);
    }
    return Py_BuildValue("(ii)", result.answered, result.cut);
}

static PyObject *service_number(PyObject *self, void *unused)
{
    return PyLong_FromUnsignedLongLong(at_service_number(service_of(self)));
}

static PyMethodDef service_methods[] = {
    {"listen", service_listen, METH_VARARGS,
     "listen(host, port, backlog): listen on every address of that name."},
    {"listen_unix", service_listen_unix, METH_VARARGS,
     "listen_unix(path, backlog): listen on a Unix socket."},
    {"adopt", service_adopt, METH_VARARGS,
     "adopt(descriptor): listen on a copy of a listening socket."},
    {"set_tls", service_set_tls, METH_VARARGS,
     "set_tls(certificates, password, ca, verify, ciphers, h2): speak TLS from now on; "
     "again with new certificates."},
    {"mount", service_mount, METH_VARARGS,
     "mount(prefix, folder): serve the folder's files below that prefix."},
    {"join_passage", service_join_passage, METH_VARARGS,
     "join_passage(receiving, sending): share connections with other processes."},
    {"retire", service_retire, METH_NOARGS,
     "Ask every worker to finish while other processes go on."},
    {"descriptors", service_descriptors, METH_NOARGS,
     "The listening sockets' descriptors; they stay the service's."},
    {"addresses", service_addresses, METH_NOARGS, "Where it listens: [(host, port)]."},
    {"drain", service_drain, METH_NOARGS, "Ask every worker to finish."},
    {"drain_thread", service_drain_thread, METH_O,
     "Ask the worker of that native thread to finish; False: there is none."},
    {"probe", service_probe, METH_NOARGS,
     "Ask every worker whether it gets on: [(native thread, seconds of silence)]."},
    {"signal_thread", service_signal_thread, METH_VARARGS,
     "signal_thread(thread, number): send a signal to a worker's thread."},
    {"give_up", service_give_up, METH_VARARGS,
     "give_up(thread, retry_after): take the connections of a worker that is stuck "
     "away, and answer who waits; (moved, answered 503)."},
    {"cut", service_cut, METH_VARARGS,
     "cut(thread, retry_after): end the connections that a worker has left that was "
     "given up and has not come back; (answered 503, cut)."},
    {"stats", at_server_reactors, METH_NOARGS,
     "What each reactor that lives has done: a list of dicts."},
    {"workers", at_server_workers, METH_NOARGS,
     "What each worker has done, its predecessors included: a list of dicts."},
    {"count_restart", at_server_count_restart, METH_O,
     "A worker was replaced: 'reload', 'spent', 'stuck' or 'died'."},
    {"restarts", at_server_restarts, METH_NOARGS, "How many were, by reason."},
    {"metrics", at_server_metrics, METH_NOARGS, "All of it for Prometheus, as str."},
    {"open_boards", at_server_open_boards, METH_VARARGS,
     "open_boards(processes, workers): be the first of so many processes of so many "
     "workers; the descriptor of what they share to tell of themselves."},
    {"give_board", at_server_give_board, METH_O,
     "give_board(process): a place in it, or -1 where there are too many."},
    {"take_board_back", at_server_take_board_back, METH_O,
     "take_board_back(place): the process that had it has ended."},
    {"join_boards", at_server_join_boards, METH_VARARGS,
     "join_boards(descriptor, place): be one of those processes; takes the "
     "descriptor."},
    {"set_overload", at_server_set_overload, METH_VARARGS,
     "set_overload(queue_delay, running, connections, connections_here): when to "
     "answer 503."},
    {"set_control", at_server_set_control, METH_VARARGS,
     "set_control(metrics, health, ready, workers): the server's own paths."},
    {"listen_control", at_server_listen_control, METH_VARARGS,
     "listen_control(host, port): have those paths there; port -1: host is the path of "
     "a Unix socket."},
    {"set_h2", at_server_set_h2, METH_VARARGS,
     "set_h2(streams, stream_window, connection_window, resets, control): HTTP/2."},
    {"set_most", at_server_set_most, METH_VARARGS,
     "set_most(thread, requests): tell when that worker has had so many."},
    {"spent", at_server_spent, METH_NOARGS, "The descriptor that then is readable."},
    {"clear_spent", at_server_clear_spent, METH_NOARGS, "Until the next tells."},
    {"log_access", at_server_log_access, METH_VARARGS,
     "log_access(path, format): have an access log."},
    {"reopen_logs", at_server_reopen_logs, METH_NOARGS,
     "Open the access log's file again, which was moved away."},
    {"start_guard", at_server_start_guard, METH_NOARGS,
     "Answer there from a thread that needs no GIL, and 503 for workers that are "
     "stuck."},
    {"control_addresses", at_server_control_addresses, METH_NOARGS,
     "Where those paths are: [(host, port)]."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef service_getset[] = {
    {"number", service_number, NULL, "Names the service to a Worker.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot service_slots[] = {
    {Py_tp_new, service_new},
    {Py_tp_dealloc, service_dealloc},
    {Py_tp_methods, service_methods},
    {Py_tp_getset, service_getset},
    {0, NULL},
};

static PyType_Spec service_spec = {
    .name = "atoll._atoll.Service",
    .basicsize = sizeof(service_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = service_slots,
};

static int add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    int result = type != NULL ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    Py_XDECREF(type);
    return result;
}

int at_bind_server(PyObject *module)
{
    return add_type(module, &service_spec) < 0 ||
                   add_type(module, &at_worker_spec) < 0 ||
                   add_type(module, &at_wsgi_worker_spec) < 0
               ? -1
               : 0;
}
