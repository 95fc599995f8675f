/* Dictionaries that processes share; see common_dict.h. */
#include "chan/common_dict.h"

#include "base/memory.h"
#include "chan/lock.h"
#include "chan/message.h"
#include "sys/clock.h"
#include "sys/entropy.h"
#include "sys/map.h"
#include "sys/park.h"

enum {
    NS_PER_MS = 1000000,
    LOCK_BYTES = 64, /* of the words; the table follows */
    /* So often does a reader look without the lock. */
    ATTEMPTS = 16,
    /* After so long, who waits for the lock looks whether its holder lives: the kernel
     * tells of deaths, so one that does not is of another PID namespace, or no holder
     * at all but a damaged word. */
    LOOK_NS = 100 * NS_PER_MS,
    FIRST_ROOM = 1024,
};

struct at_common_dict {
    at_placed placed;
    at_lock *lock; /* fixed after init, as the next */
    at_table table;
};

/* ---- life ------------------------------------------------------------------------ */

static void common_dict_free(at_shared *thing)
{
    at_common_dict *dict = (at_common_dict *)thing;
    at_shared_unref((at_shared *)dict->lock);
    at_place_fini(&dict->placed.place);
    at_free(dict);
}

const at_shared_kind at_common_dict_kind = {"dict between processes", common_dict_free};

static int find_table(at_common_dict *dict, const at_page *page, bool is_new,
                      at_fault *fault)
{
    void *memory = (char *)at_place_words_of(page) + LOCK_BYTES;
    size_t size_bytes = at_place_words_bytes(page) - LOCK_BYTES;
    if (!is_new) {
        int result = at_table_open(&dict->table, memory, size_bytes);
        return result == 0 ? 0
                           : at_fault_set(fault, AT_EINVALID,
                                          "the shared memory holds no dict of this "
                                          "version of atoll, or a damaged one");
    }
    uint64_t seed[2];
    int result = at_entropy_fill(seed, sizeof seed, fault);
    return result == 0 ? at_table_make(&dict->table, memory, size_bytes, seed) : result;
}

/* The table in the words of `page`, which is new or came from elsewhere. */
static int open_table(at_common_dict *dict, const at_page *page, bool is_new,
                      at_fault *fault)
{
    int result = find_table(dict, page, is_new, fault);
    if (result == 0) {
        dict->table.empty = at_map_empty;
    }
    return result;
}

/* In a place of its own. A page from elsewhere is looked at before it is taken. */
static int begin(at_common_dict *dict, size_t size_bytes, const at_origin *origin,
                 at_fault *fault)
{
    at_place *place = &dict->placed.place;
    at_place_facts facts = {.content = AT_PLACE_DICT};
    if (origin->page != NULL) {
        int result = open_table(dict, origin->page, false, fault);
        return result == 0 ? at_place_init(place, origin, &facts, 0, fault) : result;
    }
    int result = at_place_init(place, origin, &facts, size_bytes, fault);
    if (result == 0) {
        result = open_table(dict, &place->page, true, fault);
        if (result < 0) {
            at_place_fini(place);
        }
    }
    return result;
}

int at_common_dict_new(size_t size_bytes, const at_origin *origin,
                       at_common_dict **made, at_fault *fault)
{
    if (origin->page == NULL &&
        (size_bytes < at_page_bytes() || size_bytes > AT_COMMON_MOST_BYTES)) {
        return at_fault_set(fault, AT_EINVALID, "size must be %zu to 2**37 bytes",
                            at_page_bytes());
    }
    at_common_dict *dict = at_calloc(1, sizeof *dict);
    if (dict == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory");
    }
    at_shared_init(&dict->placed.shared, &at_common_dict_kind);
    int result = at_lock_new_in(&dict->placed.place, false, &dict->lock);
    if (result < 0) {
        at_free(dict);
        return at_fault_set(fault, AT_ENOMEM, "out of memory");
    }
    result = begin(dict, size_bytes, origin, fault);
    if (result < 0) {
        dict->placed.place.scope = AT_PARK_PRIVATE; /* there are no words to look at */
        at_shared_unref((at_shared *)dict->lock);
        at_free(dict);
        return result;
    }
    *made = dict;
    return 0;
}

