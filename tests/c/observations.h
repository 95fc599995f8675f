/* How often a histogram of a tally was given a time. */
#ifndef AT_TESTS_OBSERVATIONS_H
#define AT_TESTS_OBSERVATIONS_H

#include "net/counters.h"

static inline uint64_t observations(const at_tally *tally, unsigned histogram)
{
    const uint64_t *buckets = at_tally_histogram(tally, histogram);
    uint64_t count = 0;
    for (unsigned i = 0; i < AT_BUCKETS; i++) {
        count += buckets[i];
    }
    return count;
}

#endif
