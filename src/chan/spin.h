/* Spinning: whether, and for how long, a thread looks again and again before it sleeps.
 *
 * A thread that sleeps must be woken, and until it runs some microseconds pass on a
 * machine whose processors are awake, and fifty and more where they have to be fetched
 * from a deep sleep or a hypervisor. So spinning for a while is worth it where the
 * other side answers at once, and only there: how long is learnt for each queue from
 * how its waits went.
 *
 * Two sides that answer each other at once keep each other awake, until one of them is
 * stopped, by a tick, a fault or the scheduler, for longer than the other spins. Then
 * each would find the other asleep from there on: it wakes it and sleeps itself before
 * that one runs. So a thread that has just woken another waits for as long as wakes
 * take here besides, which is measured.
 *
 * Two sides on one CPU can only take turns: the one that spins keeps the other from
 * answering. Who is woken by a thread on its own CPU sees that, and the queue is not
 * spun for until a wake comes from another one.
 *
 * All of it is a hint, and relaxed.
 */
#ifndef AT_CHAN_SPIN_H
#define AT_CHAN_SPIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sys/park.h"

/* Try without blocking. AT_EAGAIN says "not yet"; anything else ends the wait.
 * ctx: any */
typedef int at_attempt(void *context);

/* What the waits of one queue have taught. */
typedef struct at_spin {
    atomic_int_fast32_t budget_ns;
    atomic_uint skipped; /* by at_spin_briefly(), since its last trial */
    atomic_uint waits;
    atomic_bool on_one_cpu; /* both sides, when one was last woken */
    /* Fixed after init: the other side may be a process, whose CPUs only its wakes
     * tell; else at_park_can_spin() knows the CPUs of all. */
    bool between_processes;
} at_spin;

/* Where and when a sleeper was notified. Written by whoever notifies it, and read by it
 * once it runs. */
typedef struct at_wake_note {
    atomic_int_fast64_t moment_ns; /* 0: not yet */
    atomic_int cpu;
} at_wake_note;

void at_spin_init(at_spin *spin);

/* Attempt again and again, for as long as it has paid lately. `spin` may be NULL: then
 * once.
 * ctx:  any; never sleeps
 * errs: AT_EAGAIN, and the attempt's own */
int at_spin_for(at_spin *spin, at_attempt *attempt, void *context);

/* Attempt again and again for a microsecond at most; not at all, but for a trial now
 * and then, where that has not helped of late. ctx: any; never sleeps errs: AT_EAGAIN,
 * and the attempt's own */
int at_spin_briefly(at_spin *spin, at_attempt *attempt, void *context);

/* The calling thread wakes another: its next wait allows for the time that takes.
 * Returns the moment. ctx: any */
int64_t at_spin_wakes(void);

/* at_park_wake(), with at_spin_wakes() where it woke one. ctx: any */
int at_spin_wake(atomic_uint *word, int count, at_park_scope scope);

/* Say in `note` that the calling thread notifies its sleeper, at at_spin_wakes() time.
 * ctx: any */
void at_wake_note_write(at_wake_note *note, int64_t moment_ns);

/* The calling thread, which has slept for `spin` or for something that is not spun for
 * (NULL), runs again by the notification of `note`. ctx: any */
void at_spin_was_woken(at_spin *spin, const at_wake_note *note);

/* ---- the decisions, which take every fact as an argument ------------------------ */

/* Until when to spin in a wait of `spin` that begins now, where wakes take `wake_ns`
 * and the calling thread last woke another at `woke_ns`. Counts the wait. */
int64_t at_spin_until(at_spin *spin, int64_t now_ns, int64_t woke_ns, int64_t wake_ns);

/* What a wake of `took_ns` makes of the `wake_ns` that were known. */
int64_t at_spin_wake_cost(int64_t wake_ns, int64_t took_ns);

/* Spinning ended the wait `good_ns` after it began; -1: it was in vain. */
void at_spin_learn(at_spin *spin, int64_t good_ns);

#endif
