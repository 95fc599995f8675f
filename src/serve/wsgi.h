/* WSGI (PEP 3333): a worker whose application runs on threads of its interpreter.
 *
 * There is no thread that only serves and none that only works. The reactor belongs to
 * whoever sits in the pool's seat (a mutex): a thread that has nothing to run takes the
 * lead, works off a batch of the reactor, and then runs what came itself, so that a
 * request is read, run and answered on one thread with no hand-off.
 *
 * While a thread runs the application nobody leads. One idle thread is summoned then,
 * and its first step is to ask for the GIL: it gets it when the application waits for
 * something, and not before (CPython's switch interval apart). So an application that
 * waits for nothing is served by one thread without a switch, and one that blocks loses
 * the lead at that moment. A thread that waits for its own client leads itself, if
 * nobody does.
 *
 *   wsgi_pool.c      the seat, who leads, waits of requests, the reactor's hooks
 *   wsgi_worker.c    the type WsgiWorker
 *   wsgi_environ.c   a request's head -> environ
 *   wsgi_input.c     wsgi.input
 *   wsgi_start.c     start_response()
 *   wsgi_run.c       the application's call and what it gives back
 *   wsgi_timeout.c   calls that take too long
 *
 * Locks: `seat` guards the reactor with all exchanges, and every field so marked. It is
 * held for a batch, never for a wait, and never while the GIL is asked for; a thread
 * that has the GIL may wait for it.
 */
#ifndef AT_SERVE_WSGI_H
#define AT_SERVE_WSGI_H

#include <Python.h>
#include <pthread.h>
#include <stdatomic.h>

#include "interp/attach.h"
#include "net/reactor.h"

/* A thread of the pool that sleeps. On that thread's stack. */
typedef struct at_wsgi_sleeper {
    struct at_wsgi_sleeper *next; /* guarded: seat */
    bool summoned;                /* to lead or to work; guarded: seat */
    atomic_uint awake;            /* set by whoever took it off its list */
} at_wsgi_sleeper;

/* One request, raw: made by the reactor's hook on a thread that may hold no GIL. */
typedef struct at_wsgi_request {
    struct at_wsgi_request *next; /* in the queue; guarded: seat */
    at_exchange *exchange;        /* a reference; guarded: seat */
    at_wsgi_sleeper *sleeper;     /* of the thread that waits for it; guarded: seat */
    bool signalled;               /* body, room or a loss has come; guarded: seat */
    bool has_body;
    bool is_http_2;
    bool is_encrypted; /* the client came over TLS */
    int64_t begun_ns;
    int64_t late_ns;                      /* when it was last interrupted, or 0 */
    struct at_wsgi_request *running_next; /* guarded: seat */
    unsigned long ident;                  /* of the thread that runs it */
    bool over;                            /* the application has returned; the GIL's */
    bool interrupted;                     /* likewise */
    at_address peer, local;
    at_h1_request head; /* its spans point into `bytes` */
    char bytes[];
} at_wsgi_request;

