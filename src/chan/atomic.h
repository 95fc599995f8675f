/* Atomic ints of 64 bits between threads, interpreters and processes.
 *
 * All operations are sequentially consistent. Who waits for a change sleeps on a word
 * beside the value, so that changing it costs nothing for those who wait: who changes
 * it and wants them to look says so (notify).
 */
#ifndef AT_CHAN_ATOMIC_H
#define AT_CHAN_ATOMIC_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/contexts.h"
#include "base/error.h"
#include "base/shared.h"
#include "chan/place.h"
#include "chan/region.h"
#include "chan/wait.h"

typedef struct at_atomic at_atomic;

extern const at_shared_kind at_atomic_kind;

/* `value` is for new ones; an adopted page has its own.
 * ctx:  any
 * owns: the caller gets one reference
 * errs: fault: those of at_place_init */
int at_atomic_new(int64_t value, const at_origin *origin, at_atomic **made,
                  at_fault *fault);

/* What an atomic int takes in the memory of another thing, at a multiple of 8: its
 * value first. Zeros are an atomic int that is 0. */
enum { AT_ATOMIC_BYTES = 16 };

/* Over AT_ATOMIC_BYTES that lie `offset_bytes` into `region`.
 * ctx:  any
 * owns: takes a reference of its own to the region; the caller gets one reference
 * errs: AT_ENOMEM; AT_EINVALID where it does not lie there, or not at a multiple of 8
 */
int at_atomic_new_in(at_region *region, size_t offset_bytes, at_atomic **made);

/* Whether it lies in the memory of another thing. ctx: any */
bool at_atomic_is_part(const at_atomic *atomic);

/* The value itself. ctx: any */
_Atomic(int64_t) *at_atomic_value(at_atomic *atomic);

/* Wait while the value is `old`; `*seen` is what it was when it no longer was.
 * ctx:  detached
 * errs: those of at_sleep_on() */
int at_atomic_wait(at_atomic *atomic, int64_t old, int64_t *seen,
                   const at_patience *patience) AT_DETACHED;

/* Let up to `count` of those who wait look again. Returns how many slept. ctx: any */
int at_atomic_notify(at_atomic *atomic, int count);

#endif
