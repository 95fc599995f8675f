/* What a service tells of its workers; see service.h. */
#include <string.h>

#include "net/service_internal.h"
#include "sys/wakefd.h"

/* A worker's place among the past; reactors of no known worker share the first. */
static int place_of(const at_reactor_stats *stats)
{
    return stats->worker >= 0 && stats->worker <= AT_WORKER_GUARD ? stats->worker : 0;
}

void at_service_add_past(at_service *service, at_reactor *reactor)
{
    at_reactor_stats stats;
    at_reactor_stats_get(reactor, &stats);
    int place = place_of(&stats);
    at_counters *counters = at_reactor_counters(reactor);
    at_counters_merge(&service->past[place], counters);
    memset(counters, 0, sizeof *counters);
    service->known[place] = true;
}

void at_service_keep_counts(at_service *service, at_reactor *reactor)
{
    (void)pthread_mutex_lock(&service->mutex);
    at_service_add_past(service, reactor);
    (void)pthread_mutex_unlock(&service->mutex);
}

bool at_service_stats(at_service *service, int index, at_reactor_stats *stats)
{
    *stats = (at_reactor_stats){0};
    if (index < 0 || index >= AT_REACTORS_MAX) {
        return false;
    }
    (void)pthread_mutex_lock(&service->mutex);
    if (service->reactors[index] != NULL) {
        at_reactor_stats_get(service->reactors[index], stats);
    }
    (void)pthread_mutex_unlock(&service->mutex);
    return true;
}

bool at_service_worker(at_service *service, int worker, at_worker_stats *stats)
{
    *stats = (at_worker_stats){.worker = worker, .interpreter_id = -1};
    if (worker < 0 || worker > AT_WORKER_GUARD) {
        return false;
    }
    (void)pthread_mutex_lock(&service->mutex);
    bool known = service->known[worker];
    at_counters_read(&service->past[worker], &stats->tally);
    for (int i = 0; i <= AT_REACTORS_MAX; i++) {
        at_reactor *reactor = i < AT_REACTORS_MAX ? service->reactors[i]
                              : service->guard != NULL
                                  ? at_guard_reactor(service->guard)
                                  : NULL;
        if (reactor == NULL) {
            continue;
        }
        at_reactor_stats one = {0};
        at_reactor_stats_get(reactor, &one);
        if (place_of(&one) != worker) {
            continue;
        }
        known = true;
        stats->reactors++;
        stats->connections += one.connections;
        stats->running += one.running;
        bool open = at_reactor_is_open(reactor);
        if (open || stats->thread == 0) {
            /* Of two that overlap at a reload, the new one speaks. */
            stats->thread = one.thread;
            stats->interpreter_id = one.interpreter_id;
            stats->open = open;
            stats->stuck_ns = at_reactor_stuck_ns(reactor);
        }
        for (unsigned word = 0; word < AT_COUNT_WORDS; word++) {
            stats->tally.words[word] += one.tally.words[word];
        }
    }
    (void)pthread_mutex_unlock(&service->mutex);
    return known;
}

void at_service_count_restart(at_service *service, at_restart why)
{
    (void)pthread_mutex_lock(&service->mutex);
    service->restarts[why]++;
    (void)pthread_mutex_unlock(&service->mutex);
}

void at_service_restarts(at_service *service, uint64_t counts[AT_RESTARTS])
{
    (void)pthread_mutex_lock(&service->mutex);
    memcpy(counts, service->restarts, sizeof service->restarts);
    (void)pthread_mutex_unlock(&service->mutex);
}

/* ---- workers that have had their requests ------------------------------------------
 */

void at_service_set_most(at_service *service, int thread, uint64_t requests)
{
    (void)pthread_mutex_lock(&service->mutex);
    for (int i = 0; i < AT_REACTORS_MAX; i++) {
        at_reactor *reactor = service->reactors[i];
        if (reactor != NULL && at_reactor_thread(reactor) == thread) {
            at_reactor_set_most(reactor, requests);
        }
    }
    (void)pthread_mutex_unlock(&service->mutex);
}

int at_service_spent(at_service *service)
{
    int descriptor = atomic_load(&service->spent);
    if (descriptor < 0) {
        int fresh = at_wakefd_open(NULL);
        if (fresh >= 0 &&
            !atomic_compare_exchange_strong(&service->spent, &descriptor, fresh)) {
            at_wakefd_close(fresh);
        }
        descriptor = atomic_load(&service->spent);
    }
    return descriptor;
}

void at_service_tell_spent(at_service *service)
{
    int descriptor = atomic_load(&service->spent);
    if (descriptor >= 0) {
        at_wakefd_set(descriptor);
    }
}
