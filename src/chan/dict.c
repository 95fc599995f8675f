/* Dictionaries that interpreters share; see dict.h.
 *
 * A shard is an open hash table with linear probing: an entry lies in the first free
 * slot from its home on. To take one out, those behind it that would no longer be found
 * are moved back, so there are no marks for what was deleted. */
#include "chan/dict.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "chan/message.h"

enum { SHARD_BITS = 4, SHARDS = 1 << SHARD_BITS, FIRST_SLOTS = 8, LINE_BYTES = 64 };

/* A shard that was emptied keeps so many slots; more would be looked through for its
 * next entry, and are memory that nobody uses. */
enum { KEPT_SLOTS = 64 };

typedef struct slot {
    uint64_t hash;
    at_dict_entry *entry; /* a reference, or NULL: free */
} slot;

typedef struct shard {
    _Alignas(LINE_BYTES) pthread_mutex_t mutex;
    slot *slots;         /* guarded: mutex, as the next; a power of two, or NULL */
    size_t mask;         /* slots - 1 */
    atomic_size_t count; /* written under mutex; read by all */
} shard;

struct at_dict {
    at_shared shared;
    shard shards[SHARDS];
};

/* ---- entries ------------------------------------------------------------------ */

static void entry_free(at_shared *thing)
{
    at_dict_entry *entry = (at_dict_entry *)thing;
    at_item_drop(entry->item);
    at_free(entry);
}

static const at_shared_kind entry_kind = {"dict entry", entry_free};

/* Python's hashes of ints are the ints: spread them over shards and slots. */
static uint64_t spread(uint64_t hash)
{
    hash ^= hash >> 32;
    hash *= UINT64_C(0x9E3779B97F4A7C15); /* 2^64 / the golden ratio: Knuth 6.4 */
    return hash ^ hash >> 29;
}

int at_dict_entry_new(const at_dict_key *key, void *item, at_dict_entry **made)
{
    at_dict_entry *entry = at_alloc(sizeof *entry + key->size_bytes);
    if (entry == NULL) {
        return AT_ENOMEM;
    }
    at_shared_init(&entry->shared, &entry_kind);
    entry->key = *key;
    entry->key.data = entry + 1;
    if (key->size_bytes != 0) {
        memcpy(entry + 1, key->data, key->size_bytes);
    }
    entry->item = item;
    entry->version = 0;
    *made = entry;
    return 0;
}

static bool is_of(const at_dict_entry *entry, const at_dict_key *key)
{
    return entry->key.kind == key->kind && entry->key.size_bytes == key->size_bytes &&
           memcmp(entry->key.data, key->data, key->size_bytes) == 0;
}

/* ---- life -------------------------------------------------------------------- */

static void dict_free(at_shared *thing)
{
    at_dict *dict = (at_dict *)thing;
    at_dict_clear(dict);
    for (size_t i = 0; i < SHARDS; i++) {
        (void)pthread_mutex_destroy(&dict->shards[i].mutex);
    }
    at_free(dict);
}

const at_shared_kind at_dict_kind = {"dict", dict_free};

int at_dict_new(at_dict **made)
{
    at_dict *dict = at_calloc_aligned(LINE_BYTES, sizeof *dict);
    if (dict == NULL) {
        return AT_ENOMEM;
    }
    at_shared_init(&dict->shared, &at_dict_kind);
    for (size_t i = 0; i < SHARDS; i++) {
        (void)pthread_mutex_init(&dict->shards[i].mutex, NULL);
    }
    *made = dict;
    return 0;
}

/* ---- a shard ------------------------------------------------------------------ */

static shard *shard_of(at_dict *dict, uint64_t hash)
{
    return &dict->shards[hash >> (64 - SHARD_BITS)];
}

static void lock(shard *self)
{
    (void)pthread_mutex_lock(&self->mutex);
}

static void unlock(shard *self)
{
    (void)pthread_mutex_unlock(&self->mutex);
}

/* The slot of `key`, or the free one where it would go; NULL without slots. Caller
 * holds the mutex, as of all below. */
static slot *find(const shard *self, uint64_t hash, const at_dict_key *key)
{
    if (self->slots == NULL) {
        return NULL;
    }
    for (size_t place = hash & self->mask;; place = (place + 1) & self->mask) {
        slot *candidate = &self->slots[place];
        if (candidate->entry == NULL ||
            (candidate->hash == hash && is_of(candidate->entry, key))) {
            return candidate;
        }
    }
}

static bool has_room(const shard *self)
{
    return self->slots != NULL &&
           (atomic_load_explicit(&self->count, memory_order_relaxed) + 1) * 4 <=
               (self->mask + 1) * 3;
}

