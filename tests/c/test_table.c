/* Tables: against a model, full, with a writer that ends before any of its stores, with
 * memory that somebody wrote over, and read while others write. */
#include <setjmp.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/siphash.h"
#include "chan/table.h"
#include "check.h"
#include "sys/thread.h"

enum { SMALL_BYTES = 16 << 10, KEYS = 40, LONGEST = 600, TABLE_HEAD_BYTES = 512 };

static const uint64_t seed[2] = {1, 2};

/* ---- numbers by chance, the same in each run ------------------------------------- */

static uint64_t chance_state;

static size_t chance(size_t below)
{
    chance_state ^= chance_state << 13;
    chance_state ^= chance_state >> 7;
    chance_state ^= chance_state << 17;
    return (size_t)(chance_state >> 11) % below;
}

/* ---- a table, and what should be in it ------------------------------------------- */

typedef struct fixture {
    at_table table;
    char *memory;
    size_t size_bytes;
} fixture;

static fixture make(size_t size_bytes)
{
    fixture made = {.memory = at_calloc_aligned(AT_TABLE_ALIGNMENT, size_bytes),
                    .size_bytes = size_bytes};
    CHECK(made.memory != NULL);
    CHECK(at_table_make(&made.table, made.memory, size_bytes, seed) == 0);
    return made;
}

static void end(fixture *made)
{
    at_free(made->memory);
}

/* A value says its key and its version in each byte, and by its size. */
static unsigned char byte_of(size_t key, size_t size, size_t i)
{
    return (unsigned char)(key * 31 + size * 7 + i);
}

static size_t key_bytes(size_t number)
{
    return number % 4 == 0 ? number % 23 : sizeof number;
}

static at_dict_key key_of(const at_table *table, const size_t *number, char *room)
{
    memset(room, 'k', 32);
    memcpy(room, number, sizeof *number);
    at_dict_key key = {.kind = (int)*number, .data = room};
    key.size_bytes = key_bytes(*number);
    key.hash = at_table_hash(table, &key);
    return key;
}

static int put(at_table *table, size_t number, size_t size, at_table_rule rule,
               uint64_t link)
{
    char room[32];
    char value[LONGEST];
    for (size_t i = 0; i < size; i++) {
        value[i] = (char)byte_of(number, size, i);
    }
    at_dict_key key = key_of(table, &number, room);
    return at_table_put(table, &key, value, size, rule, link);
}

static int removed(at_table *table, size_t number)
{
    char room[32];
    at_dict_key key = key_of(table, &number, room);
    return at_table_remove(table, &key, AT_TABLE_ALWAYS, 0);
}

enum { NONE = -1 };

/* The size of the value of `number`, or NONE; what it consists of is right. */
static int look(const at_table *table, size_t number)
{
    char room[32];
    at_dict_key key = key_of(table, &number, room);
    at_table_spot spot;
    char value[LONGEST];
    char found[32];
    int result;
    do {
        result = at_table_find(table, &key, &spot);
        if (result == 0) {
            CHECK(spot.value_bytes <= LONGEST && spot.key_bytes == key.size_bytes);
            result = at_table_copy(table, &spot, found, value);
        }
    } while (result == AT_EAGAIN);
    if (result == AT_ENOTFOUND) {
        return NONE;
    }
    CHECK(result == 0 && memcmp(found, key.data, key.size_bytes) == 0);
    for (size_t i = 0; i < spot.value_bytes; i++) {
        CHECK((unsigned char)value[i] == byte_of(number, spot.value_bytes, i));
    }
    return (int)spot.value_bytes;
}

static uint64_t link_of(const at_table *table, size_t number)
{
    char room[32];
    at_dict_key key = key_of(table, &number, room);
    at_table_spot spot;
    return at_table_find(table, &key, &spot) == 0 ? spot.link : 0;
}

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
    CHECK(at_table_make(&table, NULL, AT_TABLE_LEAST_BYTES - 1, seed) == AT_EINVALID);
    for (size_t size = AT_TABLE_LEAST_BYTES; size < 9000; size += 8) {
        fixture made = make(size);
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
        end(&made);
    }
}

