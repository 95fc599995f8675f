/* The numbers of a service for Server.stats(); see server.h. */
#define PY_SSIZE_T_CLEAN
#include "bind/server.h"

#include <math.h>

#include "bind/numbers.h"
#include "interp/heap.h"
#include "net/board.h"

static const char *const RESTARTS[AT_RESTARTS] = {"reload", "spent", "stuck", "died"};

static PyObject *number(uint64_t value)
{
    return PyLong_FromUnsignedLongLong(value);
}

AT_UNCHECKED PyObject *at_server_reactors(PyObject *self, PyObject *unused)
{
    at_service *service = at_server_service_of(self);
    PyObject *list = PyList_New(0);
    at_reactor_stats stats;
    for (int i = 0; list != NULL && at_service_stats(service, i, &stats); i++) {
        if (stats.thread == 0) {
            continue;
        }
        const uint64_t *words = stats.tally.words;
        int64_t memory =
            stats.interpreter_id >= 0 ? at_heap_bytes(stats.interpreter_id) : 0;
        const at_named_number numbers[] = {
            {"memory_bytes", memory > 0 ? memory : 0},
            {"worker", stats.worker},
            {"thread", stats.thread},
            {"accepted", (int64_t)words[AT_COUNT_ACCEPTED]},
            {"connections", (int64_t)stats.connections},
            {"running", (int64_t)stats.running},
            {"requests", (int64_t)words[AT_COUNT_REQUESTS]},
        };
        PyObject *entry = AT_NUMBERS_DICT(numbers);
        if (entry == NULL || PyList_Append(list, entry) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(entry);
    }
    return list;
}

/* {"count", "sum" in seconds, "buckets": [(upper bound in seconds, how many at most)]}
 */
static PyObject *histogram_dict(const uint64_t *histogram)
{
    PyObject *buckets = PyList_New(AT_BUCKETS);
    uint64_t below = 0;
    for (int i = 0; buckets != NULL && i < AT_BUCKETS; i++) {
        below += histogram[i];
        double bound =
            i < AT_BUCKETS - 1 ? (double)at_bucket_bounds_ns[i] / 1e9 : INFINITY;
        PyObject *pair = Py_BuildValue("(dK)", bound, (unsigned long long)below);
        if (pair == NULL) {
            Py_CLEAR(buckets);
        } else {
            PyList_SET_ITEM(buckets, i, pair);
        }
    }
    return buckets == NULL
               ? NULL
               : Py_BuildValue("{sKsdsN}", "count", (unsigned long long)below, "sum",
                               (double)histogram[AT_BUCKET_SUM] / 1e9, "buckets",
                               buckets);
}

static PyObject *responses_dict(const at_tally *tally) AT_ATTACHED;
static PyObject *responses_dict(const at_tally *tally)
{
    const uint64_t *classes = tally->words + AT_COUNT_CLASS;
    const at_named_number numbers[] = {
        {"1xx", (int64_t)classes[0]}, {"2xx", (int64_t)classes[1]},
        {"3xx", (int64_t)classes[2]}, {"4xx", (int64_t)classes[3]},
        {"5xx", (int64_t)classes[4]},
    };
    return AT_NUMBERS_DICT(numbers);
}

static int put_tally(PyObject *entry, const at_tally *tally) AT_ATTACHED;
static int put_tally(PyObject *entry, const at_tally *tally)
{
#define AT_PUT_COUNT(name, key, help)                                                  \
    if (at_numbers_put(entry, key, number(tally->words[AT_COUNT_##name])) < 0) {       \
        return -1;                                                                     \
    }
    AT_COUNTS(AT_PUT_COUNT)
#undef AT_PUT_COUNT
#define AT_PUT_HISTOGRAM(name, key, help)                                              \
    if (at_numbers_put(                                                                \
            entry, key,                                                                \
            histogram_dict(at_tally_histogram(tally, AT_HISTOGRAM_##name))) < 0) {     \
        return -1;                                                                     \
    }
    AT_HISTOGRAMS(AT_PUT_HISTOGRAM)
#undef AT_PUT_HISTOGRAM
    return at_numbers_put(entry, "responses", responses_dict(tally));
}

static PyObject *worker_dict(const at_worker_stats *stats, int number) AT_ATTACHED;
static PyObject *worker_dict(const at_worker_stats *stats, int number)
{
    const char *state = stats->reactors == 0 ? "absent"
                        : stats->open        ? "serves"
                                             : "drains";
    int64_t memory = stats->interpreter_id >= 0 ? at_heap_bytes(stats->interpreter_id)
                                                : stats->heap_bytes;
    const at_named_number numbers[] = {
        {"worker", number},
        {"process", stats->process},
        {"thread", stats->thread},
        {"connections", (int64_t)stats->connections},
        {"running", (int64_t)stats->running},
    };
    PyObject *entry = AT_NUMBERS_DICT(numbers);
    if (entry == NULL) {
        return NULL;
    }
    double stuck_s = (double)stats->stuck_ns / 1e9;
    PyObject *bytes = memory >= 0 ? PyLong_FromLongLong(memory) : Py_NewRef(Py_None);
    if (at_numbers_put(entry, "memory_bytes", bytes) < 0 ||
        at_numbers_put(entry, "state", PyUnicode_FromString(state)) < 0 ||
        at_numbers_put(entry, "stuck", PyFloat_FromDouble(stuck_s)) < 0 ||
        put_tally(entry, &stats->tally) < 0) {
        Py_CLEAR(entry);
    }
    return entry;
}

AT_UNCHECKED PyObject *at_server_workers(PyObject *self, PyObject *unused)
{
    at_service *service = at_server_service_of(self);
    const at_boards *boards = at_service_boards(service);
    int each = at_boards_worker_count(boards);
    int count = at_boards_process_count(boards) * each;
    PyObject *list = PyList_New(0);
    at_worker_stats stats;
    for (int i = 0; list != NULL && i < count; i++) {
        if (!at_service_worker(service, i / each, i % each, &stats)) {
            continue;
        }
        PyObject *entry = worker_dict(&stats, i);
        if (entry == NULL || PyList_Append(list, entry) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(entry);
    }
    return list;
}

AT_UNCHECKED PyObject *at_server_restarts(PyObject *self, PyObject *unused)
{
    at_service *service = at_server_service_of(self);
    uint64_t counts[AT_RESTARTS];
    at_service_restarts(service, counts);
    PyObject *dict = PyDict_New();
    for (int i = 0; dict != NULL && i < AT_RESTARTS; i++) {
        if (at_numbers_put(dict, RESTARTS[i], number(counts[i])) < 0) {
            Py_CLEAR(dict);
        }
    }
    return dict;
}

PyObject *at_server_count_restart(PyObject *self, PyObject *why)
{
    at_service *service = at_server_service_of(self);
    const char *text = PyUnicode_AsUTF8(why);
    if (text == NULL) {
        return NULL;
    }
    for (int i = 0; i < AT_RESTARTS; i++) {
        if (strcmp(text, RESTARTS[i]) == 0) {
            at_service_count_restart(service, (at_restart)i);
            Py_RETURN_NONE;
        }
    }
    return PyErr_Format(PyExc_ValueError, "no reason for a restart: %R", why);
}
