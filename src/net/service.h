/* A service: the listening sockets of a process, and the reactors that share its
 * connections.
 *
 * Connections belong to the process, not to a worker. Every reactor watches the
 * listeners; whoever accepts a connection hands it to the reactor that has fewest, so
 * the split is even however the kernel wakes us: with an epoll set inside an event
 * loop's, EPOLLEXCLUSIVE alone wakes all or favours the last, and SO_REUSEPORT splits
 * by hash, which with 16 connections leaves one worker most of the work.
 *
 * Locks: `mutex` guards the table of reactors and keeps each from leaving while another
 * thread posts to it; the mutex of a reactor's inbox is a leaf below it.
 */
#ifndef AT_NET_SERVICE_H
#define AT_NET_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/contexts.h"
#include "base/error.h"
#include "http/forwarded.h"
#include "http/h1.h"
#include "http/h2.h"
#include "net/counters.h"
#include "sys/stream.h"

/* Bounds on a WebSocket; 0 switches a timeout off. */
typedef struct at_websocket_limits {
    size_t message_bytes;     /* over: closed with 1009 */
    unsigned queue_count;     /* messages that the application has not taken */
    int64_t ping_interval_ns; /* without a byte from the client, to a ping */
    int64_t ping_timeout_ns;  /* and then, to the end */
    int64_t close_timeout_ns; /* for the client to answer a close */
    bool deflate;             /* agree to permessage-deflate */
} at_websocket_limits;

/* Bounds on a connection; 0 switches a timeout off. */
typedef struct at_service_limits {
    at_h1_limits head;
    uint64_t body_bytes;          /* over: 413; 0 for no limit */
    int64_t handshake_timeout_ns; /* of TLS */
    int64_t head_timeout_ns;  /* from the first byte, or the connect, to a whole head */
    int64_t body_timeout_ns;  /* without a byte of a body that is wanted */
    int64_t idle_timeout_ns;  /* between two requests */
    int64_t write_timeout_ns; /* without a byte taken by the client */
    at_websocket_limits websocket;
    at_trust forwarded;     /* whose Forwarded headers and PROXY lines are believed */
    bool forwarded_headers; /* are headers looked at */
    bool proxy_protocol;    /* every connection begins with the PROXY protocol */
    at_h2_limits h2;        /* header_count and header_bytes are those of `head` */
    int64_t queue_delay_ns; /* requests that wait longer are refused; see delay.h */
    unsigned running_count; /* requests of a worker at a time; 0: any */
    uint64_t connection_count; /* of the server, all its processes; 0: any */
    uint64_t here_count;       /* connections of this process; 0: any */
    int64_t
        farewell_timeout_ns; /* for clients to take the last words of a stuck worker */
    int64_t linger_timeout_ns; /* after the last answer, for the client to close */
} at_service_limits;

void at_service_limits_init(at_service_limits *limits);

typedef struct at_service at_service;
struct at_reactor;
struct at_tls_context;

struct at_control_paths;
struct at_control_sources;

/* The server's own paths, and who knows what is asked there (both copied); before the
 * first reactor. See control.h. */
void at_service_set_control(at_service *service, const struct at_control_paths *paths,
                            const struct at_control_sources *sources);

/* Bounds on all that is served at once; see at_service_limits. Before the first
 * reactor.
 */
void at_service_set_overload(at_service *service, int64_t queue_delay_ns,
                             unsigned running_count, uint64_t connection_count,
                             uint64_t here_count);

/* Have an access log (access_log.h), before the guard and the first reactor.
 * errs: as at_access_log_new() */
int at_service_log_access(at_service *service, const char *path, at_span format,
                          at_fault *fault);

/* NULL: there is none. */
struct at_access_log *at_service_access_log(const at_service *service);

/* Of HTTP/2; before the first reactor. */
void at_service_set_h2(at_service *service, const at_h2_limits *limits);

