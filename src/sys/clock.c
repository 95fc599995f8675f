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

int64_t at_clock_wall_ns(void)
{
    return clock_read_ns(CLOCK_REALTIME);
}

void at_clock_civil(int64_t wall_ns, at_civil_time *civil)
{
    time_t seconds = (time_t)(wall_ns / NS_PER_SECOND);
    struct tm local = {0};
    (void)localtime_r(&seconds, &local);
    *civil = (at_civil_time){
        .year = local.tm_year + 1900,
        .month = local.tm_mon + 1,
        .day = local.tm_mday,
        .hour = local.tm_hour,
        .minute = local.tm_min,
        .second = local.tm_sec,
        .offset_s = (int)local.tm_gmtoff,
    };
}
