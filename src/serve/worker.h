/* A worker: one interpreter's part of a service, in Python's terms.
 *
 * It owns a reactor (net/reactor.h) that the interpreter's event loop watches as one
 * descriptor. What the reactor reports becomes ASGI: each request is a Request, which
 * makes the scope, starts the application as an eager task, and answers its receive()
 * and send(). Everything here belongs to one interpreter and runs on its loop's thread,
 * with its thread state attached.
 *
 *   worker.c     the worker, the reactor's hooks, the words and types it keeps
 *   scope.c      a request's head -> the scope
 *   tls.c        what the tls extension says
 *   timeout.c    requests that take too long
 *   request.c    the life of a request: task, outcome, errors
 *   receive.c    receive(), and what it awaits
 *   send.c       send(): messages -> the response
 *   send_file.c  files as bodies
 *   websocket.c  the messages of WebSockets
 *   awaitable.c  what receive() and send() return
 *   spare.c      memory of all these, kept for the next request
 */
#ifndef AT_SERVE_WORKER_H
#define AT_SERVE_WORKER_H

#include <Python.h>
#include <stdatomic.h>

#include "net/reactor.h"
#include "serve/spare.h"

/* Strings that requests use, interned once for a worker. X(name, text) */
#define AT_SERVE_WORDS(X)                                                              \
    X(type, "type")                                                                    \
    X(http, "http")                                                                    \
    X(asgi, "asgi")                                                                    \
    X(version, "version")                                                              \
    X(spec_version, "spec_version")                                                    \
    X(http_version, "http_version")                                                    \
    X(server, "server")                                                                \
    X(client, "client")                                                                \
    X(scheme, "scheme")                                                                \
    X(method, "method")                                                                \
    X(root_path, "root_path")                                                          \
    X(path, "path")                                                                    \
    X(raw_path, "raw_path")                                                            \
    X(query_string, "query_string")                                                    \
    X(headers, "headers")                                                              \
    X(state, "state")                                                                  \
    X(extensions, "extensions")                                                        \
    X(body, "body")                                                                    \
    X(more_body, "more_body")                                                          \
    X(status, "status")                                                                \
    X(http_request, "http.request")                                                    \
    X(http_disconnect, "http.disconnect")                                              \
    X(http_response_start, "http.response.start")                                      \
    X(http_response_body, "http.response.body")                                        \
    X(https, "https")                                                                  \
    X(wss, "wss")                                                                      \
    X(tls, "tls")                                                                      \
    X(websocket, "websocket")                                                          \
    X(ws, "ws")                                                                        \
    X(subprotocols, "subprotocols")                                                    \
    X(subprotocol, "subprotocol")                                                      \
    X(text, "text")                                                                    \
    X(bytes, "bytes")                                                                  \
    X(code, "code")                                                                    \
    X(reason, "reason")                                                                \
    X(websocket_connect, "websocket.connect")                                          \
    X(websocket_accept, "websocket.accept")                                            \
    X(websocket_receive, "websocket.receive")                                          \
    X(websocket_send, "websocket.send")                                                \
    X(websocket_close, "websocket.close")                                              \
    X(websocket_disconnect, "websocket.disconnect")                                    \
    X(websocket_http_response_start, "websocket.http.response.start")                  \
    X(websocket_http_response_body, "websocket.http.response.body")                    \
    X(version_10, "1.0")                                                               \
    X(trailers, "trailers")                                                            \
    X(more_trailers, "more_trailers")                                                  \
    X(links, "links")                                                                  \
    X(file, "file")                                                                    \
    X(offset, "offset")                                                                \
    X(count, "count")                                                                  \
    X(http_response_trailers, "http.response.trailers")                                \
    X(http_response_early_hint, "http.response.early_hint")                            \
    X(http_response_pathsend, "http.response.pathsend")                                \
    X(http_response_zerocopysend, "http.response.zerocopysend")                        \
    X(http_response_debug, "http.response.debug")                                      \
    X(info, "info")                                                                    \
    X(version_2, "2")                                                                  \
    X(version_11, "1.1")                                                               \
    X(loop, "loop")                                                                    \
    X(eager_start, "eager_start")                                                      \
    X(done, "done")                                                                    \
    X(exception, "exception")                                                          \
    X(add_done_callback, "add_done_callback")                                          \
    X(set_result, "set_result")                                                        \
    X(cancel, "cancel")

typedef struct at_words {
#define AT_WORD_FIELD(name, text) PyObject *name;
    AT_SERVE_WORDS(AT_WORD_FIELD)
#undef AT_WORD_FIELD
} at_words;

enum {
    AT_METHODS_MAX = 9,
    AT_NAME_SLOTS = 256, /* power of two; cached names of headers */
    AT_INLINE_HEADERS = 12,
};

struct at_request;

