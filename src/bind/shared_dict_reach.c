/* atoll.SharedDict: what is the same for a dict of this process (chan/dict.h) and for
 * one that processes share (chan/common_dict.h).
 *
 * A dict of this process never waits for more than a moment. One between processes is
 * tried first, and where that cannot do it run detached: for the lock, or when its last
 * holder died, or because a copy of that size takes longer than to let the GIL go. */
#define PY_SSIZE_T_CLEAN
#include "base/error.h"
#include "base/memory.h"
#include "bind/channel.h"
#include "bind/error.h"
#include "bind/shared_dict.h"
#include "bind/wait.h"
#include "chan/message.h"
#include "interp/attach.h"
#include "parcel/parcel.h"
#include "sys/clock.h"

static at_dict *private_of(PyObject *object)
{
    return (at_dict *)at_shared_dict_thing(object);
}

/* ---- asking a dict between processes --------------------------------------------- */

static int run(PyObject *object, at_common_request *request) AT_ATTACHED
{
    at_patience patience = {AT_NEVER, at_bind_peer()};
    if (patience.peer == NULL) {
        PyErr_Clear(); /* the lock may be ours already; it is waited for without */
    }
    int result;
    do {
        PyThreadState *state = at_detach();
        result = at_common_dict_run(at_shared_dict_common(object), request, &patience);
        at_attach(state);
    } while (at_bind_wait_again(&result));
    return result;
}

/* What was asked for, what there is, and what to do. The size that is said has room for
 * what is there and the item, wherever in it the free pieces are. */
static void raise_full(PyObject *object, const at_common_request *request) AT_ATTACHED
{
    const at_common_dict *dict = at_shared_dict_common(object);
    const at_table *table = at_common_dict_table(dict);
    size_t needed = at_table_item_bytes(request->key->size_bytes, request->size_bytes);
    size_t all = at_table_capacity_bytes(table);
    size_t used = at_table_used_bytes(table);
    size_t free_bytes = all - used;
    PyObject *key = at_dict_key_object(request->key);
    if (key != NULL) {
        (void)at_raise_format(
            AT_EFULL,
            "the SharedDict is full: the item of key %.100R needs %zu bytes in one "
            "piece, beside what it replaces; of %zu bytes %zu are free, the largest "
            "piece has %zu. Make it with size=%zu or more%s",
            key, needed, all, free_bytes, at_table_longest_free_bytes(table),
            at_common_dict_bytes_for(dict, free_bytes < needed ? used + needed
                                                               : all + needed),
            needed <= all ? ", or take items out" : "");
    }
    Py_XDECREF(key);
}

static void raise_for(PyObject *object, const at_common_request *request,
                      int result) AT_ATTACHED
{
    if (result == AT_EFULL) {
        raise_full(object, request);
    } else if (result == AT_EFORMAT) {
        (void)at_raise_format(
            AT_EFORMAT, "the memory of the SharedDict is damaged: somebody wrote to it "
                        "by other means; clear() makes it whole, and empty");
    } else if (result == AT_EBUSY) {
        (void)at_raise_format(
            AT_EBUSY, "a process that cannot be seen from here writes to the "
                      "SharedDict: one of another PID namespace, or its memory is "
                      "damaged; it can still be read");
    } else {
        (void)at_bind_wait_failed(result);
    }
}

/* 1 or 0 as at_common_dict_try(), or -1 with an exception set. */
static int ask(PyObject *object, at_common_request *request) AT_ATTACHED
{
    int result = AT_EAGAIN;
    if (request->size_bytes < AT_COMMON_LARGE_BYTES) {
        result = at_common_dict_try(at_shared_dict_common(object), request);
    }
    if (result == AT_EAGAIN) {
        result = run(object, request);
    }
    if (result < 0) {
        raise_for(object, request, result);
        return -1;
    }
    return result;
}

static at_common_request request_for(at_common_kind kind, const at_dict_key *key,
                                     const at_dict_entry *entry)
{
    at_common_request request = {.kind = kind, .key = key};
    if (entry != NULL) {
        const at_message *message = entry->item;
        request.key = &entry->key;
        request.data = message->data;
        request.size_bytes = message->size_bytes;
    }
    return request;
}

/* ---- one key --------------------------------------------------------------------- */

at_dict_entry *at_shared_dict_entry(PyObject *object, const at_dict_key *key,
                                    PyObject *value)
{
    void *item;
    int result;
    if (at_shared_dict_common(object) != NULL) {
        at_message *message;
        result = at_parcel_pack_lasting(value, &message);
        item = message;
    } else {
        result = at_channel_pack(value, &item);
    }
    if (result < 0) {
        return NULL;
    }
    at_dict_entry *entry;
    result = at_dict_entry_new(key, item, &entry);
    if (result < 0) {
        at_item_drop(item);
        at_raise(result);
        return NULL;
    }
    return entry;
}

