/* A request's head becomes an environ; see wsgi.h.
 *
 * The environ is a copy of a template that has all its constant keys already, which
 * CPython clones in one piece. Names of headers are remembered with their keys.
 */
#define PY_SSIZE_T_CLEAN
#include <string.h>

#include "serve/wsgi.h"

static const char *const METHODS[AT_WSGI_METHODS_MAX] = {
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
};

/* ---- the template ---------------------------------------------------------------- */

static int fill_template(at_wsgi_worker *worker, PyObject *environ, PyObject *root_path,
                         PyObject *errors, PyObject *version, int threads,
                         int processes)
{
    at_wsgi_words *words = &worker->words;
    PyObject *software = PyUnicode_FromString("atoll");
    /* In the order in which people like to read them. */
    bool done = software != NULL &&
                PyDict_SetItem(environ, words->request_method, words->empty) == 0 &&
                PyDict_SetItem(environ, words->script_name, root_path) == 0 &&
                PyDict_SetItem(environ, words->path_info, words->empty) == 0 &&
                PyDict_SetItem(environ, words->query_string, words->empty) == 0 &&
                PyDict_SetItem(environ, words->raw_uri, words->empty) == 0 &&
                PyDict_SetItem(environ, words->request_uri, words->empty) == 0 &&
                PyDict_SetItem(environ, words->server_protocol, words->http_11) == 0 &&
                PyDict_SetItem(environ, words->server_software, software) == 0 &&
                PyDict_SetItem(environ, words->server_name, words->empty) == 0 &&
                PyDict_SetItem(environ, words->server_port, words->empty) == 0 &&
                PyDict_SetItem(environ, words->remote_addr, words->empty) == 0 &&
                PyDict_SetItem(environ, words->remote_port, words->empty) == 0 &&
                PyDict_SetItem(environ, words->version, version) == 0 &&
                PyDict_SetItem(environ, words->url_scheme, words->http) == 0 &&
                PyDict_SetItem(environ, words->input, Py_None) == 0 &&
                PyDict_SetItem(environ, words->input_terminated, Py_True) == 0 &&
                PyDict_SetItem(environ, words->errors, errors) == 0 &&
                PyDict_SetItem(environ, words->multithread,
                               threads > 1 ? Py_True : Py_False) == 0 &&
                PyDict_SetItem(environ, words->multiprocess,
                               processes > 1 ? Py_True : Py_False) == 0 &&
                PyDict_SetItem(environ, words->run_once, Py_False) == 0 &&
                PyDict_SetItem(environ, words->file_wrapper,
                               (PyObject *)worker->file_wrapper) == 0;
    Py_XDECREF(software);
    return done ? 0 : -1;
}

int at_wsgi_environ_prepare(at_wsgi_worker *worker, PyObject *root_path,
                            PyObject *errors, int threads, int processes)
{
    for (int i = 0; i < AT_WSGI_METHODS_MAX; i++) {
        worker->methods[i] = PyUnicode_InternFromString(METHODS[i]);
        if (worker->methods[i] == NULL) {
            return -1;
        }
    }
    PyObject *version = Py_BuildValue("(ii)", 1, 0);
    PyObject *environ = PyDict_New();
    if (version != NULL && environ != NULL &&
        fill_template(worker, environ, root_path, errors, version, threads,
                      processes) == 0) {
        worker->environ_template = Py_NewRef(environ);
    }
    Py_XDECREF(version);
    Py_XDECREF(environ);
    return worker->environ_template != NULL ? 0 : -1;
}

/* ---- values ---------------------------------------------------------------------- */

static PyObject *text_object(at_span text)
{
    return PyUnicode_DecodeLatin1(text.data, (Py_ssize_t)text.size, NULL);
}

/* Set a key to a value whose reference is taken, NULL being an error made before. */
static int put(PyObject *environ, PyObject *key, PyObject *value)
{
    if (value == NULL) {
        return -1;
    }
    int result = PyDict_SetItem(environ, key, value);
    Py_DECREF(value);
    return result;
}

static int put_method(at_wsgi_worker *worker, PyObject *environ, at_span method)
{
    PyObject *key = worker->words.request_method;
    for (int i = 0; i < AT_WSGI_METHODS_MAX; i++) {
        if (strlen(METHODS[i]) == method.size &&
            memcmp(METHODS[i], method.data, method.size) == 0) {
            return PyDict_SetItem(environ, key, worker->methods[i]);
        }
    }
    return put(environ, key, text_object(method));
}

/* PEP 3333: the decoded bytes of the path, one character each. */
static PyObject *path_object(at_span path)
{
    if (memchr(path.data, '%', path.size) == NULL) {
        return text_object(path);
    }
    char small[512];
    char *decoded = small;
    if (path.size > sizeof small && (decoded = PyMem_Malloc(path.size)) == NULL) {
        return PyErr_NoMemory();
    }
    size_t size = at_h1_decode_path(path, decoded);
    PyObject *text = text_object((at_span){decoded, size});
    if (decoded != small) {
        PyMem_Free(decoded);
    }
    return text;
}

static int put_port(PyObject *environ, PyObject *key, int port)
{
    return put(environ, key, PyUnicode_FromFormat("%d", port));
}

