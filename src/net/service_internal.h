/* What the files of a service share; see service.h. */
#ifndef AT_NET_SERVICE_INTERNAL_H
#define AT_NET_SERVICE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/shared.h"
#include "net/balance.h"
#include "net/board.h"
#include "net/control.h"
#include "net/counters.h"
#include "net/reactor.h"
#include "net/service.h"
#include "net/sight.h"
#include "net/static.h"
#include "net/tls.h"

struct at_service {
    at_shared shared;
    uint64_t number;                 /* fixed after init */
    at_service_limits limits;        /* fixed after init */
    int listeners[AT_LISTENERS_MAX]; /* fixed once the first reactor has joined */
    int listener_count;
    int passage_in;           /* one of `listeners`, where passage_out says so */
    int passage_out;          /* fixed once the first reactor has joined; -1: none */
    at_static_mounts *mounts; /* fixed once the first reactor has joined; or NULL */
    pthread_mutex_t mutex;
    bool draining;                         /* guarded: mutex */
    bool retiring;                         /* guarded: mutex; other processes go on */
    at_tls_context *tls;                   /* guarded: mutex; a reference, or NULL */
    _Atomic(at_balancer *) balancer;       /* NULL until there are two reactors */
    at_sight sights[AT_REACTORS_MAX];      /* guarded: mutex; by place */
    at_reactor *reactors[AT_REACTORS_MAX]; /* guarded: mutex; NULL: an empty place */
    at_boards boards;                      /* fixed once the first reactor has joined */
    at_board *board;                       /* likewise; ours of them */
    at_control_paths paths;                /* fixed once the first reactor has joined */
    at_control_sources sources;            /* likewise */
    int control[AT_LISTENERS_MAX]; /* fixed once the guard is there, which owns them */
    int control_count;
    struct at_access_log *access_log; /* fixed once the first reactor has joined */
    at_guard *guard;     /* fixed once the first reactor has joined; or NULL */
    atomic_int spent;    /* a wakefd, once asked for; or -1 */
    int expected;        /* guarded: mutex */
    atomic_bool swamped; /* writer: the balancer, under the mutex */
    at_service *next;    /* guarded: known_services.mutex */
};

/* ---- service_guard.c ------------------------------------------------------------- */

void at_service_end_guard(at_service *service);

/* ---- service_guard.c; caller holds the mutex ------------------------------------- */

/* Where every worker is stuck, give what waits for them to the guard. `late`: those
 * that have been for longer than requests may wait; `open`: how many there are. */
void at_service_relieve(at_service *service, at_reactor **late, int late_count,
                        int open_count, at_newcomer **spare, int *spare_count);
/* ---- passage.c ------------------------------------------------------------------- */

/* Give a connection to another process, waiting for room up to `timeout_ms`.
 * owns: takes `newcomer` on true; false also where it cannot leave: it speaks TLS */
bool at_service_pass(at_service *service, at_newcomer *newcomer, int timeout_ms);

/* ---- service.c; caller holds the mutex ------------------------------------------- */

/* As at_service_place. */
bool at_service_place_locked(at_service *service, at_reactor *self,
                             at_newcomer *newcomer);

/* ---- service_stuck.c; caller holds the mutex ------------------------------------- */

/* The reactor that was opened by that thread and was not given up, or NULL. */
at_reactor *at_service_reactor_of(at_service *service, int thread);

#endif
