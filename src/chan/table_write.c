/* Tables: writing; see table.h.
 *
 * One store makes a change, link_to()'s; what is stored before it is seen by nobody,
 * and what is stored behind it can be derived from the chains. */
#include "chan/table.h"
#include "chan/table_inside.h"

static void link_to(at_word *place, uint64_t link)
{
    at_table_store(place, link);
}

/* The bucket of `hash` is about to be used. */
static void use_group(at_table *table, uint64_t hash)
{
    size_t bucket = hash & table->bucket_mask;
    if (!at_table_has_group(table, bucket)) {
        size_t group = bucket / AT_TABLE_GROUP;
        at_word *word = &table->groups[group / WORD_BITS];
        at_table_store(word, at_table_load(word) | UINT64_C(1) << group % WORD_BITS);
    }
}

/* `size_bytes` of `data` from `words` on; the sum goes on. */
static uint64_t fill(at_word *words, const char *data, size_t size_bytes, uint64_t sum)
{
    size_t count = at_table_word_count(size_bytes);
    for (size_t i = 0; i < count; i++) {
        uint64_t word = at_table_word_at(data, size_bytes, i);
        sum = at_table_mix(sum, word);
        at_table_store(&words[i], word);
    }
    return sum;
}

static void write_entry(at_table *table, uint64_t link, const at_dict_key *key,
                        const void *value, size_t value_bytes)
{
    at_word *words = at_table_words(table, link);
    uint64_t facts[] = {
        [WORD_HASH] = key->hash,
        [WORD_KEY] = at_table_key_word(key->kind, key->size_bytes),
        [WORD_VALUE] = value_bytes,
    };
    uint64_t sum = at_table_mix(table->seed[0], link);
    for (size_t i = WORD_HASH; i < WORD_CHECK; i++) {
        sum = at_table_mix(sum, facts[i]);
        at_table_store(&words[i], facts[i]);
    }
    at_word *data = words + WORDS_BEFORE_KEY;
    sum = fill(data, key->data, key->size_bytes, sum);
    data += at_table_word_count(key->size_bytes);
    sum = fill(data, value, value_bytes, sum);
    at_table_store(&words[WORD_CHECK], sum);
}

/* Nothing leads to the entry any more; who still reads it is told so. */
static void retire(at_table *table, const at_table_spot *spot)
{
    size_t unit = at_table_unit_of(spot->link);
    at_table_stored();
    atomic_store_explicit(&table->stamps[unit], (uint32_t)spot->link + 1,
                          memory_order_release);
    at_table_heap_give(table, unit,
                       at_table_unit_count(spot->key_bytes, spot->value_bytes));
}

static void count_add(at_table *table, uint64_t difference)
{
    at_word *count = &table->head->count;
    at_table_store(count, at_table_load(count) + difference);
}

/* Does `rule` allow a change of what at_table_seek() found? */
static bool allows(at_table_rule rule, int found, const at_table_spot *spot,
                   uint64_t link)
{
    return rule == AT_TABLE_ALWAYS || (rule == AT_TABLE_IF_NEW && found < 0) ||
           (rule == AT_TABLE_IF_SAME && found == 0 && spot->link == link);
}

int at_table_put(at_table *table, const at_dict_key *key, const void *value,
                 size_t value_bytes, at_table_rule rule, uint64_t expected)
{
    at_table_spot old;
    at_word *place;
    int found = at_table_seek(table, key, &old, &place);
    if (found == AT_EAGAIN) {
        return AT_EFORMAT;
    }
    if (!allows(rule, found, &old, expected)) {
        return 0;
    }
    size_t capacity = at_table_capacity_bytes(table);
    size_t unit = 0;
    if (key->size_bytes <= capacity && value_bytes <= capacity &&
        key->size_bytes <= UINT32_MAX) {
        unit = at_table_heap_take(table,
                                  at_table_unit_count(key->size_bytes, value_bytes));
    }
    if (unit == 0) {
        return AT_EFULL;
    }
    uint32_t stamp = atomic_load_explicit(&table->stamps[unit], memory_order_relaxed);
    uint64_t link = at_table_link(unit, stamp);
    write_entry(table, link, key, value, value_bytes);
    at_word *next = &at_table_words(table, link)[WORD_NEXT];
    if (found == 0) {
        at_table_store(next,
                       at_table_load(&at_table_words(table, old.link)[WORD_NEXT]));
        link_to(place, link);
        retire(table, &old);
    } else {
        at_word *bucket = at_table_bucket(table, key->hash);
        use_group(table, key->hash);
        at_table_store(next, at_table_load(bucket));
        link_to(bucket, link);
        count_add(table, 1);
    }
    return 1;
}

/* Where nothing is left nobody need look at the buckets that were used. (Two words say
 * so: one may be wrong, and would hide what is there.) */
static void forget_groups(at_table *table)
{
    struct at_table_head *head = table->head;
    if (at_table_load(&head->count) == 0 && at_table_load(&head->used_units) == 0) {
        at_table_zero(table, table->groups, table->map);
    }
}

int at_table_remove(at_table *table, const at_dict_key *key, at_table_rule rule,
                    uint64_t expected)
{
    at_table_spot old;
    at_word *place;
    int found = at_table_seek(table, key, &old, &place);
    if (found == AT_EAGAIN) {
        return AT_EFORMAT;
    }
    if (found < 0 || !allows(rule, found, &old, expected)) {
        return 0;
    }
    link_to(place, at_table_load(&at_table_words(table, old.link)[WORD_NEXT]));
    retire(table, &old);
    count_add(table, (uint64_t)-1);
    forget_groups(table);
    return 1;
}
