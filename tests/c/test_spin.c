/* Spinning: the decisions, on a clock of their own; no thread waits here. */
#include "base/error.h"
#include "chan/spin.h"
#include "check.h"

enum { MICROSECOND = 1000, LONG_AGO = -1000000000, TRIALS_EVERY = 64 };

/* How long the next wait spins that begins at 0. */
static int64_t next_length(at_spin *spin, int64_t woke_ns, int64_t wake_ns)
{
    return at_spin_until(spin, 0, woke_ns, wake_ns);
}

/* Let the trials pass that a new one, or every 64th wait, begins with. */
static void pass_trials(at_spin *spin)
{
    while (atomic_load(&spin->waits) % TRIALS_EVERY < 4) {
        (void)next_length(spin, LONG_AGO, 0);
    }
}

static void fail_often(at_spin *spin)
{
    for (int i = 0; i < 100; i++) {
        at_spin_learn(spin, -1);
    }
}

static void is_learnt(void)
{
    at_spin spin;
    at_spin_init(&spin);
    pass_trials(&spin);
    for (int i = 0; i < 20; i++) {
        at_spin_learn(&spin, MICROSECOND / 2);
    }
    int64_t paying = next_length(&spin, LONG_AGO, 0);
    CHECK(paying >= 8 * MICROSECOND && paying < 9 * MICROSECOND);
    at_spin_learn(&spin, 9 * MICROSECOND);
    CHECK(next_length(&spin, LONG_AGO, 0) > paying);
    fail_often(&spin);
    CHECK(next_length(&spin, LONG_AGO, 0) <= MICROSECOND);
}

static void is_tried_again(void)
{
    at_spin spin;
    at_spin_init(&spin);
    fail_often(&spin);
    int trials = 0;
    for (int i = 0; i < 10 * TRIALS_EVERY; i++) {
        trials += next_length(&spin, LONG_AGO, 0) >= 20 * MICROSECOND;
    }
    CHECK(trials == 40);
}

static void allows_for_the_wake_of_another(void)
{
    const int64_t wake_ns = 50 * MICROSECOND;
    at_spin spin;
    at_spin_init(&spin);
    pass_trials(&spin);
    at_spin_learn(&spin, MICROSECOND);
    int64_t usual = next_length(&spin, LONG_AGO, wake_ns);
    CHECK(usual < wake_ns);
    /* It was woken just now, or is half awake, or must be awake already. */
    CHECK(next_length(&spin, 0, wake_ns) == wake_ns + usual);
    CHECK(next_length(&spin, -wake_ns / 2, wake_ns) == wake_ns / 2 + usual);
    CHECK(next_length(&spin, -wake_ns, wake_ns) == usual);
    /* Not where spinning is in vain, but for the trials: these are how two sides that
     * both sleep find out that they need not. */
    fail_often(&spin);
    CHECK(next_length(&spin, 0, wake_ns) <= MICROSECOND);
    atomic_store(&spin.waits, TRIALS_EVERY);
    CHECK(next_length(&spin, 0, wake_ns) > wake_ns);
}

static void wakes_are_measured(void)
{
    int64_t known = 5 * MICROSECOND;
    for (int i = 0; i < 10; i++) {
        known = at_spin_wake_cost(known, 40 * MICROSECOND);
    }
    CHECK(known > 39 * MICROSECOND && known <= 40 * MICROSECOND);
    /* One that was met before it slept says little. */
    CHECK(at_spin_wake_cost(known, 0) > 37 * MICROSECOND);
    for (int i = 0; i < 200; i++) {
        known = at_spin_wake_cost(known, 0);
    }
    CHECK(known >= 2 * MICROSECOND && known < 3 * MICROSECOND);
    /* One that had to wait for a CPU is no measure, and clocks differ by nothing. */
    CHECK(at_spin_wake_cost(known, 1000000000) == known);
    CHECK(at_spin_wake_cost(known, -1) == known);
}

static int looks;

static int comes_at_third_look(void *context)
{
    (void)context;
    return ++looks < 3 ? AT_EAGAIN : 7;
}

static int never_comes(void *context)
{
    (void)context;
    looks++;
    return AT_EAGAIN;
}

static void whose_waker_is_on_its_cpu_does_not_spin(void)
{
    at_spin spin;
    at_spin_init(&spin);
    at_wake_note note = {0};
    at_spin_was_woken(&spin, &note); /* was not notified at all */
    CHECK(!atomic_load(&spin.on_one_cpu));
    at_wake_note_write(&note, at_spin_wakes());
    atomic_store(&note.cpu, at_park_cpu());
    at_spin_was_woken(&spin, &note);
    if (!atomic_load(&spin.on_one_cpu)) {
        return; /* it was moved to another one in the middle */
    }
    looks = 0;
    CHECK(at_spin_for(&spin, never_comes, NULL) == AT_EAGAIN);
    CHECK(looks == 1);
    atomic_store(&note.cpu, at_park_cpu() + 4096);
    at_spin_was_woken(&spin, &note);
    CHECK(!atomic_load(&spin.on_one_cpu));
    looks = 0;
    int result = at_spin_for(&spin, comes_at_third_look, NULL);
    CHECK(result == (at_park_can_spin() ? 7 : AT_EAGAIN));
}

int main(void)
{
    RUN(is_learnt);
    RUN(is_tried_again);
    RUN(allows_for_the_wake_of_another);
    RUN(wakes_are_measured);
    RUN(whose_waker_is_on_its_cpu_does_not_spin);
    return 0;
}
