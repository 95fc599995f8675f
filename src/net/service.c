/* A service: listeners and the table of reactors; see service.h. */
#include "net/service.h"

#include <string.h>

#include "base/memory.h"
#include "net/balance.h"
#include "net/reactor.h"
#include "net/service_internal.h"
#include "net/static.h"
#include "net/tls.h"
#include "sys/pollset.h"
#include "sys/wakefd.h"

/* Every service that lives, so that an interpreter can find one by its number: a number
 * is never used again, and holds no memory that could have gone. */
static struct {
    pthread_mutex_t mutex;
    at_service *first; /* guarded: mutex */
    uint64_t count;    /* guarded: mutex */
} known_services = {.mutex = PTHREAD_MUTEX_INITIALIZER};

enum { PASS_TIMEOUT_MS = 1000 }; /* for room in the passage, when a process retires */

static const int64_t SECOND_NS = 1000000000;

void at_service_limits_init(at_service_limits *limits)
{
    *limits = (at_service_limits){
        .body_bytes = 0,
        .handshake_timeout_ns = 10 * SECOND_NS,
        .head_timeout_ns = 10 * SECOND_NS,
        .body_timeout_ns = 30 * SECOND_NS,
        .idle_timeout_ns = 60 * SECOND_NS,
        .write_timeout_ns = 30 * SECOND_NS,
        .farewell_timeout_ns = 1 * SECOND_NS,
        .linger_timeout_ns = 2 * SECOND_NS,
        .websocket =
            {
                .message_bytes = 16 << 20,
                .queue_count = 32,
                .ping_interval_ns = 20 * SECOND_NS,
                .ping_timeout_ns = 20 * SECOND_NS,
                .close_timeout_ns = 10 * SECOND_NS,
                .deflate = true,
            },
    };
    at_h1_limits_init(&limits->head);
    at_h2_limits_init(&limits->h2);
}

static void service_free(at_shared *thing)
{
    at_service *service = (at_service *)thing;
    (void)pthread_mutex_lock(&known_services.mutex);
    for (at_service **at = &known_services.first; *at != NULL; at = &(*at)->next) {
        if (*at == service) {
            *at = service->next;
            break;
        }
    }
    (void)pthread_mutex_unlock(&known_services.mutex);
    at_balancer_stop(atomic_load(&service->balancer));
    at_service_end_guard(service);
    if (atomic_load(&service->spent) >= 0) {
        at_wakefd_close(atomic_load(&service->spent));
    }
    for (int i = 0; i < service->listener_count; i++) {
        at_socket_close(service->listeners[i]);
    }
    if (service->passage_out >= 0) {
        at_socket_close(service->passage_out);
    }
    at_tls_context_unref(service->tls);
    at_static_mounts_free(service->mounts);
    at_boards_close(&service->boards);
    (void)pthread_mutex_destroy(&service->mutex);
    at_free(service);
}

static const at_shared_kind service_kind = {"service", service_free};

at_service *at_service_new(const at_service_limits *limits)
{
    at_service *service = at_calloc(1, sizeof *service);
    if (service == NULL || at_boards_open_alone(&service->boards) < 0) {
        at_free(service);
        return NULL;
    }
    service->board = at_boards_at(&service->boards, 0);
    atomic_store(&service->spent, -1);
    service->passage_out = -1;
    at_shared_init(&service->shared, &service_kind);
    service->limits = *limits;
    (void)pthread_mutex_init(&service->mutex, NULL);
    (void)pthread_mutex_lock(&known_services.mutex);
    service->number = ++known_services.count;
    service->next = known_services.first;
    known_services.first = service;
    (void)pthread_mutex_unlock(&known_services.mutex);
    return service;
}

int at_service_mount(at_service *service, const char *prefix, const char *folder,
                     at_fault *fault)
{
    return at_static_mount(&service->mounts, prefix, folder, fault);
}

const struct at_static_mounts *at_service_mounts(const at_service *service)
{
    return service->mounts;
}

at_service *at_service_ref(at_service *service)
{
    return (at_service *)at_shared_ref(&service->shared);
}

void at_service_unref(at_service *service)
{
    at_shared_unref(service != NULL ? &service->shared : NULL);
}