const at_table *at_common_dict_table(const at_common_dict *dict)
{
    return &dict->table;
}

size_t at_common_dict_bytes(const at_common_dict *dict)
{
    return dict->placed.place.page.memory.size_bytes;
}

size_t at_common_dict_bytes_for(const at_common_dict *dict, size_t capacity_bytes)
{
    const at_page *page = &dict->placed.place.page;
    size_t before = page->memory.size_bytes - at_place_words_bytes(page) + LOCK_BYTES;
    size_t bytes = before + at_table_memory_bytes(capacity_bytes);
    return (bytes + at_page_bytes() - 1) & ~(at_page_bytes() - 1);
}

/* ---- the lock -------------------------------------------------------------------- */

/* Whose death it was need not be asked: at_lock_release() knows a lock by its process.
 */
static void leave(at_common_dict *dict)
{
    (void)at_lock_release(dict->lock, NULL);
}

static int acquire(at_common_dict *dict, const at_patience *patience) AT_DETACHED
{
    for (;;) {
        at_patience look = *patience;
        int64_t soon = at_clock_deadline(LOOK_NS);
        look.deadline_ns = soon < look.deadline_ns ? soon : look.deadline_ns;
        int result = at_lock_acquire(dict->lock, &look);
        if (result != AT_ETIMEOUT || look.deadline_ns == patience->deadline_ns) {
            return result;
        }
        if (at_lock_is_orphaned(dict->lock)) {
            return AT_EBUSY;
        }
    }
}

/* The lock is held, and came from the dead. */
static int make_whole(at_common_dict *dict, const at_common_request *request)
{
    int result = request->kind == AT_COMMON_CLEAR ? 0 : at_table_recover(&dict->table);
    if (result < 0) {
        leave(dict); /* and the next is told the same, until somebody clears it */
        return result;
    }
    if (request->kind == AT_COMMON_CLEAR) {
        at_table_clear(&dict->table, false);
    }
    return at_lock_mark_consistent(dict->lock);
}

/* Take the lock: 0, and the table is whole. */
static int enter(at_common_dict *dict, at_common_request *request,
                 const at_patience *patience)
{
    int result = AT_EOWNERDEAD;
    if (patience == NULL) {
        result = at_lock_try_acquire(dict->lock, NULL);
        request->inherited = result == AT_EOWNERDEAD;
        return request->inherited ? AT_EAGAIN : result;
    }
    if (request->inherited) {
        request->inherited = false;
        at_lock_settle_death(dict->lock);
    } else {
        result = acquire(dict, patience);
    }
    return result == AT_EOWNERDEAD ? make_whole(dict, request) : result;
}

/* ---- reading --------------------------------------------------------------------- */

/* An entry with room for what is at `spot`, as a message. */
typedef struct reading {
    bool looks; /* and copies nothing */
    at_message_writer writer;
    size_t room_bytes;
    size_t most_bytes; /* what is larger is left for who may take its time */
} reading;

static int make_room(reading *into, size_t size_bytes)
{
    into->writer.size_bytes = 0;
    int result = at_message_writer_room(&into->writer, size_bytes);
    into->room_bytes = result == 0 ? size_bytes : 0;
    return result;
}

/* Find and copy, if it has room: else AT_EFULL, with the spot; or AT_ELIMIT. */
static int read_into(const at_table *table, const at_dict_key *key, at_table_spot *spot,
                     reading *into)
{
    int result = at_table_find(table, key, spot);
    if (result < 0 || into->looks) {
        return result;
    }
    if (spot->value_bytes > into->most_bytes) {
        return AT_ELIMIT;
    }
    if (spot->value_bytes > into->room_bytes) {
        return AT_EFULL;
    }
    return at_table_copy(table, spot, NULL, into->writer.data);
}