/* Strings of an environ, interned once for a worker. X(name, text) */
#define AT_WSGI_WORDS(X)                                                               \
    X(request_method, "REQUEST_METHOD")                                                \
    X(script_name, "SCRIPT_NAME")                                                      \
    X(path_info, "PATH_INFO")                                                          \
    X(query_string, "QUERY_STRING")                                                    \
    X(raw_uri, "RAW_URI")                                                              \
    X(request_uri, "REQUEST_URI")                                                      \
    X(content_type, "CONTENT_TYPE")                                                    \
    X(content_length, "CONTENT_LENGTH")                                                \
    X(server_name, "SERVER_NAME")                                                      \
    X(server_port, "SERVER_PORT")                                                      \
    X(server_protocol, "SERVER_PROTOCOL")                                              \
    X(server_software, "SERVER_SOFTWARE")                                              \
    X(remote_addr, "REMOTE_ADDR")                                                      \
    X(remote_port, "REMOTE_PORT")                                                      \
    X(version, "wsgi.version")                                                         \
    X(url_scheme, "wsgi.url_scheme")                                                   \
    X(input, "wsgi.input")                                                             \
    X(input_terminated, "wsgi.input_terminated")                                       \
    X(errors, "wsgi.errors")                                                           \
    X(multithread, "wsgi.multithread")                                                 \
    X(multiprocess, "wsgi.multiprocess")                                               \
    X(run_once, "wsgi.run_once")                                                       \
    X(file_wrapper, "wsgi.file_wrapper")                                               \
    X(http_10, "HTTP/1.0")                                                             \
    X(http_11, "HTTP/1.1")                                                             \
    X(http, "http")                                                                    \
    X(http_2, "HTTP/2")                                                                \
    X(https, "https")                                                                  \
    X(empty, "")                                                                       \
    X(close, "close")                                                                  \
    X(read, "read")                                                                    \
    X(extent, "extent")

typedef struct at_wsgi_words {
#define AT_WSGI_WORD_FIELD(name, text) PyObject *name;
    AT_WSGI_WORDS(AT_WSGI_WORD_FIELD)
#undef AT_WSGI_WORD_FIELD
} at_wsgi_words;

enum {
    AT_WSGI_METHODS_MAX = 9,
    AT_WSGI_NAME_SLOTS = 256, /* power of two */
    AT_WSGI_INLINE_HEADERS = 12,
};

/* A header's name as a client sent it, and its key in an environ. */
typedef struct at_wsgi_name {
    char sent[40];
    unsigned char size; /* 0: free */
    PyObject *key;
} at_wsgi_name;

typedef struct at_wsgi_worker {
    PyObject_HEAD at_service *service;
    pthread_mutex_t seat;
    at_reactor *reactor;                 /* guarded: seat; NULL once closed */
    at_wsgi_request *queue, *queue_last; /* guarded: seat */
    at_wsgi_sleeper *idle;               /* threads without work; guarded: seat */
    at_wsgi_sleeper *waiting; /* threads that wait for a client; guarded: seat */
    at_wsgi_sleeper *to_wake; /* when the seat is free again; guarded: seat */
    bool milestone_new;       /* likewise */
    bool led;                 /* somebody waits for the reactor; guarded: seat */
    bool summoned;            /* a thread is on its way to lead; guarded: seat */
    bool ended;               /* the threads are to return; guarded: seat */
    size_t running_count;     /* guarded: seat */
    at_wsgi_request *running; /* those that a thread runs; guarded: seat */
    atomic_uint milestone;    /* at_wsgi_milestone; the owner sleeps on it */

    PyObject *app;
    PyObject *on_error; /* (environ or None, exception or None, text) */
    PyObject *gone_class;
    PyObject *timeout_class; /* atoll.RequestTimeout */
    PyTypeObject *file_wrapper;
    PyObject *environ_template;
    PyObject *empty_bytes;
    PyObject *no_input; /* wsgi.input of every request without a body */
    PyTypeObject *call_type, *input_type;
    at_wsgi_words words;
    PyObject *methods[AT_WSGI_METHODS_MAX];
    at_wsgi_name names[AT_WSGI_NAME_SLOTS];
} at_wsgi_worker;

typedef enum at_wsgi_milestone {
    AT_WSGI_SERVES,
    AT_WSGI_DRAINS,  /* the service has asked for an end */
    AT_WSGI_DRAINED, /* the last connection has gone */
} at_wsgi_milestone;

/* One call of the application: start_response itself, and the response so far. */
typedef struct at_wsgi_call {
    PyObject_HEAD vectorcallfunc vectorcall;
    at_wsgi_worker *worker;   /* a reference */
    at_wsgi_request *request; /* owned; NULL when the response is over */
    bool start_given;
    bool started;  /* the head is on its way */
    bool complete; /* all of the response is */
    int status;
    int64_t declared_bytes; /* of Content-Length, or -1 */
    int64_t sent_bytes;
    size_t header_count;
    struct at_wsgi_header {
        PyObject *name, *value; /* str */
        at_span name_text, value_text;
    } * headers, inline_headers[AT_WSGI_INLINE_HEADERS];
} at_wsgi_call;