int at_shared_dict_find(PyObject *object, const at_dict_key *key, at_dict_entry **found)
{
    *found = NULL;
    if (at_shared_dict_common(object) == NULL) {
        return at_dict_get(private_of(object), key, found) == 0;
    }
    at_common_request request = request_for(AT_COMMON_GET, key, NULL);
    int result = ask(object, &request);
    *found = request.entry;
    return result;
}

int at_shared_dict_has(PyObject *object, const at_dict_key *key)
{
    if (at_shared_dict_common(object) != NULL) {
        at_common_request request = request_for(AT_COMMON_HAS, key, NULL);
        return ask(object, &request);
    }
    at_dict_entry *found;
    int result = at_dict_get(private_of(object), key, &found);
    at_shared_dict_unref(found);
    return result == 0;
}

int at_shared_dict_put(PyObject *object, at_dict_entry *entry)
{
    if (at_shared_dict_common(object) != NULL) {
        at_common_request request = request_for(AT_COMMON_PUT, NULL, entry);
        int result = ask(object, &request);
        at_shared_dict_unref(entry);
        return result < 0 ? -1 : 0;
    }
    at_dict_entry *old = NULL;
    int result = at_dict_put(private_of(object), entry, &old);
    if (result < 0) {
        at_shared_dict_unref(entry);
        at_raise(result);
        return -1;
    }
    at_shared_dict_unref(old);
    return 0;
}

static int put_new_common(PyObject *object, const at_dict_entry *entry,
                          at_dict_entry **found) AT_ATTACHED
{
    for (;;) {
        at_common_request request = request_for(AT_COMMON_PUT, NULL, entry);
        request.rule = AT_TABLE_IF_NEW;
        int result = ask(object, &request);
        if (result != 0) {
            return result;
        }
        result = at_shared_dict_find(object, &entry->key, found);
        if (result != 0) {
            return result < 0 ? -1 : 0;
        }
        /* It was there, and is no more. */
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
}

int at_shared_dict_put_new(PyObject *object, at_dict_entry *entry,
                           at_dict_entry **found)
{
    *found = NULL;
    int result;
    if (at_shared_dict_common(object) != NULL) {
        result = put_new_common(object, entry, found);
        at_shared_dict_unref(entry);
        return result;
    }
    result = at_dict_put_new(private_of(object), entry, found);
    if (result != 1) {
        at_shared_dict_unref(entry);
    }
    if (result < 0) {
        at_raise(result);
        return -1;
    }
    return result;
}

int at_shared_dict_swap(PyObject *object, const at_dict_entry *expected,
                        at_dict_entry *entry)
{
    if (at_shared_dict_common(object) != NULL) {
        at_common_kind kind = entry != NULL ? AT_COMMON_PUT : AT_COMMON_REMOVE;
        at_common_request request = request_for(kind, &expected->key, entry);
        request.rule = AT_TABLE_IF_SAME;
        request.expected = expected->version;
        int result = ask(object, &request);
        at_shared_dict_unref(entry);
        return result;
    }
    bool done = at_dict_swap(private_of(object), expected, entry);
    if (!done) {
        at_shared_dict_unref(entry);
    }
    return done;
}

int at_shared_dict_remove(PyObject *object, const at_dict_key *key)
{
    if (at_shared_dict_common(object) != NULL) {
        at_common_request request = request_for(AT_COMMON_REMOVE, key, NULL);
        return ask(object, &request);
    }
    at_dict_entry *old;
    int result = at_dict_remove(private_of(object), key, &old);
    at_shared_dict_unref(old);
    return result == 0;
}

/* ---- all of them ----------------------------------------------------------------- */

static void unref_all(at_dict_entry **entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        at_shared_dict_unref(entries[i]);
    }
    at_free((void *)entries);
}

/* A cursor is the number of a bucket and, below it, of an entry of its chain. */
enum { STEP_MOST = AT_TABLE_CHAIN_MOST };

/* The first from number `step` on of these that is still there: 1 with it and its
 * number, 0, or -1. */
