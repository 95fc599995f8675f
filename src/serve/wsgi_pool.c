/* Who leads and who sleeps, and the reactor's hooks; see wsgi.h. */
#include "serve/wsgi.h"

#include <string.h>

#include "base/memory.h"
#include "http/forwarded.h"
#include "sys/clock.h"
#include "sys/park.h"
#include "sys/pollset.h"

void at_wsgi_sit(at_wsgi_worker *worker)
{
    (void)pthread_mutex_lock(&worker->seat);
}

/* Whoever was found to be woken meanwhile is woken here, with the seat free. */
void at_wsgi_rise(at_wsgi_worker *worker)
{
    at_wsgi_sleeper *list = worker->to_wake;
    worker->to_wake = NULL;
    bool told = worker->milestone_new;
    worker->milestone_new = false;
    (void)pthread_mutex_unlock(&worker->seat);
    while (list != NULL) {
        at_wsgi_sleeper *sleeper = list;
        list = list->next; /* before the store: it is on the sleeper's stack */
        /* Pairs with the acquire in nap. */
        atomic_store_explicit(&sleeper->awake, 1, memory_order_release);
        at_park_wake(&sleeper->awake, 1, AT_PARK_PRIVATE);
    }
    if (told) {
        at_park_wake(&worker->milestone, AT_PARK_ALL, AT_PARK_PRIVATE);
    }
}

/* ---- sleepers: the seat is held, but for nap ------------------------------------- */

static at_wsgi_sleeper *pop(at_wsgi_sleeper **list)
{
    at_wsgi_sleeper *sleeper = *list;
    if (sleeper != NULL) {
        *list = sleeper->next;
    }
    return sleeper;
}

static void push(at_wsgi_sleeper **list, at_wsgi_sleeper *sleeper)
{
    sleeper->next = *list;
    *list = sleeper;
}

static bool take_off(at_wsgi_sleeper **list, at_wsgi_sleeper *sleeper)
{
    for (at_wsgi_sleeper **at = list; *at != NULL; at = &(*at)->next) {
        if (*at == sleeper) {
            *at = sleeper->next;
            return true;
        }
    }
    return false;
}

static void summon(at_wsgi_worker *worker, at_wsgi_sleeper *sleeper)
{
    if (sleeper != NULL) {
        worker->summoned = sleeper->summoned = true;
        push(&worker->to_wake, sleeper);
    }
}

static void nap(at_wsgi_sleeper *sleeper) AT_DETACHED;
static void nap(at_wsgi_sleeper *sleeper)
{
    while (atomic_load_explicit(&sleeper->awake, memory_order_acquire) == 0) {
        (void)at_park_wait(&sleeper->awake, 0, AT_NEVER, AT_PARK_PRIVATE);
    }
}

/* This thread is about to be busy: let another lead, or take what is in the queue. */
static void call_others(at_wsgi_worker *worker)
{
    if (worker->summoned || worker->ended) {
        return;
    }
    if (!worker->led && worker->waiting != NULL) {
        summon(worker, pop(&worker->waiting));
    } else if (!worker->led || worker->queue != NULL) {
        summon(worker, pop(&worker->idle));
    }
}

/* ---- the reactor's hooks: the seat is held --------------------------------------- */

static size_t head_bytes(const at_h1_request *head)
{
    size_t size = head->method.size + head->target.size + head->path.size +
                  head->query.size + head->host.size;
    for (size_t i = 0; i < head->header_count; i++) {
        size += head->headers[i].name.size + head->headers[i].value.size;
    }
    return size;
}

/* A copy of the span behind *at, which moves on. */
static at_span keep(at_span span, char **at)
{
    at_span kept = {*at, span.size};
    if (span.size != 0) {
        memcpy(*at, span.data, span.size);
        *at += span.size;
    }
    return kept;
}

