/* Events and semaphores; see sync.h.
 *
 * Each has a count of those who may be asleep, so that nobody pays for a wake that
 * finds nobody: the waiter counts itself in and then looks, who changes the word looks
 * at the count after that, all sequentially consistent. A process that is killed while
 * it sleeps leaves the count too high, which costs wakes and nothing else.
 */
#include "chan/sync.h"

#include <stdatomic.h>

#include "base/memory.h"
#include "chan/atomic.h"
#include "chan/common_dict.h"
#include "chan/condition.h"
#include "chan/sleep.h"

typedef struct sync_words {
    atomic_uint word;
    atomic_uint sleepers;
    at_wake_note
        note; /* of the last wake; whatever stands here is believed in bounds */
} sync_words;

/* What events and semaphores are made of. */
typedef struct sync {
    at_placed placed;
    sync_words *words; /* fixed after init */
    at_spin spin;
} sync;

struct at_event {
    sync sync;
};

struct at_semaphore {
    sync sync;
    unsigned limit; /* fixed after init */
};

static void sync_free(at_shared *thing)
{
    at_place_fini(&((at_placed *)thing)->place);
    at_free(thing);
}

const at_shared_kind at_event_kind = {"event", sync_free};
const at_shared_kind at_semaphore_kind = {"semaphore", sync_free};
const at_shared_kind at_bounded_semaphore_kind = {"bounded semaphore", sync_free};

static at_park_scope scope_of(const sync *self)
{
    return self->placed.place.scope;
}

static int sync_new(size_t size_bytes, const at_shared_kind *kind,
                    const at_place_facts *facts, const at_origin *origin, sync **made,
                    at_fault *fault)
{
    sync *fresh = at_calloc(1, size_bytes);
    if (fresh == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory");
    }
    int result =
        at_place_init(&fresh->placed.place, origin, facts, sizeof(sync_words), fault);
    if (result < 0) {
        at_free(fresh);
        return result;
    }
    at_shared_init(&fresh->placed.shared, kind);
    at_spin_init(&fresh->spin);
    fresh->spin.between_processes = scope_of(fresh) == AT_PARK_SHARED;
    fresh->words = fresh->placed.place.words;
    *made = fresh;
    return 0;
}

static void wake(sync *self, int count)
{
    if (atomic_load(&self->words->sleepers) != 0) {
        at_wake_note_write(&self->words->note, at_spin_wakes());
        at_park_wake(&self->words->word, count, scope_of(self));
    }
}

/* Attempt, spin, and sleep on the word while it is `expected`. */
static int await(sync *self, unsigned expected, at_attempt *attempt, void *context,
                 const at_patience *patience) AT_DETACHED
{
    int result = at_spin_for(&self->spin, attempt, context);
    if (result != AT_EAGAIN) {
        return result;
    }
    atomic_fetch_add(&self->words->sleepers, 1);
    while ((result = attempt(context)) == AT_EAGAIN) {
        result = at_sleep_on(&self->words->word, expected, scope_of(self), patience);
        if (result < 0) {
            break;
        }
        at_spin_was_woken(&self->spin, &self->words->note);
    }
    atomic_fetch_sub(&self->words->sleepers, 1);
    return result;
}

/* ---- events ---------------------------------------------------------------------
 *
 * The word goes up with every set() and every clear() that changes something, and is
 * odd while the event is set: a waiter sees that it was set, though it is no longer. */

int at_event_new(const at_origin *origin, at_event **made, at_fault *fault)
{
    at_place_facts facts = {.content = AT_PLACE_EVENT};
    return sync_new(sizeof **made, &at_event_kind, &facts, origin, (sync **)made,
                    fault);
}

static bool set_to(at_event *event, bool set)
{
    atomic_uint *word = &event->sync.words->word;
    unsigned seen = atomic_load(word);
    while ((seen % 2 != 0) != set) {
        if (atomic_compare_exchange_weak(word, &seen, seen + 1)) {
            return true;
        }
    }
    return false;
}

void at_event_set(at_event *event)
{
    if (set_to(event, true)) {
        wake(&event->sync, AT_PARK_ALL);
    }
}

void at_event_clear(at_event *event)
{
    (void)set_to(event, false);
}

bool at_event_is_set(const at_event *event)
{
    return atomic_load(&event->sync.words->word) % 2 != 0;
}

typedef struct event_wait {
    at_event *event;
    unsigned seen; /* when the wait began */
} event_wait;

static int attempt_event(void *context)
{
    event_wait *mine = context;
    return atomic_load(&mine->event->sync.words->word) != mine->seen ? 0 : AT_EAGAIN;
}

