/* Tables: after a writer's death, and clearing; see table.h.
 *
 * What follows from the chains is derived again, in an order in which a death in the
 * middle of it is like the first one: it is begun again. */
#include "base/memory.h"
#include "chan/table.h"
#include "chan/table_inside.h"

/* Called for each entry; false ends the walk. */
typedef bool at_visit(void *context, const at_table_spot *spot);

/* Visit the entries: false where a chain is damaged, or a visit ended it. */
static bool walk(const at_table *table, at_visit *visit, void *context)
{
    size_t end = at_table_bucket_count(table);
    for (size_t bucket = at_table_occupied(table, 0); bucket < end;
         bucket = at_table_occupied(table, bucket + 1)) {
        uint64_t link = at_table_load(&table->buckets[bucket]);
        for (size_t step = 0; link != 0; step++) {
            at_table_spot spot;
            uint64_t hash;
            if (step == AT_TABLE_CHAIN_MOST ||
                at_table_look(table, link, &spot, &hash) < 0 ||
                (hash & table->bucket_mask) != bucket || !visit(context, &spot)) {
                return false;
            }
            link = at_table_load(&at_table_words(table, link)[WORD_NEXT]);
        }
    }
    return true;
}

typedef struct survey {
    at_table *table;
    size_t count;
    size_t units;
    size_t high;
} survey;

static size_t units_of(const at_table_spot *spot)
{
    return at_table_unit_count(spot->key_bytes, spot->value_bytes);
}

/* The first unit of each: no two entries begin there. */
static bool mark_first(void *context, const at_table_spot *spot)
{
    survey *found = context;
    size_t unit = at_table_unit_of(spot->link);
    size_t end = unit + units_of(spot);
    found->high = found->high > end ? found->high : end;
    found->count++;
    found->units += units_of(spot);
    return at_table_heap_mark(found->table, unit, 1);
}

/* The others: nobody else's. */
static bool mark_others(void *context, const at_table_spot *spot)
{
    survey *found = context;
    return at_table_heap_mark(found->table, at_table_unit_of(spot->link) + 1,
                              units_of(spot) - 1);
}

/* Whoever reads an entry that is in no chain is told so. The first unit of those that
 * are is marked. */
static void retire_others(at_table *table, size_t high)
{
    uint64_t before = at_table_load(&table->head->high_unit);
    size_t end = before > high ? (size_t)before : high;
    end = end < table->unit_count ? end : table->unit_count;
    for (size_t unit = 1; unit < end; unit++) {
        if (!at_table_heap_is_used(table, unit)) {
            at_table_stored();
            atomic_fetch_add_explicit(&table->stamps[unit], 1, memory_order_release);
        }
    }
}

int at_table_recover(at_table *table)
{
    survey found = {.table = table, .high = 1};
    at_table_heap_clear(table);
    if (!walk(table, mark_first, &found)) {
        return AT_EFORMAT;
    }
    retire_others(table, found.high);
    if (!walk(table, mark_others, &found)) {
        return AT_EFORMAT;
    }
    struct at_table_head *head = table->head;
    at_table_store(&head->high_unit, found.high);
    at_table_store(&head->used_units, found.units);
    at_table_store(&head->count, found.count);
    return 0;
}

/* All of them: the groups may be damaged too. */
void at_table_clear(at_table *table)
{
    for (size_t bucket = 0; bucket <= table->bucket_mask; bucket++) {
        if (at_table_load(&table->buckets[bucket]) != 0) {
            at_table_store(&table->buckets[bucket], 0);
        }
    }
    for (size_t i = 0; i <= table->bucket_mask / AT_TABLE_GROUP / WORD_BITS; i++) {
        if (at_table_load(&table->groups[i]) != 0) {
            at_table_store(&table->groups[i], 0);
        }
    }
    (void)at_table_recover(table); /* of a table without entries: nothing can fail */
}

#ifdef AT_DEBUG

static void (*on_store)(void);

void at_table_on_store(void (*function)(void))
{
    on_store = function;
}

void at_table_stored(void)
{
    if (on_store != NULL) {
        on_store();
    }
}

typedef struct audit {
    const at_table *table;
    unsigned char *used;
    size_t count;
    size_t units;
} audit;

static bool audit_entry(void *context, const at_table_spot *spot)
{
    audit *seen = context;
    size_t unit = at_table_unit_of(spot->link);
    for (size_t i = 0; i < units_of(spot); i++) {
        if (seen->used[unit + i] || !at_table_heap_is_used(seen->table, unit + i)) {
            return false;
        }
        seen->used[unit + i] = 1;
    }
    seen->count++;
    seen->units += units_of(spot);
    char *key = at_alloc(spot->key_bytes);
    char *value = at_alloc(spot->value_bytes);
    bool good = key != NULL && value != NULL &&
                at_table_copy(seen->table, spot, key, value) == 0;
    at_free(key);
    at_free(value);
    return good;
}

/* Is no row of free units before the hint for its length? */
static bool hints_hold(const audit *seen)
{
    size_t row = 0;
    for (size_t unit = seen->table->unit_count - 1; unit != 0; unit--) {
        row = seen->used[unit] ? 0 : row + 1;
        for (size_t i = 0; i < AT_TABLE_CLASSES && (size_t)1 << i <= row; i++) {
            if (at_table_load(&seen->table->head->hints[i]) > unit) {
                return false;
            }
        }
    }
    return true;
}

bool at_table_check(const at_table *table)
{
    audit seen = {table, at_calloc(table->unit_count, 1), 0, 0};
    bool good = seen.used != NULL && walk(table, audit_entry, &seen);
    for (size_t unit = 1; good && unit < table->unit_count; unit++) {
        good = at_table_heap_is_used(table, unit) == (seen.used[unit] != 0);
    }
    good = good && hints_hold(&seen) && seen.count == at_table_count(table) &&
           seen.units * AT_TABLE_UNIT_BYTES == at_table_used_bytes(table);
    at_free(seen.used);
    return good;
}

#endif
