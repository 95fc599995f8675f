/* A request's head becomes an ASGI scope; see worker.h.
 *
 * The scope is a copy of a template that has all its keys already, which CPython clones
 * in one piece; setting a key that is there allocates nothing.
 */
#define PY_SSIZE_T_CLEAN
#include "serve/worker.h"

#include <string.h>

#include "http/forwarded.h"

static const char *const METHODS[AT_METHODS_MAX] = {
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
};

static int put(PyObject *scope, PyObject *key, PyObject *value);

static PyObject *make_template(at_worker *worker, PyObject *root_path)
{
    at_words *words = &worker->words;
    PyObject *asgi =
        Py_BuildValue("{OsOs}", words->version, "3.0", words->spec_version, "2.4");
    PyObject *extensions =
        Py_BuildValue("{O{}O{}O{}O{}}", words->http_response_trailers,
                      words->http_response_early_hint, words->http_response_pathsend,
                      words->http_response_zerocopysend);
    PyObject *scope = PyDict_New();
    if (extensions != NULL && worker->on_debug != NULL &&
        put(extensions, words->http_response_debug, PyDict_New()) < 0) {
        Py_CLEAR(extensions);
    }
    if (asgi == NULL || extensions == NULL || scope == NULL ||
        PyDict_SetItem(scope, words->type, words->http) < 0 ||
        PyDict_SetItem(scope, words->asgi, asgi) < 0 ||
        PyDict_SetItem(scope, words->http_version, words->version_11) < 0 ||
        PyDict_SetItem(scope, words->server, Py_None) < 0 ||
        PyDict_SetItem(scope, words->client, Py_None) < 0 ||
        PyDict_SetItem(scope, words->scheme, words->http) < 0 ||
        PyDict_SetItem(scope, words->method, Py_None) < 0 ||
        PyDict_SetItem(scope, words->root_path, root_path) < 0 ||
        PyDict_SetItem(scope, words->path, Py_None) < 0 ||
        PyDict_SetItem(scope, words->raw_path, Py_None) < 0 ||
        PyDict_SetItem(scope, words->query_string, worker->empty_bytes) < 0 ||
        PyDict_SetItem(scope, words->headers, Py_None) < 0 ||
        PyDict_SetItem(scope, words->extensions, extensions) < 0 ||
        (worker->state != NULL &&
         PyDict_SetItem(scope, words->state, worker->state) < 0)) {
        Py_CLEAR(scope);
    }
    Py_XDECREF(asgi);
    Py_XDECREF(extensions);
    return scope;
}

/* The same for WebSockets. */
static PyObject *make_websocket_template(at_worker *worker)
{
    at_words *words = &worker->words;
    PyObject *scope = PyDict_Copy(worker->scope_template);
    PyObject *extensions = Py_BuildValue("{s{}}", "websocket.http.response");
    PyObject *none = PyList_New(0);
    if (scope == NULL || extensions == NULL || none == NULL ||
        PyDict_SetItem(scope, words->type, words->websocket) < 0 ||
        PyDict_SetItem(scope, words->scheme, words->ws) < 0 ||
        PyDict_SetItem(scope, words->extensions, extensions) < 0 ||
        PyDict_SetItem(scope, words->subprotocols, none) < 0 ||
        PyDict_DelItem(scope, words->method) < 0) {
        Py_CLEAR(scope);
    }
    Py_XDECREF(extensions);
    Py_XDECREF(none);
    return scope;
}

int at_scope_prepare(at_worker *worker, PyObject *root_path)
{
    for (int i = 0; i < AT_METHODS_MAX; i++) {
        worker->methods[i] = PyUnicode_InternFromString(METHODS[i]);
        if (worker->methods[i] == NULL) {
            return -1;
        }
    }
    worker->empty_bytes = PyBytes_FromStringAndSize(NULL, 0);
    worker->root_path = Py_NewRef(root_path);
    if (worker->empty_bytes == NULL) {
        return -1;
    }
    worker->scope_template = make_template(worker, root_path);
    if (worker->scope_template == NULL) {
        return -1;
    }
    worker->websocket_template = make_websocket_template(worker);
    return worker->websocket_template != NULL ? 0 : -1;
}

static PyObject *method_object(at_worker *worker, at_span method)
{
    for (int i = 0; i < AT_METHODS_MAX; i++) {
        if (strlen(METHODS[i]) == method.size &&
            memcmp(METHODS[i], method.data, method.size) == 0) {
            return Py_NewRef(worker->methods[i]);
        }
    }
    return PyUnicode_DecodeLatin1(method.data, (Py_ssize_t)method.size, NULL);
}

