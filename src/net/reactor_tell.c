/* What a reactor tells of itself; see reactor.h and board.h. */
#include "net/control.h"
#include "net/reactor_internal.h"
#include "sys/clock.h"

static const int64_t TELL_NS = 1000000000;

void at_reactor_tell_spent(at_reactor *reactor)
{
    /* Of the owner, who counts and then looks at `most`, and of another, who sets
     * `most` and then looks at the count, one sees the other. */
    atomic_thread_fence(memory_order_seq_cst);
    unsigned long long most = atomic_load(&reactor->most);
    if (most != 0 &&
        atomic_load(&reactor->counters->words[AT_COUNT_REQUESTS]) -
                reactor->before.words[AT_COUNT_REQUESTS] >=
            most &&
        atomic_compare_exchange_strong(&reactor->most, &most, 0)) {
        at_service_tell_spent(reactor->service);
    }
}

void at_reactor_set_most(at_reactor *reactor, uint64_t requests)
{
    atomic_store(&reactor->most, requests);
    at_reactor_tell_spent(reactor);
}

int at_reactor_thread(const at_reactor *reactor)
{
    return reactor->thread;
}

int64_t at_reactor_stuck_ns(const at_reactor *reactor)
{
    return at_record_stuck_ns(reactor->record, at_clock_ns());
}

void at_reactor_stats_get(const at_reactor *reactor, at_reactor_stats *stats)
{
    stats->thread = reactor->thread;
    stats->worker = (int)atomic_load(&reactor->record->number) - 1;
    stats->interpreter_id =
        atomic_load_explicit(&reactor->record->interpreter, memory_order_relaxed);
    stats->connections = at_reactor_load(reactor);
    stats->running =
        atomic_load_explicit(&reactor->record->running, memory_order_relaxed);
    stats->tally = (at_tally){0};
    at_counters_read(reactor->counters, &stats->tally);
    for (unsigned i = 0; i < AT_COUNT_WORDS; i++) {
        stats->tally.words[i] -= reactor->before.words[i];
    }
}

at_counters *at_reactor_counters(at_reactor *reactor)
{
    return reactor->counters;
}

/* Once a second at most: who reads it in another process cannot look for himself. */
static void tell(at_reactor *reactor)
{
    int64_t now_ns = at_clock_ns();
    if (now_ns - atomic_load_explicit(&reactor->told_ns, memory_order_relaxed) <
        TELL_NS) {
        return;
    }
    atomic_store_explicit(&reactor->told_ns, now_ns, memory_order_relaxed);
    at_reactor_tell_heap(reactor);
    at_service_tell(reactor->service);
}

void at_reactor_tell_heap(at_reactor *reactor)
{
    const at_control_sources *sources = at_service_sources(reactor->service);
    int64_t id =
        atomic_load_explicit(&reactor->record->interpreter, memory_order_relaxed);
    if (sources->memory != NULL && id >= 0) {
        atomic_store_explicit(&reactor->record->heap_bytes, sources->memory(id),
                              memory_order_relaxed);
    }
}

void at_reactor_count_gil_wait(at_reactor *reactor, int64_t waited_ns)
{
    at_count_time(reactor->counters, AT_HISTOGRAM_GIL, waited_ns);
    tell(reactor);
}

void at_reactor_set_worker(at_reactor *reactor, int worker, int64_t interpreter_id)
{
    atomic_store(&reactor->record->number, (unsigned)worker + 1);
    atomic_store_explicit(&reactor->record->interpreter, interpreter_id,
                          memory_order_relaxed);
}