static int read_free(at_common_dict *dict, const at_dict_key *key, at_table_spot *spot,
                     reading *into)
{
    int result = AT_EAGAIN;
    for (int i = 0; i < ATTEMPTS && result == AT_EAGAIN; i++) {
        result = read_into(&dict->table, key, spot, into);
        if (result == AT_EFULL) {
            result = make_room(into, spot->value_bytes);
            result = result == 0 ? AT_EAGAIN : result;
        } else if (result == AT_EAGAIN) {
            at_park_relax();
        }
    }
    return result;
}

static int read_locked(at_common_dict *dict, at_common_request *request,
                       const at_dict_key *key, at_table_spot *spot, reading *into,
                       const at_patience *patience)
{
    for (;;) {
        int result = enter(dict, request, patience);
        if (result < 0) {
            return result;
        }
        result = read_into(&dict->table, key, spot, into);
        leave(dict);
        if (result != AT_EFULL) {
            return result == AT_EAGAIN ? AT_EFORMAT : result;
        }
        /* It may have grown by then: room for that too. */
        result = make_room(into, spot->value_bytes + spot->value_bytes / 2);
        if (result < 0) {
            return result;
        }
    }
}

/* What was read as an entry. */
static int finish(reading *into, const at_dict_key *key, const at_table_spot *spot,
                  at_dict_entry **entry)
{
    at_message *message;
    into->writer.size_bytes = spot->value_bytes;
    int result = at_message_writer_finish(&into->writer, -1, &message);
    if (result < 0) {
        return result;
    }
    result = at_dict_entry_new(key, message, entry);
    if (result < 0) {
        at_message_unref(message);
        return result;
    }
    (*entry)->version = spot->link;
    return 1;
}

static int get(at_common_dict *dict, at_common_request *request, const at_dict_key *key,
               const at_patience *patience)
{
    reading into = {.looks = request->kind == AT_COMMON_HAS,
                    .room_bytes = AT_MESSAGE_FIRST_BYTES};
    at_message_writer_init(&into.writer);
    at_table_spot spot;
    into.most_bytes = patience == NULL ? AT_COMMON_LARGE_BYTES : SIZE_MAX;
    int result = read_free(dict, key, &spot, &into);
    if (result == AT_EAGAIN && patience != NULL) {
        result = read_locked(dict, request, key, &spot, &into, patience);
    }
    if (result == 0) {
        result = into.looks ? 1 : finish(&into, key, &spot, &request->entry);
    }
    at_message_writer_fini(&into.writer);
    return result == AT_ENOTFOUND ? 0 : result == AT_ELIMIT ? AT_EAGAIN : result;
}

/* ---- the keys of a bucket -------------------------------------------------------- */

typedef struct chain {
    at_table_spot spots[AT_TABLE_CHAIN_MOST];
    size_t count;
    char first[FIRST_ROOM];
    char *room; /* `first`, or allocated */
    size_t room_bytes;
    size_t needed_bytes;
} chain;

static int look_at(const at_common_dict *dict, size_t bucket, chain *seen)
{
    return at_table_keys(&dict->table, bucket, seen->spots, &seen->count, seen->room,
                         seen->room_bytes, &seen->needed_bytes);
}

static int widen(chain *seen)
{
    char *old = seen->room == seen->first ? NULL : seen->room;
    char *wider = at_realloc(old, seen->needed_bytes + seen->needed_bytes / 2);
    if (wider == NULL) {
        return AT_ENOMEM;
    }
    seen->room = wider;
    seen->room_bytes = seen->needed_bytes + seen->needed_bytes / 2;
    return 0;
}