/* A bytes object of the header's name: most requests bring the same few. */
static PyObject *name_object(at_worker *worker, at_span name)
{
    unsigned hash = (unsigned)name.size * 31;
    if (name.size != 0) {
        hash += (unsigned char)name.data[0] * 7 +
                (unsigned char)name.data[name.size - 1] * 13 +
                (unsigned char)name.data[name.size / 2] * 3;
    }
    PyObject **slot = &worker->names[hash & (AT_NAME_SLOTS - 1)];
    if (*slot != NULL && (size_t)PyBytes_GET_SIZE(*slot) == name.size &&
        memcmp(PyBytes_AS_STRING(*slot), name.data, name.size) == 0) {
        return Py_NewRef(*slot);
    }
    PyObject *made = PyBytes_FromStringAndSize(name.data, (Py_ssize_t)name.size);
    if (made != NULL && *slot == NULL && name.size <= 32) {
        /* First come, first kept: bounded, and a client that invents names costs no
         * more than the miss. */
        *slot = Py_NewRef(made);
    }
    return made;
}

static PyObject *headers_list(at_worker *worker, const at_h1_request *request)
{
    PyObject *list = PyList_New((Py_ssize_t)request->header_count);
    if (list == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < request->header_count; i++) {
        const at_h1_header *header = &request->headers[i];
        PyObject *pair = PyTuple_New(2);
        PyObject *name = name_object(worker, header->name);
        PyObject *value = PyBytes_FromStringAndSize(header->value.data,
                                                    (Py_ssize_t)header->value.size);
        if (pair == NULL || name == NULL || value == NULL) {
            Py_XDECREF(pair);
            Py_XDECREF(name);
            Py_XDECREF(value);
            Py_DECREF(list);
            return NULL;
        }
        PyTuple_SET_ITEM(pair, 0, name);
        PyTuple_SET_ITEM(pair, 1, value);
        PyList_SET_ITEM(list, (Py_ssize_t)i, pair);
    }
    return list;
}

static PyObject *path_object(at_worker *worker, at_span path)
{
    char small[512];
    char *decoded = small;
    const char *data = path.data;
    size_t size = path.size;
    if (size != 0 && memchr(data, '%', size) != NULL) {
        if (size > sizeof small && (decoded = PyMem_Malloc(size)) == NULL) {
            return PyErr_NoMemory();
        }
        size = at_h1_decode_path(path, decoded);
        data = decoded;
    }
    PyObject *text = PyUnicode_DecodeUTF8(data, (Py_ssize_t)size, "replace");
    if (decoded != small) {
        PyMem_Free(decoded);
    }
    if (text != NULL && PyUnicode_GET_LENGTH(worker->root_path) != 0) {
        /* ASGI: path includes root_path. */
        PyObject *whole = PyUnicode_Concat(worker->root_path, text);
        Py_DECREF(text);
        return whole;
    }
    return text;
}

static PyObject *address_object(const at_address *address)
{
    if (address == NULL || address->host[0] == '\0') {
        Py_RETURN_NONE;
    }
    if (address->port < 0) {
        return Py_BuildValue("(NO)", PyUnicode_DecodeFSDefault(address->host), Py_None);
    }
    return Py_BuildValue("(si)", address->host, address->port);
}

/* (client, server, tls or None) of the connection, made with its first request.
 * Borrowed. */
static PyObject *ends_of(at_exchange *exchange)
{
    void **user = at_exchange_connection_user(exchange);
    if (*user == NULL) {
        PyObject *client = address_object(at_exchange_peer(exchange));
        PyObject *server = address_object(at_exchange_local(exchange));
        const struct at_tls *tls = at_exchange_tls(exchange);
        PyObject *encryption = tls != NULL ? at_tls_dict(tls) : Py_NewRef(Py_None);
        if (client != NULL && server != NULL && encryption != NULL) {
            *user = PyTuple_Pack(3, client, server, encryption);
        }
        Py_XDECREF(encryption);
        Py_XDECREF(client);
        Py_XDECREF(server);
    }
    return *user;
}

/* Set a key to a value whose reference is taken, NULL being an error made before. */
static int put(PyObject *scope, PyObject *key, PyObject *value)
{
    if (value == NULL) {
        return -1;
    }
    int result = PyDict_SetItem(scope, key, value);
    Py_DECREF(value);
    return result;
}

static int put_copy(PyObject *scope, PyObject *key)
{
    return put(scope, key, PyDict_Copy(PyDict_GetItemWithError(scope, key)));
}

static int put_tls(at_worker *worker, PyObject *scope, PyObject *tls, bool is_websocket)
{
    at_words *words = &worker->words;
    PyObject *extensions = PyDict_GetItemWithError(scope, words->extensions);
    return extensions == NULL || put(extensions, words->tls, PyDict_Copy(tls)) < 0 ||
                   PyDict_SetItem(scope, words->scheme,
                                  is_websocket ? words->wss : words->https) < 0
               ? -1
               : 0;
}

