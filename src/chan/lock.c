/* Locks; see lock.h.
 *
 * Letting go and the close of an interpreter may want the same lock at the same time.
 * Who moves `holder` to NOBODY may change the word, and nobody else. Taking is the
 * other way round: the word first, then `holder`, then a look whether the interpreter
 * has begun to close, which sets `closing` before it looks at `holder`: so one of the
 * two sees the other, and a lock is not left with an interpreter that is gone.
 *
 * Letting go while somebody sleeps keeps the sleepers' bit in the word, so that whoever
 * takes the lock before the one that was woken wakes the next one in its turn; it is
 * taken off when a wake has found nobody. Between processes the kernel stands in for
 * one that is killed between the word and the wake, or between its being woken and its
 * taking the lock (at_guardian_unsettle).
 */
#include "chan/lock.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/memory.h"
#include "chan/sleep.h"
#include "sys/clock.h"
#include "sys/guardian.h"

enum {
    NS_PER_MS = 1000000,
    /* The number of a holder whose word no other process sees. */
    THIS_PROCESS = 1,
    /* A process that was killed is gone within this, but for one that has become
     * another program by exec(), which is no longer a holder either. */
    DEATH_LASTS_NS = 100 * NS_PER_MS,
};

/* Who in this process has the lock: NOBODY, NO_PEER, or FIRST_PEER + an interpreter. */
enum { NOBODY, NO_PEER, FIRST_PEER };

/* What may lie in shared memory. */
typedef struct lock_words {
    atomic_uint word;
    /* The rest is written by the holder. */
    atomic_uint inconsistent; /* what it guards may be half done */
    atomic_uint process_id;   /* or 0 when the holder's process is not the one to die */
    atomic_uint depth;        /* of a recursive lock */
    _Atomic(uint64_t) thread;
} lock_words;

typedef struct watch {
    at_membership membership;
    struct watch *next;
} watch;

struct at_lock {
    at_placed placed; /* `place` is not used by a lock in the place of another */
    bool recursive;   /* fixed after init, as the next */
    at_place *place;
    atomic_int_fast64_t holder; /* in this process; see above */
    at_spin spin;
    pthread_mutex_t watch_mutex;
    watch *watches; /* guarded: watch_mutex */
};

static int64_t key_of(const at_peer *peer)
{
    return peer != NULL ? FIRST_PEER + peer->interpreter_id : NO_PEER;
}

static lock_words *words_of(const at_lock *lock)
{
    return lock->place->words;
}

static bool is_shared(const at_lock *lock)
{
    return lock->place->scope == AT_PARK_SHARED;
}

/* What the word holds where this process has the lock. */
static unsigned number_of(const at_lock *lock)
{
    return is_shared(lock) ? at_guardian_current() : THIS_PROCESS;
}

static bool is_ours(const at_lock *lock)
{
    unsigned holder = atomic_load(&words_of(lock)->word) & AT_WORD_HOLDER;
    return holder != 0 && holder == number_of(lock);
}

/* Something that no other thread has or had, and none of the process that died before.
 * An address or the kernel's number would go to a later thread, which would then hold
 * what one that ended has left locked. */
static uint64_t thread_of(unsigned number)
{
    static atomic_uint_fast64_t last;
    static _Thread_local uint64_t mine;
    if (mine == 0) {
        mine = atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
    }
    return mine ^ (uint64_t)number << 48;
}

/* ---- letting go ------------------------------------------------------------------ */

/* To be the one who changes the word. */
static bool claim(at_lock *lock, int64_t holder)
{
    int_fast64_t expected = holder;
    return holder != NOBODY &&
           atomic_compare_exchange_strong(&lock->holder, &expected, NOBODY);
}

static void wake_next(at_lock *lock, unsigned left)
{
    atomic_uint *word = &words_of(lock)->word;
    if (at_spin_wake(word, 1, lock->place->scope) == 0) {
        unsigned idle = left | AT_WORD_SLEEPERS;
        (void)atomic_compare_exchange_strong(word, &idle, left);
    }
}