/* Piece by piece: the head of an HTTP/2 request does not lie together. */
static at_wsgi_request *copy(const at_h1_request *head)
{
    at_wsgi_request *request = at_alloc(sizeof *request + head_bytes(head));
    if (request == NULL) {
        return NULL;
    }
    char *at = request->bytes;
    at_h1_request *copied = &request->head;
    memcpy(copied, head, offsetof(at_h1_request, headers));
    copied->method = keep(head->method, &at);
    copied->target = keep(head->target, &at);
    copied->path = keep(head->path, &at);
    copied->query = keep(head->query, &at);
    copied->host = keep(head->host, &at);
    for (size_t i = 0; i < head->header_count; i++) {
        copied->headers[i].name = keep(head->headers[i].name, &at);
        copied->headers[i].value = keep(head->headers[i].value, &at);
    }
    return request;
}

/* The client and the scheme that a trusted proxy tells of. */
static void take_forwarded(at_wsgi_request *request, const at_exchange *exchange,
                           const at_h1_request *head)
{
    at_forwarded told;
    if (at_exchange_forwarded(exchange, head, &told) != 1) {
        return;
    }
    if (told.client.size != 0 && told.client.size < sizeof request->peer.host) {
        memcpy(request->peer.host, told.client.data, told.client.size);
        request->peer.host[told.client.size] = '\0';
        request->peer.port = told.port;
    }
    if (told.scheme.size != 0) {
        request->is_encrypted = at_h1_equal(told.scheme, "https");
    }
}

static void on_request(void *context, at_exchange *exchange, const at_h1_request *head)
{
    at_wsgi_worker *worker = context;
    at_wsgi_request *request = copy(head);
    if (request == NULL) {
        at_exchange_abort(exchange);
        return;
    }
    request->next = NULL;
    request->exchange = at_exchange_ref(exchange);
    request->sleeper = NULL;
    request->signalled = false;
    request->is_http_2 = exchange->over_h2 != NULL;
    request->is_encrypted = at_exchange_tls(exchange) != NULL;
    request->has_body = head->framing != AT_H1_NO_BODY;
    request->begun_ns = at_clock_ns();
    request->late_ns = 0;
    request->over = request->interrupted = false;
    request->peer = *at_exchange_peer(exchange);
    request->local = *at_exchange_local(exchange);
    take_forwarded(request, exchange, head);
    exchange->user = request;
    worker->running_count++;
    if (worker->queue == NULL) {
        worker->queue = request;
    } else {
        worker->queue_last->next = request;
    }
    worker->queue_last = request;
}

static void signal(at_wsgi_worker *worker, at_exchange *exchange)
{
    at_wsgi_request *request = exchange->user;
    if (request == NULL) {
        return;
    }
    request->signalled = true;
    if (request->sleeper != NULL && take_off(&worker->waiting, request->sleeper)) {
        push(&worker->to_wake, request->sleeper);
    }
}

static void on_event(void *context, at_exchange *exchange)
{
    signal(context, exchange);
}

static void on_forget(void *context, void *connection_user)
{
}

static void reach(at_wsgi_worker *worker, at_wsgi_milestone milestone)
{
    if (atomic_load_explicit(&worker->milestone, memory_order_relaxed) < milestone) {
        /* Pairs with the acquire in the worker's wait(). */
        atomic_store_explicit(&worker->milestone, milestone, memory_order_release);
        worker->milestone_new = true;
    }
}

static void on_drain(void *context)
{
    reach(context, AT_WSGI_DRAINS);
}

static void on_drained(void *context)
{
    reach(context, AT_WSGI_DRAINED);
}

const at_hooks at_wsgi_hooks = {
    .request = on_request,
    .body = on_event,
    .writable = on_event,
    .lost = on_event,
    .forget = on_forget,
    .drain = on_drain,
    .drained = on_drained,
    .queues = true,
};

/* ---- leading --------------------------------------------------------------------- */

static at_wsgi_request *pop_request(at_wsgi_worker *worker)
{
    at_wsgi_request *request = worker->queue;
    if (request != NULL) {
        worker->queue = request->next;
        request->next = NULL;
    }
    return request;
}

/* Wait for the reactor and work off one batch. The seat is held, and is again. */
static void lead(at_wsgi_worker *worker) AT_DETACHED;
static void lead(at_wsgi_worker *worker)
{
    worker->led = true;
    int set = at_reactor_descriptor(worker->reactor);
    at_wsgi_rise(worker);
    at_poll_await(set);
    at_wsgi_sit(worker);
    at_reactor_run(worker->reactor, 0);
    worker->led = false;
}

