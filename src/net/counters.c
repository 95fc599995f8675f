/* Counters; see counters.h. */
#include "net/counters.h"

static const int64_t MS = 1000000;

const int64_t at_bucket_bounds_ns[AT_BUCKETS - 1] = {
    MS / 2,   MS,       MS * 5 / 2, 5 * MS,    10 * MS,   25 * MS,   50 * MS,
    100 * MS, 250 * MS, 500 * MS,   1000 * MS, 2500 * MS, 5000 * MS, 10000 * MS,
};

void at_count_status(at_counters *counters, int status)
{
    if (status >= 100 && status < 100 * (AT_CLASSES + 1)) {
        at_count(counters, AT_COUNT_CLASS + (unsigned)(status / 100 - 1), 1);
    }
}

void at_count_time(at_counters *counters, unsigned histogram, int64_t time_ns)
{
    unsigned first = AT_COUNT_HISTOGRAMS + histogram * AT_HISTOGRAM_WORDS;
    unsigned bucket = 0;
    while (bucket < AT_BUCKETS - 1 && time_ns > at_bucket_bounds_ns[bucket]) {
        bucket++;
    }
    at_count(counters, first + bucket, 1);
    at_count(counters, first + AT_BUCKET_SUM, time_ns > 0 ? (uint64_t)time_ns : 0);
}

void at_counters_read(const at_counters *counters, at_tally *tally)
{
    for (unsigned i = 0; i < AT_COUNT_WORDS; i++) {
        tally->words[i] +=
            atomic_load_explicit(&counters->words[i], memory_order_relaxed);
    }
}
