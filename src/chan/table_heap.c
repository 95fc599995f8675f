/* The units of a table: which are in use; see table_inside.h.
 *
 * One bit for each, and the first row that is long enough is taken: so memory that was
 * never needed is never touched. For each power of two a hint says where rows of that
 * length begin at the earliest, so that the full beginning is not looked through again
 * and again. A wrong bit or hint leads to a row that is inside the table as well. */
#include "chan/table_inside.h"

static size_t class_of(size_t count)
{
    return (size_t)(63 - __builtin_clzll(count));
}

bool at_table_heap_is_used(const at_table *table, size_t unit)
{
    return (at_table_load(&table->map[unit / WORD_BITS]) >> unit % WORD_BITS & 1) != 0;
}

/* The bits of `count` units from `unit` on that lie in one word with it, and how many.
 */
static uint64_t bits_of(size_t unit, size_t count, size_t *covered)
{
    size_t first = unit % WORD_BITS;
    *covered = count < WORD_BITS - first ? count : WORD_BITS - first;
    uint64_t ones =
        *covered == WORD_BITS ? ~UINT64_C(0) : (UINT64_C(1) << *covered) - 1;
    return ones << first;
}

bool at_table_heap_mark(at_table *table, size_t unit, size_t count)
{
    while (count != 0) {
        size_t covered;
        uint64_t bits = bits_of(unit, count, &covered);
        at_word *word = &table->map[unit / WORD_BITS];
        uint64_t before = at_table_load(word);
        if ((before & bits) != 0) {
            return false;
        }
        at_table_store(word, before | bits);
        unit += covered;
        count -= covered;
    }
    return true;
}

/* The free units from `unit` on, in one word; or those in use, as 0. */
static size_t free_from(const at_table *table, size_t unit, size_t *used)
{
    uint64_t word = at_table_load(&table->map[unit / WORD_BITS]) >> unit % WORD_BITS;
    size_t left = WORD_BITS - unit % WORD_BITS;
    size_t zeros = word != 0 ? (size_t)__builtin_ctzll(word) : left;
    size_t ones = ~word != 0 ? (size_t)__builtin_ctzll(~word) : left;
    *used = ones < left ? ones : left;
    return zeros < left ? zeros : left;
}

/* The first row of `count` free units, or 0. `*hint` is where to begin, and then where
 * the next one may. */
static size_t find(const at_table *table, size_t count, size_t *hint)
{
    size_t least = (size_t)1 << class_of(count);
    size_t row = 0; /* free units right before `unit` */
    size_t first = 0;
    size_t unit = *hint;
    while (unit < table->unit_count) {
        size_t used;
        size_t zeros = free_from(table, unit, &used);
        row = zeros != 0 ? row + zeros : 0;
        unit += zeros != 0 ? zeros : used;
        size_t begin = unit - row;
        bool fits = row >= count && begin + count <= table->unit_count;
        if (first == 0 && row >= least && !fits) {
            first = begin;
        }
        if (fits) {
            *hint = first != 0 && first != begin ? first : begin + count;
            return begin;
        }
    }
    *hint = first != 0 ? first : table->unit_count;
    return 0;
}

size_t at_table_longest_free_bytes(const at_table *table)
{
    uint64_t high = at_table_load(&table->head->high_unit);
    size_t end = high < table->unit_count ? (size_t)high : table->unit_count;
    size_t longest = 0; /* but for the last row, which reaches to the end of all */
    size_t row = 0;
    size_t unit = 1;
    while (unit < end) {
        size_t used;
        size_t zeros = free_from(table, unit, &used);
        longest = row > longest ? row : longest;
        row = zeros != 0 ? row + zeros : 0;
        unit += zeros != 0 ? zeros : used;
    }
    size_t begin = unit - row;
    size_t last = begin < table->unit_count ? table->unit_count - begin : 0;
    return (last > longest ? last : longest) * AT_TABLE_UNIT_BYTES;
}

size_t at_table_heap_take(at_table *table, size_t count)
{
    at_word *word = &table->head->hints[class_of(count)];
    uint64_t known = at_table_load(word);
    size_t hint = known != 0 && known < table->unit_count ? (size_t)known
                  : known == 0                            ? 1
                                                          : table->unit_count;
    size_t unit = find(table, count, &hint);
    at_table_store(word, hint);
    if (unit == 0) {
        return 0;
    }
    (void)at_table_heap_mark(table, unit, count);
    struct at_table_head *head = table->head;
    if (at_table_load(&head->high_unit) < unit + count) {
        at_table_store(&head->high_unit, unit + count);
    }
    at_table_store(&head->used_units, at_table_load(&head->used_units) + count);
    return unit;
}

void at_table_heap_give(at_table *table, size_t unit, size_t count)
{
    struct at_table_head *head = table->head;
    at_table_store(&head->used_units, at_table_load(&head->used_units) - count);
    /* Before the units are free: no hint is ever behind a row of its length. A row that
     * is longer now contains one of these units. */
    for (size_t i = 0; i < AT_TABLE_CLASSES; i++) {
        size_t longest = ((size_t)1 << i) - 1;
        size_t begin = unit > longest ? unit - longest : 1;
        if (at_table_load(&head->hints[i]) > begin) {
            at_table_store(&head->hints[i], begin);
        }
    }
    while (count != 0) {
        size_t covered;
        uint64_t bits = bits_of(unit, count, &covered);
        at_word *word = &table->map[unit / WORD_BITS];
        at_table_store(word, at_table_load(word) & ~bits);
        unit += covered;
        count -= covered;
    }
}

void at_table_heap_forget(at_table *table)
{
    for (size_t i = 0; i < AT_TABLE_CLASSES; i++) {
        if (at_table_load(&table->head->hints[i]) != 1) {
            at_table_store(&table->head->hints[i], 1);
        }
    }
}

void at_table_heap_begin(at_table *table)
{
    at_table_store(&table->map[0], 1); /* the first unit is nobody's */
    at_table_heap_forget(table);
}

void at_table_heap_clear(at_table *table)
{
    at_table_zero(table, table->map, (at_word *)(void *)table->stamps);
    at_table_heap_begin(table);
}