/* The requests after which the reactor that was opened by that thread shall make
 * at_service_spent readable, once; 0: never. At once where there were as many already.
 * ctx: any */
void at_service_set_most(at_service *service, int thread, uint64_t requests);

/* A wakefd that says so; negative without a descriptor. The service's.
 * ctx: any */
int at_service_spent(at_service *service);

/* How many workers there shall be; until there were as many the server is not ready. */
void at_service_expect(at_service *service, int workers);

/* Listen for the control paths on a socket of their own, once or more; and start the
 * guard, with those sockets or none.
 * ctx:  detached; once
 * errs: as at_service_listen(); as at_guard_new() */
int at_service_listen_control(at_service *service, const char *host, int port,
                              at_fault *fault) AT_DETACHED;
int at_service_listen_control_unix(at_service *service, const char *path,
                                   at_fault *fault);
int at_service_start_guard(at_service *service, at_fault *fault);

/* Where the control paths are, in order; false past the last. */
bool at_service_control_address(const at_service *service, int index,
                                at_address *address);

/* The number of the guard among the workers, whose counts it has of its own. */
enum { AT_WORKER_GUARD = 256 };

/* What is public about one reactor. */
typedef struct at_reactor_stats {
    int thread; /* at_thread_number() of who opened it */
    int worker; /* its number, and that of its interpreter, if it has one: */
    int64_t interpreter_id; /* at_reactor_set_worker */
    uint64_t connections;   /* that it has now */
    uint64_t running;       /* requests */
    at_tally tally;
} at_reactor_stats;

/* About a worker: the reactors of its number together, those that have gone included,
 * so that no count ever goes back. */
typedef struct at_worker_stats {
    int worker;
    int thread;             /* 0: it has none at present */
    int process;            /* the system's number of its own; 0: it has none */
    int64_t interpreter_id; /* of this process; negative: none is known */
    int64_t heap_bytes;     /* of that, or of another process's, when it was last looked
                             * at; negative: not known */
    int reactors;           /* two while one takes over from another */
    bool open;              /* it takes connections */
    int64_t stuck_ns;       /* at_reactor_stuck_ns */
    uint64_t connections;
    uint64_t running;
    at_tally tally;
} at_worker_stats;

/* Why a worker was replaced. */
typedef enum at_restart {
    AT_RESTART_RELOAD, /* somebody asked for new workers */
    AT_RESTART_SPENT,  /* it had its requests, its lifetime or its memory */
    AT_RESTART_STUCK,
    AT_RESTART_DIED,
    AT_RESTARTS,
} at_restart;

/* A service that listens nowhere yet.
 * ctx:  any
 * owns: one reference, the caller's */
at_service *at_service_new(const at_service_limits *limits);

/* References may be taken and dropped by any thread. */
at_service *at_service_ref(at_service *service);
void at_service_unref(at_service *service);

/* The service with that number, for another interpreter to find it.
 * ctx:  any
 * owns: a reference, the caller's; NULL where there is none */
at_service *at_service_find(uint64_t number);
uint64_t at_service_number(const at_service *service);

/* Listen; see at_socket_listen. Before the first reactor is opened.
 * ctx:  detached
 * errs: as there; AT_ELIMIT for more sockets than a service may have */
int at_service_listen(at_service *service, const char *host, int port, int backlog,
                      at_fault *fault) AT_DETACHED;

/* The same for a Unix socket, and for one that was opened by another; see
 * at_socket_listen_unix and at_socket_adopt.
 * ctx: any */
int at_service_listen_unix(at_service *service, const char *path, int backlog,
                           at_fault *fault);
int at_service_adopt(at_service *service, int descriptor, at_fault *fault);

/* Share connections with other processes: `receiving` and `sending` are the ends of a
 * passage (sys/passage.h), the same for all of them; copies are kept. Before the first
 * reactor is opened.
 * ctx:  any
 * errs: AT_EINVALID, AT_ELIMIT */
int at_service_join_passage(at_service *service, int receiving, int sending,
                            at_fault *fault);

