/* Tables: after a writer's death, and clearing; see table.h.
 *
 * What follows from the chains is derived again, in an order in which a death in the
 * middle of it is like the first one: it is begun again. */
#include "base/memory.h"
#include "chan/table.h"
#include "chan/table_inside.h"
#include "sys/map.h"

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

/* ---- clearing -------------------------------------------------------------------- */

/* The memory of so many units (256 KiB) is as well kept as given back and fetched again
 * by the next writes. */
enum { KEPT_UNITS = (256 << 10) / AT_TABLE_UNIT_BYTES };

static void store_zeros(at_word *first, const at_word *end)
{
    for (; first < end; first++) {
        if (at_table_load(first) != 0) {
            at_table_store(first, 0);
        }
    }
}

/* The whole pages between two places: false where there are none, or they cannot be
 * emptied. */
static bool empty_pages(const at_table *table, const void *first, const void *end,
                        at_word **begun, at_word **ended)
{
    uintptr_t page = at_page_bytes();
    uintptr_t up = -(uintptr_t)first & (page - 1);
    size_t bytes = (size_t)((const char *)end - (const char *)first);
    if (table->empty == NULL || bytes < up + page) {
        return false;
    }
    bytes = (bytes - up) & ~(page - 1);
    *begun = (at_word *)(void *)((char *)first + up);
    *ended = *begun + bytes / sizeof(at_word);
    at_table_stored();
    return table->empty(*begun, bytes) == 0;
}

void at_table_zero(at_table *table, at_word *first, at_word *end)
{
    at_word *begun;
    at_word *ended;
    if (empty_pages(table, first, end, &begun, &ended)) {
        store_zeros(first, begun);
        store_zeros(ended, end);
    } else {
        store_zeros(first, end);
    }
}

/* Take all entries of `bucket` out, as retire() does with one, and count them: false
 * where the chain is damaged. */
static bool take_out_chain(at_table *table, size_t bucket, size_t *count)
{
    uint64_t links[AT_TABLE_CHAIN_MOST];
    size_t found = 0;
    uint64_t link = at_table_load(&table->buckets[bucket]);
    while (link != 0 && found < AT_TABLE_CHAIN_MOST) {
        at_table_spot spot;
        uint64_t hash;
        if (at_table_look(table, link, &spot, &hash) < 0) {
            break;
        }
        links[found++] = link;
        link = at_table_load(&at_table_words(table, link)[WORD_NEXT]);
    }
    at_table_store(&table->buckets[bucket], 0);
    for (size_t i = 0; i < found; i++) {
        at_table_stored();
        atomic_store_explicit(&table->stamps[at_table_unit_of(links[i])],
                              (uint32_t)links[i] + 1, memory_order_release);
    }
    *count += found;
    return link == 0;
}

/* False where chains were damaged, or some may be in groups that nobody looked at. */
static bool take_out_chains(at_table *table)
{
    size_t end = at_table_bucket_count(table);
    size_t count = 0;
    bool good = true;
    for (size_t bucket = at_table_occupied(table, 0); bucket < end;
         bucket = at_table_occupied(table, bucket + 1)) {
        good = take_out_chain(table, bucket, &count) && good;
    }
    return good && count == at_table_load(&table->head->count);
}

/* The index of a table that held little, whose buckets are zeros by now: of the map,
 * what lies behind was never used, but for who wrote there by other means. */
static void clear_little(at_table *table, size_t high)
{
    at_word *rest = table->map + (high + WORD_BITS - 1) / WORD_BITS;
    store_zeros(table->groups, rest);
    at_table_zero(table, rest, (at_word *)(void *)table->stamps);
    at_table_heap_begin(table);
}

/* Nobody is led there any more. */
static void give_units_back(const at_table *table)
{
    at_word *begun;
    at_word *ended;
    (void)empty_pages(table, table->units,
                      table->units + table->unit_count * AT_TABLE_UNIT_BYTES, &begun,
                      &ended);
}

/* While any entry is linked its units are as they were: who dies before the last is out
 * leaves the others. */
void at_table_clear(at_table *table, bool is_whole)
{
    bool good = take_out_chains(table) && is_whole;
    struct at_table_head *head = table->head;
    size_t high = (size_t)at_table_load(&head->high_unit);
    if (good && high < KEPT_UNITS && high < table->unit_count) {
        clear_little(table, high);
    } else {
        at_table_zero(table, table->buckets, table->map);
        at_table_heap_clear(table);
        if (!good) {
            retire_others(table, 1);
        }
        give_units_back(table);
    }
    at_table_store(&head->high_unit, 1);
    at_table_store(&head->used_units, 0);
    at_table_store(&head->count, 0);
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
