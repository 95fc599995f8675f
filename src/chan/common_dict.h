/* Dictionaries that processes share: a table (table.h) in memory of its own, and a lock
 * (lock.h) that one writer at a time holds.
 *
 * Who reads takes no lock, unless writers were faster several times. Who writes packs
 * before it takes the lock, and lets it go before it waits for anything else. A writer
 * whose process dies leaves the old value or the new one; whoever has the lock next
 * makes the rest whole first. Nothing is allocated under the lock.
 *
 * Everything that is asked is a request, which is tried first and then, where that
 * cannot do it at once, run with patience.
 */
#ifndef AT_CHAN_COMMON_DICT_H
#define AT_CHAN_COMMON_DICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/contexts.h"
#include "base/error.h"
#include "base/shared.h"
#include "chan/dict.h"
#include "chan/place.h"
#include "chan/table.h"
#include "chan/wait.h"

typedef struct at_common_dict at_common_dict;

extern const at_shared_kind at_common_dict_kind;

/* Of a dict's memory; at least it is a page. */
#define AT_COMMON_MOST_BYTES ((size_t)1 << 37)

/* Of `size_bytes` of memory, rounded up to pages; an adopted page has its own size.
 * ctx:  any
 * owns: the caller gets one reference; it begins with an at_placed
 * errs: fault: AT_EINVALID for a size below a page or above the most; where the page
 * holds no table of this version; those of at_place_init */
int at_common_dict_new(size_t size_bytes, const at_origin *origin,
                       at_common_dict **dict, at_fault *fault);

/* To look at, and for tests. */
const at_table *at_common_dict_table(const at_common_dict *dict);

/* The memory as a whole; and of another dict, whose table has at least this capacity.
 */
size_t at_common_dict_bytes(const at_common_dict *dict);
size_t at_common_dict_bytes_for(const at_common_dict *dict, size_t capacity_bytes);

typedef enum at_common_kind {
    AT_COMMON_GET,    /* the entry of `key` */
    AT_COMMON_HAS,    /* whether there is one */
    AT_COMMON_PUT,    /* set `key` to the bytes, if `rule` allows it */
    AT_COMMON_REMOVE, /* take it out, the same */
    AT_COMMON_CLEAR,
    /* The entries of the first bucket from `bucket` on that has any, without values;
     * `bucket` is then that one's number. None: they are at their end. */
    AT_COMMON_KEYS,
} at_common_kind;

/* Zeros but for what is set by the user of it. */
typedef struct at_common_request {
    at_common_kind kind;
    at_table_rule rule;
    const at_dict_key *key; /* the hash need not be set */
    const void *data;
    size_t size_bytes;
    uint64_t expected; /* the version of an entry, for AT_TABLE_IF_SAME */
    size_t bucket;
    /* What comes back, the caller's: one entry, whose item is a message */
    at_dict_entry *entry;
    /* or some, each with a reference, in an array for at_free() */
    at_dict_entry **entries;
    size_t entry_count;
    bool inherited; /* by a try, for its run: the lock, from the dead */
} at_common_request;

/* A value from here on is not copied by a try. */
enum { AT_COMMON_LARGE_BYTES = 64 << 10 };

/* Do what is asked. 0 for AT_COMMON_KEYS and AT_COMMON_CLEAR; else 1, or 0 where the
 * key is not there or the rule forbids it.
 * ctx:  any; never blocks
 * errs: AT_EAGAIN: at_common_dict_run() has to be called, with the same request;
 *       AT_EFULL, AT_EFORMAT, AT_ENOMEM; AT_EUNSUPPORTED, as for locks */
int at_common_dict_try(at_common_dict *dict, at_common_request *request);

/* The same, waiting for the lock where it is needed.
 * ctx:  detached
 * errs: the same but AT_EAGAIN; AT_EBUSY: the lock's holder is no process that is seen
 *       here; those of at_sleep_on() */
int at_common_dict_run(at_common_dict *dict, at_common_request *request,
                       const at_patience *patience) AT_DETACHED;

#endif