/* One turn of a thread without a request: lead, or sleep. True when it was summoned.
 * The seat is not held. */
static bool rest(at_wsgi_worker *worker) AT_DETACHED;
static bool rest(at_wsgi_worker *worker)
{
    at_wsgi_sleeper sleeper = {NULL, false, 0};
    at_wsgi_sit(worker);
    if (worker->ended || worker->queue != NULL) {
        at_wsgi_rise(worker);
    } else if (!worker->led) {
        lead(worker);
        at_wsgi_rise(worker);
    } else {
        push(&worker->idle, &sleeper);
        at_wsgi_rise(worker);
        nap(&sleeper);
    }
    return sleeper.summoned;
}

AT_UNCHECKED void at_wsgi_work(at_wsgi_worker *worker)
{
    bool summoned = false;
    int64_t gil_ns = -1;
    for (;;) {
        at_wsgi_sit(worker);
        if (gil_ns >= 0 && !summoned) {
            /* Who is summoned waits for the application, which is as it should be. */
            at_reactor_count_gil_wait(worker->reactor, gil_ns);
        }
        gil_ns = -1;
        if (summoned) {
            /* Only now, with the GIL: who is on the way to it is the one to go on when
             * the application waits. */
            worker->summoned = summoned = false;
        }
        if (worker->ended) {
            at_wsgi_rise(worker);
            return;
        }
        if (worker->queue == NULL && !worker->led) {
            at_reactor_run(worker->reactor, 0);
        }
        at_wsgi_request *request = pop_request(worker);
        if (request != NULL) {
            at_wsgi_running_add(worker, request);
            call_others(worker);
            at_wsgi_rise(worker);
            at_wsgi_run(worker, request);
            continue;
        }
        at_wsgi_rise(worker);
        PyThreadState *state = at_detach();
        summoned = rest(worker);
        gil_ns = at_clock_ns();
        at_attach(state);
        gil_ns = at_clock_ns() - gil_ns;
    }
}

/* The thread of a request that waits, without the GIL. The seat is held. */
static void wait_for(at_wsgi_worker *worker, at_wsgi_request *request) AT_DETACHED;
static void wait_for(at_wsgi_worker *worker, at_wsgi_request *request)
{
    while (!request->signalled && !worker->ended) {
        if (!worker->led) {
            lead(worker);
            call_others(worker);
            continue;
        }
        at_wsgi_sleeper sleeper = {NULL, false, 0};
        push(&worker->waiting, &sleeper);
        request->sleeper = &sleeper;
        at_wsgi_rise(worker);
        nap(&sleeper);
        at_wsgi_sit(worker);
        request->sleeper = NULL;
        if (sleeper.summoned) {
            worker->summoned = false;
        }
    }
    request->signalled = false;
    call_others(worker);
}

AT_UNCHECKED void at_wsgi_wait(at_wsgi_worker *worker, at_wsgi_request *request)
{
    at_wsgi_rise(worker);
    PyThreadState *state = at_detach();
    at_wsgi_sit(worker);
    wait_for(worker, request);
    at_wsgi_rise(worker);
    at_attach(state);
    at_wsgi_sit(worker);
}

void at_wsgi_end(at_wsgi_worker *worker)
{
    at_wsgi_sit(worker);
    worker->ended = true;
    at_reactor_drain(worker->reactor);
    at_reactor_abort(worker->reactor);
    at_wsgi_sleeper *sleeper;
    while ((sleeper = pop(&worker->idle)) != NULL ||
           (sleeper = pop(&worker->waiting)) != NULL) {
        push(&worker->to_wake, sleeper);
    }
    at_reactor_post_drain(worker->reactor); /* wakes who leads */
    at_wsgi_rise(worker);
}

void at_wsgi_request_free(at_wsgi_worker *worker, at_wsgi_request *request)
{
    at_wsgi_running_remove(worker, request);
    request->exchange->user = NULL;
    at_exchange_unref(request->exchange);
    worker->running_count--;
    at_free(request);
}
