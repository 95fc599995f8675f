/* The access log; see access_log.h. */
#include "net/access_log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "http/forwarded.h"
#include "http/log_format.h"
#include "net/connection.h"
#include "sys/clock.h"
#include "sys/file.h"
#include "sys/log_file.h"
#include "sys/pollset.h"
#include "sys/thread.h"
#include "sys/wakefd.h"

enum {
    RING_ENTRIES = 16384, /* a power of two */
    RING_BYTES = 8 << 20,
    GATHER_MS = 20,
    BATCH_BYTES = 64 << 10,
    TEXT_BYTES_MAX = 8 << 10, /* of a target or a header: what is longer is cut */
};

static const int64_t END_NS = 2000000000;

struct at_access_entry {
    size_t size_bytes;
    int64_t begun_ns, ended_ns;
    uint64_t sent_bytes;
    int status;
    const char *protocol;
    at_span method, target, peer;
    at_span fields[AT_LOG_FIELDS_MAX];
    char *response; /* at_alloc: the storage of the response's fields, or NULL */
    char bytes[];
};

struct at_access_ring {
    _Alignas(64) atomic_uint head; /* writer: the reactor; release, for the entry */
    size_t put_bytes;              /* the reactor's */
    at_access_log *log;
    at_access_ring *next; /* guarded: the log's mutex */
    atomic_bool closed;   /* the release of the close pairs with the acquire of the
                           * writer, who frees it */
    _Alignas(64)
        atomic_uint tail;      /* writer: the log's thread; release, for the place */
    atomic_size_t taken_bytes; /* writer: the log's thread */
    at_access_entry *entries[RING_ENTRIES];
};

struct at_access_log {
    at_log_format *format; /* fixed after init */
    char *path;            /* fixed after init */
    bool wants_response;   /* fixed after init */
    int wake;
    atomic_bool stopping;
    atomic_bool asleep; /* seq_cst, as the look at the rings after it is set: who puts
                         * an entry sees it set, or the entry is seen */
    _Atomic int64_t give_up_ns;
    atomic_int fresh_descriptor; /* to go on with; -1: none */
    atomic_ullong failed;
    at_thread thread;
    pthread_mutex_t mutex;
    at_access_ring *rings; /* guarded: mutex */

    /* the thread's */
    int descriptor;
    at_bytes batch;
    size_t batch_lines;
    int process;
    int64_t wall_offset_ns; /* from at_clock_ns() to the time of day, of this round */
    int64_t second;         /* whose texts these are */
    size_t clf_size, iso_size;
    char clf[64], iso[64];
};

/* ---- entries --------------------------------------------------------------------- */

static at_span cut(at_span text)
{
    text.size = text.size < TEXT_BYTES_MAX ? text.size : TEXT_BYTES_MAX;
    return text;
}

static at_span keep(at_span text, char **at)
{
    at_span kept = {*at, text.size};
    if (text.size != 0) {
        memcpy(*at, text.data, text.size);
        *at += text.size;
    }
    return kept;
}

static at_span find(const at_h1_header *headers, size_t count, at_span name)
{
    for (size_t i = 0; i < count; i++) {
        at_span one = headers[i].name;
        size_t at = 0;
        while (
            one.size == name.size && at < name.size &&
            (one.data[at] | (one.data[at] >= 'A' && one.data[at] <= 'Z' ? 0x20 : 0)) ==
                name.data[at]) {
            at++;
        }
        if (one.size == name.size && at == name.size) {
            return cut(headers[i].value);
        }
    }
    return (at_span){NULL, 0};
}

/* The client, as a trusted proxy tells, or the peer. */
static at_span client_of(const at_exchange *exchange, const at_h1_request *request)
{
    at_forwarded told;
    if (at_exchange_forwarded(exchange, request, &told) == 1 && told.client.size != 0) {
        return told.client;
    }
    const at_address *peer = at_exchange_peer(exchange);
    return (at_span){peer->host, peer->port < 0 ? 0 : strlen(peer->host)};
}