int at_event_wait(at_event *event, const at_patience *patience)
{
    event_wait mine = {event, atomic_load(&event->sync.words->word)};
    return mine.seen % 2 != 0
               ? 0
               : await(&event->sync, mine.seen, attempt_event, &mine, patience);
}

/* ---- semaphores ------------------------------------------------------------------ */

int at_semaphore_new(unsigned value, bool bounded, const at_origin *origin,
                     at_semaphore **made, at_fault *fault)
{
    at_place_facts facts = {AT_PLACE_SEMAPHORE, bounded, value};
    const at_shared_kind *kind =
        bounded ? &at_bounded_semaphore_kind : &at_semaphore_kind;
    int result = sync_new(sizeof **made, kind, &facts, origin, (sync **)made, fault);
    if (result == 0) {
        (*made)->limit = bounded ? value : AT_SEMAPHORE_MOST;
        if (origin->page == NULL) {
            atomic_store(&(*made)->sync.words->word, value);
        }
    }
    return result;
}

int at_semaphore_try_acquire(at_semaphore *semaphore)
{
    atomic_uint *word = &semaphore->sync.words->word;
    unsigned value = atomic_load(word);
    while (value != 0) {
        if (atomic_compare_exchange_weak(word, &value, value - 1)) {
            return 0;
        }
    }
    return AT_EAGAIN;
}

static int attempt_semaphore(void *context)
{
    return at_semaphore_try_acquire(context);
}

int at_semaphore_acquire(at_semaphore *semaphore, const at_patience *patience)
{
    int result = await(&semaphore->sync, 0, attempt_semaphore, semaphore, patience);
    if (result == AT_ETIMEOUT && at_semaphore_try_acquire(semaphore) == 0) {
        return 0;
    }
    /* A wake that was meant for this thread is for the next one. */
    if (result < 0 && atomic_load(&semaphore->sync.words->word) != 0) {
        wake(&semaphore->sync, 1);
    }
    return result;
}

int at_semaphore_release(at_semaphore *semaphore, unsigned count)
{
    atomic_uint *word = &semaphore->sync.words->word;
    unsigned value = atomic_load(word);
    do {
        if (value > semaphore->limit || count > semaphore->limit - value) {
            return AT_ELIMIT;
        }
    } while (!atomic_compare_exchange_weak(word, &value, value + count));
    /* Between processes everybody is woken: one that is killed as it is woken must not
     * take with it what others sleep for. */
    bool is_shared = scope_of(&semaphore->sync) == AT_PARK_SHARED;
    wake(&semaphore->sync, is_shared ? AT_PARK_ALL : (int)count);
    return 0;
}

/* ---- from other processes -------------------------------------------------------- */

static int open_page(const at_place_facts *facts, const at_origin *origin,
                     at_lock *lock, at_shared **thing, at_fault *fault)
{
    bool variant = facts->variant != 0;
    switch (facts->content) {
    case AT_PLACE_LOCK:
        return at_lock_new(variant, origin, (at_lock **)thing, fault);
    case AT_PLACE_CONDITION:
        if ((lock != NULL) != at_condition_needs_lock(facts)) {
            return at_fault_set(fault, AT_EINVALID,
                                "a condition over another lock is sent, not opened");
        }
        return at_condition_new(lock, origin, (at_condition **)thing, fault);
    case AT_PLACE_EVENT:
        return at_event_new(origin, (at_event **)thing, fault);
    case AT_PLACE_SEMAPHORE:
        return at_semaphore_new((unsigned)facts->parameter, variant, origin,
                                (at_semaphore **)thing, fault);
    case AT_PLACE_BARRIER:
        return at_barrier_new((unsigned)facts->parameter, origin, (at_barrier **)thing,
                              fault);
    case AT_PLACE_DICT:
        return at_common_dict_new(0, origin, (at_common_dict **)thing, fault);
    default:
        return at_atomic_new(0, origin, (at_atomic **)thing, fault);
    }
}

int at_sync_adopt(int descriptor, at_lock *lock, at_shared **thing, at_fault *fault)
{
    at_page page;
    int result = at_page_adopt(&page, descriptor, fault);
    if (result < 0) {
        return result;
    }
    at_place_facts facts;
    result = at_place_identify(&page, &facts, fault);
    *thing = result == 0 ? at_place_find(&page) : NULL;
    if (*thing != NULL) {
        at_page_close(&page);
        return 0;
    }
    at_origin origin = {.page = &page};
    if (result == 0) {
        result = open_page(&facts, &origin, lock, thing, fault);
    }
    if (result < 0) {
        at_page_forget(&page); /* the descriptor stays the caller's */
        return result;
    }
    *thing = at_place_publish((at_placed *)*thing);
    return 0;
}
