/* A table in memory that somebody wrote over: where, and with what, is the input. What
 * is read is right or refused, nothing outside is touched, and clearing makes it whole.
 */
#include "fuzz.h"

#include "base/error.h"
#include "base/memory.h"
#include "chan/table.h"

enum { BYTES = 4096, KEYS = 12, MOST = 300, CHANGE_BYTES = 11 };

static const uint64_t seed[2] = {3, 4};

static at_dict_key key_of(const at_table *table, const uint64_t *number)
{
    at_dict_key key = {.data = number, .size_bytes = sizeof *number};
    key.hash = at_table_hash(table, &key);
    return key;
}

static int put(at_table *table, uint64_t number, size_t size)
{
    char value[MOST];
    memset(value, (int)(number + size), sizeof value);
    at_dict_key key = key_of(table, &number);
    return at_table_put(table, &key, value, size, AT_TABLE_ALWAYS, 0);
}

static void read_all(const at_table *table)
{
    char value[BYTES];
    for (uint64_t number = 0; number < KEYS; number++) {
        at_dict_key key = key_of(table, &number);
        at_table_spot spot;
        int result = at_table_find(table, &key, &spot);
        HOLDS(result == 0 || result == AT_EAGAIN || result == AT_ENOTFOUND);
        if (result == 0) {
            HOLDS(spot.value_bytes <= BYTES && spot.key_bytes == sizeof number);
            result = at_table_copy(table, &spot, NULL, value);
            HOLDS(result == 0 || result == AT_EFORMAT);
        }
        for (size_t i = 0; result == 0 && i < spot.value_bytes; i++) {
            HOLDS(value[i] == (char)(number + spot.value_bytes));
        }
    }
    at_table_spot spots[AT_TABLE_CHAIN_MOST];
    for (size_t i = at_table_occupied(table, 0); i < at_table_bucket_count(table);
         i = at_table_occupied(table, i + 1)) {
        size_t count, needed;
        (void)at_table_keys(table, i, spots, &count, value, sizeof value, &needed);
    }
}

/* Three bytes say where and how, eight are what. */
static void write_over(char *memory, const uint8_t *data)
{
    size_t offset = (size_t)(data[0] | data[1] << 8) % (BYTES - sizeof(uint64_t));
    uint64_t word, old;
    memcpy(&word, data + 3, sizeof word);
    offset = (data[2] & 1) != 0 ? offset : offset & ~(size_t)7;
    memcpy(&old, memory + offset, sizeof old);
    word = (data[2] & 2) != 0 ? word : old ^ (uint64_t)1 << (word & 63);
    memcpy(memory + offset, &word, sizeof word);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *memory = at_calloc_aligned(AT_TABLE_ALIGNMENT, BYTES);
    HOLDS(memory != NULL);
    at_table table;
    HOLDS(at_table_make(&table, memory, BYTES, seed) == 0);
    for (size_t i = 0; i < KEYS; i++) {
        (void)put(&table, i, i * 20);
    }
    for (; size >= CHANGE_BYTES; data += CHANGE_BYTES, size -= CHANGE_BYTES) {
        write_over(memory, data);
        if ((data[2] & 4) != 0) {
            int result = put(&table, data[3] % KEYS, data[4]);
            HOLDS(result == 1 || result == AT_EFULL || result == AT_EFORMAT);
        }
        if ((data[2] & 8) != 0) {
            uint64_t number = data[5] % KEYS;
            at_dict_key key = key_of(&table, &number);
            (void)at_table_remove(&table, &key, AT_TABLE_ALWAYS, 0);
        }
        if ((data[2] & 16) != 0) {
            (void)at_table_recover(&table);
        }
    }
    at_table opened;
    (void)at_table_open(&opened, memory, BYTES);
    read_all(&table);
    at_table_clear(&table, (size & 1) != 0);
    HOLDS(at_table_count(&table) == 0 && at_table_used_bytes(&table) == 0);
    HOLDS(put(&table, 1, MOST) == 1);
    read_all(&table);
    at_free(memory);
    return 0;
}
