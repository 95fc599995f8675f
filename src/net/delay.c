/* Waiting requests; see delay.h. */
#include "net/delay.h"

#include "sys/stream.h"

static const int64_t MS = 1000000;

void at_delay_batch(at_delay *delay, int64_t now_ns, int64_t seen_ns)
{
    delay->gap_ns = delay->polled_ns != 0 ? now_ns - delay->polled_ns : 0;
    delay->polled_ns = now_ns;
    delay->seen_ns = seen_ns;
    delay->lag_ns = -1;
}

/* Before the batch: by the kernel, or by who saw it. */
static int64_t ask(const at_delay *delay, int descriptor, int64_t now_ns)
{
    int64_t age_ns = at_socket_age_ns(descriptor);
    int64_t in_batch_ns = now_ns - delay->polled_ns;
    int64_t before_ns = age_ns >= 0           ? age_ns - in_batch_ns
                        : delay->seen_ns != 0 ? delay->polled_ns - delay->seen_ns
                                              : 0;
    return before_ns < 0 ? 0 : before_ns > delay->gap_ns ? delay->gap_ns : before_ns;
}

int64_t at_delay_of_newcomer(const at_delay *delay, int descriptor, int64_t now_ns)
{
    int64_t age_ns = at_socket_age_ns(descriptor);
    int64_t in_batch_ns = now_ns - delay->polled_ns;
    return age_ns > in_batch_ns ? age_ns : in_batch_ns;
}

int64_t at_delay_of(at_delay *delay, int descriptor, int64_t now_ns, bool *is_first)
{
    *is_first = delay->lag_ns < 0;
    int64_t lag_ns = delay->lag_ns;
    if (*is_first) {
        lag_ns = delay->gap_ns < MS ? 0 : ask(delay, descriptor, now_ns);
        delay->lag_ns = lag_ns;
    } else if (lag_ns >= 10 * MS) {
        lag_ns = ask(delay, descriptor, now_ns);
    }
    return lag_ns + now_ns - delay->polled_ns;
}

bool at_delay_refuses(at_delay *delay, int64_t waited_ns, int64_t most_ns,
                      int64_t now_ns)
{
    if (most_ns == 0 || waited_ns <= most_ns) {
        delay->above_ns = 0;
        return false;
    }
    if (delay->above_ns == 0) {
        delay->above_ns = now_ns;
    }
    return now_ns - delay->above_ns >= (int64_t)AT_DELAY_INTERVAL_MS * MS;
}