static void check_model(const at_table *table, const int model[KEYS])
{
    size_t count = 0;
    for (size_t i = 0; i < KEYS; i++) {
        CHECK(look(table, i) == model[i]);
        count += model[i] != NONE;
    }
    CHECK(at_table_count(table) == count && at_table_check(table));
    size_t seen = 0;
    for (size_t bucket = 0; bucket < at_table_bucket_count(table); bucket++) {
        at_table_spot spots[AT_TABLE_CHAIN_MOST];
        size_t here;
        size_t needed;
        char room[2048];
        CHECK(at_table_keys(table, bucket, spots, &here, room, sizeof room, &needed) ==
              0);
        const char *key = room;
        for (size_t i = 0; i < here; i++) {
            at_dict_key found = {0, spots[i].kind, key, spots[i].key_bytes};
            found.hash = at_table_hash(table, &found);
            at_table_spot spot;
            CHECK(at_table_find(table, &found, &spot) == 0);
            CHECK(spot.link == spots[i].link);
            key += spots[i].key_bytes;
        }
        CHECK((size_t)(key - room) == needed);
        CHECK(needed == 0 || at_table_keys(table, bucket, spots, &here, room,
                                           needed - 1, &needed) == AT_EFULL);
        seen += here;
    }
    CHECK(seen == count);
}

static void none(int model[KEYS])
{
    for (size_t i = 0; i < KEYS; i++) {
        model[i] = NONE;
    }
}

static void against_a_model(void)
{
    chance_state = 7;
    fixture made = make(SMALL_BYTES);
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
            at_table_clear(table);
            none(model);
        }
        check_model(table, model);
    }
    CHECK(full > 20); /* it was full at times */
    end(&made);
}

/* The memory of what is replaced and taken out is used again, for other sizes too. */
static void used_again(void)
{
    fixture made = make(SMALL_BYTES);
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
    end(&made);
}

static void what_is_no_table(void)
{
    fixture made = make(SMALL_BYTES);
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
    end(&made);
}

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
        at_table_clear(table);
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
    fixture made = make(STEP_BYTES);
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
    at_table_clear(table);
    CHECK(at_table_used_bytes(table) == 0);
    CHECK(put(table, 9, LONGEST, AT_TABLE_ALWAYS, 0) == 1 && look(table, 9) == LONGEST);
    end(&made);
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
        fixture made = make(SMALL_BYTES);
        over = act_until(&made.table, SET_NEW, most);
        int model[KEYS];
        none(model);
        model[NEW_KEY] = look(&made.table, NEW_KEY);
        CHECK(model[NEW_KEY] == NONE || model[NEW_KEY] == 100);
        CHECK(at_table_recover(&made.table) == 0);
        check_model(&made.table, model);
        end(&made);
    }
}

/* Who found an entry before its writer died is told that it is gone, though others have
 * its units since. */
static void who_reads_meanwhile(void)
{
    chosen = 1;
    bool over = false;
    for (long most = 0; !over; most++) {
        fixture made = make(STEP_BYTES);
        at_table *table = &made.table;
        int before[KEYS];
        fill(table, before);
        char room[32];
        char value[LONGEST];
        at_dict_key key = key_of(table, &chosen, room);
        at_table_spot spot;
        CHECK(at_table_find(table, &key, &spot) == 0);
        over = act_until(table, REPLACE, most);
        int size = look(table, chosen);
        CHECK(at_table_recover(table) == 0);
        for (size_t i = NEW_KEY; put(table, i, 1, AT_TABLE_ALWAYS, 0) == 1; i++) {
        }
        CHECK(at_table_copy(table, &spot, NULL, value) ==
              (size == before[chosen] ? 0 : AT_EAGAIN));
        end(&made);
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
        fixture made = make((4 << 10) + 64 * chance(64));
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
        at_table_clear(&made.table);
        CHECK(at_table_check(&made.table));
        int model[KEYS];
        none(model);
        model[3] = 5;
        CHECK(put(&made.table, 3, 5, AT_TABLE_ALWAYS, 0) == 1);
        check_model(&made.table, model);
        end(&made);
    }
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
    fixture made = make(size_bytes);
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
    end(&made);
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
    RUN(what_is_no_table);
    RUN(dies_at_any_store);
    RUN(dies_at_the_first);
    RUN(who_reads_meanwhile);
    RUN(dies_while_it_recovers);
    RUN(written_over);
    RUN(read_while_written);
    RUN(read_while_chains_change);
    return 0;
}
