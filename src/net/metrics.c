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
#include "net/control.h"
#include "net/service_internal.h"
#include "sys/process.h"

/* One worker, and what tells it from the others. */
typedef struct subject {
    at_worker_stats stats;
    char labels[64]; /* worker="0", and process="0" where there are several */
} subject;

/* Of all workers; the guard's is the last of its process. */
typedef struct survey {
    int count, room;
    subject *subjects;
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

static int write_count(at_bytes *out, const survey *all, unsigned which,
                       const char *key, const char *help)
{
    char name[64];
    (void)snprintf(name, sizeof name, "atoll_%s_total", key);
    int result = head(out, name, "counter", help);
    for (int i = 0; i < all->count && result == 0; i++) {
        const subject *one = &all->subjects[i];
        result = say(out, "%s{%s} %" PRIu64 "\n", name, one->labels,
                     one->stats.tally.words[which]);
    }
    return result;
}

static int write_responses(at_bytes *out, const survey *all)
{
    int result = head(out, "atoll_responses_total", "counter",
                      "Responses by the class of their status.");
    for (int i = 0; i < all->count; i++) {
        const subject *one = &all->subjects[i];
        for (int kind = 0; kind < AT_CLASSES && result == 0; kind++) {
            result = say(out, "atoll_responses_total{%s,class=\"%dxx\"} %" PRIu64 "\n",
                         one->labels, kind + 1,
                         one->stats.tally.words[AT_COUNT_CLASS + kind]);
        }
    }
    return result;
}

static int write_buckets(at_bytes *out, const char *name, const char *labels,
                         const uint64_t *histogram)
{
    uint64_t below = 0;
    int result = 0;
    for (int i = 0; i < AT_BUCKETS - 1 && result == 0; i++) {
        below += histogram[i];
        result = say(out, "%s_bucket{%s,le=\"%g\"} %" PRIu64 "\n", name, labels,
                     (double)at_bucket_bounds_ns[i] / 1e9, below);
    }
    below += histogram[AT_BUCKETS - 1];
    return result < 0
               ? result
               : say(out,
                     "%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n"
                     "%s_sum{%s} %.9f\n"
                     "%s_count{%s} %" PRIu64 "\n",
                     name, labels, below, name, labels,
                     (double)histogram[AT_BUCKET_SUM] / 1e9, name, labels, below);
}

static int write_histogram(at_bytes *out, const survey *all, unsigned which,
                           const char *key, const char *help)
{
    char name[64];
    (void)snprintf(name, sizeof name, "atoll_%s_seconds", key);
    int result = head(out, name, "histogram", help);
    for (int i = 0; i < all->count && result == 0; i++) {
        const subject *one = &all->subjects[i];
        result = write_buckets(out, name, one->labels,
                               at_tally_histogram(&one->stats.tally, which));
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

/* ---- what is, and not what was --------------------------------------------------- */

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
    /* Another process's is on its board. */
    return sources->memory != NULL && stats->interpreter_id >= 0
               ? (double)sources->memory(stats->interpreter_id)
               : (double)stats->heap_bytes;
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
    int result = 0;
    for (size_t i = 0; i < sizeof GAUGES / sizeof *GAUGES && result == 0; i++) {
        result = head(out, GAUGES[i].name, "gauge", GAUGES[i].help);
        for (int worker = 0; worker < all->count && result == 0; worker++) {
            const subject *one = &all->subjects[worker];
            double value = GAUGES[i].read(&one->stats, sources);
            if (value >= 0) { /* otherwise it is not known */
                result = say(out, "%s{%s} %.17g\n", GAUGES[i].name, one->labels, value);
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

/* What is counted of each process, all of them together. */
static int write_told(at_bytes *out, const at_service *service)
{
    static const struct {
        at_told what;
        const char *name, *help;
    } ALL[] = {
        {AT_TOLD_LOADED, "atoll_images_loaded_total",
         "Private images of extensions that were loaded."},
        {AT_TOLD_UNMAPPED, "atoll_images_unmapped_total",
         "Private images that were unmapped again."},
        {AT_TOLD_COPIED, "atoll_images_copied_bytes_total",
         "Bytes written to private copies."},
        {AT_TOLD_SHARED, "atoll_images_shared_bytes_total",
         "Bytes mapped from the original files."},
        {AT_TOLD_UNWRITTEN, "atoll_access_log_failed_total",
         "Lines of the access log that the system did not write."},
    };
    int result = 0;
    for (size_t i = 0; i < sizeof ALL / sizeof *ALL && result == 0; i++) {
        result = write_one(out, ALL[i].name, "counter", ALL[i].help,
                           at_boards_told(&service->boards, ALL[i].what));
    }
    return result;
}

/* ---- processes ------------------------------------------------------------------- */

/* What process number `process` has in RAM, its successor at a reload included. */
static uint64_t resident_bytes(const at_process_stats *stats)
{
    uint64_t sum = 0;
    for (int i = 0; i < stats->count; i++) {
        int64_t bytes = at_process_resident_bytes(stats->ids[i]);
        sum += bytes > 0 ? (uint64_t)bytes : 0;
    }
    return sum;
}

static int write_processes(at_bytes *out, const at_service *service)
{
    const char *memory = "atoll_process_resident_bytes";
    const char *help = "Memory of the process in RAM, what it shares included.";
    const at_boards *boards = &service->boards;
    at_process_stats stats;
    if (!at_boards_are_shared(boards)) {
        at_boards_process(boards, 0, 0, &stats);
        return write_one(out, memory, "gauge", help, resident_bytes(&stats));
    }
    int count = at_boards_process_count(boards);
    int result =
        head(out, "atoll_process_up", "gauge", "1 while a worker of it serves.");
    for (int i = 0; i < count && result == 0; i++) {
        at_boards_process(boards, i, 0, &stats);
        result = say(out, "atoll_process_up{process=\"%d\"} %d\n", i,
                     stats.open != 0 && !stats.stopped);
    }
    if (result == 0) {
        result = head(out, memory, "gauge", help);
    }
    for (int i = 0; i < count && result == 0; i++) {
        at_boards_process(boards, i, 0, &stats);
        result = say(out, "%s{process=\"%d\"} %" PRIu64 "\n", memory, i,
                     resident_bytes(&stats));
    }
    return result;
}

/* ---- all of it ------------------------------------------------------------------- */

/* Workers are numbered through all processes. */
static void name(const at_boards *boards, int process, subject *one)
{
    char worker[16] = "control";
    int number = one->stats.worker;
    if (number != AT_WORKER_GUARD) {
        int before = process > 0 ? process * at_boards_worker_count(boards) : 0;
        (void)snprintf(worker, sizeof worker, "%d", before + number);
    }
    if (at_boards_are_shared(boards) && process >= 0) {
        (void)snprintf(one->labels, sizeof one->labels, "process=\"%d\",worker=\"%s\"",
                       process, worker);
    } else {
        (void)snprintf(one->labels, sizeof one->labels, "worker=\"%s\"", worker);
    }
}

static int add(survey *all, at_service *service, int process, int worker)
{
    if (all->count == all->room) {
        int room = all->room * 2 + 8;
        subject *more = at_realloc(all->subjects, (size_t)room * sizeof *more);
        if (more == NULL) {
            return AT_ENOMEM;
        }
        all->subjects = more;
        all->room = room;
    }
    subject *one = &all->subjects[all->count];
    if (at_service_worker(service, process, worker, &one->stats)) {
        name(&service->boards, process, one);
        all->count++;
    }
    return 0;
}

static int make_survey(survey *all, at_service *service)
{
    const at_boards *boards = &service->boards;
    int result = 0;
    for (int process = 0; process < at_boards_process_count(boards); process++) {
        for (int i = 0; i < at_boards_worker_count(boards) && result == 0; i++) {
            result = add(all, service, process, i);
        }
        if (result == 0) {
            result = add(all, service, process, AT_WORKER_GUARD);
        }
    }
    return result == 0 ? add(all, service, AT_PROCESS_FIRST, AT_WORKER_GUARD) : result;
}

static int write_all(at_bytes *out, at_service *service, const survey *all)
{
    const char *why = "";
    int result = write_one(out, "atoll_ready", "gauge", "1 while requests are welcome.",
                           at_control_is_ready(service, &why) ? 1 : 0);
    if (result == 0) {
        result = write_processes(out, service);
    }
    if (result == 0) {
        result = write_gauges(out, all, at_service_sources(service));
    }
    if (result == 0) {
        result = write_counts(out, all);
    }
    if (result == 0) {
        result = write_restarts(out, service);
    }
    return result == 0 ? write_told(out, service) : result;
}

int at_metrics_write(at_service *service, at_bytes *out)
{
    survey all = {0};
    at_service_tell(service);
    int result = make_survey(&all, service);
    if (result == 0) {
        result = write_all(out, service, &all);
    }
    at_free(all.subjects);
    return result;
}
