/* Dictionaries that interpreters share: keys that are bytes, values that are messages.
 *
 * A key and its value are an entry, which never changes: to set a value is to put
 * another entry in the place of the first. Entries are counted, so whoever found one
 * reads it for as long as it likes, while others replace it; nothing is packed,
 * unpacked or destroyed under a lock. "As it was" is therefore one comparison of
 * pointers, and at_dict_swap() is an atomic read-modify-write of any length.
 *
 * The table is in shards, by hash, each with a mutex that is held to look a key up, to
 * exchange a pointer, or to move a shard's pointers into a larger array. So what
 * concerns one key is in one order for all; what concerns several is not one step.
 *
 * Locks: a shard's mutex; nothing is allocated, freed or called under one.
 */
#ifndef AT_CHAN_DICT_H
#define AT_CHAN_DICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/shared.h"

typedef struct at_dict at_dict;

extern const at_shared_kind at_dict_kind;

/* Equal where kind, size and bytes are. */
typedef struct at_dict_key {
    uint64_t hash; /* the same for equal keys */
    int kind;      /* the user's: what the bytes mean */
    const void *data;
    size_t size_bytes;
} at_dict_key;

typedef struct at_dict_entry {
    at_shared shared;
    at_dict_key key;  /* fixed after new, as the next; `data` lies behind it */
    void *item;       /* a message or a word */
    uint64_t version; /* of a dict between processes, which says when it is the same */
} at_dict_entry;

/* ctx:  any
 * owns: the caller holds one reference; an at_dict begins with its at_shared
 * errs: AT_ENOMEM */
int at_dict_new(at_dict **dict);

/* An entry with a copy of `key`.
 * ctx:  any
 * owns: takes item on 0; the caller holds one reference to the entry
 * errs: AT_ENOMEM */
int at_dict_entry_new(const at_dict_key *key, void *item, at_dict_entry **entry);

/* In all of these an entry that comes back, `*found` or `*old`, is the caller's to
 * unref; it is NULL where there is none. */

/* ctx:  any
 * errs: AT_ENOTFOUND */
int at_dict_get(at_dict *dict, const at_dict_key *key, at_dict_entry **found);

/* Put `entry` in the place of the one with its key.
 * ctx:  any
 * owns: takes entry on 0
 * errs: AT_ENOMEM */
int at_dict_put(at_dict *dict, at_dict_entry *entry, at_dict_entry **old);

/* Put `entry` if there is none with its key. Returns 1, or 0 with the one there is.
 * ctx:  any
 * owns: takes entry on 1
 * errs: AT_ENOMEM */
int at_dict_put_new(at_dict *dict, at_dict_entry *entry, at_dict_entry **found);

/* Put `entry` in the place of `expected`, which has the same key, if that still is
 * there; where `entry` is NULL, take `expected` out. ctx: any owns: takes entry on true
 */
bool at_dict_swap(at_dict *dict, const at_dict_entry *expected, at_dict_entry *entry);

/* Take the entry with `key` out.
 * ctx:  any
 * errs: AT_ENOTFOUND */
int at_dict_remove(at_dict *dict, const at_dict_key *key, at_dict_entry **old);

/* Any entry, which stays: the first from `*cursor` on (0 is a beginning), which is then
 * its place, and around. Who takes out what it finds passes each place once; who does
 * not adds one to the cursor.
 * ctx:  any
 * errs: AT_ENOTFOUND when it is empty */
int at_dict_any(at_dict *dict, size_t *cursor, at_dict_entry **found);

void at_dict_clear(at_dict *dict);
size_t at_dict_count(const at_dict *dict);

/* The entries that there are, each with a reference of the caller's, in an array that
 * is freed with at_free(). Those of one shard are of one moment.
 * ctx:  any
 * errs: AT_ENOMEM */
int at_dict_snapshot(at_dict *dict, at_dict_entry ***entries, size_t *count);

#endif
