/* Conditions; see condition.h.
 *
 * A slot's word says whose it is and how far its waiter is. It is claimed, notified and
 * freed with one compare-and-swap each, so a process that dies between two steps leaves
 * at most a slot behind, which the next one that needs it takes.
 */
#include "chan/condition.h"

#include <stdatomic.h>

#include "base/memory.h"
#include "chan/sleep.h"
#include "sys/guardian.h"

/* The two low bits of a slot's word; the rest is the number of the waiter's process. */
enum { FREE, CLAIMED, WAITING, NOTIFIED, PHASES };

enum {
    THIS_PROCESS = 1,
    OWN_LOCK = 1, /* at_place_facts.variant */
    LOCK_BYTES = 64,
    FIRST_SLOTS = 8, /* in private memory */
    MORE_SLOTS = 56,
};

typedef struct slot {
    atomic_uint word;
    _Atomic(uint64_t) ticket; /* who came first */
} slot;

typedef struct condition_words {
    char own_lock[LOCK_BYTES];
    _Atomic(uint64_t) tickets;
    atomic_uint waiting; /* not less than there are; the dead are counted */
    slot slots[];
} condition_words;

/* Slots beyond the place's, of private conditions; freed with the condition. */
typedef struct more_slots {
    struct more_slots *_Atomic next;
    slot slots[MORE_SLOTS];
} more_slots;

struct at_condition {
    at_placed placed;
    at_lock *lock; /* a reference; fixed after init, as the next two */
    condition_words *words;
    size_t slot_count; /* in the place */
    more_slots *_Atomic more;
    at_spin spin;
};

static void condition_free(at_shared *thing)
{
    at_condition *condition = (at_condition *)thing;
    at_shared_unref((at_shared *)condition->lock);
    for (more_slots *one = atomic_load(&condition->more); one != NULL;) {
        more_slots *next = atomic_load(&one->next);
        at_free(one);
        one = next;
    }
    at_place_fini(&condition->placed.place);
    at_free(condition);
}

const at_shared_kind at_condition_kind = {"condition", condition_free};

static size_t words_bytes(size_t slot_count)
{
    return sizeof(condition_words) + slot_count * sizeof(slot);
}

int at_condition_new(at_lock *lock, const at_origin *origin, at_condition **made,
                     at_fault *fault)
{
    at_condition *condition = at_calloc(1, sizeof *condition);
    if (condition == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory");
    }
    at_shared_init(&condition->placed.shared, &at_condition_kind);
    at_spin_init(&condition->spin);
    at_place *place = &condition->placed.place;
    at_place_facts facts = {AT_PLACE_CONDITION, lock == NULL ? OWN_LOCK : 0, 0};
    int result = 0;
    if (lock != NULL) {
        condition->lock = (at_lock *)at_shared_ref((at_shared *)lock);
    } else if (at_lock_new_in(place, true, &condition->lock) < 0) {
        result = at_fault_set(fault, AT_ENOMEM, "out of memory");
    }
    if (result == 0) {
        result = at_place_init(place, origin, &facts, words_bytes(FIRST_SLOTS), fault);
    }
    if (result < 0) {
        at_shared_unref((at_shared *)condition->lock);
        at_free(condition);
        return result;
    }
    bool is_shared = place->scope == AT_PARK_SHARED;
    condition->words = place->words;
    condition->slot_count =
        is_shared ? (at_place_page_words() - words_bytes(0)) / sizeof(slot)
                  : FIRST_SLOTS;
    *made = condition;
    return 0;
}

bool at_condition_needs_lock(const at_place_facts *facts)
{
    return facts->variant != OWN_LOCK;
}

at_lock *at_condition_lock(at_condition *condition)
{
    return condition->lock;
}

/* ---- slots ---------------------------------------------------------------------- */

static at_park_scope scope_of(const at_condition *condition)
{
    return condition->placed.place.scope;
}

/* Walks all slots: `place` counts from 0. NULL at the end. */
static slot *slot_at(at_condition *condition, size_t place)
{
    if (place < condition->slot_count) {
        return &condition->words->slots[place];
    }
    place -= condition->slot_count;
    more_slots *more = atomic_load(&condition->more);
    while (more != NULL && place >= MORE_SLOTS) {
        place -= MORE_SLOTS;
        more = atomic_load(&more->next);
    }
    return more != NULL ? &more->slots[place] : NULL;
}

static unsigned word_of(const at_condition *condition, unsigned phase)
{
    unsigned number =
        scope_of(condition) == AT_PARK_SHARED ? at_guardian_number() : THIS_PROCESS;
    return number * PHASES + phase;
}

/* Whether the process that `word` names has died. */
static bool is_left(const at_condition *condition, unsigned word)
{
    return scope_of(condition) == AT_PARK_SHARED && word != FREE &&
           word / PHASES != at_guardian_current() && !at_guardian_lives(word / PHASES);
}

