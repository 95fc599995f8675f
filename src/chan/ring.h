/* A bounded ring of pointers: many producers, many consumers, no lock.
 *
 * Each slot carries a stamp that says whose turn it is (D. Vyukov, "Bounded MPMC
 * queue"; the laps and the closing bit in the tail follow crossbeam's array channel). A
 * position is a lap number above an index:
 *
 *     position = lap * one_lap + index      index < capacity <= one_lap / 2
 *
 * A slot whose stamp equals the tail is free for the producer at that tail; one whose
 * stamp is head + 1 holds the item of that head. The bit between index and lap, set in
 * the tail alone, says closed. Claiming a slot and closing are both compare-and-swaps
 * of the tail: an item is either accepted before the close, and will be delivered, or
 * it is refused. The order of one producer is kept.
 *
 * A producer that was stopped between claiming its slot and filling it holds up the
 * items behind it. at_ring_try_pop() then says AT_EEMPTY although at_ring_count() is
 * not zero, and the producer's own wake, when it goes on, brings the consumer back.
 *
 * Stamps are stored and loaded sequentially consistent: whoever waits announces itself
 * (wait.h: count) and then looks at the stamp; whoever fills or empties a slot stores
 * the stamp and then looks for waiters. One of the two sees the other.
 */
#ifndef AT_CHAN_RING_H
#define AT_CHAN_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AT_CACHE_LINE_BYTES = 64 };

typedef struct at_ring_slot {
    atomic_uint_fast64_t stamp;
    void *item; /* owned by whoever the stamp names */
} at_ring_slot;

/* Embedded by its user. The ends lie on lines of their own, so that producers and
 * consumers do not take them from each other. */
typedef struct at_ring {
    at_ring_slot *slots; /* fixed after init, as the next three */
    uint64_t capacity;
    uint64_t closed_bit;
    uint64_t one_lap;
    atomic_bool closed; /* follows the bit: for looks that leave the tail alone */
    _Alignas(AT_CACHE_LINE_BYTES) atomic_uint_fast64_t tail;
    _Alignas(AT_CACHE_LINE_BYTES) atomic_uint_fast64_t head;
    char padding[AT_CACHE_LINE_BYTES - sizeof(atomic_uint_fast64_t)];
} at_ring;

/* Room for `capacity` items, at least one.
 * errs: AT_ENOMEM; AT_EINVALID for 0; AT_ELIMIT above 2^30 */
int at_ring_init(at_ring *ring, size_t capacity);

/* The caller has popped every item and nobody else uses it. */
void at_ring_fini(at_ring *ring);

/* Put `item` behind the others.
 * ctx:  any; never blocks
 * errs: AT_EFULL, AT_ECLOSED */
int at_ring_try_push(at_ring *ring, void *item);

/* Take the first item.
 * ctx:  any; never blocks
 * errs: AT_EEMPTY; AT_ECLOSED once it is closed and every accepted item was taken */
int at_ring_try_pop(at_ring *ring, void **item);

/* Put as many of the `count` items, at least one, as there is room for behind the
 * others, next to each other and with one claim. Returns how many. ctx:  any; never
 * blocks errs: AT_EFULL, AT_ECLOSED */
int at_ring_try_push_many(at_ring *ring, void *const *items, size_t count);

/* Take the first items, up to `limit`, with one claim. Returns how many.
 * ctx:  any; never blocks
 * errs: AT_EEMPTY; AT_ECLOSED as at_ring_try_pop() */
int at_ring_try_pop_many(at_ring *ring, void **items, size_t limit);

/* Is it worth trying to pop: is there an item, or the end? One who looks again and
 * again should ask this first: it reads no line that producers write but the slot's
 * own, where at_ring_try_pop() reads the tail and so takes it from them. ctx: any;
 * never blocks */
static inline bool at_ring_may_pop(const at_ring *ring)
{
    uint64_t head = atomic_load(&ring->head);
    const at_ring_slot *slot = &ring->slots[head & (ring->closed_bit - 1)];
    return atomic_load(&slot->stamp) != head || atomic_load(&ring->closed);
}

/* Is there room, at some moment of the call? ctx: any; never blocks */
static inline bool at_ring_may_push(const at_ring *ring)
{
    uint64_t tail = atomic_load(&ring->tail) & ~ring->closed_bit;
    const at_ring_slot *slot = &ring->slots[tail & (ring->closed_bit - 1)];
    return atomic_load(&slot->stamp) == tail;
}

/* Refuse items from now on. True for the call that closed it.
 * ctx: any; never blocks */
bool at_ring_close(at_ring *ring);

/* ctx: any */
bool at_ring_is_closed(const at_ring *ring);

/* How many items were accepted and not yet taken, at some moment of the call.
 * ctx: any */
size_t at_ring_count(const at_ring *ring);

#endif
