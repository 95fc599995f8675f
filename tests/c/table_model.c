/* See table_model.h. */
#include "table_model.h"

#include <string.h>

#include "base/error.h"
#include "check.h"

uint64_t chance_state;

size_t chance(size_t below)
{
    chance_state ^= chance_state << 13;
    chance_state ^= chance_state >> 7;
    chance_state ^= chance_state << 17;
    return (size_t)(chance_state >> 11) % below;
}

fixture make_table(size_t size_bytes)
{
    fixture made = {.memory = at_calloc_aligned(AT_TABLE_ALIGNMENT, size_bytes),
                    .size_bytes = size_bytes};
    CHECK(made.memory != NULL);
    CHECK(at_table_make(&made.table, made.memory, size_bytes, table_seed) == 0);
    return made;
}

void free_table(fixture *made)
{
    at_free(made->memory);
}

unsigned char byte_of(size_t key, size_t size, size_t i)
{
    return (unsigned char)(key * 31 + size * 7 + i);
}

static size_t key_bytes(size_t number)
{
    return number % 4 == 0 ? number % 23 : sizeof number;
}

at_dict_key key_of(const at_table *table, const size_t *number, char *room)
{
    memset(room, 'k', 32);
    memcpy(room, number, sizeof *number);
    at_dict_key key = {.kind = (int)*number, .data = room};
    key.size_bytes = key_bytes(*number);
    key.hash = at_table_hash(table, &key);
    return key;
}

int put(at_table *table, size_t number, size_t size, at_table_rule rule, uint64_t link)
{
    char room[32];
    char value[LONGEST];
    for (size_t i = 0; i < size; i++) {
        value[i] = (char)byte_of(number, size, i);
    }
    at_dict_key key = key_of(table, &number, room);
    return at_table_put(table, &key, value, size, rule, link);
}

int removed(at_table *table, size_t number)
{
    char room[32];
    at_dict_key key = key_of(table, &number, room);
    return at_table_remove(table, &key, AT_TABLE_ALWAYS, 0);
}

int look(const at_table *table, size_t number)
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

uint64_t link_of(const at_table *table, size_t number)
{
    char room[32];
    at_dict_key key = key_of(table, &number, room);
    at_table_spot spot;
    return at_table_find(table, &key, &spot) == 0 ? spot.link : 0;
}

void check_model(const at_table *table, const int model[KEYS])
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

void none(int model[KEYS])
{
    for (size_t i = 0; i < KEYS; i++) {
        model[i] = NONE;
    }
}
