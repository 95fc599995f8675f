/* A hash table in memory that processes share: keys and values that are bytes.
 *
 * Everything lies in one run of memory of a fixed size: a head, the buckets, a map of
 * what is in use, a stamp for each unit of 64 bytes, and the units. An entry is a row
 * of units with its key and value; the entries of a bucket are a chain. An entry never
 * changes once it is linked, but for the link to the next one. To set a value is to
 * write a new entry and to link it where the old one was: one store of 8 bytes. So the
 * table is whole after each single store, and who is killed between any two leaves the
 * old value or the new one; the rest (which units are in use, how many entries there
 * are) follows from the chains, and at_table_recover() derives it again.
 *
 * A link is the number of an entry's first unit and that unit's stamp. The stamp goes
 * up when the entry is taken out, before its units are used for anything else, and is
 * never part of an entry. So who reads without a lock looks at the stamp after it has
 * read: where it still is that of the link, what was read is the entry. A reader writes
 * nothing, and waits for nobody; where writers were faster it is told to try again.
 *
 * Nothing that lies in the memory is believed: numbers are compared with the sizes of
 * this process's own at_table before they are used, chains are followed for a bounded
 * number of steps, and an entry has a checksum, of its link too.
 *
 * Writers exclude each other, which is their caller's affair (common_dict.h).
 */
#ifndef AT_CHAN_TABLE_H
#define AT_CHAN_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "chan/dict.h"

enum {
    AT_TABLE_ALIGNMENT = 64,
    AT_TABLE_LEAST_BYTES = 2048,
    /* The entries of one bucket: 8 on the average in the fullest table, and the hash is
     * keyed, so there are never so many. */
    AT_TABLE_CHAIN_MOST = 256,
};

/* The unit of an entry, and so of sizes: an entry takes AT_TABLE_ENTRY_BYTES, its key
 * and its value, each rounded up to 8, and the whole rounded up to a unit. */
enum { AT_TABLE_UNIT_BYTES = 64, AT_TABLE_ENTRY_BYTES = 40 };

/* Make whole pages zeros without writing them: 0, or a negative code where that cannot
 * be (at_map_empty()). */
typedef int at_table_empty(void *address, size_t size_bytes);

/* One process's view of a table: fixed after make or open. */
typedef struct at_table {
    at_table_empty *empty; /* NULL until the caller of make or open sets it */
    struct at_table_head *head;
    _Atomic(uint64_t) *buckets; /* links */
    _Atomic(uint64_t) *groups;  /* a bit for a page of buckets that was ever used */
    _Atomic(uint64_t) *map;     /* a bit for each unit in use */
    _Atomic(uint32_t) *stamps;
    char *units;
    size_t bucket_mask;
    size_t unit_count; /* the first is never an entry's, so that no link is 0 */
    uint64_t seed[2];
} at_table;

/* A new table over `size_bytes` of zeros at a multiple of AT_TABLE_ALIGNMENT; `seed` is
 * random.
 * ctx:  any
 * errs: AT_EINVALID where it is less than AT_TABLE_LEAST_BYTES or more than 2^38 */
int at_table_make(at_table *table, void *memory, size_t size_bytes,
                  const uint64_t seed[2]);

/* The table that lies there.
 * ctx:  any
 * errs: AT_EFORMAT where there is none of this size and version */
int at_table_open(at_table *table, void *memory, size_t size_bytes);

/* The hash that `key` has in this table, for key->hash below. ctx: any */
uint64_t at_table_hash(const at_table *table, const at_dict_key *key);

size_t at_table_count(const at_table *table);

/* How much of the units' memory is used, how much there is, and how much is free in one
 * piece; while others write, as they were at some moment. ctx: any */
size_t at_table_used_bytes(const at_table *table);
size_t at_table_capacity_bytes(const at_table *table);
size_t at_table_longest_free_bytes(const at_table *table);

/* How much of that an item takes. ctx: any */
size_t at_table_item_bytes(size_t key_bytes, size_t value_bytes);

/* The memory of a table with a capacity of at least so much. ctx: any */
size_t at_table_memory_bytes(size_t capacity_bytes);

/* ---- reading: any number of threads and processes, while others write -------------
 *
 * ctx:  any; writes nothing
 * errs: AT_EAGAIN: a writer was faster. For one who excludes the writers: damaged */

/* An entry, as long as nobody takes it out. */
typedef struct at_table_spot {
    uint64_t link; /* no other entry has had it, or will */
    int kind;
    size_t key_bytes;
    size_t value_bytes;
} at_table_spot;

/* errs: AT_ENOTFOUND */
int at_table_find(const at_table *table, const at_dict_key *key, at_table_spot *spot);

/* Copy the key, where `key` is not NULL, and the value of what is at `spot`.
 * errs: AT_EFORMAT: it is there, and is damaged */
int at_table_copy(const at_table *table, const at_table_spot *spot, void *key,
                  void *value);

static inline size_t at_table_bucket_count(const at_table *table)
{
    return table->bucket_mask + 1;
}

/* The first bucket from `bucket` on that has entries, or their count. */
size_t at_table_occupied(const at_table *table, size_t bucket);

/* The entries of `bucket`, and copies of their keys, one behind the other.
 * errs: AT_EFULL where `room_bytes` are not enough; `*needed_bytes` are said anyway */
int at_table_keys(const at_table *table, size_t bucket,
                  at_table_spot spots[AT_TABLE_CHAIN_MOST], size_t *count, char *room,
                  size_t room_bytes, size_t *needed_bytes);

/* ---- writing: one at a time -------------------------------------------------------
 *
 * ctx:  any
 * errs: AT_EFORMAT: damaged; nothing was changed */

/* When a value is set, or taken out. */
typedef enum at_table_rule {
    AT_TABLE_ALWAYS,
    AT_TABLE_IF_NEW,  /* nothing has the key */
    AT_TABLE_IF_SAME, /* what has it is at the link that is given */
} at_table_rule;

/* Set `key` to `value`. 1, or 0 where the rule forbids it.
 * errs: AT_EFULL */
int at_table_put(at_table *table, const at_dict_key *key, const void *value,
                 size_t value_bytes, at_table_rule rule, uint64_t link);

/* Take `key` out. 1, or 0 where it is not there or the rule forbids it. */
int at_table_remove(at_table *table, const at_dict_key *key, at_table_rule rule,
                    uint64_t link);

/* Take everything out, a bucket after the other. The table is whole after it, whatever
 * it was before; `is_whole` says that no writer has died in it since it last was. With
 * an `empty` it costs what is there, and not the size, and what was more than a little
 * memory is the system's again. */
void at_table_clear(at_table *table, bool is_whole);

/* A writer died: make whole what is not an entry.
 * errs: AT_EFORMAT: the chains themselves are damaged, which no writer's death does */
int at_table_recover(at_table *table);

#ifdef AT_DEBUG
/* Is everything as it should be? Tests only: nobody writes. */
bool at_table_check(const at_table *table);

/* Have `function` (or NULL) called before each store to shared memory. Tests only. */
void at_table_on_store(void (*function)(void));
#endif

#endif
