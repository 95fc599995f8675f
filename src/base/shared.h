/* Things that several interpreters hold at once: channels, buffers, locks, messages.
 *
 * Each begins with an at_shared, is allocated raw, and lives until the last reference
 * goes, wherever that happens: any thread, with or without a thread state. None holds a
 * PyObject; a Python object that must be kept alive for one is named by interpreter ID
 * and handle, and let go by a message home.
 */
#ifndef AT_BASE_SHARED_H
#define AT_BASE_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct at_shared at_shared;

/* What a kind of shared thing is; one constant for each, compared by address. */
typedef struct at_shared_kind {
    const char *name;
    /* Destroy it; the last reference has gone. ctx: any; must not call out or block */
    void (*free)(at_shared *thing);
} at_shared_kind;

struct at_shared {
    const at_shared_kind *kind; /* fixed after init */
    atomic_size_t references;   /* the release in unref pairs with its own acquire */
};

/* Start with one reference, the caller's. */
void at_shared_init(at_shared *thing, const at_shared_kind *kind);

/* One reference more. The caller must hold one already. Returns `thing`. */
at_shared *at_shared_ref(at_shared *thing);

/* `count` references more. The caller must hold one already. */
void at_shared_ref_many(at_shared *thing, size_t count);

/* One reference more, unless the last has gone and `thing` is about to be freed. For
 * those who find it without holding one, under a mutex that its `free` takes too. */
bool at_shared_try_ref(at_shared *thing);

/* One reference less; frees `thing` with the last. NULL is allowed. */
void at_shared_unref(at_shared *thing);

/* `count` references less, at least one, all of which the caller holds. */
void at_shared_unref_many(at_shared *thing, size_t count);

#endif