at_service *at_service_find(uint64_t number)
{
    at_service *found = NULL;
    (void)pthread_mutex_lock(&known_services.mutex);
    for (at_service *service = known_services.first; service != NULL;
         service = service->next) {
        /* One whose last reference is just going is in the list still: it must not be
         * raised from the dead. */
        size_t references = atomic_load(&service->shared.references);
        while (service->number == number && references != 0 && found == NULL) {
            if (atomic_compare_exchange_weak(&service->shared.references, &references,
                                             references + 1)) {
                found = service;
            }
        }
    }
    (void)pthread_mutex_unlock(&known_services.mutex);
    return found;
}

uint64_t at_service_number(const at_service *service)
{
    return service->number;
}

int at_service_listen(at_service *service, const char *host, int port, int backlog,
                      at_fault *fault)
{
    int room = AT_LISTENERS_MAX - service->listener_count;
    if (room == 0) {
        return at_fault_set(fault, AT_ELIMIT, "a service has at most %d sockets",
                            (int)AT_LISTENERS_MAX);
    }
    int *place = service->listeners + service->listener_count;
    int count = at_socket_listen(host, port, backlog, place, room, fault);
    if (count < 0) {
        return count;
    }
    service->listener_count += count;
    return 0;
}

/* Take what at_socket_… gave. */
static int add_listener(at_service *service, int descriptor, at_fault *fault)
{
    if (descriptor < 0) {
        return descriptor;
    }
    if (service->listener_count == AT_LISTENERS_MAX) {
        at_socket_close(descriptor);
        return at_fault_set(fault, AT_ELIMIT, "a service has at most %d sockets",
                            (int)AT_LISTENERS_MAX);
    }
    service->listeners[service->listener_count++] = descriptor;
    return 0;
}

int at_service_listen_unix(at_service *service, const char *path, int backlog,
                           at_fault *fault)
{
    return add_listener(service, at_socket_listen_unix(path, backlog, fault), fault);
}

int at_service_adopt(at_service *service, int descriptor, at_fault *fault)
{
    return add_listener(service, at_socket_adopt(descriptor, fault), fault);
}

void at_service_set_tls(at_service *service, at_tls_context *context)
{
    if (context != NULL) {
        (void)at_tls_context_ref(context);
    }
    (void)pthread_mutex_lock(&service->mutex);
    at_tls_context *before = service->tls;
    service->tls = context;
    (void)pthread_mutex_unlock(&service->mutex);
    at_tls_context_unref(before);
}

at_tls_context *at_service_tls(at_service *service)
{
    (void)pthread_mutex_lock(&service->mutex);
    at_tls_context *context =
        service->tls != NULL ? at_tls_context_ref(service->tls) : NULL;
    (void)pthread_mutex_unlock(&service->mutex);
    return context;
}

bool at_service_address(const at_service *service, int index, at_address *address)
{
    if (index < 0 || index >= service->listener_count ||
        at_service_is_passage(service, service->listeners[index])) {
        return false;
    }
    at_socket_name(service->listeners[index], address);
    return true;
}

const at_service_limits *at_service_get_limits(const at_service *service)
{
    return &service->limits;
}

int at_service_listeners(const at_service *service, int *descriptors)
{
    memcpy(descriptors, service->listeners,
           (size_t)service->listener_count * sizeof *descriptors);
    return service->listener_count;
}

/* Have a balancer, from now on, and have it see a change of the table. Without one, for
 * want of a thread, connections stay where they are. */
static void watch(at_service *service)
{
    at_balancer *balancer = atomic_load(&service->balancer);
    if (balancer == NULL) {
        at_balancer *fresh = at_balancer_new(service);
        if (fresh == NULL) {
            return;
        }
        if (atomic_compare_exchange_strong(&service->balancer, &balancer, fresh)) {
            balancer = fresh;
        } else {
            at_balancer_stop(fresh);
        }
    }
    at_balancer_wake(balancer);
}

int at_service_join(at_service *service, at_reactor *reactor)
{
    int result = AT_ELIMIT;
    int count = 0;
    (void)pthread_mutex_lock(&service->mutex);
    for (int i = 0; i < AT_REACTORS_MAX && result == AT_ELIMIT; i++) {
        if (service->reactors[i] == NULL) {
            service->reactors[i] = reactor;
            service->sights[i] = (at_sight){0};
            result = 0;
        }
    }
    if (result == 0 && service->draining) {
        at_reactor_post_drain(reactor);
    }
    for (int i = 0; i < AT_REACTORS_MAX; i++) {
        count += service->reactors[i] != NULL;
    }
    (void)pthread_mutex_unlock(&service->mutex);
    if (count > 1 || service->guard != NULL || at_service_has_passage(service)) {
        watch(service);
    }
    return result;
}

