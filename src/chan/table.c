/* Tables: their layout, and reading; see table.h. */
#include "chan/table.h"

#include <string.h>

#include "base/siphash.h"
#include "chan/table_inside.h"

/* The last byte is the version of the layout. */
static const char mark[8] = {'a', 't', 'o', 'l', 'l', 'd', 'c', 1};

enum { HEAD_BYTES = 512, UNITS_PER_BUCKET = 4, REGIONS = 5 };

_Static_assert(sizeof(struct at_table_head) <= HEAD_BYTES, "the buckets follow it");
_Static_assert(AT_TABLE_ENTRY_BYTES == WORDS_BEFORE_KEY * sizeof(uint64_t), "the same");

/* ---- layout ------------------------------------------------------------------------
 *
 * It follows from the size alone, so that nobody has to be believed. */

static size_t aligned(size_t bytes)
{
    return (bytes + AT_TABLE_ALIGNMENT - 1) & ~(size_t)(AT_TABLE_ALIGNMENT - 1);
}

/* Of a bit for each of `count`. */
static size_t map_bytes(size_t count)
{
    return aligned((count + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t));
}

/* The largest power of two that is not above `limit`, which is not 0. */
static size_t power_of_two(size_t limit)
{
    return (size_t)1 << (63 - __builtin_clzll(limit));
}

/* Of what a unit needs, in bits: itself, its stamp, its own, its part of the buckets
 * and their groups. */
enum {
    UNIT_BITS = (AT_TABLE_UNIT_BYTES + sizeof(uint32_t)) * 8 + 1 +
                sizeof(uint64_t) * 8 / UNITS_PER_BUCKET + 1,
    ENDS_BYTES = HEAD_BYTES + REGIONS * AT_TABLE_ALIGNMENT,
};

static int lay_out(at_table *table, void *memory, size_t size_bytes)
{
    if (size_bytes < AT_TABLE_LEAST_BYTES || size_bytes > (size_t)1 << 38) {
        return AT_EINVALID;
    }
    size_t units = (size_bytes - ENDS_BYTES) * 8 / UNIT_BITS;
    size_t buckets = power_of_two(units / UNITS_PER_BUCKET);
    char *at = memory;
    table->empty = NULL;
    table->head = memory;
    at += HEAD_BYTES;
    table->buckets = (at_word *)(void *)at;
    at += aligned(buckets * sizeof(uint64_t));
    table->groups = (at_word *)(void *)at;
    at += map_bytes((buckets + AT_TABLE_GROUP - 1) / AT_TABLE_GROUP);
    table->map = (at_word *)(void *)at;
    at += map_bytes(units);
    table->stamps = (_Atomic(uint32_t) *)(void *)at;
    at += aligned(units * sizeof(uint32_t));
    table->units = at;
    table->bucket_mask = buckets - 1;
    table->unit_count = units;
    return 0;
}

size_t at_table_memory_bytes(size_t capacity_bytes)
{
    size_t units = capacity_bytes / AT_TABLE_UNIT_BYTES + 2; /* one is nobody's */
    size_t bytes = ENDS_BYTES + (units * UNIT_BITS + 7) / 8;
    return bytes > AT_TABLE_LEAST_BYTES ? bytes : AT_TABLE_LEAST_BYTES;
}

/* Of what is fixed in the head. */
static uint64_t head_check(const struct at_table_head *head)
{
    return at_siphash(head->seed, head, offsetof(struct at_table_head, check));
}

int at_table_make(at_table *table, void *memory, size_t size_bytes,
                  const uint64_t seed[2])
{
    int result = lay_out(table, memory, size_bytes);
    if (result < 0) {
        return result;
    }
    struct at_table_head *head = table->head;
    memcpy(head->seed, seed, sizeof head->seed);
    memcpy(table->seed, seed, sizeof table->seed);
    head->size_bytes = size_bytes;
    memcpy(head->mark, mark, sizeof mark);
    at_table_heap_begin(table);
    head->check = head_check(head); /* the last: until then it is none */
    return 0;
}