/* The claim has succeeded. `left` is 0 or AT_WORD_DIED. */
static void set_free(at_lock *lock, unsigned left)
{
    atomic_uint *word = &words_of(lock)->word;
    unsigned mine = number_of(lock);
    atomic_store_explicit(&words_of(lock)->thread, 0, memory_order_relaxed);
    if (atomic_compare_exchange_strong(word, &mine, left)) {
        return; /* nobody sleeps */
    }
    if (is_shared(lock)) {
        at_guardian_unsettle(word);
    }
    atomic_store(word, left | AT_WORD_SLEEPERS);
    wake_next(lock, left);
    if (is_shared(lock)) {
        at_guardian_settle();
    }
}

/* The claim has succeeded; the holder will not come back to it. */
static void set_dead(at_lock *lock)
{
    atomic_store(&words_of(lock)->process_id, 0);
    set_free(lock, AT_WORD_DIED);
}

static void holder_closing(at_membership *membership)
{
    at_lock *lock = (at_lock *)membership->thing;
    if (is_ours(lock) && claim(lock, key_of(membership->peer))) {
        set_dead(lock);
    }
}

static void leave_watches(at_lock *lock)
{
    while (lock->watches != NULL) {
        watch *first = lock->watches;
        lock->watches = first->next;
        at_membership_leave(&first->membership);
        at_shared_unref(&first->membership.peer->shared);
        at_free(first);
    }
}

/* ---- life ------------------------------------------------------------------------ */

static void lock_free(at_shared *thing)
{
    at_lock *lock = (at_lock *)thing;
    leave_watches(lock);
    /* Nobody here can let go of it any more, and others may wait. */
    if (is_shared(lock) && is_ours(lock) && claim(lock, atomic_load(&lock->holder))) {
        set_dead(lock);
    }
    (void)pthread_mutex_destroy(&lock->watch_mutex);
    if (lock->place == &lock->placed.place) {
        at_place_fini(lock->place);
    }
    at_free(lock);
}

const at_shared_kind at_lock_kind = {"lock", lock_free};
const at_shared_kind at_rlock_kind = {"rlock", lock_free};

static at_lock *lock_begin(bool recursive, at_place *place)
{
    at_lock *lock = at_calloc(1, sizeof *lock);
    if (lock != NULL) {
        at_shared_init(&lock->placed.shared,
                       recursive ? &at_rlock_kind : &at_lock_kind);
        lock->recursive = recursive;
        lock->place = place != NULL ? place : &lock->placed.place;
        at_spin_init(&lock->spin);
        (void)pthread_mutex_init(&lock->watch_mutex, NULL);
    }
    return lock;
}

int at_lock_new(bool recursive, const at_origin *origin, at_lock **made,
                at_fault *fault)
{
    at_lock *lock = lock_begin(recursive, NULL);
    if (lock == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory");
    }
    at_place_facts facts = {AT_PLACE_LOCK, recursive, 0};
    int result = at_place_init(lock->place, origin, &facts, sizeof(lock_words), fault);
    if (result < 0) {
        (void)pthread_mutex_destroy(&lock->watch_mutex);
        at_free(lock);
        return result;
    }
    *made = lock;
    return 0;
}

int at_lock_new_in(at_place *place, bool recursive, at_lock **made)
{
    *made = lock_begin(recursive, place);
    return *made != NULL ? 0 : AT_ENOMEM;
}

int at_lock_watch(at_lock *lock, at_peer *peer)
{
    watch *fresh = at_calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        return AT_ENOMEM;
    }
    fresh->membership.peer = peer;
    fresh->membership.thing = &lock->placed.shared;
    fresh->membership.closing = holder_closing;
    int result = 0;
    (void)pthread_mutex_lock(&lock->watch_mutex);
    watch *known = lock->watches;
    while (known != NULL && known->membership.peer != peer) {
        known = known->next;
    }
    if (known == NULL) {
        result = at_membership_enter(&fresh->membership);
        if (result == 0) {
            at_shared_ref(&peer->shared);
            fresh->next = lock->watches;
            lock->watches = fresh;
            fresh = NULL;
        }
    }
    (void)pthread_mutex_unlock(&lock->watch_mutex);
    at_free(fresh);
    return result;
}

