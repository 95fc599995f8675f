/* A reactor: one worker's part of a service, driven by the worker's own thread.
 *
 * It owns an epoll set, which the worker's event loop watches as one descriptor: when
 * it is readable, the loop calls at_reactor_run, and a batch of whatever happened is
 * worked off in it. Nothing else runs it; no thread of its own, no clock that ticks:
 * deadlines are kept in one first-in-first-out list for each kind, all of one length,
 * so the head of a list is its earliest and moving a connection costs two pointers; one
 * timerfd is armed for the earliest and, when it comes late, armed again. A request
 * costs no system call for its timeouts.
 *
 * Threads: everything on the owner's thread but what says otherwise. Others reach it
 * through the inbox (guarded by its mutex) and the wakefd.
 */
#ifndef AT_NET_REACTOR_H
#define AT_NET_REACTOR_H

#include "net/exchange.h"
#include "net/service.h"

typedef struct at_reactor at_reactor;

/* Open a reactor in `service` and start to accept. To those who look at it, it is
 * worker number `worker`, of that interpreter (negative: of none that is known); its
 * counts go on where the last of that number stopped. owns: the caller closes it; hooks
 * and context must live until then errs: AT_ENOMEM, AT_ELIMIT; as at_error_from_errno()
 */
int at_reactor_open(at_reactor **reactor, at_service *service, const at_hooks *hooks,
                    void *context, int worker, int64_t interpreter_id, at_fault *fault);

/* The same for the guard (control.h): it takes the place of no worker, listens to
 * `listeners`, which it closes in the end, and holds no reference to `service`. */
int at_reactor_open_guard(at_reactor **reactor, at_service *service,
                          const at_hooks *hooks, void *context, const int *listeners,
                          int count, at_fault *fault);

/* Say that afterwards. */
void at_reactor_set_worker(at_reactor *reactor, int worker, int64_t interpreter_id);

/* The worker has waited so long for its GIL. */
void at_reactor_count_gil_wait(at_reactor *reactor, int64_t waited_ns);

/* Have the size of the interpreter's heap on the record. */
void at_reactor_tell_heap(at_reactor *reactor);

/* The descriptor to watch for readability. */
int at_reactor_descriptor(const at_reactor *reactor);

/* Work off what is ready, waiting for it up to `timeout_ms` (0 in an event loop;
 * otherwise the caller must be detached). */
void at_reactor_run(at_reactor *reactor, int timeout_ms);

/* Stop accepting; let what runs come to its end, close the rest. `drained` is called,
 * perhaps before the return, when no connection is left. */
void at_reactor_drain(at_reactor *reactor);

/* Reset every connection that is left; each running exchange is told. */
void at_reactor_abort(at_reactor *reactor);

/* at_reactor_abort without a word to anyone, and the end.
 * Not from inside a hook. NULL is allowed. */
void at_reactor_close(at_reactor *reactor);

/* Bytes of the Date header's value, as of now; valid until the next call. */
at_span at_reactor_date(at_reactor *reactor);

/* ---- for the service: any thread ---------------------------------------------- */

typedef struct at_newcomer {
    struct at_newcomer *next;
    int descriptor;
    struct at_tls *tls; /* past its handshake; NULL where it is as it is, or new */
    at_address peer;
    uint64_t requests; /* that came over it, to another reactor */
    bool of_control;   /* it came to the guard's own listener */
    bool surplus;      /* there are too many connections: say so */
    bool moved;        /* it was another's: PROXY header and handshake are past */
    bool local_known;  /* `local` says where it came to */
    at_address local;
} at_newcomer;

/* Nobody takes it. */
void at_newcomer_close(at_newcomer *newcomer);

/* Put a connection into the inbox. errs: AT_ECLOSED (it drains): the caller keeps it */
int at_reactor_post(at_reactor *reactor, at_newcomer *newcomer);
void at_reactor_post_drain(at_reactor *reactor);

/* What the balancer sees of a reactor. */
typedef struct at_reactor_look {
    uint64_t batches; /* begun so far: it makes progress while that changes */
    unsigned undone;  /* events of the batch not begun; likewise */
    bool waiting;     /* something is ready that it has not begun with */
    bool busy;        /* it is in a batch */
    bool open;        /* it takes connections */
} at_reactor_look;

