/* The inside of tables, for the table*.c alone.
 *
 * All of the memory is read and written in atomic words, since others do so at any
 * moment. Stores release and loads acquire: who sees a word of a new entry in units
 * that it took for an older one's sees then, too, that their stamp has gone up.
 */
#ifndef AT_CHAN_TABLE_INSIDE_H
#define AT_CHAN_TABLE_INSIDE_H

#include <stdatomic.h>

#include "chan/table.h"

enum { AT_TABLE_CLASSES = 33, WORD_BITS = 64 };

/* The buckets of a page. Where none of them was ever used nobody looks at them, so that
 * the page need not be there. */
enum { AT_TABLE_GROUP = 512 };

struct at_table_head {
    char mark[8];
    uint64_t size_bytes; /* fixed after make, as all up to `check` */
    uint64_t seed[2];
    uint64_t check;
    /* writer: whoever excludes the others, as all below; read by all */
    _Atomic(uint64_t) count;
    _Atomic(uint64_t) used_units;
    _Atomic(uint64_t) high_unit; /* from there on no unit was in use since a clear */
    /* No row of 2^i free units begins before hints[i]. */
    _Atomic(uint64_t) hints[AT_TABLE_CLASSES];
};

/* The words of an entry; then the key and the value, each from a word on. */
enum { WORD_NEXT, WORD_HASH, WORD_KEY, WORD_VALUE, WORD_CHECK, WORDS_BEFORE_KEY };

typedef _Atomic(uint64_t) at_word;

#ifdef AT_DEBUG
void at_table_stored(void);
#else
static inline void at_table_stored(void)
{
}
#endif

static inline uint64_t at_table_load(const at_word *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

static inline void at_table_store(at_word *word, uint64_t value)
{
    at_table_stored();
    atomic_store_explicit(word, value, memory_order_release);
}

static inline uint64_t at_table_link(size_t unit, uint32_t stamp)
{
    return (uint64_t)unit << 32 | stamp;
}

static inline size_t at_table_unit_of(uint64_t link)
{
    return (size_t)(link >> 32);
}

static inline bool at_table_has_unit(const at_table *table, uint64_t link)
{
    size_t unit = at_table_unit_of(link);
    return unit != 0 && unit < table->unit_count;
}

/* Of a link whose unit there is. */
static inline at_word *at_table_words(const at_table *table, uint64_t link)
{
    size_t offset = at_table_unit_of(link) * AT_TABLE_UNIT_BYTES;
    return (at_word *)(void *)(table->units + offset);
}

/* The same; whether its entry was not taken out. Orders what was read before. */
static inline bool at_table_is_current(const at_table *table, uint64_t link)
{
    return atomic_load_explicit(&table->stamps[at_table_unit_of(link)],
                                memory_order_acquire) == (uint32_t)link;
}

static inline size_t at_table_word_count(size_t size_bytes)
{
    return size_bytes / sizeof(uint64_t) + (size_bytes % sizeof(uint64_t) != 0);
}

/* How many units an entry takes. Neither size is larger than the memory. */
static inline size_t at_table_unit_count(size_t key_bytes, size_t value_bytes)
{
    size_t words = WORDS_BEFORE_KEY + at_table_word_count(key_bytes) +
                   at_table_word_count(value_bytes);
    enum { UNIT_WORDS = AT_TABLE_UNIT_BYTES / sizeof(uint64_t) };
    return (words + UNIT_WORDS - 1) / UNIT_WORDS;
}

/* Word `i` of `size_bytes` at `data`, with zeros behind the last byte. */
uint64_t at_table_word_at(const char *data, size_t size_bytes, size_t i);

static inline uint64_t at_table_key_word(int kind, size_t key_bytes)
{
    return (uint64_t)(uint32_t)kind << 32 | (uint32_t)key_bytes;
}

/* The checksum of an entry begins with its link, goes on with the words of hash and
 * sizes, and ends with those of key and value. Each step can be undone, so one wrong
 * word gives another sum. */
static inline uint64_t at_table_mix(uint64_t sum, uint64_t word)
{
    return ((sum << 29 | sum >> 35) ^ word) * UINT64_C(0x9E3779B97F4A7C15);
}

/* What the words at `link` say of it, and its hash. errs: AT_EAGAIN, as for readers */
int at_table_look(const at_table *table, uint64_t link, at_table_spot *spot,
                  uint64_t *hash);

/* at_table_find(), and in `*place` the link that leads to it. */
int at_table_seek(const at_table *table, const at_dict_key *key, at_table_spot *spot,
                  at_word **place);

static inline at_word *at_table_bucket(const at_table *table, uint64_t hash)
{
    return &table->buckets[hash & table->bucket_mask];
}

/* Set before the first link of its group is, so that it can be believed at any moment.
 */
static inline bool at_table_has_group(const at_table *table, size_t bucket)
{
    size_t group = bucket / AT_TABLE_GROUP;
    return (at_table_load(&table->groups[group / WORD_BITS]) >> group % WORD_BITS &
            1) != 0;
}

/* ---- table_repair.c -------------------------------------------------------------- */

/* The words from `first` up to `end` become zeros, a page after the other. */
void at_table_zero(at_table *table, at_word *first, at_word *end);

/* ---- table_heap.c: which units are in use; one at a time, as writers ------------- */

/* The first of `count` units (not 0) in a row, which are in use now, or 0. */
size_t at_table_heap_take(at_table *table, size_t count);

/* The units are free. They lie in the table. */
void at_table_heap_give(at_table *table, size_t unit, size_t count);

/* Mark them used: false where one is already. */
bool at_table_heap_mark(at_table *table, size_t unit, size_t count);

/* Nothing is in use. The first for memory of zeros, of which it touches little. */
void at_table_heap_begin(at_table *table);
void at_table_heap_clear(at_table *table);
bool at_table_heap_is_used(const at_table *table, size_t unit);

/* Forget what the hints say. */
void at_table_heap_forget(at_table *table);

#endif
