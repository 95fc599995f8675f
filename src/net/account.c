/* Counts and times of requests; see account.h. */
#include "net/account.h"

#include "net/access_log.h"
#include "net/counters.h"
#include "net/reactor_internal.h"
#include "sys/clock.h"

/* In the access log, for who went before there was a status; as nginx has it. */
enum { STATUS_LOST = 499 };

void at_account_begin(at_exchange *exchange, const at_h1_request *request)
{
    at_reactor *reactor = exchange->connection->reactor;
    at_count(reactor->counters, AT_COUNT_REQUESTS, 1);
    if (atomic_load_explicit(&reactor->most, memory_order_relaxed) != 0) {
        at_reactor_tell_spent(reactor);
    }
    unsigned running =
        atomic_load_explicit(&reactor->record->running, memory_order_relaxed);
    atomic_store_explicit(&reactor->record->running, running + 1, memory_order_relaxed);
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
    if (reactor->ring != NULL && !connection->of_control) {
        exchange->entry = at_access_entry_new(reactor->ring, exchange, request);
        if (exchange->entry == NULL) {
            at_count(reactor->counters, AT_COUNT_UNLOGGED, 1);
        }
    }
}

void at_account_response(at_exchange *exchange, const at_h1_header *headers,
                         size_t header_count)
{
    at_connection *connection = exchange->connection;
    if (exchange->entry != NULL && connection != NULL &&
        at_access_wants_response(connection->reactor->ring)) {
        at_access_entry_headers(connection->reactor->ring, exchange->entry, headers,
                                header_count);
    }
}

/* Takes the entry. */
static void put(at_reactor *reactor, at_access_entry *entry, int status,
                uint64_t sent_bytes, int64_t now_ns)
{
    bool went = at_access_put(reactor->ring, entry, status, sent_bytes, now_ns);
    at_count(reactor->counters, went ? AT_COUNT_LOGGED : AT_COUNT_UNLOGGED, 1);
}

void at_account_end(at_exchange *exchange)
{
    at_connection *connection = exchange->connection;
    if (connection == NULL || exchange->begun_ns == 0) {
        return;
    }
    at_reactor *reactor = connection->reactor;
    at_counters *counters = reactor->counters;
    unsigned running =
        atomic_load_explicit(&reactor->record->running, memory_order_relaxed);
    atomic_store_explicit(&reactor->record->running, running - 1, memory_order_relaxed);
    int64_t now_ns = at_clock_ns();
    int64_t time_ns = now_ns - exchange->begun_ns;
    exchange->begun_ns = 0;
    at_access_entry *entry = exchange->entry;
    if (entry != NULL) {
        exchange->entry = NULL;
        put(reactor, entry, exchange->status != 0 ? exchange->status : STATUS_LOST,
            exchange->sent_bytes, now_ns);
    }
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
    at_reactor *reactor = connection->reactor;
    at_count_status(reactor->counters, status);
    if (reactor->ring == NULL || connection->of_control) {
        return;
    }
    int64_t now_ns = at_clock_ns();
    at_access_entry *entry = at_access_entry_new_bare(&connection->peer, now_ns);
    if (entry != NULL) {
        put(reactor, entry, status, 0, now_ns);
    } else {
        at_count(reactor->counters, AT_COUNT_UNLOGGED, 1);
    }
}
