/* A service's guard, and whether the service is full, ready or swamped; see control.h.
 */
#include <string.h>

#include "net/access_log.h"
#include "net/service_internal.h"
#include "sys/clock.h"

static const int64_t STUCK_NS = 1000000000; /* without another target */

/* ---- what is set before the first reactor ---------------------------------------- */

void at_service_set_control(at_service *service, const at_control_paths *paths,
                            const at_control_sources *sources)
{
    service->paths = *paths;
    service->sources = *sources;
}

void at_service_set_h2(at_service *service, const at_h2_limits *limits)
{
    service->limits.h2 = *limits;
}

void at_service_set_overload(at_service *service, int64_t queue_delay_ns,
                             unsigned running_count, uint64_t connection_count,
                             uint64_t here_count)
{
    service->limits.queue_delay_ns = queue_delay_ns;
    service->limits.running_count = running_count;
    service->limits.connection_count = connection_count;
    service->limits.here_count = here_count;
}

int at_service_log_access(at_service *service, const char *path, at_span format,
                          at_fault *fault)
{
    return at_access_log_new(&service->access_log, path, format, fault);
}

at_access_log *at_service_access_log(const at_service *service)
{
    return service->access_log;
}

const at_control_paths *at_service_control_paths(const at_service *service)
{
    return &service->paths;
}

const at_control_sources *at_service_sources(const at_service *service)
{
    return &service->sources;
}

void at_service_expect(at_service *service, int workers)
{
    (void)pthread_mutex_lock(&service->mutex);
    service->expected = workers;
    (void)pthread_mutex_unlock(&service->mutex);
}

int at_service_listen_control(at_service *service, const char *host, int port,
                              at_fault *fault)
{
    int *place = service->control + service->control_count;
    int room = AT_LISTENERS_MAX - service->control_count;
    int count = at_socket_listen(host, port, 128, place, room, fault);
    if (count < 0) {
        return count;
    }
    service->control_count += count;
    return 0;
}

int at_service_listen_control_unix(at_service *service, const char *path,
                                   at_fault *fault)
{
    int descriptor = at_socket_listen_unix(path, 128, fault);
    if (descriptor < 0) {
        return descriptor;
    }
    service->control[service->control_count++] = descriptor;
    return 0;
}

int at_service_start_guard(at_service *service, at_fault *fault)
{
    return at_guard_new(&service->guard, service, service->control,
                        service->control_count, fault);
}

void at_service_end_guard(at_service *service)
{
    for (int i = 0; service->guard == NULL && i < service->control_count; i++) {
        at_socket_close(service->control[i]);
    }
    at_guard *guard = service->guard;
    service->guard = NULL; /* what it still counts is nobody's */
    at_guard_stop(guard);
    at_access_log_free(service->access_log);
}

bool at_service_control_address(const at_service *service, int index,
                                at_address *address)
{
    if (index < 0 || index >= service->control_count) {
        return false;
    }
    at_socket_name(service->control[index], address);
    return true;
}

bool at_service_has_control(const at_service *service)
{
    return service->control_count != 0;
}

/* ---- how it is ------------------------------------------------------------------- */

static at_fullness fullness(uint64_t count, uint64_t most)
{
    return most == 0 || count < most       ? AT_HAS_ROOM
           : count < most + most / 16 + 16 ? AT_FULL
                                           : AT_OVERFULL;
}

static uint64_t connections_here(at_service *service)
{
    uint64_t count = 0;
    (void)pthread_mutex_lock(&service->mutex);
    for (int i = 0; i < AT_REACTORS_MAX; i++) {
        if (service->reactors[i] != NULL) {
            count += at_reactor_load(service->reactors[i]);
        }
    }
    (void)pthread_mutex_unlock(&service->mutex);
    return count;
}

at_fullness at_service_fullness(at_service *service)
{
    uint64_t most = service->limits.connection_count;
    uint64_t most_here = service->limits.here_count;
    at_fullness all = AT_HAS_ROOM, here = AT_HAS_ROOM;
    if (most != 0) {
        all = fullness(at_boards_load(&service->boards), most);
    }
    if (most_here != 0) {
        here = fullness(connections_here(service), most_here);
    }
    return all > here ? all : here;
}

bool at_service_is_swamped(const at_service *service)
{
    return atomic_load_explicit(&service->swamped, memory_order_relaxed);
}

/* Have as many workers come as there shall be, in every process? Once is enough. */
static bool all_came(at_service *service, int expected, int *open, int *able)
{
    const at_boards *boards = &service->boards;
    int64_t most_ns = service->limits.queue_delay_ns;
    bool now = true;
    for (int i = 0; i < at_boards_process_count(boards); i++) {
        at_process_stats stats;
        at_boards_process(boards, i, most_ns != 0 ? most_ns : STUCK_NS, &stats);
        *open += stats.open;
        *able += stats.able;
        now = now && stats.open >= expected;
    }
    if (now) {
        at_boards_say_all_came(boards);
    }
    return now || at_boards_all_came(boards);
}

bool at_control_is_ready(at_service *service, const char **why)
{
    int open = 0, able = 0;
    (void)pthread_mutex_lock(&service->mutex);
    bool draining = service->draining;
    int expected = at_boards_are_shared(&service->boards)
                       ? at_boards_worker_count(&service->boards)
                       : service->expected;
    (void)pthread_mutex_unlock(&service->mutex);
    bool came = all_came(service, expected, &open, &able);
    *why = draining    ? "stopping\n"
           : !came     ? "workers are starting\n"
           : open == 0 ? "no worker serves\n"
           : able == 0 ? "requests wait too long\n"
                       : "ok\n";
    return !draining && came && able != 0;
}

/* ---- the balancer's part --------------------------------------------------------- */

static void give(at_service *service, at_newcomer *list)
{
    at_reactor *guard = at_guard_reactor(service->guard);
    while (list != NULL) {
        at_newcomer *newcomer = list;
        list = newcomer->next;
        if (at_reactor_post(guard, newcomer) < 0) {
            at_newcomer_close(newcomer);
        }
    }
}

/* Nobody else accepts now. */
static void accept_for_guard(at_service *service, at_newcomer **spare, int *spare_count)
{
    for (int i = 0; i < service->listener_count; i++) {
        while (*spare_count > 0) {
            at_newcomer *newcomer = spare[*spare_count - 1];
            *newcomer = (at_newcomer){0};
            newcomer->descriptor =
                at_socket_accept(service->listeners[i], &newcomer->peer);
            if (newcomer->descriptor < 0) {
                break;
            }
            --*spare_count;
            give(service, newcomer);
        }
    }
}

void at_service_relieve(at_service *service, at_reactor **late, int late_count,
                        int open_count, at_newcomer **spare, int *spare_count)
{
    bool swamped =
        service->guard != NULL && late_count != 0 && late_count == open_count;
    atomic_store_explicit(&service->swamped, swamped, memory_order_relaxed);
    for (int i = 0; swamped && i < late_count; i++) {
        give(service, at_reactor_take_from(late[i], spare, spare_count));
        at_reactor_poke(late[i]); /* so that it shows until it gets on */
    }
    if (swamped) {
        accept_for_guard(service, spare, spare_count);
    }
}
