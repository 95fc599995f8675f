/* Control of a service from Python: limits, the server's own paths, metrics. */
#define PY_SSIZE_T_CLEAN
#include "bind/server.h"

#include <string.h>

#include "bind/error.h"
#include "elf/image.h"
#include "interp/attach.h"
#include "interp/heap.h"
#include "net/access_log.h"
#include "net/control.h"
#include "sys/wakefd.h"

static void tell_images(uint64_t *loaded, uint64_t *unmapped, uint64_t *copied,
                        uint64_t *shared)
{
    at_image_stats stats = at_image_get_stats();
    *loaded = stats.loaded_count;
    *unmapped = stats.unmapped_count;
    *copied = stats.bytes_copied;
    *shared = stats.bytes_shared;
}

static const at_control_sources sources = {at_heap_bytes, tell_images};

AT_UNCHECKED PyObject *at_server_metrics(PyObject *self, PyObject *unused)
{
    at_bytes text;
    at_bytes_init(&text);
    int result = at_metrics_write(at_server_service_of(self), &text);
    PyObject *made = result < 0
                         ? at_raise(result)
                         : PyUnicode_DecodeUTF8(text.data, (Py_ssize_t)text.size, NULL);
    at_bytes_fini(&text);
    return made;
}

AT_UNCHECKED PyObject *at_server_open_boards(PyObject *self, PyObject *arguments)
{
    int processes, workers;
    if (!PyArg_ParseTuple(arguments, "ii:open_boards", &processes, &workers)) {
        return NULL;
    }
    at_fault fault;
    int descriptor =
        at_service_open_boards(at_server_service_of(self), processes, workers, &fault);
    return descriptor < 0 ? at_raise_fault(&fault) : PyLong_FromLong(descriptor);
}

PyObject *at_server_give_board(PyObject *self, PyObject *process)
{
    int number = PyLong_AsInt(process);
    if (number == -1 && PyErr_Occurred()) {
        return NULL;
    }
    int place = at_service_give_board(at_server_service_of(self), number);
    return PyLong_FromLong(place < 0 ? -1 : place);
}

PyObject *at_server_take_board_back(PyObject *self, PyObject *place)
{
    int number = PyLong_AsInt(place);
    if (number == -1 && PyErr_Occurred()) {
        return NULL;
    }
    at_service_take_board_back(at_server_service_of(self), number);
    Py_RETURN_NONE;
}

AT_UNCHECKED PyObject *at_server_join_boards(PyObject *self, PyObject *arguments)
{
    int descriptor, place;
    if (!PyArg_ParseTuple(arguments, "ii:join_boards", &descriptor, &place)) {
        return NULL;
    }
    at_fault fault;
    if (at_service_join_boards(at_server_service_of(self), descriptor, place, &fault) <
        0) {
        return at_raise_fault(&fault);
    }
    Py_RETURN_NONE;
}

PyObject *at_server_set_overload(PyObject *self, PyObject *arguments)
{
    double delay_s;
    unsigned running;
    unsigned long long connections, here;
    if (!PyArg_ParseTuple(arguments, "dIKK:set_overload", &delay_s, &running,
                          &connections, &here)) {
        return NULL;
    }
    int64_t delay_ns = delay_s > 0 && delay_s < 9e9 ? (int64_t)(delay_s * 1e9) : 0;
    at_service_set_overload(at_server_service_of(self), delay_ns, running, connections,
                            here);
    Py_RETURN_NONE;
}

/* Copy a path; false with ValueError. */
static bool take_path(char to[AT_CONTROL_PATH_BYTES], const char *from)
{
    size_t size = strlen(from);
    if (size != 0 && (from[0] != '/' || size >= AT_CONTROL_PATH_BYTES)) {
        PyErr_Format(PyExc_ValueError, "a path begins with '/' and is short: %s", from);
        return false;
    }
    memcpy(to, from, size + 1);
    return true;
}

PyObject *at_server_set_control(PyObject *self, PyObject *arguments)
{
    const char *metrics, *health, *ready;
    int workers;
    at_control_paths paths;
    if (!PyArg_ParseTuple(arguments, "sssi:set_control", &metrics, &health, &ready,
                          &workers) ||
        !take_path(paths.metrics, metrics) || !take_path(paths.health, health) ||
        !take_path(paths.ready, ready)) {
        return NULL;
    }
    at_service *service = at_server_service_of(self);
    at_service_set_control(service, &paths, &sources);
    at_service_expect(service, workers);
    Py_RETURN_NONE;
}

