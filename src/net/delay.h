/* How long a request has waited before anybody looked at it, and when that is too long.
 *
 * An event loop that is busy does not see what comes meanwhile, so the time of arrival
 * has to be found afterwards. What a poll gives was not there at the poll before; where
 * that was less than a millisecond ago there is nothing to find. Otherwise the kernel
 * knows: a TCP socket tells how long ago its last bytes came. The first event of a
 * batch was ready first, so one question answers for the batch, unless the answer is
 * long; then each request is asked about. For other sockets the balancer's observation
 * counts.
 *
 * Overload is told as CoDel does (RFC 8289): a queue that goes above the target and
 * empties again is a burst and does good; one that stays above it for a whole interval
 * only makes everyone wait. Then requests that have waited longer than the target are
 * refused, until one comes that has not.
 *
 * No locks: on the reactor's thread.
 */
#ifndef AT_NET_DELAY_H
#define AT_NET_DELAY_H

#include <stdbool.h>
#include <stdint.h>

enum { AT_DELAY_INTERVAL_MS = 100 };

typedef struct at_delay {
    int64_t polled_ns; /* when the present batch was */
    int64_t gap_ns;    /* between it and the one before */
    int64_t seen_ns;   /* since when somebody else saw it waiting; 0: nobody did */
    int64_t lag_ns;    /* of this batch; negative: not known yet */
    int64_t above_ns;  /* since when requests have waited too long; 0: they have not */
} at_delay;

/* A batch begins. */
void at_delay_batch(at_delay *delay, int64_t now_ns, int64_t seen_ns);

/* How long the first request has waited that was read from `descriptor` since it is in
 * the set: polls before that did not see it. */
int64_t at_delay_of_newcomer(const at_delay *delay, int descriptor, int64_t now_ns);

/* How long the request that was just read from `descriptor` has waited. `*is_first`:
 * the answer is the batch's lag, and was not known before. */
int64_t at_delay_of(at_delay *delay, int descriptor, int64_t now_ns, bool *is_first);

/* One that waited so long comes to its turn: refuse it? `most_ns`: the target, 0: none.
 */
bool at_delay_refuses(at_delay *delay, int64_t waited_ns, int64_t most_ns,
                      int64_t now_ns);

#endif