int at_table_open(at_table *table, void *memory, size_t size_bytes)
{
    if (lay_out(table, memory, size_bytes) < 0) {
        return AT_EFORMAT;
    }
    struct at_table_head copy; /* what is compared is what is used */
    memcpy(&copy, table->head, offsetof(struct at_table_head, count));
    if (memcmp(copy.mark, mark, sizeof mark) != 0 || copy.size_bytes != size_bytes ||
        copy.check != head_check(&copy)) {
        return AT_EFORMAT;
    }
    memcpy(table->seed, copy.seed, sizeof table->seed);
    return 0;
}

uint64_t at_table_hash(const at_table *table, const at_dict_key *key)
{
    uint64_t seed[2] = {table->seed[0], table->seed[1] + (uint64_t)key->kind};
    return at_siphash(seed, key->data, key->size_bytes);
}

size_t at_table_count(const at_table *table)
{
    size_t count = (size_t)at_table_load(&table->head->count);
    return count < table->unit_count ? count : table->unit_count - 1;
}

size_t at_table_used_bytes(const at_table *table)
{
    size_t used = (size_t)at_table_load(&table->head->used_units);
    used = used < table->unit_count ? used : table->unit_count - 1;
    return used * AT_TABLE_UNIT_BYTES;
}

size_t at_table_capacity_bytes(const at_table *table)
{
    return (table->unit_count - 1) * AT_TABLE_UNIT_BYTES;
}

size_t at_table_item_bytes(size_t key_bytes, size_t value_bytes)
{
    return at_table_unit_count(key_bytes, value_bytes) * AT_TABLE_UNIT_BYTES;
}

/* ---- entries --------------------------------------------------------------------- */

uint64_t at_table_word_at(const char *data, size_t size_bytes, size_t i)
{
    uint64_t word = 0;
    size_t offset = i * sizeof word;
    size_t left = size_bytes - offset;
    memcpy(&word, data + offset, left < sizeof word ? left : sizeof word);
    return word;
}

int at_table_look(const at_table *table, uint64_t link, at_table_spot *spot,
                  uint64_t *hash)
{
    if (!at_table_has_unit(table, link)) {
        return AT_EAGAIN;
    }
    const at_word *words = at_table_words(table, link);
    *hash = at_table_load(&words[WORD_HASH]);
    uint64_t key = at_table_load(&words[WORD_KEY]);
    uint64_t value_bytes = at_table_load(&words[WORD_VALUE]);
    if (!at_table_is_current(table, link)) {
        return AT_EAGAIN;
    }
    *spot = (at_table_spot){link, (int)(key >> 32), (uint32_t)key, value_bytes};
    size_t units = table->unit_count - at_table_unit_of(link);
    size_t bytes = units * AT_TABLE_UNIT_BYTES;
    bool fits = spot->key_bytes <= bytes && spot->value_bytes <= bytes &&
                at_table_unit_count(spot->key_bytes, spot->value_bytes) <= units;
    return fits ? 0 : AT_EAGAIN;
}

/* The sizes are the same, and fit. */
static bool has_key(const at_word *words, const at_dict_key *key)
{
    size_t count = at_table_word_count(key->size_bytes);
    for (size_t i = 0; i < count; i++) {
        if (at_table_load(&words[WORDS_BEFORE_KEY + i]) !=
            at_table_word_at(key->data, key->size_bytes, i)) {
            return false;
        }
    }
    return true;
}

int at_table_seek(const at_table *table, const at_dict_key *key, at_table_spot *spot,
                  at_word **place)
{
    uint64_t before = 0; /* whose word `*place` is */
    *place = at_table_bucket(table, key->hash);
    if (!at_table_has_group(table, key->hash & table->bucket_mask)) {
        return AT_ENOTFOUND; /* and the page of the bucket is not touched */
    }
    for (size_t step = 0; step <= AT_TABLE_CHAIN_MOST; step++) {
        uint64_t link = at_table_load(*place);
        if (before != 0 && !at_table_is_current(table, before)) {
            return AT_EAGAIN;
        }
        if (link == 0) {
            return AT_ENOTFOUND;
        }
        uint64_t hash;
        int result = at_table_look(table, link, spot, &hash);
        if (result < 0) {
            return result;
        }
        at_word *words = at_table_words(table, link);
        if (hash == key->hash && spot->kind == key->kind &&
            spot->key_bytes == key->size_bytes && has_key(words, key)) {
            return at_table_is_current(table, link) ? 0 : AT_EAGAIN;
        }
        *place = &words[WORD_NEXT];
        before = link;
    }
    return AT_EAGAIN;
}