typedef struct at_worker {
    PyObject_HEAD at_service *service;
    at_reactor *reactor; /* NULL once closed */
    PyObject *app;
    PyObject *loop;
    PyObject *state;         /* what lifespan left, or NULL */
    PyObject *on_error;      /* (scope, exception or None, text) */
    PyObject *on_drain;      /* () */
    PyObject *on_drained;    /* () */
    PyObject *on_debug;      /* (scope, info), or NULL: that extension is not offered */
    PyObject *gone_class;    /* what send() raises when the client has gone */
    PyObject *timeout_class; /* atoll.RequestTimeout */
    unsigned long loop_ident; /* threading.get_ident() of the loop's thread */
    atomic_bool interrupted;  /* an interrupt was sent, by another thread */
    PyObject *task_type;      /* asyncio.Task */
    PyObject *cancelled_class;
    PyObject *task_options;   /* {"loop": loop, "eager_start": True} */
    PyObject *task_done;      /* Task.done */
    PyObject *task_exception; /* Task.exception */
    PyObject *create_future;
    PyObject *scope_template, *websocket_template;
    PyObject *empty_bytes;
    PyObject *root_path;
    PyObject *ready; /* the awaitable that gives None at once */
    PyTypeObject *request_type, *receive_type, *send_type, *awaitable_type;
    at_spares requests, receives, sends, awaitables;
    at_words words;
    PyObject *methods[AT_METHODS_MAX];
    PyObject *names[AT_NAME_SLOTS]; /* bytes objects, or NULL */
    struct at_request *running;     /* a reference each; see at_request.before */
    size_t running_count;
    int64_t gil_sampled_ns;
    bool in_run;
} at_worker;

typedef struct at_header_objects {
    PyObject *name, *value; /* bytes */
} at_header_objects;

/* A file that is being sent. */
typedef struct at_request_file {
    int descriptor; /* -1: none */
    bool owned;     /* by us: close it */
    bool more;      /* body follows it */
    uint64_t offset, left;
} at_request_file;

/* One request and its response. */
typedef struct at_request {
    PyObject_HEAD at_worker *worker; /* a reference */
    at_exchange *exchange;           /* a reference */
    PyObject *scope;
    PyObject *task;                    /* while it runs behind the first step */
    struct at_request *before, *after; /* in worker->running, while it has a task */
    PyObject *receivers;               /* awaitables that wait to receive, or NULL */
    PyObject *sender;                  /* the one that waits to send, or NULL */
    bool running;
    bool body_delivered;  /* the last http.request was given */
    bool start_given;     /* http.response.start was */
    bool trailers_wanted; /* http.response.start said that they come */
    bool body_given;      /* all but them was */
    at_request_file file;
    PyObject *trailers; /* a list, while there are more to come, or NULL */
    bool is_websocket;
    bool connect_given;  /* websocket.connect was */
    uint16_t close_code; /* of its disconnect, for who asks again */
    int status;
    size_t header_count;
    at_header_objects *headers; /* of http.response.start: inline_headers or memory */
    at_header_objects inline_headers[AT_INLINE_HEADERS];
    int64_t begun_ns;
    int64_t late_ns; /* when it was last told to be overdue, or 0 */
} at_request;

/* What receive() and send() return: an awaitable, complete with collections.abc's
 * Coroutine methods, so that asyncio.create_task() takes it. */
typedef enum at_awaited {
    AT_AWAIT_RESULT,  /* at hand */
    AT_AWAIT_MESSAGE, /* the next message for the application */
    AT_AWAIT_ROOM,    /* room for more output */
    AT_AWAIT_FILE,    /* the end of a file that is sent */
} at_awaited;

typedef struct at_awaitable {
    PyObject_HEAD at_awaited awaited;
    PyObject *result;    /* AT_AWAIT_RESULT */
    at_request *request; /* a reference; NULL: the worker's own */
    PyObject *future;    /* that the task waits for now, or NULL */
    PyObject *steps;     /* its iterator */
} at_awaitable;

/* Every function below: ctx: attached; NULL or -1 with an exception set. */

extern PyType_Spec at_worker_spec;
extern PyType_Spec at_request_spec;
extern PyType_Spec at_receive_spec;
extern PyType_Spec at_send_spec;
extern PyType_Spec at_awaitable_spec;

/* scope.c */
int at_scope_prepare(at_worker *worker, PyObject *root_path);
PyObject *at_scope_new(at_worker *worker, at_exchange *exchange,
                       const at_h1_request *request);

/* tls.c: the dict of ASGI's tls extension */
PyObject *at_tls_dict(const struct at_tls *tls);

/* request.c */
void at_request_begin(at_worker *worker, at_exchange *exchange,
                      const at_h1_request *head);
void at_request_lost(at_request *request);
void at_request_cancel_all(at_worker *worker);

/* receive.c, send.c: the callables that the application gets */
PyObject *at_receive_new(at_request *request);
PyObject *at_send_new(at_request *request);
/* The next message if there is one; NULL without an exception: not yet. */
PyObject *at_receive_poll(at_request *request);
int at_send_keep_headers(at_request *request, PyObject *headers);
/* As spans, into request->header_count places. */
void at_send_copy_headers(const at_request *request, at_h1_header *headers);
void at_send_drop_headers(at_request *request);

/* send_file.c */
PyObject *at_send_path(at_request *request, PyObject *message);
PyObject *at_send_descriptor(at_request *request, PyObject *message, bool more);
/* Send on. None at the end; NULL without an exception: there is no room. */
PyObject *at_send_file_poll(at_request *request);
void at_send_close_file(at_request *request);

/* websocket.c: as at_receive_poll, and send() of a message that is not the response's
 */
PyObject *at_websocket_poll(at_request *request);
PyObject *at_websocket_message(at_request *request, PyObject *type, PyObject *message);
/* The application has returned. */
void at_websocket_settle(at_request *request, bool failed);

/* awaitable.c */
PyObject *at_awaitable_new(at_worker *worker, at_awaited awaited, PyObject *result,
                           at_request *request);
void at_awaitable_wake_receivers(at_request *request);
void at_awaitable_wake_sender(at_request *request);

#endif
