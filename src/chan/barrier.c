/* Barriers; see sync.h.
 *
 * One word says all: how many wait, whether the barrier is broken, the number of the
 * round, and how each of the last rounds ended, so that a party that is late to look
 * still learns how its own did. A round fills; where a party has an action it is then
 * acted, by one of those that have one; and it ends. The number of the round with its
 * phase is what parties sleep on.
 */
#include <stdatomic.h>

#include "base/memory.h"
#include "chan/sleep.h"
#include "chan/sync.h"

/* The word, from its low end. */
enum { WAITING_BITS = 16, PHASE_SHIFT = 32, ROUND_SHIFT = 33 };
#define BROKEN (UINT64_C(1) << WAITING_BITS)
/* A party that is there has an action; it is being called. */
#define ACTION (UINT64_C(1) << (WAITING_BITS + 1))
#define TAKEN (UINT64_C(1) << (WAITING_BITS + 2))
/* Bits 19 to 31: a bit for each of the last rounds, the youngest lowest: 1 where it was
 * broken. */
enum { ENDINGS_SHIFT = WAITING_BITS + 3, ENDINGS = 13 };
/* All have come, and the action is not done. */
#define ACTING (UINT64_C(1) << PHASE_SHIFT)

typedef struct barrier_words {
    _Atomic(uint64_t) word;
} barrier_words;

struct at_barrier {
    at_placed placed;
    barrier_words *words; /* fixed after init, as the next */
    unsigned parties;
    at_spin spin;
};

static void barrier_free(at_shared *thing)
{
    at_place_fini(&((at_placed *)thing)->place);
    at_free(thing);
}

const at_shared_kind at_barrier_kind = {"barrier", barrier_free};

int at_barrier_new(unsigned parties, const at_origin *origin, at_barrier **made,
                   at_fault *fault)
{
    at_barrier *barrier = at_calloc(1, sizeof *barrier);
    if (barrier == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory");
    }
    at_place_facts facts = {AT_PLACE_BARRIER, 0, parties};
    int result = at_place_init(&barrier->placed.place, origin, &facts,
                               sizeof(barrier_words), fault);
    if (result < 0) {
        at_free(barrier);
        return result;
    }
    at_shared_init(&barrier->placed.shared, &at_barrier_kind);
    at_spin_init(&barrier->spin);
    barrier->words = barrier->placed.place.words;
    barrier->parties = parties;
    *made = barrier;
    return 0;
}

/* ---- the word -------------------------------------------------------------------- */

static unsigned waiting_in(uint64_t word)
{
    return (unsigned)(word & AT_BARRIER_MOST);
}

static unsigned round_of(uint64_t word)
{
    return (unsigned)(word >> ROUND_SHIFT);
}

/* The next round, with nobody in it. */
static uint64_t next_round(uint64_t word, bool broken)
{
    uint64_t endings = word >> ENDINGS_SHIFT & ((1U << ENDINGS) - 1);
    endings = (endings << 1 | broken) & ((1U << ENDINGS) - 1);
    return ((word >> ROUND_SHIFT) + 1) << ROUND_SHIFT | endings << ENDINGS_SHIFT;
}

/* How the round that ended ended, as long as that is known. */
static bool was_broken(uint64_t word, unsigned round)
{
    unsigned age = (round_of(word) - round - 1) & (UINT32_MAX >> 1);
    return age < ENDINGS && (word >> ENDINGS_SHIFT >> age & 1) != 0;
}

/* The half of the word that has round and phase: processors here are little-endian. */
static atomic_uint *round_word(at_barrier *barrier)
{
    return (atomic_uint *)(void *)&barrier->words->word + 1;
}

static void wake(at_barrier *barrier)
{
    at_spin_wake(round_word(barrier), AT_PARK_ALL, barrier->placed.place.scope);
}

/* ---- waiting --------------------------------------------------------------------- */

typedef struct party {
    at_barrier *barrier;
    at_arrival *arrival;
    unsigned seen; /* the half that is slept on, at the last attempt */
} party;

/* Come, unless the round that is there is full. AT_EAGAIN: look again. */
static int arrive(party *mine)
{
    at_barrier *barrier = mine->barrier;
    at_arrival *arrival = mine->arrival;
    uint64_t word = atomic_load(&barrier->words->word);
    uint64_t changed;
    bool last;
    do {
        mine->seen = (unsigned)(word >> PHASE_SHIFT);
        if ((word & BROKEN) != 0) {
            return AT_EBROKEN;
        }
        if ((word & ACTING) != 0) {
            return AT_EAGAIN; /* a round of others, who are about to leave */
        }
        arrival->place = waiting_in(word);
        arrival->round = round_of(word);
        last = arrival->place + 1 >= barrier->parties;
        changed = (word + 1) | (arrival->has_action ? ACTION : 0);
        if (last && (changed & ACTION) == 0) {
            changed = next_round(word, false);
        } else if (last) {
            changed |= ACTING | (arrival->has_action ? TAKEN : 0);
        }
    } while (!atomic_compare_exchange_weak(&barrier->words->word, &word, changed));
    arrival->arrived = true;
    if (!last) {
        return AT_EAGAIN;
    }
    wake(barrier);
    arrival->acts = (changed & TAKEN) != 0;
    return (changed & ACTING) == 0 || arrival->acts ? 0 : AT_EAGAIN;
}