at_access_entry *at_access_entry_new(const at_access_ring *ring,
                                     const at_exchange *exchange,
                                     const at_h1_request *request)
{
    const at_log_format *format = ring->log->format;
    at_span peer = client_of(exchange, request);
    at_span method = cut(request->method), target = cut(request->target);
    at_span values[AT_LOG_FIELDS_MAX] = {{NULL, 0}};
    size_t size = peer.size + method.size + target.size;
    at_span name;
    bool of_response;
    for (size_t i = 0; at_log_format_field(format, i, &name, &of_response); i++) {
        if (!of_response) {
            values[i] = find(request->headers, request->header_count, name);
            size += values[i].size;
        }
    }
    at_access_entry *entry = at_alloc(sizeof *entry + size);
    if (entry == NULL) {
        return NULL;
    }
    char *at = entry->bytes;
    entry->size_bytes = sizeof *entry + size;
    entry->begun_ns = exchange->begun_ns;
    entry->protocol = exchange->over_h2 != NULL     ? "HTTP/2"
                      : request->version_minor == 0 ? "HTTP/1.0"
                                                    : "HTTP/1.1";
    entry->peer = keep(peer, &at);
    entry->method = keep(method, &at);
    entry->target = keep(target, &at);
    entry->response = NULL;
    for (size_t i = 0; i < AT_LOG_FIELDS_MAX; i++) {
        entry->fields[i] = keep(values[i], &at);
    }
    return entry;
}

at_access_entry *at_access_entry_new_bare(const at_address *peer, int64_t begun_ns)
{
    size_t size = peer->port < 0 ? 0 : strlen(peer->host);
    at_access_entry *entry = at_calloc(1, sizeof *entry + size);
    if (entry != NULL) {
        char *at = entry->bytes;
        entry->size_bytes = sizeof *entry + size;
        entry->begun_ns = begun_ns;
        entry->protocol = "";
        entry->peer = keep((at_span){peer->host, size}, &at);
    }
    return entry;
}

void at_access_entry_free(at_access_entry *entry)
{
    if (entry != NULL) {
        at_free(entry->response);
        at_free(entry);
    }
}

bool at_access_wants_response(const at_access_ring *ring)
{
    return ring->log->wants_response;
}

void at_access_entry_headers(const at_access_ring *ring, at_access_entry *entry,
                             const at_h1_header *headers, size_t count)
{
    const at_log_format *format = ring->log->format;
    at_span values[AT_LOG_FIELDS_MAX] = {{NULL, 0}};
    size_t size = 0;
    at_span name;
    bool of_response;
    for (size_t i = 0; at_log_format_field(format, i, &name, &of_response); i++) {
        if (of_response) {
            values[i] = find(headers, count, name);
            size += values[i].size;
        }
    }
    if (size == 0 || entry->response != NULL ||
        (entry->response = at_alloc(size)) == NULL) {
        return;
    }
    char *at = entry->response;
    entry->size_bytes += size;
    for (size_t i = 0; i < AT_LOG_FIELDS_MAX; i++) {
        if (values[i].size != 0) {
            entry->fields[i] = keep(values[i], &at);
        }
    }
}

/* ---- rings ----------------------------------------------------------------------- */

at_access_ring *at_access_ring_open(at_access_log *log)
{
    at_access_ring *ring = at_calloc_aligned(64, sizeof *ring);
    if (ring != NULL) {
        ring->log = log;
        (void)pthread_mutex_lock(&log->mutex);
        ring->next = log->rings;
        log->rings = ring;
        (void)pthread_mutex_unlock(&log->mutex);
    }
    return ring;
}

static void wake_writer(at_access_log *log)
{
    if (atomic_load(&log->asleep)) {
        at_wakefd_set(log->wake);
    }
}

void at_access_ring_close(at_access_ring *ring)
{
    if (ring != NULL) {
        at_access_log *log = ring->log;
        atomic_store_explicit(&ring->closed, true, memory_order_release);
        atomic_thread_fence(memory_order_seq_cst);
        wake_writer(log);
    }
}

bool at_access_put(at_access_ring *ring, at_access_entry *entry, int status,
                   uint64_t sent_bytes, int64_t now_ns)
{
    entry->status = status;
    entry->sent_bytes = sent_bytes;
    entry->ended_ns = now_ns;
    unsigned head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    /* Pairs with the release in take: the place is free, and the bytes are. */
    unsigned tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    size_t waiting = ring->put_bytes -
                     atomic_load_explicit(&ring->taken_bytes, memory_order_relaxed);
    if (head - tail == RING_ENTRIES || waiting + entry->size_bytes > RING_BYTES) {
        at_access_entry_free(entry);
        return false;
    }
    ring->put_bytes += entry->size_bytes;
    ring->entries[head & (RING_ENTRIES - 1)] = entry;
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    /* Between the store and the look at `asleep`; the other side does the converse. */
    atomic_thread_fence(memory_order_seq_cst);
    wake_writer(ring->log);
    return true;
}

static at_access_entry *take(at_access_ring *ring)
{
    unsigned tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (tail == atomic_load_explicit(&ring->head, memory_order_acquire)) {
        return NULL;
    }
    at_access_entry *entry = ring->entries[tail & (RING_ENTRIES - 1)];
    size_t taken = atomic_load_explicit(&ring->taken_bytes, memory_order_relaxed);
    atomic_store_explicit(&ring->taken_bytes, taken + entry->size_bytes,
                          memory_order_relaxed);
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return entry;
}

