/* Time; see clock.h. */
#include "sys/clock.h"

#include <time.h>

enum { NS_PER_SECOND = 1000000000 };

static int64_t clock_read_ns(clockid_t clock)
{
    struct timespec now = {0};
    (void)clock_gettime(clock, &now); /* cannot fail for the clocks named below */
    return (int64_t)now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

int64_t at_clock_ns(void)
{
    return clock_read_ns(CLOCK_MONOTONIC);
}

int64_t at_clock_deadline(int64_t timeout_ns)
{
    int64_t now_ns = at_clock_ns();
    if (timeout_ns <= 0) {
        return now_ns;
    }
    return timeout_ns < AT_NEVER - now_ns ? now_ns + timeout_ns : AT_NEVER;
}

int64_t at_clock_thread_cpu_ns(void)
{
    return clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
}
