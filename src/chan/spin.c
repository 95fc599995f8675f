/* Spinning; see spin.h. */
#include "chan/spin.h"

#include <stddef.h>

#include "base/error.h"
#include "sys/clock.h"

enum {
    /* Spinning for longer than a sleep and a wake take, at best, costs more than it can
     * save. The shortest keeps looking, so that a queue that has become busy is
     * noticed. */
    LONGEST_NS = 20000,
    SHORTEST_NS = 500,
    /* Where spinning pays, it is done for at least so long: a fault or an interrupt on
     * the other side would otherwise end it. */
    PAYING_NS = 8000,
    /* From here on it has paid lately, but for a wait or two. */
    HAS_PAID_NS = 4000,
    /* Two sides that both sleep answer too slowly for either to find that spinning
     * would do: so now and then a few waits in a row spin for longest. */
    TRIALS = 4,
    TRIALS_EVERY = 64,
    /* Attempts between two looks at the clock, which take as long as two attempts, and
     * pauses between two attempts: who looks all the time takes the line away from who
     * is about to write to it. */
    ATTEMPTS_PER_LOOK = 16,
    PAUSES_PER_ATTEMPT = 2,
    /* at_spin_briefly(): its length, the budget below which it is skipped, and how
     * often before it is tried again. */
    BRIEF_NS = 1500,
    BRIEF_WORTH_NS = 1000,
    BRIEF_SKIPS = 64,
    /* What wakes take, before one was measured, and the bounds of what is believed:
     * above, the woken thread had to wait for a CPU, which says nothing of the next. */
    WAKE_GUESS_NS = 20000,
    WAKE_LEAST_NS = 2000,
    WAKE_MOST_NS = 150000,
    /* A wake that took longer is believed at once, by half; one that took less by a
     * sixteenth: some are met before they sleep. */
    WAKE_FALLS_BY = 16,
};

/* Of the process: it is the machine's. */
static atomic_int_fast64_t wake_cost_ns = WAKE_GUESS_NS;

/* When the calling thread last woke another. */
static _Thread_local int64_t last_wake_ns;

