/* What the four files of a reactor share; see reactor.c. All of it happens on the
 * owner's thread but what the fields say otherwise of. */
#ifndef AT_NET_REACTOR_INTERNAL_H
#define AT_NET_REACTOR_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "net/board.h"
#include "net/connection.h"
#include "net/counters.h"
#include "net/delay.h"
#include "net/reactor.h"
#include "net/static.h"
#include "sys/pollset.h"
typedef struct at_deadlines {
    at_connection *first, *last; /* ordered, since all are of one length */
    int64_t length_ns;           /* 0: never */
} at_deadlines;

struct at_reactor {
    at_service *service;
    const at_hooks *hooks;
    void *context;
    int thread;       /* fixed after init; at_thread_number() */
    at_static *files; /* between us and those hooks, or NULL */

    int set, wake, timer;
    int listeners[AT_LISTENERS_MAX];
    int listener_count;
    bool listening;
    int64_t listen_again_ns; /* AT_NEVER unless descriptors had run out */

    bool is_guard; /* fixed after init */
    bool in_batch, draining, drained_told;
    int64_t now_ns; /* of the present batch */

    at_connection *connections; /* all that live; writer: the owner, under the mutex */
    at_connection *scheduled, *scheduled_last;
    at_connection *dead;
    at_deadlines deadlines[AT_DEADLINE_KINDS];
    int64_t armed_ns; /* what the timer is set for */

    int64_t complain_again_ns;
    unsigned complaints_left_out;

    time_t date_second;
    char date[AT_HTTP_DATE_BYTES];

    at_record *record;     /* what everybody may know of us; fixed once it has joined */
    at_counters *counters; /* of the record */
    at_tally before;       /* what had been counted there for others */
    struct at_access_ring *ring; /* NULL: no access log */
    at_delay delay;
    atomic_ullong most;   /* requests, and then tell the service; 0: none. Whoever
                           * makes it 0 tells */
    atomic_llong told_ns; /* when the board was told last */

    atomic_bool drain_wanted;
    pthread_mutex_t mutex;
    at_newcomer *inbox; /* guarded: mutex */
    bool inbox_closed;  /* guarded: mutex; the record says the same to others */

    /* For the balancer. Nothing of it orders other memory: it is a guess, made again in
     * a millisecond. */
    atomic_ullong batches; /* writer: the owner */
    atomic_uint undone;    /* events of the batch not begun; writer: the owner */
    atomic_bool busy;      /* writer: the owner */
    bool watched;          /* guarded: the service's mutex */
    atomic_bool stuck;     /* writer: the balancer, and the owner, who clears it */
    at_poll_event *batch;  /* guarded: mutex; the events, where there are several */
    unsigned batch_count;  /* guarded: mutex */
    atomic_bool disturbed; /* writer: under the mutex; `taken` or `told` is not empty */
    at_connection *taken;  /* guarded: mutex; shells to be put away */
    at_connection *told;   /* guarded: mutex; look at connection->told */

    /* For who asks whether the owner is alive (reactor_stuck.c). */
    uint64_t probed_batches; /* guarded: the service's mutex */
    int64_t probed_since_ns; /* guarded: the service's mutex; 0: never asked */
    atomic_bool given_up;    /* writer: under the mutex; for good */
    bool was_cut;            /* guarded by the service's mutex */

    at_h1_request request; /* the one being parsed */
    char scratch[AT_SCRATCH_BYTES];
};

/* ---- reactor.c ------------------------------------------------------------------- */

/* Tell the service if there have been as many requests as it set. */
void at_reactor_tell_spent(at_reactor *reactor);

/* Out of the lists, to the dead. */
void at_reactor_unlink(at_connection *connection);

/* ---- reactor_deadlines.c --------------------------------------------------------- */

/* Of the present batch, or of the clock outside of one. */
int64_t at_reactor_now_ns(const at_reactor *reactor);

/* Let the timer come at `deadline_ns` at the latest. */
void at_reactor_arm(at_reactor *reactor, int64_t deadline_ns);

void at_reactor_forget_deadline(at_connection *connection);

/* The timer has come: see to everything that is due. */
void at_reactor_expire(at_reactor *reactor);

/* ---- reactor_arrivals.c ---------------------------------------------------------- */

void at_reactor_listen_start(at_reactor *reactor);
void at_reactor_listen_stop(at_reactor *reactor);
void at_reactor_accept_batch(at_reactor *reactor, int listener);

/* What is in the inbox; `close`: for good. */
at_newcomer *at_reactor_empty_inbox(at_reactor *reactor, bool close);

/* owns: takes the list */
void at_reactor_attach_all(at_reactor *reactor, at_newcomer *newcomers);

/* ---- reactor_moves.c ------------------------------------------------------------- */

/* Say what is about to be worked off, so that the balancer can take from it what waits
 * behind something long. */
void at_reactor_begin_batch(at_reactor *reactor, at_poll_event *events, int count);

/* The batch is over; what it names may be freed. */
void at_reactor_let_go_of_batch(at_reactor *reactor);

/* See to what the balancer did. */
void at_reactor_see_to_disturbance(at_reactor *reactor);
void at_reactor_put_shells_away(at_reactor *reactor);

/* The dead are told nothing. */
void at_reactor_forget_told(at_reactor *reactor);

/* The reactor closes: what rests, or is in the inbox, goes to others; where there is
 * none, the inbox is closed with what is in it. */
void at_reactor_move_all(at_reactor *reactor);

/* Take it away if it rests. Caller holds the mutex. */
bool at_reactor_take(at_reactor *reactor, at_connection *connection,
                     at_newcomer *newcomer);

#endif
