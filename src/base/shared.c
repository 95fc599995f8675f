/* Reference counts of things that cross interpreters; see shared.h. */
#include "base/shared.h"

#include <assert.h>

void at_shared_init(at_shared *thing, const at_shared_kind *kind)
{
    thing->kind = kind;
    atomic_init(&thing->references, 1);
}

at_shared *at_shared_ref(at_shared *thing)
{
    at_shared_ref_many(thing, 1);
    return thing;
}

void at_shared_ref_many(at_shared *thing, size_t count)
{
    size_t before =
        atomic_fetch_add_explicit(&thing->references, count, memory_order_relaxed);
    assert(before != 0);
    (void)before;
}

bool at_shared_try_ref(at_shared *thing)
{
    size_t before = atomic_load_explicit(&thing->references, memory_order_relaxed);
    while (before != 0) {
        if (atomic_compare_exchange_weak_explicit(&thing->references, &before,
                                                  before + 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

void at_shared_unref_many(at_shared *thing, size_t count)
{
    /* Release: what this holder wrote is visible to whoever frees. Acquire: the one who
     * frees sees what every other holder wrote. */
    size_t before =
        atomic_fetch_sub_explicit(&thing->references, count, memory_order_acq_rel);
    assert(before >= count);
    if (before == count) {
        thing->kind->free(thing);
    }
}

void at_shared_unref(at_shared *thing)
{
    if (thing != NULL) {
        at_shared_unref_many(thing, 1);
    }
}