/* ---- taking ---------------------------------------------------------------------- */

/* The word is ours: say for whom. 0, AT_EOWNERDEAD, or AT_EENDING without the lock. */
static int taken(at_lock *lock, at_peer *peer, bool died)
{
    lock_words *words = words_of(lock);
    atomic_store_explicit(&words->inconsistent, died, memory_order_relaxed);
    atomic_store_explicit(&words->thread, thread_of(number_of(lock)),
                          memory_order_relaxed);
    atomic_store_explicit(&words->depth, 1, memory_order_relaxed);
    if (!died) { /* else at_lock_settle_death has to know whose death it was */
        atomic_store_explicit(&words->process_id, at_guardian_process(),
                              memory_order_relaxed);
    }
    /* Sequentially consistent, as the look that follows: see above. */
    atomic_store(&lock->holder, key_of(peer));
    if (peer != NULL && atomic_load(&peer->closing)) {
        if (claim(lock, key_of(peer))) {
            set_free(lock, died ? AT_WORD_DIED : 0);
        }
        return AT_EENDING;
    }
    return died ? AT_EOWNERDEAD : 0;
}

/* `sleepers`: the bit, where the caller has slept and others may. */
static int take(at_lock *lock, at_peer *peer, unsigned sleepers)
{
    lock_words *words = words_of(lock);
    if (lock->recursive && at_lock_is_mine(lock)) {
        atomic_fetch_add_explicit(&words->depth, 1, memory_order_relaxed);
        return 0;
    }
    unsigned word = atomic_load_explicit(&words->word, memory_order_relaxed);
    unsigned mine = is_shared(lock) ? at_guardian_number() : THIS_PROCESS;
    if (mine == 0) { /* the child of a fork, without a thread to spare */
        return AT_EUNSUPPORTED;
    }
    do {
        if ((word & AT_WORD_HOLDER) != 0) {
            return AT_EAGAIN;
        }
    } while (!atomic_compare_exchange_weak(
        &words->word, &word, mine | sleepers | (word & AT_WORD_SLEEPERS)));
    return taken(lock, peer, (word & AT_WORD_DIED) != 0);
}

int at_lock_try_acquire(at_lock *lock, at_peer *peer)
{
    return take(lock, peer, 0);
}

typedef struct taking {
    at_lock *lock;
    at_peer *peer;
} taking;

static int attempt_acquire(void *context)
{
    taking *wanted = context;
    return take(wanted->lock, wanted->peer, 0);
}

/* Leaving without it: a wake that was meant for this thread is for the next one. */
static void pass_on(at_lock *lock)
{
    atomic_uint *word = &words_of(lock)->word;
    if ((atomic_load(word) & AT_WORD_HOLDER) == 0) {
        at_spin_wake(word, 1, lock->place->scope);
    }
}

static int sleep_until_taken(at_lock *lock, const at_patience *patience) AT_DETACHED
{
    atomic_uint *word = &words_of(lock)->word;
    unsigned sleepers = 0;
    int result;
    while ((result = take(lock, patience->peer, sleepers)) == AT_EAGAIN) {
        unsigned seen = atomic_load(word);
        if ((seen & AT_WORD_HOLDER) == 0 ||
            ((seen & AT_WORD_SLEEPERS) == 0 &&
             !atomic_compare_exchange_strong(word, &seen, seen | AT_WORD_SLEEPERS))) {
            continue;
        }
        sleepers = AT_WORD_SLEEPERS;
        int slept =
            at_sleep_on(word, seen | AT_WORD_SLEEPERS, lock->place->scope, patience);
        if (slept < 0) {
            result =
                slept == AT_ETIMEOUT ? take(lock, patience->peer, sleepers) : slept;
            return result == AT_EAGAIN ? AT_ETIMEOUT : result;
        }
    }
    return result;
}

