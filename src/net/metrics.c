/* Metrics as text; see control.h.
 *
 * https://github.com/prometheus/docs/blob/main/docs/instrumenting/exposition_formats.md
 * A family is written as a whole, all workers in it: the format wants its lines
 * together.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "net/access_log.h"
#include "net/control.h"
#include "net/service_internal.h"

/* Of all workers; the guard's is the last. */
typedef struct survey {
    int count;
    at_worker_stats workers[AT_REACTORS_MAX + 1];
} survey;

__attribute__((format(printf, 2, 3))) static int say(at_bytes *out, const char *format,
                                                     ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    size_t kept = size < 0                      ? 0
                  : (size_t)size >= sizeof line ? sizeof line - 1
                                                : (size_t)size;
    return at_bytes_append(out, line, kept);
}

static int head(at_bytes *out, const char *name, const char *kind, const char *help)
{
    return say(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

/* The label's value. */
static const char *label(const at_worker_stats *stats, char text[16])
{
    if (stats->worker == AT_WORKER_GUARD) {
        return "control";
    }
    (void)snprintf(text, 16, "%d", stats->worker);
    return text;
}

static int write_count(at_bytes *out, const survey *all, unsigned which,
                       const char *key, const char *help)
{
    char name[64], text[16];
    (void)snprintf(name, sizeof name, "atoll_%s_total", key);
    int result = head(out, name, "counter", help);
    for (int i = 0; i < all->count && result == 0; i++) {
        const at_worker_stats *stats = &all->workers[i];
        result = say(out, "%s{worker=\"%s\"} %" PRIu64 "\n", name, label(stats, text),
                     stats->tally.words[which]);
    }
    return result;
}

static int write_responses(at_bytes *out, const survey *all)
{
    char text[16];
    int result = head(out, "atoll_responses_total", "counter",
                      "Responses by the class of their status.");
    for (int i = 0; i < all->count; i++) {
        const at_worker_stats *stats = &all->workers[i];
        for (int kind = 0; kind < AT_CLASSES && result == 0; kind++) {
            result =
                say(out,
                    "atoll_responses_total{worker=\"%s\",class=\"%dxx\"} %" PRIu64 "\n",
                    label(stats, text), kind + 1,
                    stats->tally.words[AT_COUNT_CLASS + kind]);
        }
    }
    return result;
}

static int write_buckets(at_bytes *out, const char *name, const char *worker,
                         const uint64_t *histogram)
{
    uint64_t below = 0;
    int result = 0;
    for (int i = 0; i < AT_BUCKETS - 1 && result == 0; i++) {
        below += histogram[i];
        result = say(out, "%s_bucket{worker=\"%s\",le=\"%g\"} %" PRIu64 "\n", name,
                     worker, (double)at_bucket_bounds_ns[i] / 1e9, below);
    }
    below += histogram[AT_BUCKETS - 1];
    return result < 0
               ? result
               : say(out,
                     "%s_bucket{worker=\"%s\",le=\"+Inf\"} %" PRIu64 "\n"
                     "%s_sum{worker=\"%s\"} %.9f\n"
                     "%s_count{worker=\"%s\"} %" PRIu64 "\n",
                     name, worker, below, name, worker,
                     (double)histogram[AT_BUCKET_SUM] / 1e9, name, worker, below);
}

static int write_histogram(at_bytes *out, const survey *all, unsigned which,
                           const char *key, const char *help)
{
    char name[64], text[16];
    (void)snprintf(name, sizeof name, "atoll_%s_seconds", key);
    int result = head(out, name, "histogram", help);
    for (int i = 0; i < all->count && result == 0; i++) {
        const at_worker_stats *stats = &all->workers[i];
        result = write_buckets(out, name, label(stats, text),
                               at_tally_histogram(&stats->tally, which));
    }
    return result;
}

static int write_counts(at_bytes *out, const survey *all)
{
#define AT_WRITE_COUNT(name, key, help)                                                \
    if (write_count(out, all, AT_COUNT_##name, key, help) < 0) {                       \
        return AT_ENOMEM;                                                              \
    }
    AT_COUNTS(AT_WRITE_COUNT)
#undef AT_WRITE_COUNT
#define AT_WRITE_HISTOGRAM(name, key, help)                                            \
    if (write_histogram(out, all, AT_HISTOGRAM_##name, key, help) < 0) {               \
        return AT_ENOMEM;                                                              \
    }
    AT_HISTOGRAMS(AT_WRITE_HISTOGRAM)
#undef AT_WRITE_HISTOGRAM
    return write_responses(out, all);
}

/* ---- what is, and not what was -----------------------------------------------------
 */

typedef struct gauge {
    const char *name, *help;
    double (*read)(const at_worker_stats *stats, const at_control_sources *sources);
} gauge;

static double read_up(const at_worker_stats *stats, const at_control_sources *sources)
{
    return stats->open ? 1 : 0;
}

static double read_connections(const at_worker_stats *stats,
                               const at_control_sources *sources)
{
    return (double)stats->connections;
}

static double read_running(const at_worker_stats *stats,
                           const at_control_sources *sources)
{
    return (double)stats->running;
}

static double read_stuck(const at_worker_stats *stats,
                         const at_control_sources *sources)
{
    return (double)stats->stuck_ns / 1e9;
}

static double read_memory(const at_worker_stats *stats,
                          const at_control_sources *sources)
{
    return sources->memory != NULL && stats->interpreter_id >= 0
               ? (double)sources->memory(stats->interpreter_id)
               : -1;
}

static const gauge GAUGES[] = {
    {"atoll_worker_up", "1 while the worker takes connections.", read_up},
    {"atoll_connections", "Connections that are open.", read_connections},
    {"atoll_running_requests", "Requests and WebSockets that run.", read_running},
    {"atoll_worker_stuck_seconds",
     "For how long something has waited for the worker, or it is busy with one thing.",
     read_stuck},
    {"atoll_worker_memory_bytes",
     "Python objects of the worker's interpreter: arenas and large blocks.",
     read_memory},
};

static int write_gauges(at_bytes *out, const survey *all,
                        const at_control_sources *sources)
{
    char text[16];
    int result = 0;
    for (size_t i = 0; i < sizeof GAUGES / sizeof *GAUGES && result == 0; i++) {
        result = head(out, GAUGES[i].name, "gauge", GAUGES[i].help);
        for (int worker = 0; worker < all->count && result == 0; worker++) {
            const at_worker_stats *stats = &all->workers[worker];
            double value = GAUGES[i].read(stats, sources);
            if (value >= 0) { /* otherwise it is not known */
                result = say(out, "%s{worker=\"%s\"} %.17g\n", GAUGES[i].name,
                             label(stats, text), value);
            }
        }
    }
    return result;
}

static int write_restarts(at_bytes *out, at_service *service)
{
    static const char *const REASONS[AT_RESTARTS] = {"reload", "spent", "stuck",
                                                     "died"};
    uint64_t counts[AT_RESTARTS];
    at_service_restarts(service, counts);
    int result = head(out, "atoll_restarts_total", "counter",
                      "Workers that were replaced, by reason.");
    for (int i = 0; i < AT_RESTARTS && result == 0; i++) {
        result = say(out, "atoll_restarts_total{reason=\"%s\"} %" PRIu64 "\n",
                     REASONS[i], counts[i]);
    }
    return result;
}

static int write_one(at_bytes *out, const char *name, const char *kind,
                     const char *help, uint64_t value)
{
    int result = head(out, name, kind, help);
    return result == 0 ? say(out, "%s %" PRIu64 "\n", name, value) : result;
}

static int write_images(at_bytes *out, const at_control_sources *sources)
{
    uint64_t loaded = 0, unmapped = 0, copied = 0, shared = 0;
    if (sources->images == NULL) {
        return 0;
    }
    sources->images(&loaded, &unmapped, &copied, &shared);
    return write_one(out, "atoll_images_loaded_total", "counter",
                     "Private images of extensions that were loaded.", loaded) < 0 ||
                   write_one(out, "atoll_images_unmapped_total", "counter",
                             "Private images that were unmapped again.",
                             unmapped) < 0 ||
                   write_one(out, "atoll_images_copied_bytes_total", "counter",
                             "Bytes written to private copies.", copied) < 0 ||
                   write_one(out, "atoll_images_shared_bytes_total", "counter",
                             "Bytes mapped from the original files.", shared) < 0
               ? AT_ENOMEM
               : 0;
}

int at_metrics_write(at_service *service, at_bytes *out)
{
    survey *all = at_calloc(1, sizeof *all);
    if (all == NULL) {
        return AT_ENOMEM;
    }
    for (int i = 0; i < AT_REACTORS_MAX; i++) {
        if (at_service_worker(service, i, &all->workers[all->count])) {
            all->count++;
        }
    }
    if (at_service_worker(service, AT_WORKER_GUARD, &all->workers[all->count])) {
        all->count++;
    }
    const at_control_sources *sources = at_service_sources(service);
    const char *why = "";
    int result = write_one(out, "atoll_ready", "gauge", "1 while requests are welcome.",
                           at_control_is_ready(service, &why) ? 1 : 0);
    if (result == 0) {
        result = write_gauges(out, all, sources);
    }
    if (result == 0) {
        result = write_counts(out, all);
    }
    if (result == 0) {
        result = write_restarts(out, service);
    }
    if (result == 0) {
        result = write_images(out, sources);
    }
    if (result == 0 && at_service_access_log(service) != NULL) {
        result = write_one(out, "atoll_access_log_failed_total", "counter",
                           "Lines of the access log that the system did not write.",
                           at_access_log_failed(at_service_access_log(service)));
    }
    at_free(all);
    return result;
}
