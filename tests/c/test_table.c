/* Tables: against a model, full, and read while others write. */
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/siphash.h"
#include "chan/table.h"
#include "check.h"
#include "sys/thread.h"
#include "table_model.h"

/* ---- as a dict ------------------------------------------------------------------- */

/* CPython's own, for the key (0, 0). */
static void hashes(void)
{
    static const uint64_t zeros[2];
    char bytes[63];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)i;
    }
    CHECK(at_siphash(zeros, "a", 1) == UINT64_C(0x407448d2b89b1813));
    CHECK(at_siphash(zeros, "atoll", 5) == UINT64_C(0x23e2788c010d9bf1));
    CHECK(at_siphash(zeros, "12345678", 8) == UINT64_C(0x3489982430560a87));
    CHECK(at_siphash(zeros, bytes, sizeof bytes) == UINT64_C(0x385d3e39e5f37359));
}

/* Of any size, all of it inside its memory: ASan sees what is not. */
static void sizes(void)
{
    at_table table;
    CHECK(at_table_make(&table, NULL, AT_TABLE_LEAST_BYTES - 1, table_seed) ==
          AT_EINVALID);
    for (size_t size = AT_TABLE_LEAST_BYTES; size < 9000; size += 8) {
        fixture made = make_table(size);
        size_t most = at_table_capacity_bytes(&made.table);
        char *value = at_calloc(1, most);
        at_dict_key key = {.data = "k", .size_bytes = 1};
        key.hash = at_table_hash(&made.table, &key);
        size_t fits = most - AT_TABLE_ENTRY_BYTES - 8;
        CHECK(at_table_put(&made.table, &key, value, fits, AT_TABLE_ALWAYS, 0) == 1);
        CHECK(at_table_used_bytes(&made.table) == most);
        CHECK(at_table_check(&made.table));
        CHECK(at_table_remove(&made.table, &key, AT_TABLE_ALWAYS, 0) == 1);
        CHECK(at_table_put(&made.table, &key, value, fits + 1, AT_TABLE_ALWAYS, 0) ==
              AT_EFULL);
        CHECK(at_table_used_bytes(&made.table) == 0 && at_table_check(&made.table));
        CHECK(at_table_open(&table, made.memory, size) == 0);
        at_free(value);
        free_table(&made);
    }
}

static void against_a_model(void)
{
    chance_state = 7;
    fixture made = make_table(SMALL_BYTES);
    at_table *table = &made.table;
    int model[KEYS];
    none(model);
    size_t full = 0;
    for (size_t step = 0; step < 4000; step++) {
        size_t i = chance(KEYS);
        size_t size = chance(LONGEST);
        int there = model[i];
        int result;
        switch (chance(6)) {
        case 0:
            CHECK(removed(table, i) == (there != NONE));
            model[i] = NONE;
            break;
        case 1:
            result = put(table, i, size, AT_TABLE_IF_NEW, 0);
            CHECK(result == AT_EFULL || result == (there == NONE));
            model[i] = result == 1 ? (int)size : there;
            break;
        case 2: {
            uint64_t link = link_of(table, i);
            CHECK((link != 0) == (there != NONE));
            CHECK(put(table, i, size, AT_TABLE_IF_SAME, link + 1) == 0);
            result = put(table, i, size, AT_TABLE_IF_SAME, link);
            CHECK(result == AT_EFULL || result == (there != NONE));
            model[i] = result == 1 ? (int)size : there;
            CHECK(result != 1 || link_of(table, i) != link);
            break;
        }
        default:
            result = put(table, i, size, AT_TABLE_ALWAYS, 0);
            CHECK(result == AT_EFULL || result == 1);
            full += result == AT_EFULL;
            model[i] = result == 1 ? (int)size : there;
        }
        if (step == 3000) {
            at_table_clear(table, true);
            none(model);
        }
        check_model(table, model);
    }
    CHECK(full > 20); /* it was full at times */
    free_table(&made);
}

/* The memory of what is replaced and taken out is used again, for other sizes too. */
static void used_again(void)
{
    fixture made = make_table(SMALL_BYTES);
    at_table *table = &made.table;
    for (size_t i = 0; i < 300000; i++) {
        CHECK(put(table, i % 5, i * 17 % LONGEST, AT_TABLE_ALWAYS, 0) == 1);
        CHECK(i % 3 != 0 || removed(table, i % 5) == 1);
    }
    CHECK(at_table_check(table));
    for (size_t i = 0; i < 5; i++) {
        (void)removed(table, i);
    }
    CHECK(at_table_used_bytes(table) == 0 && at_table_check(table));
    free_table(&made);
}