static bool is_empty(const at_access_ring *ring)
{
    return atomic_load(&ring->head) ==
           atomic_load_explicit(&ring->tail, memory_order_relaxed);
}

/* ---- the thread ------------------------------------------------------------------ */

static void write_batch(at_access_log *log) AT_DETACHED;
static void write_batch(at_access_log *log)
{
    int fresh = atomic_exchange(&log->fresh_descriptor, -1);
    if (fresh >= 0) {
        at_file_close(log->descriptor);
        log->descriptor = fresh;
    }
    if (log->batch.size != 0 &&
        at_log_file_write(log->descriptor, log->batch.data, log->batch.size,
                          &log->give_up_ns) < 0) {
        atomic_fetch_add(&log->failed, log->batch_lines);
    }
    log->batch.size = 0;
    log->batch_lines = 0;
}

/* What all lines of a second have in common. */
static void set_second(at_access_log *log, int64_t second)
{
    static const char MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    at_civil_time civil;
    at_clock_civil(second * 1000000000, &civil);
    int zone = civil.offset_s / 60;
    char sign = zone < 0 ? '-' : '+';
    zone = zone < 0 ? -zone : zone;
    log->second = second;
    int size =
        snprintf(log->clf, sizeof log->clf, "%02d/%.3s/%04d:%02d:%02d:%02d %c%02d%02d",
                 civil.day, &MONTHS[(size_t)(civil.month - 1) * 3], civil.year,
                 civil.hour, civil.minute, civil.second, sign, zone / 60, zone % 60);
    log->clf_size = (size_t)size;
    /* The milliseconds are set for each line. */
    size = snprintf(log->iso, sizeof log->iso,
                    "%04d-%02d-%02dT%02d:%02d:%02d.000%c%02d:%02d", civil.year,
                    civil.month, civil.day, civil.hour, civil.minute, civil.second,
                    sign, zone / 60, zone % 60);
    log->iso_size = (size_t)size;
}

/* The entry's line, to the batch. */
static void add_line(at_access_log *log, const at_access_entry *entry)
{
    int64_t wall_ns = entry->begun_ns + log->wall_offset_ns;
    if (wall_ns / 1000000000 != log->second) {
        set_second(log, wall_ns / 1000000000);
    }
    int ms = (int)(wall_ns / 1000000 % 1000);
    char *digits = strchr(log->iso, '.') + 1;
    digits[0] = (char)('0' + ms / 100);
    digits[1] = (char)('0' + ms / 10 % 10);
    digits[2] = (char)('0' + ms % 10);
    at_log_record record = {
        .peer = entry->peer,
        .method = entry->method,
        .target = entry->target,
        .protocol = {entry->protocol, strlen(entry->protocol)},
        .clf_time = {log->clf, log->clf_size},
        .iso_time = {log->iso, log->iso_size},
        .status = entry->status,
        .process = log->process,
        .sent_bytes = entry->sent_bytes,
        .duration_ns = entry->ended_ns - entry->begun_ns,
    };
    memcpy(record.fields, entry->fields, sizeof record.fields);
    if (at_log_format_write(log->format, &record, &log->batch) < 0) {
        atomic_fetch_add(&log->failed, 1);
    } else {
        log->batch_lines++;
    }
}

/* Was there anything? */
static bool empty_ring(at_access_log *log, at_access_ring *ring) AT_DETACHED;
static bool empty_ring(at_access_log *log, at_access_ring *ring)
{
    bool any = false;
    at_access_entry *entry;
    while ((entry = take(ring)) != NULL) {
        any = true;
        add_line(log, entry);
        at_access_entry_free(entry);
        if (log->batch.size >= BATCH_BYTES) {
            write_batch(log);
        }
    }
    return any;
}

/* Off the list with those that are closed and empty. Rings are added in front, by
 * others; only this thread takes one away. */
static void sweep(at_access_log *log)
{
    (void)pthread_mutex_lock(&log->mutex);
    at_access_ring *gone = NULL;
    at_access_ring **at = &log->rings;
    while (*at != NULL) {
        at_access_ring *ring = *at;
        if (atomic_load_explicit(&ring->closed, memory_order_acquire) &&
            is_empty(ring)) {
            *at = ring->next;
            ring->next = gone;
            gone = ring;
        } else {
            at = &ring->next;
        }
    }
    (void)pthread_mutex_unlock(&log->mutex);
    while (gone != NULL) {
        at_access_ring *ring = gone;
        gone = ring->next;
        at_free(ring);
    }
}