static int attempt_barrier(void *context)
{
    party *mine = context;
    at_arrival *arrival = mine->arrival;
    if (!arrival->arrived) {
        int result = arrive(mine);
        if (result != AT_EAGAIN || !arrival->arrived) {
            return result;
        }
    }
    uint64_t word = atomic_load(&mine->barrier->words->word);
    mine->seen = (unsigned)(word >> PHASE_SHIFT);
    if (round_of(word) != arrival->round) {
        return was_broken(word, arrival->round) ? AT_EBROKEN : 0;
    }
    /* Full, and nobody acts: it is for the first with an action. Where another takes it
     * in this moment there is nothing left but to wait. */
    bool wanted = arrival->has_action && (word & (ACTING | TAKEN)) == ACTING;
    arrival->acts = wanted && atomic_compare_exchange_strong(
                                  &mine->barrier->words->word, &word, word | TAKEN);
    return arrival->acts ? 0 : AT_EAGAIN;
}

/* Break the barrier, if `round` has not ended. */
static void give_up(at_barrier *barrier, unsigned round)
{
    uint64_t word = atomic_load(&barrier->words->word);
    do {
        if (round_of(word) != round) {
            return;
        }
    } while (!atomic_compare_exchange_weak(&barrier->words->word, &word,
                                           next_round(word, true) | BROKEN));
    wake(barrier);
}

void at_barrier_leave(at_barrier *barrier, const at_arrival *arrival)
{
    if (arrival->arrived) {
        give_up(barrier, arrival->round);
    } else { /* of no round yet, whatever became of the one that was full */
        at_barrier_abort(barrier);
    }
}

int at_barrier_wait(at_barrier *barrier, at_arrival *arrival,
                    const at_patience *patience)
{
    party mine = {barrier, arrival, 0};
    int slept = 0;
    int result = at_spin_for(&barrier->spin, attempt_barrier, &mine);
    while (result == AT_EAGAIN && slept == 0) {
        slept = at_sleep_on(round_word(barrier), mine.seen, barrier->placed.place.scope,
                            patience);
        result = attempt_barrier(&mine);
    }
    if (result != AT_EAGAIN || slept == AT_EINTERRUPTED) {
        return result != AT_EAGAIN ? result : slept;
    }
    at_barrier_leave(barrier, arrival);
    if (!arrival->arrived) {
        return slept != AT_ETIMEOUT ? slept : AT_EBROKEN;
    }
    arrival->has_action = false;
    result = attempt_barrier(&mine); /* it may have ended well meanwhile */
    return result == AT_EBROKEN && slept != AT_ETIMEOUT ? slept : result;
}

int at_barrier_acted(at_barrier *barrier, const at_arrival *arrival, bool well)
{
    if (!well) {
        give_up(barrier, arrival->round);
        return AT_EBROKEN;
    }
    uint64_t word = atomic_load(&barrier->words->word);
    do {
        if (round_of(word) != arrival->round) {
            return AT_EBROKEN; /* by one who did not wait for the action */
        }
    } while (!atomic_compare_exchange_weak(&barrier->words->word, &word,
                                           next_round(word, false)));
    wake(barrier);
    return 0;
}

/* ---- breaking it ----------------------------------------------------------------- */

void at_barrier_abort(at_barrier *barrier)
{
    uint64_t word = atomic_load(&barrier->words->word);
    while (!atomic_compare_exchange_weak(&barrier->words->word, &word,
                                         next_round(word, true) | BROKEN)) {
    }
    wake(barrier);
}

void at_barrier_reset(at_barrier *barrier)
{
    uint64_t word = atomic_load(&barrier->words->word);
    uint64_t changed;
    do {
        changed = waiting_in(word) != 0 ? next_round(word, true) : word & ~BROKEN;
    } while (!atomic_compare_exchange_weak(&barrier->words->word, &word, changed));
    wake(barrier);
}

unsigned at_barrier_parties(const at_barrier *barrier)
{
    return barrier->parties;
}

unsigned at_barrier_waiting(const at_barrier *barrier)
{
    return waiting_in(atomic_load(&barrier->words->word));
}

bool at_barrier_is_broken(const at_barrier *barrier)
{
    return (atomic_load(&barrier->words->word) & BROKEN) != 0;
}
