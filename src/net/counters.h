/* Counters of one reactor, or of a sum of them: raw words, so that any thread can read
 * them, and nothing waits for anything.
 *
 * One thread writes a block (the reactor's owner), with a relaxed load and store: no
 * locked instruction. Readers see each word whole, but not all of the same moment. A
 * block holds no pointer and may lie in memory that processes share.
 *
 * Histograms are fixed buckets over nanoseconds, each word the count of its own bucket;
 * what is read out of them (metrics.c, bind/) adds up.
 */
#ifndef AT_NET_COUNTERS_H
#define AT_NET_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

/* Plain counts. X(NAME, key, help): `key` in Server.stats(); in metrics it is
 * atoll_KEY_total. */
#define AT_COUNTS(X)                                                                   \
    X(ACCEPTED, "accepted", "Connections that came to the worker.")                    \
    X(REFUSED, "refused", "Connections over --max-connections.")                       \
    X(REQUESTS, "requests", "Requests whose head was read.")                           \
    X(LOST, "lost", "Requests whose client went before the answer's end.")             \
    X(OVERLOAD, "overload", "Requests answered 503 by --max-queue-delay.")             \
    X(CROWDED, "crowded", "Requests answered 503 by --limit-concurrency.")             \
    X(RECEIVED, "received_bytes", "Bytes from clients, without TLS.")                  \
    X(SENT, "sent_bytes", "Bytes to clients, without TLS.")                            \
    X(LOGGED, "logged", "Lines given to the access log.")                              \
    X(UNLOGGED, "unlogged", "Lines of the access log dropped: the disk was slow.")

/* Distributions over time. X(NAME, key, help): in metrics, atoll_KEY_seconds. */
#define AT_HISTOGRAMS(X)                                                               \
    X(LATENCY, "latency", "From a request's head to the end of its answer.")           \
    X(QUEUE, "queue_delay", "From a request's arrival to the application.")            \
    X(LAG, "loop_lag", "From readiness of a worker's sockets to its event loop.")      \
    X(GIL, "gil_wait", "Waiting for the worker's GIL (the event loop's: sampled).")

enum {
    AT_CLASSES = 5,             /* 1xx to 5xx */
    AT_BUCKETS = 15,            /* the last is for everything above */
    AT_BUCKET_SUM = AT_BUCKETS, /* the word of the sum, in ns */
    AT_HISTOGRAM_WORDS,
};

enum {
#define AT_COUNT_NAME(name, key, help) AT_COUNT_##name,
    AT_COUNTS(AT_COUNT_NAME)
#undef AT_COUNT_NAME
        AT_COUNT_PLAIN,
    AT_COUNT_CLASS = AT_COUNT_PLAIN, /* responses of 1xx, and those that follow */
    AT_COUNT_HISTOGRAMS = AT_COUNT_CLASS + AT_CLASSES,
};

enum {
#define AT_HISTOGRAM_NAME(name, key, help) AT_HISTOGRAM_##name,
    AT_HISTOGRAMS(AT_HISTOGRAM_NAME)
#undef AT_HISTOGRAM_NAME
        AT_HISTOGRAM_COUNT,
};

enum { AT_COUNT_WORDS = AT_COUNT_HISTOGRAMS + AT_HISTOGRAM_COUNT * AT_HISTOGRAM_WORDS };

typedef struct at_counters {
    atomic_ullong words[AT_COUNT_WORDS];
} at_counters;

/* What was read of some: numbers. */
typedef struct at_tally {
    uint64_t words[AT_COUNT_WORDS];
} at_tally;

/* Upper bounds of all buckets but the last. */
extern const int64_t at_bucket_bounds_ns[AT_BUCKETS - 1];

/* Add to a count. ctx: the writer's thread */
static inline void at_count(at_counters *counters, unsigned which, uint64_t amount)
{
    unsigned long long before =
        atomic_load_explicit(&counters->words[which], memory_order_relaxed);
    atomic_store_explicit(&counters->words[which], before + amount,
                          memory_order_relaxed);
}

/* A response of that status. ctx: the writer's thread */
void at_count_status(at_counters *counters, int status);

/* One observation; a negative one counts as 0. ctx: the writer's thread */
void at_count_time(at_counters *counters, unsigned histogram, int64_t time_ns);

/* Add what `counters` say to `tally`. ctx: any */
void at_counters_read(const at_counters *counters, at_tally *tally);

/* The words of a histogram in a tally: its buckets, then the sum in ns. */
static inline const uint64_t *at_tally_histogram(const at_tally *tally,
                                                 unsigned histogram)
{
    return tally->words + AT_COUNT_HISTOGRAMS + histogram * AT_HISTOGRAM_WORDS;
}

#endif
