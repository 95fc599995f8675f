/* Before the application; see front.h. */
#include "net/front.h"

#include "net/control.h"
#include "net/reactor_internal.h"
#include "sys/clock.h"

static const int64_t SECOND_NS = 1000000000;

/* Answered here or by nobody: the layer above never hears of it. */
static void refuse(at_exchange *exchange, unsigned count, int64_t retry_after_ns,
                   const char *text)
{
    at_count(exchange->connection->reactor->counters, count, 1);
    exchange->admitted = true;
    at_control_refuse(exchange, retry_after_ns, text);
}

bool at_exchange_admit(at_exchange *exchange)
{
    at_connection *connection = exchange->connection;
    if (connection == NULL || exchange->admitted) {
        return true; /* whoever answers finds out */
    }
    exchange->admitted = true;
    at_reactor *reactor = connection->reactor;
    int64_t now_ns = reactor->hooks->queues ? at_clock_ns() : exchange->begun_ns;
    int64_t waited_ns = now_ns - exchange->arrived_ns;
    at_count_time(reactor->counters, AT_HISTOGRAM_QUEUE, waited_ns);
    int64_t most_ns = at_reactor_limits(reactor)->queue_delay_ns;
    bool refuses = at_delay_refuses(&reactor->delay, waited_ns, most_ns, now_ns);
    if (refuses !=
        atomic_load_explicit(&reactor->record->refusing, memory_order_relaxed)) {
        atomic_store_explicit(&reactor->record->refusing, refuses,
                              memory_order_relaxed);
    }
    if (refuses) {
        refuse(exchange, AT_COUNT_OVERLOAD, most_ns, "the server is overloaded");
        return false;
    }
    return true;
}

bool at_front_pass(at_exchange *exchange, const at_h1_request *request)
{
    at_connection *connection = exchange->connection;
    at_reactor *reactor = connection->reactor;
    at_service *service = reactor->service;
    bool of_control = connection->of_control || !at_service_has_control(service);
    if (of_control && at_control_answer(service, exchange, request)) {
        return false;
    }
    if (connection->surplus) {
        connection->keep_alive = false;
        at_control_refuse(exchange, SECOND_NS, "too many connections");
        return false;
    }
    if (reactor->is_guard && !connection->of_control) {
        refuse(exchange, AT_COUNT_OVERLOAD, at_reactor_limits(reactor)->queue_delay_ns,
               "the server is overloaded");
        return false;
    }
    unsigned most = at_reactor_limits(reactor)->running_count;
    if (!reactor->is_guard && most != 0 &&
        atomic_load_explicit(&reactor->record->running, memory_order_relaxed) > most) {
        refuse(exchange, AT_COUNT_CROWDED, SECOND_NS, "too many requests at a time");
        return false;
    }
    return reactor->hooks->queues || at_exchange_admit(exchange);
}
