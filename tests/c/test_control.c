/* The server's own paths, its metrics, and the guard's thread. */
#include "net/control.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "client.h"
#include "net/reactor.h"

static void nothing(void *context, at_exchange *exchange)
{
}

static void on_request(void *context, at_exchange *exchange, const at_h1_request *head)
{
    const char *why;
    ++*(int *)context;
    (void)at_exchange_respond(exchange, 200, NULL, 0, (at_span){"app", 3}, false, &why);
}

static void no_forget(void *context, void *connection_user)
{
}

static void no_drain(void *context)
{
}

static const at_hooks hooks = {
    .request = on_request,
    .body = nothing,
    .writable = nothing,
    .lost = nothing,
    .forget = no_forget,
    .drain = no_drain,
    .drained = no_drain,
};

static int64_t memory(int64_t interpreter_id)
{
    return interpreter_id == 5 ? 1234567 : -1;
}

static void images(uint64_t *loaded, uint64_t *unmapped, uint64_t *copied,
                   uint64_t *shared)
{
    *loaded = 11;
    *unmapped = 2;
    *copied = 3000;
    *shared = 4000;
}

static at_service *service_new(void)
{
    static const at_control_paths paths = {"/metrics", "/health", "/ready"};
    static const at_control_sources sources = {memory, images};
    at_service_limits limits;
    at_service_limits_init(&limits);
    at_service *service = at_service_new(&limits);
    if (service != NULL) {
        at_service_set_control(service, &paths, &sources);
        at_service_expect(service, 1);
    }
    return service;
}

/* Ask for `path` on a connection of its own; the answer is terminated. */
static void ask(int port, const char *path, char *answer, size_t room)
{
    int client = dial_port(port);
    char request[128];
    int size =
        snprintf(request, sizeof request,
                 "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
    CHECK(send(client, request, (size_t)size, 0) == size);
    size_t got = 0;
    ssize_t more;
    while ((more = recv(client, answer + got, room - 1 - got, 0)) > 0) {
        got += (size_t)more;
    }
    answer[got] = '\0';
    (void)close(client);
}

static char answer[64 << 10];

/* Its listener is answered with no reactor of a worker at all, and by nobody's thread
 * here. */
static void guard(void)
{
    at_service *service = service_new();
    CHECK(service != NULL);
    CHECK(at_service_listen(service, "127.0.0.1", 0, 16, NULL) == 0);
    CHECK(at_service_listen_control(service, "127.0.0.1", 0, NULL) == 0);
    at_address address;
    CHECK(at_service_control_address(service, 0, &address));
    CHECK(!at_service_control_address(service, 1, &address) && address.port > 0);
    CHECK(at_service_start_guard(service, NULL) == 0);
    ask(address.port, "/health", answer, sizeof answer);
    CHECK(strncmp(answer, "HTTP/1.1 200 ", 13) == 0);
    ask(address.port, "/ready", answer, sizeof answer);
    CHECK(strncmp(answer, "HTTP/1.1 503 ", 13) == 0);
    CHECK(strstr(answer, "workers are starting") != NULL);
    ask(address.port, "/nothing", answer, sizeof answer);
    CHECK(strncmp(answer, "HTTP/1.1 404 ", 13) == 0);
    int count = 0;
    at_reactor *reactor;
    CHECK(at_reactor_open(&reactor, service, &hooks, &count, 0, -1, NULL) == 0);
    ask(address.port, "/ready", answer, sizeof answer);
    CHECK(strncmp(answer, "HTTP/1.1 200 ", 13) == 0);
    ask(address.port, "/metrics", answer, sizeof answer);
    CHECK(strstr(answer, "\natoll_requests_total{worker=\"control\"} 5\n") != NULL);
    at_service_drain(service);
    ask(address.port, "/ready", answer, sizeof answer);
    CHECK(strstr(answer, "stopping") != NULL);
    CHECK(count == 0);
    at_reactor_close(reactor);
    at_service_unref(service);
}

static void metrics(void)
{
    at_service *service = service_new();
    CHECK(service != NULL);
    int count = 0;
    at_reactor *reactor;
    CHECK(at_reactor_open(&reactor, service, &hooks, &count, 0, -1, NULL) == 0);
    at_reactor_set_worker(reactor, 7, 5);
    at_reactor_count_gil_wait(reactor, 3000000);
    at_service_count_restart(service, AT_RESTART_STUCK);
    at_bytes text;
    at_bytes_init(&text);
    CHECK(at_metrics_write(service, &text) == 0);
    CHECK(at_bytes_append(&text, "", 1) == 0);
    static const char *const lines[] = {
        "\natoll_ready 1\n",
        "\natoll_worker_up{worker=\"7\"} 1\n",
        "\natoll_worker_memory_bytes{worker=\"7\"} 1234567\n",
        "\natoll_gil_wait_seconds_bucket{worker=\"7\",le=\"0.0025\"} 0\n",
        "\natoll_gil_wait_seconds_bucket{worker=\"7\",le=\"0.005\"} 1\n",
        "\natoll_gil_wait_seconds_sum{worker=\"7\"} 0.003000000\n",
        "\natoll_restarts_total{reason=\"stuck\"} 1\n",
        "\natoll_images_loaded_total 11\n",
        "\natoll_images_copied_bytes_total 3000\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        CHECK(strstr(text.data, lines[i]) != NULL);
    }
    at_bytes_fini(&text);
    at_reactor_close(reactor);
    at_service_unref(service);
}

static int metrics_without_memory(void)
{
    at_service *service = service_new();
    if (service == NULL) {
        return AT_ENOMEM;
    }
    int count = 0;
    at_reactor *reactor = NULL;
    at_bytes text;
    at_bytes_init(&text);
    int result = at_reactor_open(&reactor, service, &hooks, &count, 0, -1, NULL);
    if (result == 0) {
        result = at_metrics_write(service, &text);
    }
    at_bytes_fini(&text);
    at_reactor_close(reactor);
    at_service_unref(service);
    return result;
}

static int guard_without_memory(void)
{
    at_service *service = service_new();
    if (service == NULL) {
        return AT_ENOMEM;
    }
    int result = at_service_listen_control(service, "127.0.0.1", 0, NULL);
    if (result == 0) {
        result = at_service_start_guard(service, NULL);
    }
    at_service_unref(service);
    return result;
}

int main(void)
{
    RUN(guard);
    RUN(metrics);
    RUN_FAILING(metrics_without_memory);
    RUN_FAILING(guard_without_memory);
    return 0;
}
