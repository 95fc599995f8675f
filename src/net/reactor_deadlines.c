/* Deadlines: a first-in-first-out list for each kind, and one timer; see reactor.h. */
#include "net/connection.h"
#include "net/reactor_internal.h"
#include "sys/clock.h"
#include "sys/pollset.h"

int64_t at_reactor_now_ns(const at_reactor *reactor)
{
    return reactor->in_batch ? reactor->now_ns : at_clock_ns();
}

void at_reactor_arm(at_reactor *reactor, int64_t deadline_ns)
{
    if (deadline_ns < reactor->armed_ns) {
        reactor->armed_ns = deadline_ns;
        at_timerfd_set(reactor->timer, deadline_ns);
    }
}

void at_reactor_forget_deadline(at_connection *connection)
{
    if (connection->deadline_kind == AT_DEADLINE_NONE) {
        return;
    }
    at_deadlines *list = &connection->reactor->deadlines[connection->deadline_kind];
    at_connection *before = connection->deadline_before;
    at_connection *after = connection->deadline_after;
    *(before != NULL ? &before->deadline_after : &list->first) = after;
    *(after != NULL ? &after->deadline_before : &list->last) = before;
    connection->deadline_kind = AT_DEADLINE_NONE;
}

void at_reactor_set_deadline(at_connection *connection, at_deadline_kind kind)
{
    at_reactor_forget_deadline(connection);
    at_reactor *reactor = connection->reactor;
    if (kind == AT_DEADLINE_NONE || reactor->deadlines[kind].length_ns == 0) {
        return;
    }
    at_deadlines *list = &reactor->deadlines[kind];
    connection->deadline_kind = kind;
    connection->deadline_ns = at_reactor_now_ns(reactor) + list->length_ns;
    connection->deadline_before = list->last;
    connection->deadline_after = NULL;
    *(list->last != NULL ? &list->last->deadline_after : &list->first) = connection;
    list->last = connection;
    at_reactor_arm(reactor, connection->deadline_ns);
}

void at_reactor_expire(at_reactor *reactor)
{
    reactor->armed_ns = AT_NEVER;
    at_timerfd_set(reactor->timer, AT_NEVER);
    if (reactor->listen_again_ns <= reactor->now_ns) {
        reactor->listen_again_ns = AT_NEVER;
        at_reactor_listen_start(reactor);
    }
    int64_t earliest = reactor->listen_again_ns;
    for (int kind = 0; kind < AT_DEADLINE_KINDS; kind++) {
        at_deadlines *list = &reactor->deadlines[kind];
        while (list->first != NULL && list->first->deadline_ns <= reactor->now_ns) {
            at_connection *connection = list->first;
            at_reactor_forget_deadline(connection);
            if (at_reactor_hold(connection)) {
                at_connection_expired(connection, (at_deadline_kind)kind);
                at_connection_lend(connection);
            }
        }
    }
    for (int kind = 0; kind < AT_DEADLINE_KINDS; kind++) {
        at_connection *first = reactor->deadlines[kind].first;
        if (first != NULL && first->deadline_ns < earliest) {
            earliest = first->deadline_ns;
        }
    }
    at_reactor_arm(reactor, earliest);
}
