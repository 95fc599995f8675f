/* Tables: with a writer that ends before any of its stores, with whoever makes them
 * whole and ends as well, and with memory that somebody wrote over. */
#include <setjmp.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "chan/table.h"
#include "chan/table_inside.h"
#include "check.h"
#include "sys/map.h"
#include "table_model.h"

/* ---- a writer that ends before a store ------------------------------------------- */

static jmp_buf death;
static long stores_left;

static void count_down(void)
{
    if (stores_left-- == 0) {
        longjmp(death, 1);
    }
}

enum { BEFORE = 8, NEW_KEY = 13, STEP_BYTES = 2600 };

typedef enum doing { SET_NEW, REPLACE, TAKE_OUT, CLEAR, RECOVER } doing;

/* Which of them it is done to: each stands elsewhere in its chain. */
static size_t chosen;

static void act(at_table *table, doing what)
{
    switch (what) {
    case SET_NEW:
        CHECK(put(table, NEW_KEY, 100, AT_TABLE_ALWAYS, 0) == 1);
        break;
    case REPLACE:
        CHECK(put(table, chosen, 300, AT_TABLE_ALWAYS, 0) == 1);
        break;
    case TAKE_OUT:
        CHECK(removed(table, chosen) == 1);
        break;
    case CLEAR:
        at_table_clear(table, true);
        break;
    case RECOVER:
        CHECK(at_table_recover(table) == 0);
    }
}

/* Do it, but for what comes from the store of number `most` on: whether it was over
 * before. */
static bool act_until(at_table *table, doing what, long most)
{
    volatile bool over = false;
    stores_left = most;
    at_table_on_store(count_down);
    if (setjmp(death) == 0) {
        act(table, what);
        over = true;
    }
    at_table_on_store(NULL);
    return over;
}

/* Four buckets for these, and units that others have had. */
static void fill(at_table *table, int before[KEYS])
{
    CHECK(at_table_bucket_count(table) == 4);
    for (size_t i = 0; put(table, i, 0, AT_TABLE_ALWAYS, 0) == 1; i++) {
    }
    for (size_t i = 0; removed(table, i) == 1; i++) {
    }
    none(before);
    for (size_t i = 0; i < BEFORE; i++) {
        before[i] = (int)(i % 3);
        CHECK(put(table, i, i % 3, AT_TABLE_ALWAYS, 0) == 1);
    }
}

/* What is seen is what was before or what comes after, for each key; and then that
 * stays so. */
static void is_old_or_new(at_table *table, const int before[KEYS],
                          const int after[KEYS], int seen[KEYS])
{
    for (size_t i = 0; i < KEYS; i++) {
        seen[i] = look(table, i);
        CHECK(seen[i] == before[i] || seen[i] == after[i]);
    }
}

static void dies_at(doing what, long most, long again, bool *over, bool *recovered)
{
    fixture made = make_table(STEP_BYTES);
    at_table *table = &made.table;
    int before[KEYS];
    int after[KEYS];
    int seen[KEYS];
    fill(table, before);
    memcpy(after, before, sizeof after);
    switch (what) {
    case SET_NEW:
        after[NEW_KEY] = 100;
        break;
    case REPLACE:
        after[chosen] = 300;
        break;
    case TAKE_OUT:
        after[chosen] = NONE;
        break;
    default:
        none(after);
    }
    *over = act_until(table, what, most);
    is_old_or_new(table, before, after, seen);
    *recovered = act_until(table, RECOVER, again);
    if (!*recovered) {
        for (size_t i = 0; i < KEYS; i++) {
            CHECK(look(table, i) == seen[i]);
        }
        CHECK(at_table_recover(table) == 0);
    }
    check_model(table, seen);
    /* Nothing has become less. */
    at_table_clear(table, true);
    CHECK(at_table_used_bytes(table) == 0);
    CHECK(put(table, 9, LONGEST, AT_TABLE_ALWAYS, 0) == 1 && look(table, 9) == LONGEST);
    free_table(&made);
}

static void dies_at_any_store(void)
{
    static const doing all[] = {SET_NEW, REPLACE, TAKE_OUT, CLEAR};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        long stores = 0;
        for (chosen = 0; chosen < BEFORE; chosen++) {
            bool over = false;
            for (long most = 0; !over; most++, stores++) {
                bool recovered;
                dies_at(all[i], most, 1 << 20, &over, &recovered);
                CHECK(recovered);
            }
        }
        CHECK(stores > 5 * BEFORE);
        (void)printf("   %ld stores\n", stores - BEFORE);
    }
}

/* The first of all, whose bucket nobody had looked at. */
static void dies_at_the_first(void)
{
    bool over = false;
    for (long most = 0; !over; most++) {
        fixture made = make_table(SMALL_BYTES);
        over = act_until(&made.table, SET_NEW, most);
        int model[KEYS];
        none(model);
        model[NEW_KEY] = look(&made.table, NEW_KEY);
        CHECK(model[NEW_KEY] == NONE || model[NEW_KEY] == 100);
        CHECK(at_table_recover(&made.table) == 0);
        check_model(&made.table, model);
        free_table(&made);
    }
}

