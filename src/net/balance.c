/* The balancer's thread; see balance.h. */
#include "net/balance.h"

#include <stdatomic.h>

#include "base/memory.h"
#include "net/reactor.h"
#include "sys/pollset.h"
#include "sys/thread.h"
#include "sys/wakefd.h"

enum {
    SPARE_MAX = 128, /* connections that one look may move */
};

struct at_balancer {
    at_service *service; /* borrowed; see at_balancer_new */
    int wake;
    int alerts; /* a set: `wake`, and the sets of reactors that are busy */
    atomic_bool stopping;
    atomic_bool asleep; /* seq_cst, as the look after it is set: who begins a batch then
                         * sees it set, or is seen */
    at_thread thread;
    at_newcomer *spare[SPARE_MAX]; /* memory for moves, since none is allocated under
                                    * the service's mutex */
    int spare_count;
    int look_ms; /* between two looks, while there is work */
};

static void refill(at_balancer *balancer)
{
    while (balancer->spare_count < SPARE_MAX) {
        at_newcomer *newcomer = at_alloc(sizeof *newcomer);
        if (newcomer == NULL) {
            return;
        }
        balancer->spare[balancer->spare_count++] = newcomer;
    }
}

static bool look(at_balancer *balancer)
{
    refill(balancer);
    return at_service_balance(balancer->service, balancer->spare,
                              &balancer->spare_count, balancer->alerts,
                              &balancer->look_ms);
}

/* Until a set is ready, or somebody wakes us. */
static void sleep_until_work(at_balancer *balancer)
{
    int descriptors[AT_REACTORS_MAX + 1];
    int count = at_service_sets(balancer->service, descriptors);
    descriptors[count++] = balancer->wake;
    atomic_store(&balancer->asleep, true);
    if (!look(balancer) && !atomic_load(&balancer->stopping)) {
        (void)at_poll_any(descriptors, count, -1);
    }
    atomic_store(&balancer->asleep, false);
}

static void body(void *argument)
{
    at_balancer *balancer = argument;
    bool active = true;
    at_thread_hurry();
    while (!atomic_load(&balancer->stopping)) {
        if (!active) {
            sleep_until_work(balancer);
        }
        at_wakefd_clear(balancer->wake);
        if (!atomic_load(&balancer->stopping)) {
            at_poll_event events[AT_POLL_BATCH];
            (void)at_poll_wait(balancer->alerts, events, balancer->look_ms);
            active = look(balancer);
        }
    }
}

static void balancer_free(at_balancer *balancer)
{
    if (balancer->alerts >= 0) {
        at_poll_close(balancer->alerts);
    }
    if (balancer->wake >= 0) {
        at_wakefd_close(balancer->wake);
    }
    while (balancer->spare_count > 0) {
        at_free(balancer->spare[--balancer->spare_count]);
    }
    at_free(balancer);
}

at_balancer *at_balancer_new(at_service *service)
{
    at_balancer *balancer = at_calloc(1, sizeof *balancer);
    if (balancer == NULL) {
        return NULL;
    }
    balancer->service = service;
    balancer->wake = at_wakefd_open(NULL);
    balancer->alerts = at_poll_open(NULL);
    if (balancer->wake < 0 || balancer->alerts < 0 ||
        at_poll_add(balancer->alerts, balancer->wake, AT_POLL_READABLE, NULL) < 0 ||
        at_thread_start(&balancer->thread, "atoll-balance", body, balancer, NULL) < 0) {
        balancer_free(balancer);
        return NULL;
    }
    return balancer;
}

void at_balancer_stop(at_balancer *balancer)
{
    if (balancer == NULL) {
        return;
    }
    atomic_store(&balancer->stopping, true);
    at_wakefd_set(balancer->wake);
    at_thread_join(&balancer->thread);
    balancer_free(balancer);
}

void at_balancer_wake(at_balancer *balancer)
{
    at_wakefd_set(balancer->wake);
}

void at_balancer_nudge(at_balancer *balancer)
{
    if (atomic_load(&balancer->asleep)) {
        at_wakefd_set(balancer->wake);
    }
}
