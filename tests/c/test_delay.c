/* Counters, and what a request's wait leads to. */
#include <string.h>

#include "check.h"
#include "net/counters.h"
#include "net/delay.h"
#include "observations.h"

static const int64_t MS = 1000000;

static void histogram(void)
{
    static at_counters counters;
    at_count_time(&counters, AT_HISTOGRAM_LATENCY, -5);
    at_count_time(&counters, AT_HISTOGRAM_LATENCY, MS / 2);
    at_count_time(&counters, AT_HISTOGRAM_LATENCY, MS / 2 + 1);
    at_count_time(&counters, AT_HISTOGRAM_LATENCY, 3600000 * MS);
    at_count_time(&counters, AT_HISTOGRAM_QUEUE, MS);
    at_count(&counters, AT_COUNT_REQUESTS, 7);
    at_count_status(&counters, 99);
    at_count_status(&counters, 200);
    at_count_status(&counters, 599);
    at_count_status(&counters, 600);
    at_tally tally = {0};
    at_counters_read(&counters, &tally);
    at_counters_read(&counters, &tally);
    const uint64_t *latency = at_tally_histogram(&tally, AT_HISTOGRAM_LATENCY);
    CHECK(latency[0] == 4 && latency[1] == 2 && latency[AT_BUCKETS - 1] == 2);
    CHECK(observations(&tally, AT_HISTOGRAM_LATENCY) == 8);
    CHECK(latency[AT_BUCKET_SUM] == 2 * (uint64_t)(MS + 1 + 3600000 * MS));
    CHECK(observations(&tally, AT_HISTOGRAM_QUEUE) == 2);
    CHECK(tally.words[AT_COUNT_REQUESTS] == 14);
    uint64_t responses = 0;
    for (int i = 0; i < AT_CLASSES; i++) {
        responses += tally.words[AT_COUNT_CLASS + i];
    }
    CHECK(responses == 4);
    for (int i = 1; i < AT_BUCKETS - 1; i++) {
        CHECK(at_bucket_bounds_ns[i - 1] < at_bucket_bounds_ns[i]);
    }
}

/* Without a socket that knows, what somebody saw counts, within the gap. */
static void waiting(void)
{
    at_delay delay = {0};
    bool first;
    at_delay_batch(&delay, 1000 * MS, 0);
    CHECK(at_delay_of(&delay, -1, 1000 * MS + 3, &first) == 3 && first);
    CHECK(at_delay_of(&delay, -1, 1000 * MS + 9, &first) == 9 && !first);
    at_delay_batch(&delay, 1500 * MS, 1100 * MS);
    CHECK(at_delay_of(&delay, -1, 1501 * MS, &first) == 401 * MS && first);
    at_delay_batch(&delay, 1600 * MS, 1100 * MS); /* seen before the last poll */
    CHECK(at_delay_of(&delay, -1, 1600 * MS, &first) == 100 * MS);
    at_delay_batch(&delay, 1700 * MS, 0);
    CHECK(at_delay_of(&delay, -1, 1700 * MS, &first) == 0);
}

/* A burst passes; a queue that stays is refused until it has gone. */
static void overload(void)
{
    at_delay delay = {0};
    int64_t most = 50 * MS;
    int64_t now = 5000 * MS;
    const int64_t interval = AT_DELAY_INTERVAL_MS * MS;
    CHECK(!at_delay_refuses(&delay, 3600000 * MS, 0, now));
    CHECK(!at_delay_refuses(&delay, most + 1, most, now));
    CHECK(!at_delay_refuses(&delay, most + 1, most, now + interval - 1));
    CHECK(!at_delay_refuses(&delay, most, most, now + interval)); /* it has gone down */
    CHECK(!at_delay_refuses(&delay, most + 1, most, now + interval));
    CHECK(at_delay_refuses(&delay, most + 1, most, now + 2 * interval));
    CHECK(at_delay_refuses(&delay, 9 * most, most, now + 2 * interval));
    CHECK(!at_delay_refuses(&delay, 0, most, now + 2 * interval));
    CHECK(!at_delay_refuses(&delay, most + 1, most, now + 2 * interval));
}

int main(void)
{
    RUN(histogram);
    RUN(waiting);
    RUN(overload);
    return 0;
}