void at_reactor_observe(at_reactor *reactor, at_reactor_look *look);

/* Take connections away for which something is ready and which rest, those in the inbox
 * first; of what is ready at others, tell the owner. `spare[0..*spare_count)` is memory
 * for them, used from its end.
 * ctx:  any thread but the owner's; the service's mutex keeps the reactor
 * owns: the caller gets what is in the list */
at_newcomer *at_reactor_take_from(at_reactor *reactor, at_newcomer **spare,
                                  int *spare_count);

/* Take of its batch what `takers` others would have of it if they shared it evenly: the
 * last, which would wait for longest. As at_reactor_take_from otherwise. */
at_newcomer *at_reactor_take_share(at_reactor *reactor, int takers, at_newcomer **spare,
                                   int *spare_count);

/* Since when has the owner begun no batch though it was asked to, in ns; 0: it has
 * begun one since the last call. Asks again. ctx: any; guarded by the service's mutex
 */
int64_t at_reactor_probe(at_reactor *reactor, int64_t now_ns);

/* The same question, without a look at the answer: how many batches have begun so far.
 * ctx: any that keeps the reactor */
uint64_t at_reactor_ask(at_reactor *reactor);
uint64_t at_reactor_batches(const at_reactor *reactor);

/* What is said to clients in the owner's stead, and what is left to say: parting.h. */
struct at_partings;
typedef struct at_last_words {
    at_span answer; /* "503 Service Unavailable" over HTTP/1.1 */
    at_span block;  /* the same for HTTP/2; at_h2_farewell_block */
} at_last_words;

/* The owner is stuck: for good, take connections at rest and those in the inbox away,
 * as at_reactor_take_from does, and answer where a request waits. When the owner
 * comes back it finds a drain.
 * ctx:  any thread but the owner's; the service's mutex keeps the reactor
 * owns: the caller gets what is in the list */
at_newcomer *at_reactor_give_up(at_reactor *reactor, const at_last_words *words,
                                struct at_partings *partings, at_newcomer **spare,
                                int *spare_count, at_given_up *result);
bool at_reactor_is_given_up(const at_reactor *reactor);

/* It was given up some time ago: unless the owner has begun a batch since, end every
 * connection that is left, with the last words that fit. To be called
 * again as long as it is there.
 * ctx:  any thread but the owner's; the service's mutex keeps the reactor */
void at_reactor_cut(at_reactor *reactor, const at_last_words *words,
                    struct at_partings *partings, at_given_up *result);

/* It does not get on with its work, as far as the balancer sees. */
bool at_reactor_is_open(at_reactor *reactor); /* it takes connections */
void at_reactor_poke(at_reactor *reactor);    /* let its owner begin a batch */

/* Something has waited for it, or it has been busy with one batch, since the last look.
 */
void at_reactor_see(at_reactor *reactor, bool waiting, bool busy);
void at_reactor_set_stuck(at_reactor *reactor, bool stuck);
bool at_reactor_is_stuck(const at_reactor *reactor);
/* The balancer is woken by what comes for it; guarded by the service's mutex. */
bool at_reactor_is_watched(const at_reactor *reactor);
void at_reactor_set_watched(at_reactor *reactor, bool watched);

uint64_t at_reactor_load(const at_reactor *reactor);
/* Count a connection that the reactor is about to take itself. */
void at_reactor_reserve(at_reactor *reactor);
void at_reactor_stats_get(const at_reactor *reactor, at_reactor_stats *stats);
int at_reactor_thread(const at_reactor *reactor);

/* at_service_set_most. ctx: any; the service's mutex keeps the reactor */
void at_reactor_set_most(at_reactor *reactor, uint64_t requests);
at_counters *at_reactor_counters(at_reactor *reactor);

/* For how long something has waited that it has not looked at, or it has been busy with
 * one batch, as the balancer saw; 0: neither. */
int64_t at_reactor_stuck_ns(const at_reactor *reactor);

#endif
