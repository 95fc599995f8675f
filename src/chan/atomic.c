/* Atomic ints; see atomic.h. */
#include "chan/atomic.h"

#include "base/memory.h"
#include "chan/sleep.h"

typedef struct atomic_words {
    _Atomic(int64_t) value;
    atomic_uint turn; /* goes up with every notification */
    atomic_uint sleepers;
} atomic_words;

_Static_assert(sizeof(atomic_words) == AT_ATOMIC_BYTES, "seen by others");

struct at_atomic {
    at_placed placed;
    at_region *region;   /* a reference, or NULL where the words have a place */
    atomic_words *words; /* fixed after init */
    at_spin spin;
};

static void atomic_free(at_shared *thing)
{
    at_atomic *atomic = (at_atomic *)thing;
    if (atomic->region != NULL) {
        at_shared_unref(&atomic->region->shared);
    } else {
        at_place_fini(&atomic->placed.place);
    }
    at_free(atomic);
}

const at_shared_kind at_atomic_kind = {"atomic int", atomic_free};

int at_atomic_new(int64_t value, const at_origin *origin, at_atomic **made,
                  at_fault *fault)
{
    at_atomic *atomic = at_calloc(1, sizeof *atomic);
    if (atomic == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory");
    }
    at_place_facts facts = {.content = AT_PLACE_ATOMIC};
    int result = at_place_init(&atomic->placed.place, origin, &facts,
                               sizeof(atomic_words), fault);
    if (result < 0) {
        at_free(atomic);
        return result;
    }
    at_shared_init(&atomic->placed.shared, &at_atomic_kind);
    at_spin_init(&atomic->spin);
    atomic->words = atomic->placed.place.words;
    if (origin->page == NULL) {
        atomic_store(&atomic->words->value, value);
    }
    *made = atomic;
    return 0;
}

int at_atomic_new_in(at_region *region, size_t offset_bytes, at_atomic **made)
{
    size_t all_bytes = region->memory.size_bytes;
    if (all_bytes < AT_ATOMIC_BYTES || offset_bytes > all_bytes - AT_ATOMIC_BYTES ||
        offset_bytes % _Alignof(atomic_words) != 0) {
        return AT_EINVALID;
    }
    at_atomic *atomic = at_calloc(1, sizeof *atomic);
    if (atomic == NULL) {
        return AT_ENOMEM;
    }
    at_shared_init(&atomic->placed.shared, &at_atomic_kind);
    at_spin_init(&atomic->spin);
    atomic->region = (at_region *)at_shared_ref(&region->shared);
    atomic->words =
        (atomic_words *)(void *)((char *)region->memory.data + offset_bytes);
    atomic->placed.place.scope = AT_PARK_SHARED;
    *made = atomic;
    return 0;
}

bool at_atomic_is_part(const at_atomic *atomic)
{
    return atomic->region != NULL;
}

_Atomic(int64_t) *at_atomic_value(at_atomic *atomic)
{
    return &atomic->words->value;
}

typedef struct look {
    at_atomic *atomic;
    int64_t old;
    int64_t seen;
} look;

static int attempt_change(void *context)
{
    look *mine = context;
    mine->seen = atomic_load(&mine->atomic->words->value);
    return mine->seen != mine->old ? 0 : AT_EAGAIN;
}

int at_atomic_wait(at_atomic *atomic, int64_t old, int64_t *seen,
                   const at_patience *patience)
{
    atomic_words *words = atomic->words;
    look mine = {atomic, old, old};
    int result = at_spin_for(&atomic->spin, attempt_change, &mine);
    if (result == AT_EAGAIN) {
        /* Counted in before the look; notify looks at the count after the change. */
        atomic_fetch_add(&words->sleepers, 1);
        for (;;) {
            unsigned turn = atomic_load(&words->turn);
            result = attempt_change(&mine);
            if (result == 0) {
                break;
            }
            result =
                at_sleep_on(&words->turn, turn, atomic->placed.place.scope, patience);
            if (result < 0) {
                break;
            }
        }
        atomic_fetch_sub(&words->sleepers, 1);
    }
    if (result == AT_ETIMEOUT) {
        result = attempt_change(&mine) == 0 ? 0 : AT_ETIMEOUT;
    }
    *seen = mine.seen;
    return result;
}

int at_atomic_notify(at_atomic *atomic, int count)
{
    atomic_words *words = atomic->words;
    if (atomic_load(&words->sleepers) == 0) {
        return 0;
    }
    atomic_fetch_add(&words->turn, 1);
    return at_spin_wake(&words->turn, count, atomic->placed.place.scope);
}