/* The only one, after which nobody looks at any bucket. */
static void dies_at_the_last(void)
{
    bool over = false;
    chosen = NEW_KEY;
    for (long most = 0; !over; most++) {
        fixture made = make_table(SMALL_BYTES);
        at_table *table = &made.table;
        CHECK(put(table, chosen, 100, AT_TABLE_ALWAYS, 0) == 1);
        over = act_until(table, TAKE_OUT, most);
        int model[KEYS];
        none(model);
        model[chosen] = look(table, chosen);
        CHECK(model[chosen] == NONE || (!over && model[chosen] == 100));
        CHECK(at_table_recover(table) == 0);
        check_model(table, model);
        CHECK(!over || at_table_occupied(table, 0) == at_table_bucket_count(table));
        CHECK(!over || !at_table_has_group(table, 0));
        model[3] = 7;
        CHECK(put(table, 3, 7, AT_TABLE_ALWAYS, 0) == 1);
        check_model(table, model);
        free_table(&made);
    }
}

/* Who found an entry before its writer died is told that it is gone, though others have
 * its units since. */
static void reads_meanwhile(doing what, bool then_clears)
{
    chosen = 1;
    bool over = false;
    for (long most = 0; !over; most++) {
        fixture made = make_table(STEP_BYTES);
        at_table *table = &made.table;
        int before[KEYS];
        fill(table, before);
        char room[32];
        char value[LONGEST];
        at_dict_key key = key_of(table, &chosen, room);
        at_table_spot spot;
        CHECK(at_table_find(table, &key, &spot) == 0);
        over = act_until(table, what, most);
        int size = look(table, chosen);
        if (then_clears) {
            at_table_clear(table, false);
            size = NONE;
        } else {
            CHECK(at_table_recover(table) == 0);
        }
        for (size_t i = NEW_KEY; put(table, i, 1, AT_TABLE_ALWAYS, 0) == 1; i++) {
        }
        CHECK(at_table_copy(table, &spot, NULL, value) ==
              (size == before[chosen] ? 0 : AT_EAGAIN));
        free_table(&made);
    }
}

static void who_reads_meanwhile(void)
{
    for (int then_clears = 0; then_clears < 2; then_clears++) {
        reads_meanwhile(REPLACE, then_clears != 0);
        reads_meanwhile(TAKE_OUT, then_clears != 0);
        reads_meanwhile(CLEAR, then_clears != 0);
    }
}

/* And whoever makes it whole may die of it too. */
static void dies_while_it_recovers(void)
{
    chosen = 2;
    for (long first = 0; first < 60; first++) {
        bool recovered = false;
        for (long again = 0; !recovered; again++) {
            bool over;
            dies_at(REPLACE, first, again, &over, &recovered);
        }
    }
}

/* ---- a large one is cleared ------------------------------------------------------ */

enum { LARGE_BYTES = 1 << 20, MUCH_BYTES = 300 << 10 };

static bool may_empty;
static size_t emptied_bytes;

/* As the kernel does it, a page after the other, any of which may be the last. */
static int empty(void *address, size_t size_bytes)
{
    size_t page = at_page_bytes();
    CHECK((uintptr_t)address % page == 0 && size_bytes % page == 0 && size_bytes != 0);
    if (!may_empty) {
        return AT_ESYSTEM;
    }
    for (char *at = address; at != (char *)address + size_bytes; at += page) {
        at_table_stored();
        memset(at, 0, page);
        emptied_bytes += page;
    }
    return 0;
}

/* One that held little, or once much. */
static fixture make_large(bool much, int model[KEYS])
{
    fixture made = make_table(LARGE_BYTES);
    made.table.empty = empty;
    if (much) {
        char *value = at_calloc(1, MUCH_BYTES);
        at_dict_key key = {.kind = KEYS, .data = "much", .size_bytes = 4};
        key.hash = at_table_hash(&made.table, &key);
        CHECK(at_table_put(&made.table, &key, value, MUCH_BYTES, AT_TABLE_ALWAYS, 0) ==
              1);
        CHECK(at_table_remove(&made.table, &key, AT_TABLE_ALWAYS, 0) == 1);
        at_free(value);
    }
    none(model);
    for (size_t i = 0; i < BEFORE; i++) {
        model[i] = (int)i * 20;
        CHECK(put(&made.table, i, i * 20, AT_TABLE_ALWAYS, 0) == 1);
    }
    return made;
}

/* Its clearing ends before store `most`; whoever comes next goes on with the clearing,
 * or keeps what is left. Whether it was over before. */
static bool clearing_dies_at(long most, bool much, bool goes_on)
{
    int before[KEYS];
    int after[KEYS];
    int seen[KEYS];
    fixture made = make_large(much, before);
    none(after);
    bool over = act_until(&made.table, CLEAR, most);
    is_old_or_new(&made.table, before, after, seen);
    if (goes_on) {
        at_table_clear(&made.table, false);
        check_model(&made.table, after);
    } else {
        CHECK(at_table_recover(&made.table) == 0);
        check_model(&made.table, seen);
    }
    CHECK(put(&made.table, 3, LONGEST, AT_TABLE_ALWAYS, 0) == 1);
    CHECK(look(&made.table, 3) == LONGEST && at_table_check(&made.table));
    free_table(&made);
    return over;
}