static int read_chain(at_common_dict *dict, at_common_request *request, chain *seen,
                      const at_patience *patience)
{
    int result = AT_EAGAIN;
    for (int i = 0; i < ATTEMPTS && result == AT_EAGAIN; i++) {
        result = look_at(dict, request->bucket, seen);
        if (result == AT_EFULL) {
            result = widen(seen);
            result = result == 0 ? AT_EAGAIN : result;
        }
    }
    while (result == AT_EAGAIN && patience != NULL) {
        result = enter(dict, request, patience);
        if (result < 0) {
            return result;
        }
        result = look_at(dict, request->bucket, seen);
        leave(dict);
        if (result == AT_EAGAIN) {
            return AT_EFORMAT;
        }
        if (result == AT_EFULL) {
            result = widen(seen);
            result = result == 0 ? AT_EAGAIN : result;
        }
    }
    return result;
}

static int entries_of(const chain *seen, at_common_request *request)
{
    request->entries = at_calloc(seen->count, sizeof(at_dict_entry *));
    if (request->entries == NULL) {
        return AT_ENOMEM;
    }
    const char *key = seen->room;
    for (size_t i = 0; i < seen->count; i++) {
        const at_table_spot *spot = &seen->spots[i];
        at_dict_key made = {
            .kind = spot->kind, .data = key, .size_bytes = spot->key_bytes};
        int result = at_dict_entry_new(&made, NULL, &request->entries[i]);
        if (result < 0) {
            while (i-- != 0) {
                at_shared_unref(&request->entries[i]->shared);
            }
            at_free((void *)request->entries);
            request->entries = NULL;
            return result;
        }
        request->entries[i]->version = spot->link;
        key += spot->key_bytes;
    }
    request->entry_count = seen->count;
    return 0;
}

static int keys_of(at_common_dict *dict, at_common_request *request,
                   const at_patience *patience)
{
    chain seen; /* only what is written is read */
    seen.room = seen.first;
    seen.room_bytes = sizeof seen.first;
    int result = read_chain(dict, request, &seen, patience);
    if (result == 0 && seen.count != 0) {
        result = entries_of(&seen, request);
    }
    if (seen.room != seen.first) {
        at_free(seen.room);
    }
    return result;
}

static int keys(at_common_dict *dict, at_common_request *request,
                const at_patience *patience)
{
    request->entry_count = 0;
    for (;;) {
        request->bucket = at_table_occupied(&dict->table, request->bucket);
        if (request->bucket == at_table_bucket_count(&dict->table)) {
            return 0;
        }
        int result = keys_of(dict, request, patience);
        if (result < 0 || request->entry_count != 0) {
            return result;
        }
        request->bucket++; /* it has been emptied since */
    }
}

/* ---- all of them ----------------------------------------------------------------- */

static int change(at_common_dict *dict, const at_common_request *request,
                  const at_dict_key *key)
{
    switch (request->kind) {
    case AT_COMMON_PUT:
        return at_table_put(&dict->table, key, request->data, request->size_bytes,
                            request->rule, request->expected);
    case AT_COMMON_REMOVE:
        return at_table_remove(&dict->table, key, request->rule, request->expected);
    default:
        at_table_clear(&dict->table, true);
        return 0;
    }
}

static int perform(at_common_dict *dict, at_common_request *request,
                   const at_patience *patience)
{
    if (request->kind == AT_COMMON_KEYS) {
        return keys(dict, request, patience);
    }
    at_dict_key key = {0};
    if (request->key != NULL) {
        key = *request->key;
        key.hash = at_table_hash(&dict->table, &key);
    }
    if (request->kind == AT_COMMON_GET || request->kind == AT_COMMON_HAS) {
        return get(dict, request, &key, patience);
    }
    int result = enter(dict, request, patience);
    if (result < 0) {
        return result;
    }
    result = change(dict, request, &key);
    leave(dict);
    return result;
}

int at_common_dict_try(at_common_dict *dict, at_common_request *request)
{
    request->inherited = false;
    return perform(dict, request, NULL);
}

int at_common_dict_run(at_common_dict *dict, at_common_request *request,
                       const at_patience *patience)
{
    return perform(dict, request, patience);
}