/* Serve the files of `folder` below `prefix`; see static.h. Before the first reactor is
 * opened.
 * ctx:  any
 * errs: as at_static_mount() */
int at_service_mount(at_service *service, const char *prefix, const char *folder,
                     at_fault *fault);

/* Where it listens, in order; false past the last. */
bool at_service_address(const at_service *service, int index, at_address *address);

/* Connections accepted from now on speak TLS with `context`; NULL: none does.
 * ctx:  any
 * owns: takes a reference of its own */
void at_service_set_tls(at_service *service, struct at_tls_context *context);

/* The present context, or NULL.
 * ctx:  any
 * owns: a reference, the caller's */
struct at_tls_context *at_service_tls(at_service *service);

/* Ask every reactor to finish: its `drain` hook is called on its own thread. Reactors
 * opened later are asked at once.
 * ctx: any */
void at_service_drain(at_service *service);

/* The same, while other processes that share the passage go on: connections at rest go
 * to them, and requests that run leave their connections open.
 * ctx: any */
void at_service_retire(at_service *service);

/* Ask the reactor that was opened by that thread (at_thread_number()) only. False where
 * there is none.
 * ctx: any */
bool at_service_drain_thread(at_service *service, int thread);

/* Send a signal to the thread that has opened a reactor. False where there is none.
 * ctx: any */
bool at_service_signal_thread(at_service *service, int thread, int number);

/* How long a worker has not answered. */
typedef struct at_probe {
    int thread;        /* at_thread_number() of who opened the reactor; 0: none there */
    int64_t silent_ns; /* since the first question that it has not answered; 0: none */
} at_probe;

/* Ask the reactor at `index` whether its owner gets on, and say what became of the
 * question before. One who asks must be the only one.
 * ctx: any; false past the last place */
bool at_service_probe(at_service *service, int index, at_probe *probe);

/* What became of the connections of a worker that was given up. */
typedef struct at_given_up {
    int moved;    /* to other workers */
    int answered; /* 503 */
    int cut;      /* ended later: in the middle of a response, WebSockets, HTTP/2 */
} at_given_up;

/* Give up the reactor that was opened by that thread, whose owner is stuck: see
 * at_reactor_give_up. `retry_after_s` is what is said to who is answered 503.
 * ctx:  detached: waits for clients whose sockets are full
 * errs: AT_EINVALID (there is none), AT_ENOMEM */
int at_service_give_up(at_service *service, int thread, int retry_after_s,
                       at_given_up *result) AT_DETACHED;

/* End what is left with a reactor that was given up, unless its owner has come back:
 * see at_reactor_cut. Zeros in `result`: there is nothing left, or no such reactor.
 * ctx:  detached: waits for clients whose sockets are full
 * errs: AT_ENOMEM */
int at_service_cut(at_service *service, int thread, int retry_after_s,
                   at_given_up *result) AT_DETACHED;

/* ctx: any; false past the last place, zeros for an empty one */
bool at_service_stats(at_service *service, int index, at_reactor_stats *stats);

/* The boards (board.h) that this service tells on and reads, its own process's alone
 * until it is made one of several; before the guard and the first reactor. */
struct at_boards;
const struct at_boards *at_service_boards(const at_service *service);

/* Be the first of so many processes of so many workers each. Gives the descriptor of
 * their memory, which stays the service's.
 * ctx:  any
 * errs: as at_boards_open() */
int at_service_open_boards(at_service *service, int process_count, int worker_count,
                           at_fault *fault);

/* A place for process number `process`, and its end; by one thread.
 * errs: AT_ELIMIT */
int at_service_give_board(at_service *service, int process);
void at_service_take_board_back(at_service *service, int place);

/* Be a process that was given that place.
 * owns: takes the descriptor on success
 * errs: as at_boards_adopt() */
int at_service_join_boards(at_service *service, int descriptor, int place,
                           at_fault *fault);