static int64_t between(int64_t least, int64_t value, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

void at_spin_init(at_spin *spin)
{
    atomic_init(&spin->budget_ns, LONGEST_NS);
    atomic_init(&spin->skipped, 0);
    atomic_init(&spin->waits, 0);
    atomic_init(&spin->on_one_cpu, false);
    spin->between_processes = false;
}

/* ---- decisions --------------------------------------------------------------------
 */

static int64_t budget_of(at_spin *spin)
{
    unsigned waits = atomic_load_explicit(&spin->waits, memory_order_relaxed);
    atomic_store_explicit(&spin->waits, waits + 1, memory_order_relaxed);
    if (waits % TRIALS_EVERY < TRIALS) {
        return LONGEST_NS;
    }
    return atomic_load_explicit(&spin->budget_ns, memory_order_relaxed);
}

int64_t at_spin_until(at_spin *spin, int64_t now_ns, int64_t woke_ns, int64_t wake_ns)
{
    int64_t budget_ns = budget_of(spin);
    int64_t begin_ns = now_ns;
    if (budget_ns >= HAS_PAID_NS && woke_ns + wake_ns > now_ns) {
        begin_ns = woke_ns + wake_ns;
    }
    return begin_ns + budget_ns;
}

int64_t at_spin_wake_cost(int64_t wake_ns, int64_t took_ns)
{
    if (took_ns < 0 || took_ns > WAKE_MOST_NS) {
        return wake_ns;
    }
    int64_t took = took_ns > WAKE_LEAST_NS ? took_ns : WAKE_LEAST_NS;
    int64_t share = took > wake_ns ? 2 : WAKE_FALLS_BY;
    return wake_ns + (took - wake_ns) / share;
}

void at_spin_learn(at_spin *spin, int64_t good_ns)
{
    int64_t budget_ns = atomic_load_explicit(&spin->budget_ns, memory_order_relaxed);
    if (good_ns >= 0) {
        /* Twice of that, weighted into what was thought before. */
        int64_t wanted_ns = between(PAYING_NS, good_ns * 2, LONGEST_NS);
        budget_ns += (wanted_ns - budget_ns) / 2;
    } else {
        budget_ns = between(SHORTEST_NS, budget_ns / 4 * 3, LONGEST_NS);
    }
    atomic_store_explicit(&spin->budget_ns, (int_fast32_t)budget_ns,
                          memory_order_relaxed);
}

/* ---- wakes ------------------------------------------------------------------------
 */

int64_t at_spin_wakes(void)
{
    last_wake_ns = at_clock_ns();
    /* Who is never the one that waits says here where it runs: a side that is pinned to
     * a CPU of its own would take the other for asleep on the same one. */
    (void)at_park_can_spin();
    return last_wake_ns;
}

int at_spin_wake(atomic_uint *word, int count, at_park_scope scope)
{
    int woken = at_park_wake(word, count, scope);
    if (woken != 0) {
        (void)at_spin_wakes();
    }
    return woken;
}

void at_wake_note_write(at_wake_note *note, int64_t moment_ns)
{
    atomic_store_explicit(&note->moment_ns, moment_ns, memory_order_relaxed);
    atomic_store_explicit(&note->cpu, at_park_cpu(), memory_order_relaxed);
}

void at_spin_was_woken(at_spin *spin, const at_wake_note *note)
{
    int64_t moment_ns = atomic_load_explicit(&note->moment_ns, memory_order_relaxed);
    if (moment_ns == 0) {
        return;
    }
    int cpu = at_park_cpu();
    bool on_one_cpu =
        cpu >= 0 && cpu == atomic_load_explicit(&note->cpu, memory_order_relaxed);
    if (spin != NULL) {
        atomic_store_explicit(&spin->on_one_cpu, on_one_cpu, memory_order_relaxed);
    }
    if (!on_one_cpu) { /* else it had to wait until its waker made room */
        int64_t took_ns =
            (int64_t)((uint64_t)at_clock_ns() - (uint64_t)moment_ns); /* of any bits */
        int64_t known_ns = atomic_load_explicit(&wake_cost_ns, memory_order_relaxed);
        atomic_store_explicit(&wake_cost_ns, at_spin_wake_cost(known_ns, took_ns),
                              memory_order_relaxed);
    }
}

/* ---- spinning ---------------------------------------------------------------------
 */

/* May the other side be running at this moment? */
static bool may_help(const at_spin *spin)
{
    return !atomic_load_explicit(&spin->on_one_cpu, memory_order_relaxed) &&
           (spin->between_processes || at_park_can_spin());
}

static void relax(void)
{
    for (int pause = 0; pause < PAUSES_PER_ATTEMPT; pause++) {
        at_park_relax();
    }
}

int at_spin_for(at_spin *spin, at_attempt *attempt, void *context)
{
    int result = attempt(context);
    if (result != AT_EAGAIN || spin == NULL || !may_help(spin)) {
        return result;
    }
    int64_t begin_ns = at_clock_ns();
    int64_t wake_ns = atomic_load_explicit(&wake_cost_ns, memory_order_relaxed);
    int64_t until_ns = at_spin_until(spin, begin_ns, last_wake_ns, wake_ns);
    do {
        for (int i = 0; i < ATTEMPTS_PER_LOOK; i++) {
            relax();
            result = attempt(context);
            if (result != AT_EAGAIN) {
                int64_t good_ns = at_clock_ns() - begin_ns + SHORTEST_NS;
                at_spin_learn(spin, good_ns);
                return result;
            }
        }
    } while (at_clock_ns() < until_ns);
    at_spin_learn(spin, -1);
    return AT_EAGAIN;
}

int at_spin_briefly(at_spin *spin, at_attempt *attempt, void *context)
{
    int64_t budget_ns = atomic_load_explicit(&spin->budget_ns, memory_order_relaxed);
    if (budget_ns < BRIEF_WORTH_NS) {
        unsigned skipped = atomic_load_explicit(&spin->skipped, memory_order_relaxed);
        atomic_store_explicit(&spin->skipped, skipped + 1, memory_order_relaxed);
        if (skipped % BRIEF_SKIPS != 0) {
            return AT_EAGAIN;
        }
    }
    if (!at_park_can_spin()) {
        return AT_EAGAIN;
    }
    int64_t until_ns = 0;
    int64_t now_ns = 0;
    do {
        for (int i = 0; i < ATTEMPTS_PER_LOOK; i++) {
            int result = attempt(context);
            if (result != AT_EAGAIN) {
                at_spin_learn(spin, BRIEF_NS);
                return result;
            }
            relax();
        }
        now_ns = at_clock_ns(); /* after the first few: mostly they do */
        until_ns = until_ns != 0 ? until_ns : now_ns + BRIEF_NS;
    } while (now_ns < until_ns);
    at_spin_learn(spin, -1);
    return AT_EAGAIN;
}
