/* Counts and times of requests; see account.h. */
#include "net/account.h"

#include "net/counters.h"
#include "net/reactor_internal.h"
#include "sys/clock.h"

void at_account_begin(at_exchange *exchange, const at_h1_request *request)
{
    at_reactor *reactor = exchange->connection->reactor;
    at_count(reactor->counters, AT_COUNT_REQUESTS, 1);
    unsigned running = atomic_load_explicit(&reactor->running, memory_order_relaxed);
    atomic_store_explicit(&reactor->running, running + 1, memory_order_relaxed);
    exchange->begun_ns = at_clock_ns();
    at_connection *connection = exchange->connection;
    bool is_first = false;
    int64_t waited_ns =
        connection->is_new
            ? at_delay_of_newcomer(&reactor->delay, connection->descriptor,
                                   exchange->begun_ns)
            : at_delay_of(&reactor->delay, connection->descriptor, exchange->begun_ns,
                          &is_first);
    connection->is_new = false;
    if (is_first) {
        at_count_time(reactor->counters, AT_HISTOGRAM_LAG, reactor->delay.lag_ns);
    }
    exchange->arrived_ns = exchange->begun_ns - waited_ns;
}

void at_account_end(at_exchange *exchange)
{
    at_connection *connection = exchange->connection;
    if (connection == NULL || exchange->begun_ns == 0) {
        return;
    }
    at_reactor *reactor = connection->reactor;
    at_counters *counters = reactor->counters;
    unsigned running = atomic_load_explicit(&reactor->running, memory_order_relaxed);
    atomic_store_explicit(&reactor->running, running - 1, memory_order_relaxed);
    int64_t time_ns = at_clock_ns() - exchange->begun_ns;
    exchange->begun_ns = 0;
    at_count_status(counters, exchange->status);
    if (exchange->websocket != NULL && exchange->started) {
        return; /* its life is not a latency */
    }
    if (exchange->complete) {
        at_count_time(counters, AT_HISTOGRAM_LATENCY, time_ns);
    } else {
        at_count(counters, AT_COUNT_LOST, 1);
    }
}

void at_account_refused(at_connection *connection, int status)
{
    at_count_status(connection->reactor->counters, status);
}