int at_lock_acquire(at_lock *lock, const at_patience *patience)
{
    taking wanted = {lock, patience->peer};
    int result = at_spin_for(&lock->spin, attempt_acquire, &wanted);
    if (result == AT_EAGAIN) {
        if (is_shared(lock)) {
            at_guardian_unsettle(&words_of(lock)->word);
        }
        result = sleep_until_taken(lock, patience);
        if (result < 0 && result != AT_EOWNERDEAD) {
            pass_on(lock);
        }
        if (is_shared(lock)) {
            at_guardian_settle();
        }
    }
    if (result == AT_EOWNERDEAD) {
        at_lock_settle_death(lock);
    }
    return result;
}

void at_lock_settle_death(at_lock *lock)
{
    if (is_shared(lock)) {
        unsigned ours = at_guardian_process();
        unsigned dead = atomic_exchange(&words_of(lock)->process_id, ours);
        if (dead != 0 && dead != ours) {
            at_guardian_wait_end(dead, DEATH_LASTS_NS);
        }
    }
}

int at_lock_mark_consistent(at_lock *lock)
{
    if (!at_lock_is_mine(lock)) {
        return AT_EPERMISSION;
    }
    atomic_store(&words_of(lock)->inconsistent, false);
    return 0;
}

/* ---- releasing ------------------------------------------------------------------- */

static unsigned left_by_holder(const at_lock *lock)
{
    bool inconsistent =
        atomic_load_explicit(&words_of(lock)->inconsistent, memory_order_relaxed) != 0;
    if (inconsistent && is_shared(lock)) {
        atomic_store(&words_of(lock)->process_id,
                     0); /* it lives: only the data is in doubt */
    }
    return inconsistent ? AT_WORD_DIED : 0;
}

int at_lock_release(at_lock *lock, at_peer *peer)
{
    lock_words *words = words_of(lock);
    int64_t holder = atomic_load(&lock->holder);
    if (peer != NULL && atomic_load(&peer->closing) && holder != key_of(peer)) {
        return 0; /* it was taken from us, and the next one was told */
    }
    if (!at_lock_is_mine(lock)) {
        return AT_EPERMISSION;
    }
    if (lock->recursive && atomic_fetch_sub(&words->depth, 1) != 1) {
        return 0;
    }
    if (!claim(lock, holder)) {
        return AT_EPERMISSION; /* another thread releases it at this moment */
    }
    set_free(lock, left_by_holder(lock));
    return 0;
}

bool at_lock_is_held(const at_lock *lock)
{
    return (atomic_load(&words_of(lock)->word) & AT_WORD_HOLDER) != 0;
}

bool at_lock_is_orphaned(const at_lock *lock)
{
    atomic_uint *word = &words_of(lock)->word;
    unsigned holder = atomic_load(word) & AT_WORD_HOLDER;
    return is_shared(lock) && holder != 0 && !at_guardian_lives(holder) &&
           (atomic_load(word) & AT_WORD_HOLDER) == holder;
}

bool at_lock_is_mine(const at_lock *lock)
{
    if (!is_ours(lock)) {
        return false;
    }
    return !lock->recursive ||
           atomic_load_explicit(&words_of(lock)->thread, memory_order_relaxed) ==
               thread_of(number_of(lock));
}

unsigned at_lock_let_go(at_lock *lock)
{
    unsigned depth = atomic_load(&words_of(lock)->depth);
    if (claim(lock, atomic_load(&lock->holder))) {
        set_free(lock, left_by_holder(lock));
    }
    return depth;
}

int at_lock_take_back(at_lock *lock, unsigned depth, at_peer *peer)
{
    at_patience forever = {AT_NEVER, peer};
    int result;
    /* A watched bit stays set until we return: it would make this a busy loop. */
    at_park_watch watch = at_park_set_watch((at_park_watch){.word = NULL});
    do {
        result = at_lock_acquire(lock, &forever);
    } while (result == AT_EINTERRUPTED);
    (void)at_park_set_watch(watch);
    if (result == 0 || result == AT_EOWNERDEAD) {
        atomic_store(&words_of(lock)->depth, depth);
    }
    return result;
}