static at_access_ring *first_ring(at_access_log *log)
{
    (void)pthread_mutex_lock(&log->mutex);
    at_access_ring *ring = log->rings;
    (void)pthread_mutex_unlock(&log->mutex);
    return ring;
}

/* One round over all rings. Was there anything? */
static bool work(at_access_log *log) AT_DETACHED;
static bool work(at_access_log *log)
{
    bool any = false;
    log->wall_offset_ns = at_clock_wall_ns() - at_clock_ns();
    /* `next` of a ring in the list is changed by this thread alone. */
    for (at_access_ring *ring = first_ring(log); ring != NULL; ring = ring->next) {
        any = empty_ring(log, ring) || any;
    }
    write_batch(log);
    sweep(log);
    return any;
}

static bool has_work(at_access_log *log)
{
    bool any = atomic_load(&log->stopping) || atomic_load(&log->fresh_descriptor) >= 0;
    for (at_access_ring *ring = first_ring(log); ring != NULL && !any;
         ring = ring->next) {
        any = !is_empty(ring) || atomic_load(&ring->closed);
    }
    return any;
}

static void body(void *argument)
{
    at_access_log *log = argument;
    log->process = getpid();
    for (;;) {
        bool stopping = atomic_load(&log->stopping);
        if (!work(log) && stopping) {
            return;
        }
        atomic_store(&log->asleep, true);
        atomic_thread_fence(memory_order_seq_cst);
        if (!has_work(log)) {
            (void)at_poll_any(&log->wake, 1, -1);
        }
        atomic_store(&log->asleep, false);
        at_wakefd_clear(log->wake);
        if (!atomic_load(&log->stopping)) {
            (void)at_poll_any(&log->wake, 1, GATHER_MS);
        }
    }
}

/* ---- life ------------------------------------------------------------------------ */

static void log_free(at_access_log *log)
{
    while (log->rings != NULL) {
        at_access_ring *ring = log->rings;
        log->rings = ring->next;
        at_free(ring);
    }
    at_file_close(atomic_load(&log->fresh_descriptor));
    at_file_close(log->descriptor);
    if (log->wake >= 0) {
        at_wakefd_close(log->wake);
    }
    (void)pthread_mutex_destroy(&log->mutex);
    at_bytes_fini(&log->batch);
    at_log_format_free(log->format);
    at_free(log->path);
    at_free(log);
}

/* Returns 0 or an error. */
static int set_up(at_access_log *log, const char *path, at_span format, at_fault *fault)
{
    int result = at_log_format_new(&log->format, format, fault);
    if (result < 0) {
        return result;
    }
    at_span name;
    bool of_response;
    for (size_t i = 0; at_log_format_field(log->format, i, &name, &of_response); i++) {
        log->wants_response = log->wants_response || of_response;
    }
    if ((log->path = at_strdup(path)) == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory for the access log");
    }
    if ((log->descriptor = at_log_file_open(path, fault)) < 0) {
        return log->descriptor;
    }
    if ((log->wake = at_wakefd_open(fault)) < 0) {
        return log->wake;
    }
    return at_thread_start(&log->thread, "atoll-access", body, log, fault);
}

int at_access_log_new(at_access_log **out, const char *path, at_span format,
                      at_fault *fault)
{
    at_access_log *log = at_calloc(1, sizeof *log);
    if (log == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory for the access log");
    }
    log->descriptor = log->wake = -1;
    atomic_store(&log->fresh_descriptor, -1);
    atomic_store(&log->give_up_ns, AT_NEVER);
    (void)pthread_mutex_init(&log->mutex, NULL);
    at_bytes_init(&log->batch);
    int result = set_up(log, path, format, fault);
    if (result < 0) {
        log_free(log);
        return result;
    }
    *out = log;
    return 0;
}

void at_access_log_free(at_access_log *log)
{
    if (log == NULL) {
        return;
    }
    int64_t end_ns = at_clock_ns() + END_NS;
    atomic_store(&log->give_up_ns, end_ns);
    atomic_store(&log->stopping, true);
    at_wakefd_set(log->wake);
    if (at_thread_join_until(&log->thread, end_ns + END_NS) < 0) {
        at_thread_detach(&log->thread); /* a disk that hangs: it and its memory stay */
        return;
    }
    log_free(log);
}

int at_access_log_reopen(at_access_log *log, at_fault *fault)
{
    int descriptor = at_log_file_open(log->path, fault);
    if (descriptor < 0) {
        return descriptor;
    }
    at_file_close(atomic_exchange(&log->fresh_descriptor, descriptor));
    at_wakefd_set(log->wake);
    return 0;
}

uint64_t at_access_log_failed(const at_access_log *log)
{
    return atomic_load(&log->failed);
}
