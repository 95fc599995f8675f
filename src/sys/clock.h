/* Time: nanoseconds of the monotonic clock, and deadlines on it.
 *
 * A wait takes a deadline, not a timeout: a wait that is woken early and goes on
 * waiting needs no arithmetic and never adds up its delays.
 */
#ifndef AT_SYS_CLOCK_H
#define AT_SYS_CLOCK_H

#include <stdint.h>

/* A deadline that never comes. */
#define AT_NEVER INT64_MAX

/* Nanoseconds since an arbitrary moment; never goes back.
 * ctx: any */
int64_t at_clock_ns(void);

/* The deadline `timeout_ns` from now, AT_NEVER where that is past the end of time. A
 * timeout that is not positive gives a moment that has come.
 * ctx: any */
int64_t at_clock_deadline(int64_t timeout_ns);

/* Nanoseconds since 1970, UTC; may jump.
 * ctx: any */
int64_t at_clock_wall_ns(void);

/* A moment of that clock in local time, to the second. */
typedef struct at_civil_time {
    int year, month, day, hour, minute, second; /* month from 1 */
    int offset_s;                               /* east of UTC */
} at_civil_time;

/* ctx: any; takes the C library's lock of the time zone */
void at_clock_civil(int64_t wall_ns, at_civil_time *civil);

#endif
