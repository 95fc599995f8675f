/* A table of numbers, whose values say what they are, for the tests of tables. */
#ifndef AT_TESTS_TABLE_MODEL_H
#define AT_TESTS_TABLE_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "chan/table.h"

enum { SMALL_BYTES = 16 << 10, KEYS = 40, LONGEST = 600 };

static const uint64_t table_seed[2] = {1, 2};

/* Numbers by chance, the same in each run: `chance_state` is set first. */
extern uint64_t chance_state;
size_t chance(size_t below);

typedef struct fixture {
    at_table table;
    char *memory;
    size_t size_bytes;
} fixture;

fixture make_table(size_t size_bytes);
void free_table(fixture *made);

/* The key that stands for a number; its bytes are in `room`, of 32. */
at_dict_key key_of(const at_table *table, const size_t *number, char *room);

/* A value says its key and its size in each byte. */
unsigned char byte_of(size_t key, size_t size, size_t i);

/* Set a number to a value of `size` bytes; take one out. As at_table_put and remove. */
int put(at_table *table, size_t number, size_t size, at_table_rule rule, uint64_t link);
int removed(at_table *table, size_t number);

enum { NONE = -1 };

/* The size of the value of `number`, or NONE; what it consists of is right. */
int look(const at_table *table, size_t number);
uint64_t link_of(const at_table *table, size_t number);

/* What should be in a table: a size for each number, or NONE. */
void none(int model[KEYS]);
void check_model(const at_table *table, const int model[KEYS]);

#endif