static slot *claim_slot(at_condition *condition, bool from_the_dead)
{
    slot *one;
    for (size_t i = 0; (one = slot_at(condition, i)) != NULL; i++) {
        unsigned word = atomic_load(&one->word);
        if ((word == FREE || (from_the_dead && is_left(condition, word))) &&
            atomic_compare_exchange_strong(&one->word, &word,
                                           word_of(condition, CLAIMED))) {
            return one;
        }
    }
    return NULL;
}

/* More slots in private memory, the first of them claimed. */
static slot *grow(at_condition *condition)
{
    more_slots *fresh = at_calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        return NULL;
    }
    slot *first = &fresh->slots[0];
    atomic_store(&first->word, word_of(condition, CLAIMED));
    /* At the end: the places of the others must not change. */
    more_slots *_Atomic *link = &condition->more;
    more_slots *none = NULL;
    while (!atomic_compare_exchange_strong(link, &none, fresh)) {
        link = &none->next;
        none = NULL;
    }
    return first;
}

/* The caller waits from now on: 0 with its slot. */
static int enter(at_condition *condition, slot **entered)
{
    slot *mine = claim_slot(condition, false);
    if (mine == NULL) {
        bool is_shared = scope_of(condition) == AT_PARK_SHARED;
        mine = is_shared ? claim_slot(condition, true) : grow(condition);
        if (mine == NULL) {
            return is_shared ? AT_ELIMIT : AT_ENOMEM;
        }
    }
    atomic_store(&mine->ticket, atomic_fetch_add(&condition->words->tickets, 1));
    atomic_fetch_add(&condition->words->waiting, 1);
    atomic_store(&mine->word, word_of(condition, WAITING));
    *entered = mine;
    return 0;
}

/* True when it was notified. */
static bool leave(at_condition *condition, slot *mine)
{
    atomic_fetch_sub(&condition->words->waiting, 1);
    return atomic_exchange(&mine->word, FREE) % PHASES == NOTIFIED;
}

/* ---- waiting --------------------------------------------------------------------- */

static int attempt_notified(void *context)
{
    slot *mine = context;
    return atomic_load(&mine->word) % PHASES == NOTIFIED ? 0 : AT_EAGAIN;
}

static int await(at_condition *condition, slot *mine,
                 const at_patience *patience) AT_DETACHED
{
    int result = at_spin_for(&condition->spin, attempt_notified, mine);
    unsigned waiting = word_of(condition, WAITING);
    while (result == AT_EAGAIN) {
        int slept = at_sleep_on(&mine->word, waiting, scope_of(condition), patience);
        result = slept < 0 ? slept : attempt_notified(mine);
    }
    return result;
}

int at_condition_wait(at_condition *condition, const at_patience *patience)
{
    at_lock *lock = condition->lock;
    if (!at_lock_is_mine(lock)) {
        return AT_EPERMISSION;
    }
    slot *mine;
    int result = enter(condition, &mine);
    if (result < 0) {
        return result;
    }
    unsigned depth = at_lock_let_go(lock);
    result = await(condition, mine, patience);
    /* Signals wait until the lock is held again: the caller relies on that. */
    int retaken = at_lock_take_back(lock, depth, patience->peer);
    /* With the lock: nobody notifies a slot that is about to be left. */
    if (leave(condition, mine)) {
        result = 0;
    }
    return retaken < 0 ? retaken : result;
}

/* ---- notifying ------------------------------------------------------------------- */

/* Who waits longest and lives, or NULL. */
static slot *first_waiting(at_condition *condition, unsigned *seen)
{
    slot *first = NULL;
    slot *one;
    for (size_t i = 0; (one = slot_at(condition, i)) != NULL; i++) {
        unsigned word = atomic_load(&one->word);
        if (word % PHASES != WAITING ||
            (first != NULL &&
             atomic_load(&one->ticket) > atomic_load(&first->ticket))) {
            continue;
        }
        if (is_left(condition, word)) {
            if (atomic_compare_exchange_strong(&one->word, &word, FREE)) {
                atomic_fetch_sub(&condition->words->waiting, 1);
            }
            continue;
        }
        first = one;
        *seen = word;
    }
    return first;
}

int at_condition_notify(at_condition *condition, unsigned count)
{
    if (!at_lock_is_mine(condition->lock)) {
        return AT_EPERMISSION;
    }
    while (count != 0 && atomic_load(&condition->words->waiting) != 0) {
        unsigned word;
        slot *first = first_waiting(condition, &word);
        if (first == NULL) {
            break;
        }
        if (atomic_compare_exchange_strong(&first->word, &word,
                                           word - WAITING + NOTIFIED)) {
            at_spin_wake(&first->word, 1, scope_of(condition));
            count--;
        }
    }
    return 0;
}
