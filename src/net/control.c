/* The server's own paths, and the guard's thread; see control.h. */
#include "net/control.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "net/connection.h"
#include "net/service_internal.h"
#include "sys/thread.h"

/* ---- answers --------------------------------------------------------------------- */

static void answer(at_exchange *exchange, int status, const char *type, at_span body)
{
    at_h1_header headers[] = {{{"content-type", 12}, {type, strlen(type)}},
                              {{"cache-control", 13}, {"no-store", 8}}};
    at_exchange_answer(exchange, status, headers, 2, body);
}

static void answer_text(at_exchange *exchange, int status, const char *text)
{
    answer(exchange, status, "text/plain; charset=utf-8",
           (at_span){text, strlen(text)});
}

void at_control_refuse(at_exchange *exchange, int64_t retry_after_ns, const char *text)
{
    char seconds[24];
    int64_t after_s = (retry_after_ns + 999999999) / 1000000000;
    int size = snprintf(seconds, sizeof seconds, "%lld",
                        (long long)(after_s < 1    ? 1
                                    : after_s > 60 ? 60
                                                   : after_s));
    at_h1_header headers[] = {{{"content-type", 12}, {"text/plain; charset=utf-8", 25}},
                              {{"retry-after", 11}, {seconds, (size_t)size}}};
    at_exchange_answer(exchange, 503, headers, 2, (at_span){text, strlen(text)});
}

static void answer_metrics(at_service *service, at_exchange *exchange)
{
    at_bytes text;
    at_bytes_init(&text);
    if (at_metrics_write(service, &text) < 0) {
        answer_text(exchange, 503, "out of memory\n");
    } else {
        answer(exchange, 200, "text/plain; version=0.0.4; charset=utf-8",
               (at_span){text.data, text.size});
    }
    at_bytes_fini(&text);
}

static bool is_path(at_span path, const char *ours)
{
    size_t size = strlen(ours);
    return size != 0 && path.size == size && memcmp(path.data, ours, size) == 0;
}

bool at_control_answer(at_service *service, at_exchange *exchange,
                       const at_h1_request *request)
{
    const at_control_paths *paths = at_service_control_paths(service);
    if (paths == NULL || exchange->websocket != NULL ||
        (!exchange->head_request && !at_h1_equal(request->method, "get"))) {
        return false;
    }
    if (is_path(request->path, paths->health)) {
        answer_text(exchange, 200, "ok\n");
    } else if (is_path(request->path, paths->ready)) {
        const char *why = "ok\n";
        bool ready = at_control_is_ready(service, &why);
        answer_text(exchange, ready ? 200 : 503, why);
    } else if (is_path(request->path, paths->metrics)) {
        answer_metrics(service, exchange);
    } else {
        return false;
    }
    return true;
}

/* ---- the guard's hooks ----------------------------------------------------------- */

struct at_guard {
    at_service *service; /* borrowed; see at_guard_new */
    at_reactor *reactor; /* fixed after init; the thread's */
    at_thread thread;
    atomic_bool stopping;
};

static void on_request(void *context, at_exchange *exchange,
                       const at_h1_request *request)
{
    answer_text(exchange, 404, "not found\n");
}

static void on_exchange(void *context, at_exchange *exchange)
{
}

static void on_forget(void *context, void *connection_user)
{
}

static void on_drain(void *context)
{
}

static const at_hooks guard_hooks = {
    .request = on_request,
    .body = on_exchange,
    .writable = on_exchange,
    .lost = on_exchange,
    .forget = on_forget,
    .drain = on_drain,
    .drained = on_drain,
};

static void body(void *argument)
{
    at_guard *guard = argument;
    while (!atomic_load(&guard->stopping)) {
        at_reactor_run(guard->reactor, -1);
    }
}

int at_guard_new(at_guard **out, at_service *service, const int *listeners, int count,
                 at_fault *fault)
{
    at_guard *guard = at_calloc(1, sizeof *guard);
    if (guard == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory for the control thread");
    }
    guard->service = service;
    int result = at_reactor_open_guard(&guard->reactor, service, &guard_hooks, guard,
                                       listeners, count, fault);
    if (result < 0) {
        at_free(guard);
        return result;
    }
    result = at_thread_start(&guard->thread, "atoll-control", body, guard, fault);
    if (result < 0) {
        at_reactor_close(guard->reactor);
        at_free(guard);
        return result;
    }
    *out = guard;
    return 0;
}

void at_guard_stop(at_guard *guard)
{
    if (guard == NULL) {
        return;
    }
    atomic_store(&guard->stopping, true);
    at_reactor_post_drain(guard->reactor); /* wakes it */
    at_thread_join(&guard->thread);
    at_reactor_close(guard->reactor);
    at_free(guard);
}

at_reactor *at_guard_reactor(at_guard *guard)
{
    return guard->reactor;
}