static void a_large_one_is_cleared(void)
{
    for (int way = 0; way < 8; way++) {
        may_empty = (way & 1) != 0;
        bool over = false;
        long most = 0;
        for (; !over; most++) {
            over = clearing_dies_at(most, (way & 2) != 0, (way & 4) != 0);
        }
        CHECK(most > 2 * BEFORE);
        (void)printf("   %ld stores\n", most - 1);
    }
}

/* What held little gives nothing back, and all units go of what held much. */
static void memory_is_given_back(void)
{
    may_empty = true;
    for (int much = 0; much < 2; much++) {
        int model[KEYS];
        fixture made = make_large(much != 0, model);
        emptied_bytes = 0;
        at_table_clear(&made.table, true);
        size_t units = at_table_capacity_bytes(&made.table);
        CHECK(much == 0 ? emptied_bytes == 0 : emptied_bytes > units - MUCH_BYTES / 2);
        free_table(&made);
    }
}

/* Somebody wrote that no bucket was ever used, so none of them is looked at. */
static void what_is_hidden_is_cleared(void)
{
    int model[KEYS];
    fixture made = make_large(false, model);
    at_table_store(&made.table.groups[0], 0);
    CHECK(at_table_occupied(&made.table, 0) == at_table_bucket_count(&made.table));
    CHECK(look(&made.table, 1) == NONE);
    at_table_clear(&made.table, true);
    none(model);
    check_model(&made.table, model);
    free_table(&made);
}

/* ---- memory that somebody wrote over --------------------------------------------- */

/* Whatever it does, it returns, and touches nothing outside: ASan sees that. */
static void use_damaged(fixture *made)
{
    at_table *table = &made->table;
    char room[32];
    char *value = at_alloc(made->size_bytes);
    for (size_t i = 0; i < KEYS; i++) {
        at_dict_key key = key_of(table, &i, room);
        at_table_spot spot;
        int result = at_table_find(table, &key, &spot);
        CHECK(result == 0 || result == AT_EAGAIN || result == AT_ENOTFOUND);
        if (result == 0) {
            CHECK(spot.value_bytes <= made->size_bytes);
            result = at_table_copy(table, &spot, NULL, value);
            CHECK(result == 0 || result == AT_EFORMAT);
            CHECK(result != 0 || spot.value_bytes <= LONGEST);
            for (size_t j = 0; result == 0 && j < spot.value_bytes; j++) {
                CHECK((unsigned char)value[j] == byte_of(i, spot.value_bytes, j));
            }
        }
    }
    for (size_t bucket = 0; bucket < at_table_bucket_count(table); bucket++) {
        at_table_spot spots[AT_TABLE_CHAIN_MOST];
        size_t here;
        size_t needed;
        (void)at_table_keys(table, bucket, spots, &here, value, made->size_bytes,
                            &needed);
    }
    for (size_t step = 0; step < 20; step++) {
        size_t i = chance(KEYS);
        int result = put(table, i, chance(LONGEST), chance(3), link_of(table, i));
        CHECK(result == 0 || result == 1 || result == AT_EFULL || result == AT_EFORMAT);
        (void)removed(table, chance(KEYS));
    }
    at_free(value);
}

static void written_over(void)
{
    chance_state = 99;
    for (size_t round = 0; round < 3000; round++) {
        fixture made = make_table((4 << 10) + 64 * chance(64));
        for (size_t i = 0; i < 20; i++) {
            (void)put(&made.table, chance(KEYS), chance(200), AT_TABLE_ALWAYS, 0);
        }
        size_t kind = chance(3);
        size_t words = made.size_bytes / 8;
        for (size_t n = 1 + chance(12); n != 0; n--) {
            uint64_t *word = (uint64_t *)(void *)made.memory + chance(words);
            *word = kind == 0   ? chance(SIZE_MAX)
                    : kind == 1 ? *word ^ (uint64_t)1 << chance(64)
                                : ((uint64_t *)(void *)made.memory)[chance(words)];
        }
        use_damaged(&made);
        int result = at_table_recover(&made.table);
        CHECK(result == 0 || result == AT_EFORMAT);
        use_damaged(&made);
        at_table_clear(&made.table, chance(2) == 0);
        CHECK(at_table_check(&made.table));
        int model[KEYS];
        none(model);
        model[3] = 5;
        CHECK(put(&made.table, 3, 5, AT_TABLE_ALWAYS, 0) == 1);
        check_model(&made.table, model);
        free_table(&made);
    }
}

int main(void)
{
    RUN(dies_at_any_store);
    RUN(dies_at_the_first);
    RUN(dies_at_the_last);
    RUN(who_reads_meanwhile);
    RUN(dies_while_it_recovers);
    RUN(a_large_one_is_cleared);
    RUN(memory_is_given_back);
    RUN(what_is_hidden_is_cleared);
    RUN(written_over);
    return 0;
}