static void count_add(shard *self, size_t difference)
{
    atomic_fetch_add_explicit(&self->count, difference, memory_order_relaxed);
}

/* Move what is there to `wider`, which is zeroed. The old array. */
static slot *widen(shard *self, slot *wider, size_t mask)
{
    slot *narrow = self->slots;
    for (size_t i = 0; narrow != NULL && i <= self->mask; i++) {
        if (narrow[i].entry != NULL) {
            size_t place = narrow[i].hash & mask;
            while (wider[place].entry != NULL) {
                place = (place + 1) & mask;
            }
            wider[place] = narrow[i];
        }
    }
    self->slots = wider;
    self->mask = mask;
    return narrow;
}

/* Lock the shard when there is room for one more entry in it. */
static int lock_with_room(shard *self)
{
    for (;;) {
        lock(self);
        if (has_room(self)) {
            return 0;
        }
        size_t wanted = self->slots != NULL ? (self->mask + 1) * 2 : FIRST_SLOTS;
        unlock(self);
        slot *fresh = at_calloc(wanted, sizeof *fresh);
        if (fresh == NULL) {
            return AT_ENOMEM;
        }
        lock(self);
        bool wider = self->slots == NULL || self->mask + 1 < wanted;
        slot *spare = wider ? widen(self, fresh, wanted - 1) : fresh;
        unlock(self);
        at_free(spare);
    }
}

static at_dict_entry *take_out(shard *self, slot *hole)
{
    at_dict_entry *taken = hole->entry;
    size_t free_place = (size_t)(hole - self->slots);
    for (size_t place = (free_place + 1) & self->mask; self->slots[place].entry != NULL;
         place = (place + 1) & self->mask) {
        size_t home = self->slots[place].hash & self->mask;
        /* It may move back unless its home lies behind the free place. */
        if (((place - home) & self->mask) >= ((place - free_place) & self->mask)) {
            self->slots[free_place] = self->slots[place];
            free_place = place;
        }
    }
    self->slots[free_place].entry = NULL;
    count_add(self, (size_t)-1);
    return taken;
}

/* The slots of a shard with nothing in it, where they are too many, or NULL. The
 * caller's to free, without the mutex. */
static slot *spare_slots(shard *self)
{
    if (atomic_load_explicit(&self->count, memory_order_relaxed) != 0 ||
        self->mask < KEPT_SLOTS) {
        return NULL;
    }
    slot *spare = self->slots;
    self->slots = NULL;
    self->mask = 0;
    return spare;
}

/* ---- operations ----------------------------------------------------------------- */

int at_dict_get(at_dict *dict, const at_dict_key *key, at_dict_entry **found)
{
    uint64_t hash = spread(key->hash);
    shard *self = shard_of(dict, hash);
    lock(self);
    const slot *place = find(self, hash, key);
    *found = place != NULL ? place->entry : NULL;
    if (*found != NULL) {
        (void)at_shared_ref(&(*found)->shared);
    }
    unlock(self);
    return *found != NULL ? 0 : AT_ENOTFOUND;
}

int at_dict_put(at_dict *dict, at_dict_entry *entry, at_dict_entry **old)
{
    uint64_t hash = spread(entry->key.hash);
    shard *self = shard_of(dict, hash);
    int result = lock_with_room(self);
    if (result < 0) {
        return result;
    }
    slot *place = find(self, hash, &entry->key);
    *old = place->entry;
    *place = (slot){hash, entry};
    count_add(self, *old == NULL);
    unlock(self);
    return 0;
}

int at_dict_put_new(at_dict *dict, at_dict_entry *entry, at_dict_entry **found)
{
    uint64_t hash = spread(entry->key.hash);
    shard *self = shard_of(dict, hash);
    int result = lock_with_room(self);
    if (result < 0) {
        return result;
    }
    slot *place = find(self, hash, &entry->key);
    *found = place->entry;
    if (*found != NULL) {
        (void)at_shared_ref(&(*found)->shared);
    } else {
        *place = (slot){hash, entry};
        count_add(self, 1);
    }
    unlock(self);
    return *found == NULL;
}

bool at_dict_swap(at_dict *dict, const at_dict_entry *expected, at_dict_entry *entry)
{
    uint64_t hash = spread(expected->key.hash);
    shard *self = shard_of(dict, hash);
    at_dict_entry *old = NULL;
    slot *spare = NULL;
    lock(self);
    slot *place = find(self, hash, &expected->key);
    if (place != NULL && place->entry == expected) {
        if (entry != NULL) {
            old = place->entry;
            place->entry = entry;
        } else {
            old = take_out(self, place);
            spare = spare_slots(self);
        }
    }
    unlock(self);
    at_free(spare);
    if (old != NULL) {
        at_shared_unref(&old->shared);
    }
    return old != NULL;
}