int at_table_find(const at_table *table, const at_dict_key *key, at_table_spot *spot)
{
    at_word *place;
    return at_table_seek(table, key, spot, &place);
}

/* `size_bytes` from `words` on to `room`, where it is not NULL; the sum goes on. */
static uint64_t copy_words(const at_word *words, char *room, size_t size_bytes,
                           uint64_t sum)
{
    size_t left = size_bytes;
    for (; left >= sizeof(uint64_t); left -= sizeof(uint64_t), words++) {
        uint64_t word = at_table_load(words);
        sum = at_table_mix(sum, word);
        if (room != NULL) {
            memcpy(room, &word, sizeof word);
            room += sizeof word;
        }
    }
    if (left != 0) {
        uint64_t word = at_table_load(words);
        sum = at_table_mix(sum, word);
        if (room != NULL) {
            memcpy(room, &word, left);
        }
    }
    return sum;
}

int at_table_copy(const at_table *table, const at_table_spot *spot, void *key,
                  void *value)
{
    const at_word *words = at_table_words(table, spot->link);
    uint64_t sum = at_table_mix(table->seed[0], spot->link);
    for (size_t i = WORD_HASH; i < WORD_CHECK; i++) {
        sum = at_table_mix(sum, at_table_load(&words[i]));
    }
    const at_word *data = words + WORDS_BEFORE_KEY;
    sum = copy_words(data, key, spot->key_bytes, sum);
    data += at_table_word_count(spot->key_bytes);
    sum = copy_words(data, value, spot->value_bytes, sum);
    bool matches = sum == at_table_load(&words[WORD_CHECK]);
    if (!at_table_is_current(table, spot->link)) {
        return AT_EAGAIN;
    }
    return matches ? 0 : AT_EFORMAT;
}

size_t at_table_occupied(const at_table *table, size_t bucket)
{
    while (bucket <= table->bucket_mask) {
        if (bucket % AT_TABLE_GROUP == 0 && !at_table_has_group(table, bucket)) {
            bucket += AT_TABLE_GROUP;
        } else if (at_table_load(&table->buckets[bucket]) != 0) {
            return bucket;
        } else {
            bucket++;
        }
    }
    return table->bucket_mask + 1;
}

int at_table_keys(const at_table *table, size_t bucket,
                  at_table_spot spots[AT_TABLE_CHAIN_MOST], size_t *count, char *room,
                  size_t room_bytes, size_t *needed_bytes)
{
    const at_word *place = &table->buckets[bucket];
    *count = 0;
    *needed_bytes = 0;
    for (;;) {
        uint64_t link = at_table_load(place);
        if (*count != 0 && !at_table_is_current(table, spots[*count - 1].link)) {
            return AT_EAGAIN;
        }
        if (link == 0) {
            return *needed_bytes <= room_bytes ? 0 : AT_EFULL;
        }
        uint64_t hash;
        at_table_spot spot;
        if (*count == AT_TABLE_CHAIN_MOST ||
            at_table_look(table, link, &spot, &hash) < 0) {
            return AT_EAGAIN;
        }
        const at_word *words = at_table_words(table, link);
        if (*needed_bytes + spot.key_bytes <= room_bytes) {
            (void)copy_words(words + WORDS_BEFORE_KEY, room + *needed_bytes,
                             spot.key_bytes, 0);
        }
        *needed_bytes += spot.key_bytes;
        spots[(*count)++] = spot; /* looked at again before anything is returned */
        place = &words[WORD_NEXT];
    }
}