/* Does a header speak of a proxy at all? Most requests have none. */
static bool is_forwarded(const at_h1_request *request)
{
    for (size_t i = 0; i < request->header_count; i++) {
        at_span name = request->headers[i].name;
        if (name.size >= 9 && (name.data[0] == 'x' || name.data[0] == 'f') &&
            (memcmp(name.data, "forwarded", 9) == 0 ||
             (name.size > 12 && memcmp(name.data, "x-forwarded-", 12) == 0))) {
            return true;
        }
    }
    return false;
}

/* The client and the scheme that a trusted proxy tells of. */
static int put_forwarded(at_worker *worker, PyObject *scope, at_exchange *exchange,
                         const at_h1_request *request)
{
    at_words *words = &worker->words;
    at_forwarded told;
    if (at_exchange_forwarded(exchange, request, &told) != 1) {
        return 0;
    }
    if (told.client.size != 0 &&
        put(scope, words->client,
            Py_BuildValue("(s#i)", told.client.data, (Py_ssize_t)told.client.size,
                          (int)told.port)) < 0) {
        return -1;
    }
    if (told.scheme.size == 0) {
        return 0;
    }
    bool secure = at_h1_equal(told.scheme, "https") || at_h1_equal(told.scheme, "wss");
    PyObject *scheme = exchange->websocket != NULL
                           ? (secure ? words->wss : words->ws)
                           : (secure ? words->https : words->http);
    return PyDict_SetItem(scope, words->scheme, scheme);
}

/* What a WebSocket's client offers, in its order. */
static PyObject *subprotocols_list(const at_h1_request *request)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < request->header_count; i++) {
        const at_h1_header *header = &request->headers[i];
        if (!at_h1_equal(header->name, "sec-websocket-protocol")) {
            continue;
        }
        const char *at = header->value.data;
        const char *end = at + header->value.size;
        while (list != NULL && at < end) {
            const char *comma = memchr(at, ',', (size_t)(end - at));
            const char *stop = comma != NULL ? comma : end;
            const char *last = stop;
            while (at < last && (*at == ' ' || *at == '\t')) {
                at++;
            }
            while (last > at && (last[-1] == ' ' || last[-1] == '\t')) {
                last--;
            }
            PyObject *name = PyUnicode_DecodeLatin1(at, last - at, NULL);
            if (name == NULL || (last != at && PyList_Append(list, name) < 0)) {
                Py_CLEAR(list);
            }
            Py_XDECREF(name);
            at = comma != NULL ? comma + 1 : end;
        }
    }
    return list;
}

PyObject *at_scope_new(at_worker *worker, at_exchange *exchange,
                       const at_h1_request *request)
{
    at_words *words = &worker->words;
    PyObject *ends = ends_of(exchange);
    bool is_websocket = exchange->websocket != NULL;
    PyObject *scope = ends != NULL
                          ? PyDict_Copy(is_websocket ? worker->websocket_template
                                                     : worker->scope_template)
                          : NULL;
    if (scope == NULL) {
        return NULL;
    }
    if (PyDict_SetItem(scope, words->client, PyTuple_GET_ITEM(ends, 0)) < 0 ||
        PyDict_SetItem(scope, words->server, PyTuple_GET_ITEM(ends, 1)) < 0 ||
        (exchange->over_h2 != NULL &&
         PyDict_SetItem(scope, words->http_version, words->version_2) < 0) ||
        (request->version_minor == 0 &&
         PyDict_SetItem(scope, words->http_version, words->version_10) < 0) ||
        (is_websocket
             ? put(scope, words->subprotocols, subprotocols_list(request))
             : put(scope, words->method, method_object(worker, request->method))) < 0 ||
        put(scope, words->path, path_object(worker, request->path)) < 0 ||
        put(scope, words->raw_path,
            PyBytes_FromStringAndSize(request->path.data,
                                      (Py_ssize_t)request->path.size)) < 0 ||
        (request->query.size != 0 &&
         put(scope, words->query_string,
             PyBytes_FromStringAndSize(request->query.data,
                                       (Py_ssize_t)request->query.size)) < 0) ||
        put(scope, words->headers, headers_list(worker, request)) < 0 ||
        put_copy(scope, words->asgi) < 0 || put_copy(scope, words->extensions) < 0 ||
        (worker->state != NULL && put_copy(scope, words->state) < 0) ||
        (PyTuple_GET_ITEM(ends, 2) != Py_None &&
         put_tls(worker, scope, PyTuple_GET_ITEM(ends, 2), is_websocket) < 0) ||
        (is_forwarded(request) &&
         put_forwarded(worker, scope, exchange, request) < 0)) {
        Py_DECREF(scope);
        return NULL;
    }
    return scope;
}