AT_UNCHECKED PyObject *at_server_listen_control(PyObject *self, PyObject *arguments)
{
    const char *host;
    int port;
    if (!PyArg_ParseTuple(arguments, "si:listen_control", &host, &port)) {
        return NULL;
    }
    at_service *service = at_server_service_of(self);
    at_fault fault;
    PyThreadState *state = at_detach();
    int result = port < 0 ? at_service_listen_control_unix(service, host, &fault)
                          : at_service_listen_control(service, host, port, &fault);
    at_attach(state);
    if (result < 0) {
        return at_raise_fault(&fault);
    }
    Py_RETURN_NONE;
}

PyObject *at_server_set_h2(PyObject *self, PyObject *arguments)
{
    at_h2_limits limits;
    at_h2_limits_init(&limits);
    if (!PyArg_ParseTuple(arguments, "IIIII:set_h2", &limits.concurrent_streams,
                          &limits.stream_window_bytes, &limits.connection_window_bytes,
                          &limits.resets_per_tick, &limits.control_per_tick)) {
        return NULL;
    }
    if (limits.concurrent_streams == 0 || limits.stream_window_bytes < 65535 ||
        limits.connection_window_bytes < 65535 ||
        limits.stream_window_bytes > INT32_MAX ||
        limits.connection_window_bytes > INT32_MAX || limits.resets_per_tick == 0 ||
        limits.control_per_tick == 0) {
        PyErr_SetString(PyExc_ValueError, "limits of HTTP/2 are positive, and windows "
                                          "65535 bytes to 2 GiB - 1");
        return NULL;
    }
    at_service_set_h2(at_server_service_of(self), &limits);
    Py_RETURN_NONE;
}

PyObject *at_server_set_most(PyObject *self, PyObject *arguments)
{
    int thread;
    unsigned long long requests;
    if (!PyArg_ParseTuple(arguments, "iK:set_most", &thread, &requests)) {
        return NULL;
    }
    at_service_set_most(at_server_service_of(self), thread, requests);
    Py_RETURN_NONE;
}

PyObject *at_server_spent(PyObject *self, PyObject *unused)
{
    int descriptor = at_service_spent(at_server_service_of(self));
    if (descriptor < 0) {
        PyErr_SetString(PyExc_OSError, "no descriptor is left");
        return NULL;
    }
    return PyLong_FromLong(descriptor);
}

PyObject *at_server_clear_spent(PyObject *self, PyObject *unused)
{
    at_wakefd_clear(at_service_spent(at_server_service_of(self)));
    Py_RETURN_NONE;
}

AT_UNCHECKED PyObject *at_server_log_access(PyObject *self, PyObject *arguments)
{
    const char *path, *format;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(arguments, "ss#:log_access", &path, &format, &size)) {
        return NULL;
    }
    at_fault fault;
    if (at_service_log_access(at_server_service_of(self), path,
                              (at_span){format, (size_t)size}, &fault) < 0) {
        return at_raise_fault(&fault);
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED PyObject *at_server_reopen_logs(PyObject *self, PyObject *unused)
{
    struct at_access_log *log = at_service_access_log(at_server_service_of(self));
    at_fault fault;
    if (log != NULL && at_access_log_reopen(log, &fault) < 0) {
        return at_raise_fault(&fault);
    }
    Py_RETURN_NONE;
}

AT_UNCHECKED PyObject *at_server_start_guard(PyObject *self, PyObject *unused)
{
    at_fault fault;
    if (at_service_start_guard(at_server_service_of(self), &fault) < 0) {
        return at_raise_fault(&fault);
    }
    Py_RETURN_NONE;
}

PyObject *at_server_control_addresses(PyObject *self, PyObject *unused)
{
    at_service *service = at_server_service_of(self);
    PyObject *list = PyList_New(0);
    at_address address;
    for (int i = 0; list != NULL && at_service_control_address(service, i, &address);
         i++) {
        PyObject *pair = Py_BuildValue("(si)", address.host, address.port);
        if (pair == NULL || PyList_Append(list, pair) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(pair);
    }
    return list;
}