static int find_one_of(PyObject *object, const at_common_request *seen, size_t *step,
                       at_dict_entry **found) AT_ATTACHED
{
    for (; *step < seen->entry_count; ++*step) {
        int result = at_shared_dict_find(object, &seen->entries[*step]->key, found);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

/* From `*cursor` on, to the end: 1, 0, or -1. */
static int find_from(PyObject *object, size_t *cursor,
                     at_dict_entry **found) AT_ATTACHED
{
    size_t first = *cursor / STEP_MOST;
    size_t step = *cursor % STEP_MOST;
    at_common_request request = {.kind = AT_COMMON_KEYS, .bucket = first};
    for (;; request.bucket++, step = 0) {
        if (ask(object, &request) < 0) {
            return -1;
        }
        if (request.entry_count == 0) {
            return 0;
        }
        step = request.bucket == first ? step : 0;
        int result = find_one_of(object, &request, &step, found);
        unref_all(request.entries, request.entry_count);
        if (result != 0) {
            *cursor = request.bucket * STEP_MOST + step;
            return result;
        }
    }
}

int at_shared_dict_any(PyObject *object, at_dict_entry **found)
{
    /* Where the last one was, so that who takes all out looks at each place once. */
    atomic_size_t *hint = &((at_shared_dict_object *)object)->cursor;
    size_t cursor = atomic_load_explicit(hint, memory_order_relaxed);
    *found = NULL;
    int result;
    if (at_shared_dict_common(object) == NULL) {
        result = at_dict_any(private_of(object), &cursor, found) == 0;
    } else {
        result = find_from(object, &cursor, found);
        if (result == 0) {
            cursor = 0;
            result = find_from(object, &cursor, found);
        }
    }
    atomic_store_explicit(hint, cursor, memory_order_relaxed);
    return result;
}

void at_shared_dict_pass(PyObject *object)
{
    atomic_fetch_add_explicit(&((at_shared_dict_object *)object)->cursor, 1,
                              memory_order_relaxed);
}

int at_shared_dict_remove_all(PyObject *object)
{
    if (at_shared_dict_common(object) == NULL) {
        at_dict_clear(private_of(object));
        return 0;
    }
    /* Of a size that is not for a try. */
    at_common_request request = {.kind = AT_COMMON_CLEAR,
                                 .size_bytes = AT_COMMON_LARGE_BYTES};
    return ask(object, &request);
}

size_t at_shared_dict_count(PyObject *object)
{
    const at_common_dict *dict = at_shared_dict_common(object);
    return dict != NULL ? at_table_count(at_common_dict_table(dict))
                        : at_dict_count(private_of(object));
}

/* Append what `make` makes of `entry`. */
static int append(PyObject *list, at_shared_dict_make *make,
                  const at_dict_entry *entry) AT_ATTACHED
{
    PyObject *made = make(entry);
    int result = made != NULL ? PyList_Append(list, made) : -1;
    Py_XDECREF(made);
    return result;
}

static int append_all(PyObject *object, PyObject *list, at_shared_dict_make *make,
                      const at_common_request *seen, bool values) AT_ATTACHED
{
    int result = 0;
    for (size_t i = 0; i < seen->entry_count && result == 0; i++) {
        at_dict_entry *entry = seen->entries[i];
        if (!values) {
            result = append(list, make, entry);
            continue;
        }
        at_dict_entry *found;
        result = at_shared_dict_find(object, &entry->key, &found);
        if (result == 1) { /* or it has been taken out since */
            result = append(list, make, found);
            at_shared_dict_unref(found);
        }
    }
    return result;
}

static PyObject *list_common(PyObject *object, at_shared_dict_make *make,
                             bool values) AT_ATTACHED
{
    PyObject *list = PyList_New(0);
    at_common_request request = {.kind = AT_COMMON_KEYS};
    do {
        int result = list != NULL ? ask(object, &request) : -1;
        if (result == 0 && request.entry_count != 0) {
            result = append_all(object, list, make, &request, values);
            unref_all(request.entries, request.entry_count);
            request.bucket++;
        }
        if (result < 0) {
            Py_XDECREF(list);
            return NULL;
        }
    } while (request.entry_count != 0);
    return list;
}

PyObject *at_shared_dict_list(PyObject *object, at_shared_dict_make *make, bool values)
{
    if (at_shared_dict_common(object) != NULL) {
        return list_common(object, make, values);
    }
    at_dict_entry **entries;
    size_t count;
    int result = at_dict_snapshot(private_of(object), &entries, &count);
    if (result < 0) {
        return at_raise(result);
    }
    PyObject *list = PyList_New(0);
    for (size_t i = 0; i < count && list != NULL; i++) {
        if (append(list, make, entries[i]) < 0) {
            Py_CLEAR(list);
        }
    }
    unref_all(entries, count);
    return list;
}