extern PyType_Spec at_wsgi_worker_spec;
extern PyType_Spec at_wsgi_call_spec;
extern PyType_Spec at_wsgi_input_spec;

/* ---- wsgi_pool.c ------------------------------------------------------------- */

extern const at_hooks at_wsgi_hooks;

/* Serve on the calling thread until the worker ends.
 * ctx: attached */
void at_wsgi_work(at_wsgi_worker *worker) AT_ATTACHED;

/* Reset every connection and let the threads return from at_wsgi_work.
 * ctx: any; the seat is not held */
void at_wsgi_end(at_wsgi_worker *worker);

void at_wsgi_sit(at_wsgi_worker *worker);
void at_wsgi_rise(at_wsgi_worker *worker);

/* Wait until something new has happened to the request.
 * ctx: attached; the seat is held, and is again afterwards */
void at_wsgi_wait(at_wsgi_worker *worker, at_wsgi_request *request) AT_ATTACHED;

/* Let go of a request that has come to its end.
 * ctx: any; the seat is held */
void at_wsgi_request_free(at_wsgi_worker *worker, at_wsgi_request *request);

/* ---- the others; NULL or -1 with an exception set ------------------------------- */

/* wsgi_timeout.c */
/* The calling thread runs the request; it does no more. ctx: any; the seat is held */
void at_wsgi_running_add(at_wsgi_worker *worker, at_wsgi_request *request);
void at_wsgi_running_remove(at_wsgi_worker *worker, at_wsgi_request *request);
/* The application has returned. */
void at_wsgi_over(at_wsgi_request *request);
/* Raise RequestTimeout in requests that have run for so long without a response, and
 * after that time again. How many. */
int at_wsgi_interrupt(at_wsgi_worker *worker, int64_t allowed_ns);

/* wsgi_environ.c */
int at_wsgi_environ_prepare(at_wsgi_worker *worker, PyObject *root_path,
                            PyObject *errors, int threads, int processes) AT_ATTACHED;
PyObject *at_wsgi_environ_new(at_wsgi_call *call) AT_ATTACHED;

/* wsgi_input.c */
PyObject *at_wsgi_input_new(at_wsgi_worker *worker, at_wsgi_call *call) AT_ATTACHED;

/* wsgi_start.c */
PyObject *at_wsgi_start(PyObject *call, PyObject *const *arguments, size_t count,
                        PyObject *names);
void at_wsgi_drop_headers(at_wsgi_call *call);

/* wsgi_run.c */
void at_wsgi_run(at_wsgi_worker *worker, at_wsgi_request *request) AT_ATTACHED;
/* Send a piece of body, the last if not `more`; waits where the client is slow. */
int at_wsgi_send(at_wsgi_call *call, at_span piece, bool more) AT_ATTACHED;
/* As at_exchange_respond, with the application's headers and one more unless it is
 * NULL. The seat is held. */
int at_wsgi_respond(at_wsgi_call *call, const at_h1_header *another, at_span piece,
                    bool more, const char **why);
/* Until what was sent has gone. The seat is held. Returns 0 or an error. */
int at_wsgi_wait_for_room(at_wsgi_call *call) AT_ATTACHED;
/* An error of the exchange as an exception. Returns -1. */
int at_wsgi_raise_outcome(at_wsgi_call *call, int result, const char *why) AT_ATTACHED;

/* wsgi_file.c */
/* Send a file that is wrapped by wsgi.file_wrapper.
 * gives: 1 (it is sent), 0 (iterate over it), -1 */
int at_wsgi_send_file(at_wsgi_call *call, PyObject *result) AT_ATTACHED;

#endif