static int put_ends(at_wsgi_worker *worker, PyObject *environ,
                    const at_wsgi_request *request)
{
    at_wsgi_words *words = &worker->words;
    const at_address *peer = &request->peer;
    const at_address *local = &request->local;
    /* A Unix socket has no name that an environ could say, but must say one. */
    bool is_unix = local->port < 0;
    if (put(environ, words->server_name,
            PyUnicode_FromString(is_unix ? "localhost" : local->host)) < 0 ||
        put_port(environ, words->server_port, is_unix ? 80 : local->port) < 0) {
        return -1;
    }
    if (peer->port < 0) {
        return 0;
    }
    return put(environ, words->remote_addr, PyUnicode_FromString(peer->host)) < 0 ||
                   put_port(environ, words->remote_port, peer->port) < 0
               ? -1
               : 0;
}

/* ---- headers --------------------------------------------------------------------- */

static PyObject *make_key(at_span name)
{
    char text[5 + 256];
    if (name.size > sizeof text - 5) {
        return PyUnicode_FromFormat("HTTP_%.*s", (int)name.size, name.data);
    }
    memcpy(text, "HTTP_", 5);
    for (size_t i = 0; i < name.size; i++) {
        char letter = name.data[i];
        text[5 + i] = letter == '-'                    ? '_'
                      : letter >= 'a' && letter <= 'z' ? (char)(letter - 32)
                                                       : letter;
    }
    return PyUnicode_DecodeLatin1(text, (Py_ssize_t)name.size + 5, NULL);
}

/* The key of a header's name. A new reference; NULL with an exception, or without one
 * where the header is not to be passed on. */
static PyObject *key_object(at_wsgi_worker *worker, at_span name)
{
    if (memchr(name.data, '_', name.size) != NULL) {
        /* It would be one with the name that has '-' there, of which a proxy in front
         * may have made sure. */
        return NULL;
    }
    if (at_h1_equal(name, "content-type")) {
        return Py_NewRef(worker->words.content_type);
    }
    if (at_h1_equal(name, "content-length")) {
        return Py_NewRef(worker->words.content_length);
    }
    unsigned hash = (unsigned)name.size * 31;
    if (name.size != 0) {
        hash += (unsigned char)name.data[0] * 7 +
                (unsigned char)name.data[name.size - 1] * 13 +
                (unsigned char)name.data[name.size / 2] * 3;
    }
    at_wsgi_name *slot = &worker->names[hash & (AT_WSGI_NAME_SLOTS - 1)];
    if (slot->size == name.size && memcmp(slot->sent, name.data, name.size) == 0) {
        return Py_NewRef(slot->key);
    }
    PyObject *key = make_key(name);
    if (key != NULL && slot->key == NULL && name.size <= sizeof slot->sent) {
        /* First come, first kept: bounded, and a client that invents names costs no
         * more than the miss. */
        memcpy(slot->sent, name.data, name.size);
        slot->key = Py_NewRef(key);
        slot->size = (unsigned char)name.size;
    }
    return key;
}

/* A header that came before: one value of both. */
static int join(PyObject *environ, PyObject *key, PyObject *before, at_span name,
                PyObject *value)
{
    const char *format = at_h1_equal(name, "cookie") ? "%U; %U" : "%U,%U";
    return put(environ, key, PyUnicode_FromFormat(format, before, value));
}

static int put_header(at_wsgi_worker *worker, PyObject *environ,
                      const at_h1_header *header)
{
    PyObject *key = key_object(worker, header->name);
    if (key == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *value = text_object(header->value);
    int result = -1;
    if (value != NULL) {
        PyObject *before = NULL;
        PyObject *there = PyDict_SetDefault(environ, key, value);
        if (there == value) {
            result = 0;
        } else if ((before = Py_XNewRef(there)) != NULL) {
            result = join(environ, key, before, header->name, value);
            Py_DECREF(before);
        }
        Py_DECREF(value);
    }
    Py_DECREF(key);
    return result;
}

static int put_uri(at_wsgi_worker *worker, PyObject *environ, at_span target)
{
    PyObject *text = text_object(target);
    int result =
        text != NULL && PyDict_SetItem(environ, worker->words.raw_uri, text) == 0
            ? PyDict_SetItem(environ, worker->words.request_uri, text)
            : -1;
    Py_XDECREF(text);
    return result;
}

PyObject *at_wsgi_environ_new(at_wsgi_call *call)
{
    at_wsgi_worker *worker = call->worker;
    at_wsgi_words *words = &worker->words;
    const at_wsgi_request *request = call->request;
    const at_h1_request *head = &request->head;
    PyObject *environ = PyDict_Copy(worker->environ_template);
    if (environ == NULL || put_method(worker, environ, head->method) < 0 ||
        put(environ, words->path_info, path_object(head->path)) < 0 ||
        put_uri(worker, environ, head->target) < 0 ||
        (head->query.size != 0 &&
         put(environ, words->query_string, text_object(head->query)) < 0) ||
        (head->version_minor == 0 &&
         PyDict_SetItem(environ, words->server_protocol, words->http_10) < 0) ||
        (request->is_http_2 &&
         PyDict_SetItem(environ, words->server_protocol, words->http_2) < 0) ||
        (request->is_encrypted &&
         PyDict_SetItem(environ, words->url_scheme, words->https) < 0) ||
        put_ends(worker, environ, request) < 0 ||
        put(environ, words->input,
            request->has_body ? at_wsgi_input_new(worker, call)
                              : Py_NewRef(worker->no_input)) < 0) {
        Py_XDECREF(environ);
        return NULL;
    }
    for (size_t i = 0; i < head->header_count; i++) {
        if (put_header(worker, environ, &head->headers[i]) < 0) {
            Py_DECREF(environ);
            return NULL;
        }
    }
    return environ;
}