int at_dict_remove(at_dict *dict, const at_dict_key *key, at_dict_entry **old)
{
    uint64_t hash = spread(key->hash);
    shard *self = shard_of(dict, hash);
    lock(self);
    slot *place = find(self, hash, key);
    *old = place != NULL && place->entry != NULL ? take_out(self, place) : NULL;
    slot *spare = *old != NULL ? spare_slots(self) : NULL;
    unlock(self);
    at_free(spare);
    return *old != NULL ? 0 : AT_ENOTFOUND;
}

/* A cursor is the number of a shard and, below it, of a slot. */
enum { PLACE_BITS = 48 };

/* The entry in the first slot from `*place` on that has one, with a reference. */
static at_dict_entry *first_from(shard *self, size_t *place)
{
    at_dict_entry *found = NULL;
    lock(self);
    size_t end = self->slots != NULL ? self->mask + 1 : 0;
    while (*place < end && self->slots[*place].entry == NULL) {
        ++*place;
    }
    if (*place < end) {
        found = self->slots[*place].entry;
        (void)at_shared_ref(&found->shared);
    }
    unlock(self);
    return found;
}

int at_dict_any(at_dict *dict, size_t *cursor, at_dict_entry **found)
{
    size_t first = *cursor >> PLACE_BITS;
    size_t place = *cursor & (((size_t)1 << PLACE_BITS) - 1);
    for (size_t i = 0; i <= SHARDS; i++, place = 0) { /* and the first once more */
        size_t number = (first + i) % SHARDS;
        shard *self = &dict->shards[number];
        bool has_any = atomic_load_explicit(&self->count, memory_order_relaxed) != 0;
        *found = has_any ? first_from(self, &place) : NULL;
        if (*found != NULL) {
            *cursor = number << PLACE_BITS | place;
            return 0;
        }
    }
    return AT_ENOTFOUND;
}

void at_dict_clear(at_dict *dict)
{
    for (size_t i = 0; i < SHARDS; i++) {
        shard *self = &dict->shards[i];
        lock(self);
        slot *slots = self->slots;
        size_t size = slots != NULL ? self->mask + 1 : 0;
        self->slots = NULL;
        self->mask = 0;
        atomic_store_explicit(&self->count, 0, memory_order_relaxed);
        unlock(self);
        for (size_t place = 0; place < size; place++) {
            if (slots[place].entry != NULL) {
                at_shared_unref(&slots[place].entry->shared);
            }
        }
        at_free(slots);
    }
}

size_t at_dict_count(const at_dict *dict)
{
    size_t count = 0;
    for (size_t i = 0; i < SHARDS; i++) {
        count += atomic_load_explicit(&dict->shards[i].count, memory_order_relaxed);
    }
    return count;
}

/* ---- snapshots ------------------------------------------------------------------- */

typedef struct snapshot {
    at_dict_entry **entries;
    size_t count;
    size_t capacity;
} snapshot;

/* Lock the shard when the snapshot has room for what it holds. */
static int lock_with_place(shard *self, snapshot *taken)
{
    for (;;) {
        lock(self);
        size_t needed =
            taken->count + atomic_load_explicit(&self->count, memory_order_relaxed);
        if (needed <= taken->capacity) {
            return 0;
        }
        unlock(self);
        size_t capacity = needed + needed / 4;
        at_dict_entry **wider =
            at_realloc((void *)taken->entries, capacity * sizeof *wider);
        if (wider == NULL) {
            return AT_ENOMEM;
        }
        taken->entries = wider;
        taken->capacity = capacity;
    }
}

int at_dict_snapshot(at_dict *dict, at_dict_entry ***entries, size_t *count)
{
    size_t capacity = at_dict_count(dict) + 1;
    snapshot taken = {at_alloc(capacity * sizeof(at_dict_entry *)), 0, capacity};
    int result = taken.entries != NULL ? 0 : AT_ENOMEM;
    for (size_t i = 0; i < SHARDS && result == 0; i++) {
        shard *self = &dict->shards[i];
        result = lock_with_place(self, &taken);
        if (result < 0) {
            break;
        }
        for (size_t place = 0; self->slots != NULL && place <= self->mask; place++) {
            at_dict_entry *entry = self->slots[place].entry;
            if (entry != NULL) {
                (void)at_shared_ref(&entry->shared);
                taken.entries[taken.count++] = entry;
            }
        }
        unlock(self);
    }
    if (result < 0) {
        for (size_t i = 0; i < taken.count; i++) {
            at_shared_unref(&taken.entries[i]->shared);
        }
        at_free((void *)taken.entries);
        return result;
    }
    *entries = taken.entries;
    *count = taken.count;
    return 0;
}