/* The longest free piece takes an item of its size, and none that is larger. */
static void longest_free(void)
{
    chance_state = 3;
    for (size_t size = AT_TABLE_LEAST_BYTES; size < 12000; size += 64) {
        fixture made = make_table(size);
        at_table *table = &made.table;
        for (size_t i = 0; put(table, i, chance(200), AT_TABLE_ALWAYS, 0) == 1; i++) {
        }
        for (size_t i = 0; i < KEYS; i++) {
            (void)(chance(3) == 0 && removed(table, i));
        }
        size_t longest = at_table_longest_free_bytes(table);
        char *value = at_calloc(1, longest + 1);
        at_dict_key key = {.kind = -1};
        key.hash = at_table_hash(table, &key);
        size_t most = longest - (longest != 0 ? AT_TABLE_ENTRY_BYTES : 0);
        CHECK(at_table_put(table, &key, value, most + 1, AT_TABLE_ALWAYS, 0) ==
              AT_EFULL);
        CHECK(longest == 0 || at_table_item_bytes(0, most) == longest);
        CHECK(longest == 0 ||
              at_table_put(table, &key, value, most, AT_TABLE_ALWAYS, 0) == 1);
        at_free(value);
        free_table(&made);
    }
}

/* So much memory is enough for such a capacity, and not much too much. */
static void memory_for_a_capacity(void)
{
    for (size_t capacity = 0; capacity < 100000; capacity += 64) {
        size_t bytes = at_table_memory_bytes(capacity);
        fixture made = make_table(bytes);
        size_t found = at_table_capacity_bytes(&made.table);
        CHECK(found >= capacity);
        CHECK(found < capacity + 512 || bytes == AT_TABLE_LEAST_BYTES);
        free_table(&made);
    }
}

static void what_is_no_table(void)
{
    fixture made = make_table(SMALL_BYTES);
    at_table table;
    CHECK(at_table_open(&table, made.memory, made.size_bytes) == 0);
    CHECK(at_table_open(&table, made.memory, made.size_bytes - 64) == AT_EFORMAT);
    CHECK(at_table_open(&table, made.memory, 100) == AT_EFORMAT);
    for (size_t i = 0; i < 40; i++) {
        made.memory[i] ^= 1;
        CHECK(at_table_open(&table, made.memory, made.size_bytes) == AT_EFORMAT);
        made.memory[i] ^= 1;
    }
    memset(made.memory, 0, made.size_bytes);
    CHECK(at_table_open(&table, made.memory, made.size_bytes) == AT_EFORMAT);
    free_table(&made);
}

/* ---- readers while one writes ---------------------------------------------------- */

enum { READERS = 3, WRITES = 60000 };

typedef struct race {
    at_table *table;
    atomic_bool over;
    atomic_size_t seen;
} race;

static void read_all(void *context)
{
    race *running = context;
    while (!atomic_load(&running->over)) {
        for (size_t i = 0; i < KEYS; i++) {
            int size = look(running->table, i);
            CHECK(i % 2 != 0 || size != NONE); /* these are replaced, never taken out */
            atomic_fetch_add(&running->seen, size != NONE);
        }
    }
}

static void race_in(size_t size_bytes, size_t longest)
{
    chance_state = 5;
    fixture made = make_table(size_bytes);
    race running = {.table = &made.table};
    for (size_t i = 0; i < KEYS; i++) {
        CHECK(put(&made.table, i, 1, AT_TABLE_ALWAYS, 0) == 1);
    }
    at_thread readers[READERS];
    for (size_t i = 0; i < READERS; i++) {
        CHECK(at_thread_start(&readers[i], "reader", read_all, &running, NULL) == 0);
    }
    for (size_t i = 0; i < WRITES || atomic_load(&running.seen) < WRITES; i++) {
        size_t key = chance(KEYS);
        if (key % 2 != 0 && chance(2) == 0) {
            (void)removed(&made.table, key);
        } else {
            CHECK(put(&made.table, key, chance(longest), AT_TABLE_ALWAYS, 0) == 1);
        }
    }
    atomic_store(&running.over, true);
    for (size_t i = 0; i < READERS; i++) {
        at_thread_join(&readers[i]);
    }
    CHECK(at_table_check(&made.table));
    free_table(&made);
}

static void read_while_written(void)
{
    race_in(64 << 10, LONGEST);
}

/* Eight buckets for all keys, and each unit is used again at once. */
static void read_while_chains_change(void)
{
    race_in(5200, 16);
}

int main(void)
{
    RUN(hashes);
    RUN(sizes);
    RUN(against_a_model);
    RUN(used_again);
    RUN(longest_free);
    RUN(memory_for_a_capacity);
    RUN(what_is_no_table);
    RUN(read_while_written);
    RUN(read_while_chains_change);
    return 0;
}