/* About worker number `worker` of process number `process` (0 where there is but one).
 * False: there has never been one.
 * ctx: any */
bool at_service_worker(at_service *service, int process, int worker,
                       at_worker_stats *stats);

/* Look at what is told on the board beside the records: before it is read here, and by
 * workers now and then, for those who read it elsewhere. ctx: any */
void at_service_tell(at_service *service);

/* ctx: any */
void at_service_count_restart(at_service *service, at_restart why);
void at_service_restarts(at_service *service, uint64_t counts[AT_RESTARTS]);

/* ---- for the reactors ------------------------------------------------------ */

enum { AT_LISTENERS_MAX = 16, AT_REACTORS_MAX = 256 };

typedef enum at_fullness {
    AT_HAS_ROOM,
    AT_FULL,
    AT_OVERFULL, /* not even for those who are only told so */
} at_fullness;

at_fullness at_service_fullness(at_service *service);

/* NULL where there are none. */
const struct at_control_paths *at_service_control_paths(const at_service *service);
const struct at_control_sources *at_service_sources(const at_service *service);

/* Does the guard listen to sockets of its own? */
bool at_service_has_control(const at_service *service);

/* Has every worker been stuck for longer than requests may wait? */
bool at_service_is_swamped(const at_service *service);

struct at_newcomer;

/* ---- for the balancer (balance.h) ------------------------------------------ */

/* Move connections from reactors that have not begun a batch since the last call,
 * though something waits for them, to those that have nothing to do; and to the guard,
 * where that lasts. Gives whether anything happens at all: otherwise there is no need
 * to look again soon, which is after `*look_ms`, or when the set `alerts` is ready: it
 * watches the sets of reactors that are busy. */
bool at_service_balance(at_service *service, struct at_newcomer **spare,
                        int *spare_count, int alerts, int *look_ms);

/* The sets of the reactors, for at_poll_any. Gives how many there are. */
int at_service_sets(at_service *service, int *descriptors);

/* Wake the balancer if it sleeps: a batch has begun that it cannot see. */
void at_service_nudge(at_service *service);

/* A reactor has had its requests. ctx: any */
void at_service_tell_spent(at_service *service);

const at_service_limits *at_service_get_limits(const at_service *service);
int at_service_listeners(const at_service *service, int *descriptors);

/* NULL where there are none. */
const struct at_static_mounts *at_service_mounts(const at_service *service);

/* Take a place in the table; where the service drains, the reactor is asked to.
 * errs: AT_ELIMIT */
int at_service_join(at_service *service, struct at_reactor *reactor);
void at_service_leave(at_service *service, struct at_reactor *reactor);

/* A record for a reactor. errs: NULL: there are too many */
struct at_record *at_service_take_record(at_service *service, int worker);

/* Put `newcomer` into the inbox of another reactor than `self`, one that goes on.
 * owns: takes `newcomer` on true */
bool at_service_place(at_service *service, struct at_reactor *self,
                      struct at_newcomer *newcomer);

/* Is there another reactor that goes on, to which a connection can move? One that is
 * `plain`, without TLS, can go to another process too. */
bool at_service_has_other(at_service *service, const struct at_reactor *self,
                          bool plain);

/* Give a connection that has come to the reactor with fewest: it is put into its inbox,
 * or, where that is `self`, only counted and the caller takes it.
 * owns: takes what `newcomer` holds, of which it keeps a copy, on true */
bool at_service_hand_over(at_service *service, struct at_reactor *self,
                          const struct at_newcomer *newcomer);

/* ---- passage.c ---- */

/* Is that listener the end of a passage, where at_service_take_passed accepts? */
bool at_service_is_passage(const at_service *service, int listener);
bool at_service_has_passage(const at_service *service);

/* A connection out of the passage.
 * owns: the caller gets what the newcomer holds
 * errs: AT_EAGAIN: none waits. AT_EINVALID: what came was none, and is gone. */
int at_service_take_passed(at_service *service, struct at_newcomer *newcomer);

#endif
