/* Readiness of many descriptors; see pollset.h. */
#include "sys/pollset.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "sys/clock.h"

int at_poll_open(at_fault *fault)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    return set < 0 ? at_fault_set_system(fault, errno, "opening an epoll set") : set;
}

static uint32_t to_system(unsigned interest)
{
    uint32_t flags = 0;
    flags |= interest & AT_POLL_READABLE ? EPOLLIN : 0;
    flags |= interest & AT_POLL_WRITABLE ? EPOLLOUT : 0;
    flags |= interest & AT_POLL_PEER_SHUT ? EPOLLRDHUP : 0;
    flags |= interest & AT_POLL_EDGE ? EPOLLET : 0;
    flags |= interest & AT_POLL_EXCLUSIVE ? EPOLLEXCLUSIVE : 0;
    return flags;
}

static unsigned from_system(uint32_t flags)
{
    unsigned ready = 0;
    ready |= flags & EPOLLIN ? AT_POLL_READABLE : 0;
    ready |= flags & EPOLLOUT ? AT_POLL_WRITABLE : 0;
    ready |= flags & EPOLLRDHUP ? AT_POLL_PEER_SHUT : 0;
    ready |= flags & (EPOLLHUP | EPOLLERR) ? AT_POLL_HANGUP : 0;
    return ready;
}

int at_poll_add(int set, int descriptor, unsigned interest, void *user)
{
    struct epoll_event event = {.events = to_system(interest), .data.ptr = user};
    if (epoll_ctl(set, EPOLL_CTL_ADD, descriptor, &event) < 0) {
        return at_error_from_errno(errno);
    }
    return 0;
}

void at_poll_remove(int set, int descriptor)
{
    (void)epoll_ctl(set, EPOLL_CTL_DEL, descriptor, NULL);
}

int at_poll_wait(int set, at_poll_event *events, int timeout_ms)
{
    struct epoll_event raw[AT_POLL_BATCH];
    int count = epoll_wait(set, raw, AT_POLL_BATCH, timeout_ms);
    if (count < 0) {
        return at_error_from_errno(errno);
    }
    for (int i = 0; i < count; i++) {
        events[i].ready = from_system(raw[i].events);
        events[i].user = raw[i].data.ptr;
    }
    return count;
}

void at_poll_await(int set)
{
    struct pollfd watched = {.fd = set, .events = POLLIN};
    (void)poll(&watched, 1, -1);
}

bool at_poll_any(const int *descriptors, int count, int timeout_ms)
{
    struct pollfd watched[AT_POLL_ANY_MAX];
    count = count < AT_POLL_ANY_MAX ? count : AT_POLL_ANY_MAX;
    for (int i = 0; i < count; i++) {
        watched[i] = (struct pollfd){.fd = descriptors[i], .events = POLLIN};
    }
    return poll(watched, (nfds_t)count, timeout_ms) > 0;
}

void at_poll_close(int set)
{
    (void)close(set);
}

int at_timerfd_open(at_fault *fault)
{
    int descriptor = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return descriptor < 0 ? at_fault_set_system(fault, errno, "opening a timerfd")
                          : descriptor;
}

void at_timerfd_set(int descriptor, int64_t deadline_ns)
{
    struct itimerspec moment = {0};
    if (deadline_ns != AT_NEVER) {
        /* A moment of zero would switch the timer off. */
        int64_t when = deadline_ns > 0 ? deadline_ns : 1;
        moment.it_value.tv_sec = when / 1000000000;
        moment.it_value.tv_nsec = when % 1000000000;
    }
    (void)timerfd_settime(descriptor, TFD_TIMER_ABSTIME, &moment, NULL);
}
