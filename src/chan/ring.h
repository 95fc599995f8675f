/* A bounded ring of pointers: many producers, many consumers, no lock.
 *
 * A slot is taken in turns: it is filled, emptied, filled again, once each lap
 * (D. Vyukov, "Bounded MPMC queue"; the laps and the closing bit in the tail follow
 * crossbeam's array channel). A position is a lap number above an index:
 *
 *     position = lap * one_lap + index      index = group * 8 + place, place < 7
 *
 * Seven slots and their turns are a group and fill one cache line, so that a message
 * moves one line from its sender to its receiver, and a batch one for every seven. The
 * turns are two bits for each slot: how often it was filled, and how often emptied,
 * each modulo two. In lap k a slot is free when both are k, and holds the item of that
 * lap when one more was filled. A slot is never more than one lap away from a position
 * that is the tail or the head at this moment, so two bits are enough; that it is still
 * the tail or the head is what the compare-and-swap, or a second look, makes sure of.
 *
 * The bit between index and lap, set in the tail alone, says closed. Claiming slots and
 * closing are both compare-and-swaps of the tail: an item is either accepted before the
 * close, and will be delivered, or it is refused. The order of one producer is kept.
 *
 * A producer that was stopped between claiming its slot and filling it holds up the
 * items behind it. at_ring_try_pop() then says AT_EEMPTY although at_ring_count() is
 * not zero, and the producer's own wake, when it goes on, brings the consumer back. So
 * it is with a consumer between claiming and emptying, and AT_EFULL.
 *
 * Turns are changed and loaded sequentially consistent: whoever waits announces itself
 * (wait.h: count) and then looks at the turn; whoever fills or empties a slot changes
 * its turn and then looks for waiters. One of the two sees the other.
 */
#ifndef AT_CHAN_RING_H
#define AT_CHAN_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AT_CACHE_LINE_BYTES = 64 };

enum { AT_RING_GROUP = 7, AT_RING_GROUP_BITS = 3 };

typedef struct at_ring_group {
    /* Bit i: the fills of slot i, modulo two; bit 8 + i: how often it was emptied. */
    _Alignas(AT_CACHE_LINE_BYTES) atomic_uint_fast64_t turns;
    void *items[AT_RING_GROUP]; /* each owned by whose turn it is */
} at_ring_group;

/* Embedded by its user. The ends lie on lines of their own, so that producers and
 * consumers do not take them from each other. */
typedef struct at_ring {
    at_ring_group *groups; /* fixed after init, as the next four */
    uint64_t capacity;
    uint64_t end; /* the index behind the last */
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

enum { AT_RING_FILLS = 0x7f, AT_RING_EMPTIES = AT_RING_FILLS << 8 };

/* The turns of a group of which every slot is free in the lap of `position`. ctx: any
 */
static inline uint64_t at_ring_free_turns(const at_ring *ring, uint64_t position)
{
    return (position & ring->one_lap) != 0 ? AT_RING_FILLS | AT_RING_EMPTIES : 0;
}

/* The slots with these turns that are not free in that lap, as bits. ctx: any */
static inline uint64_t at_ring_not_free(const at_ring *ring, uint64_t turns,
                                        uint64_t position)
{
    uint64_t other = turns ^ at_ring_free_turns(ring, position);
    return (other | other >> 8) & AT_RING_FILLS;
}

static inline bool at_ring_is_free(const at_ring *ring, uint64_t position)
{
    uint64_t index = position & (ring->closed_bit - 1);
    uint64_t turns = atomic_load(&ring->groups[index >> AT_RING_GROUP_BITS].turns);
    return (at_ring_not_free(ring, turns, position) >> (index & AT_RING_GROUP) & 1) ==
           0;
}

/* Is it worth trying to pop: is there an item, or the end? One who looks again and
 * again should ask this first: it reads no line that producers write but the slot's
 * own, where at_ring_try_pop() reads the tail and so takes it from them. ctx: any;
 * never blocks */
static inline bool at_ring_may_pop(const at_ring *ring)
{
    return !at_ring_is_free(ring, atomic_load(&ring->head)) ||
           atomic_load(&ring->closed);
}

/* Is there room, at some moment of the call? ctx: any; never blocks */
static inline bool at_ring_may_push(const at_ring *ring)
{
    return at_ring_is_free(ring, atomic_load(&ring->tail) & ~ring->closed_bit);
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