void at_service_leave(at_service *service, at_reactor *reactor)
{
    (void)pthread_mutex_lock(&service->mutex);
    for (int i = 0; i < AT_REACTORS_MAX; i++) {
        if (service->reactors[i] == reactor) {
            service->reactors[i] = NULL;
        }
    }
    (void)pthread_mutex_unlock(&service->mutex);
}

/* What a call on another reactor does happens under the service's mutex: it keeps the
 * reactor from leaving meanwhile. The reactor's own mutex is a leaf below it. */

static void drain(at_service *service, bool retiring)
{
    (void)pthread_mutex_lock(&service->mutex);
    service->draining = true;
    service->retiring = retiring && at_service_has_passage(service);
    for (int i = 0; i < AT_REACTORS_MAX; i++) {
        if (service->reactors[i] != NULL) {
            at_reactor_post_drain(service->reactors[i]);
        }
    }
    (void)pthread_mutex_unlock(&service->mutex);
}

void at_service_drain(at_service *service)
{
    drain(service, false);
}

void at_service_retire(at_service *service)
{
    drain(service, true);
}

bool at_service_drain_thread(at_service *service, int thread)
{
    (void)pthread_mutex_lock(&service->mutex);
    at_reactor *reactor = at_service_reactor_of(service, thread);
    if (reactor != NULL) {
        at_reactor_post_drain(reactor);
    }
    (void)pthread_mutex_unlock(&service->mutex);
    return reactor != NULL;
}

/* The reactor with fewest connections, `self` where it is one of them. Caller holds the
 * mutex. */
static at_reactor *least_loaded(at_service *service, at_reactor *self)
{
    at_reactor *best = self;
    uint64_t least = at_reactor_load(self);
    for (int i = 0; i < AT_REACTORS_MAX; i++) {
        at_reactor *reactor = service->reactors[i];
        if (reactor != NULL && at_reactor_load(reactor) < least &&
            !at_reactor_is_stuck(reactor)) {
            best = reactor;
            least = at_reactor_load(reactor);
        }
    }
    return best;
}

bool at_service_hand_over(at_service *service, at_reactor *self,
                          const at_newcomer *template)
{
    at_newcomer *newcomer = at_alloc(sizeof *newcomer);
    if (newcomer != NULL) {
        *newcomer = *template;
    }
    (void)pthread_mutex_lock(&service->mutex);
    at_reactor *best = newcomer != NULL ? least_loaded(service, self) : self;
    bool taken = best != self && at_reactor_post(best, newcomer) == 0;
    if (!taken) {
        at_reactor_reserve(self); /* under the mutex: the next accept sees it */
    }
    (void)pthread_mutex_unlock(&service->mutex);
    if (!taken) {
        at_free(newcomer);
    }
    return taken;
}

bool at_service_has_other(at_service *service, const at_reactor *self, bool plain)
{
    (void)pthread_mutex_lock(&service->mutex);
    bool found = service->retiring && plain;
    for (int i = 0; i < AT_REACTORS_MAX && !found && !service->draining; i++) {
        at_reactor *reactor = service->reactors[i];
        found = reactor != NULL && reactor != self && at_reactor_is_open(reactor);
    }
    (void)pthread_mutex_unlock(&service->mutex);
    return found;
}

/* Caller holds the mutex. One that has begun to drain since it was looked at refuses:
 * then to another. */
bool at_service_place_locked(at_service *service, at_reactor *self,
                             at_newcomer *newcomer)
{
    for (;;) {
        at_reactor *best = NULL;
        for (int i = 0; i < AT_REACTORS_MAX; i++) {
            at_reactor *reactor = service->reactors[i];
            if (reactor != NULL && reactor != self && at_reactor_is_open(reactor) &&
                (best == NULL || at_reactor_load(reactor) < at_reactor_load(best))) {
                best = reactor;
            }
        }
        if (best == NULL) {
            return false;
        }
        if (at_reactor_post(best, newcomer) == 0) {
            return true;
        }
    }
}

bool at_service_place(at_service *service, at_reactor *self, at_newcomer *newcomer)
{
    (void)pthread_mutex_lock(&service->mutex);
    bool placed =
        !service->draining && at_service_place_locked(service, self, newcomer);
    bool retiring = service->retiring;
    (void)pthread_mutex_unlock(&service->mutex);
    /* The others take what is in the passage when they have time, which is soon: they
     * are many, or idle. */
    return placed || (retiring && at_service_pass(service, newcomer, PASS_TIMEOUT_MS));
}
