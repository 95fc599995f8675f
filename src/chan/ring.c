/* The bounded ring; see ring.h. */
#include "chan/ring.h"

#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

enum { CAPACITY_LIMIT = 1 << 30 };

static uint64_t index_of(const at_ring *ring, uint64_t position)
{
    return position & (ring->closed_bit - 1);
}

static at_ring_group *group_of(const at_ring *ring, uint64_t position)
{
    return &ring->groups[index_of(ring, position) >> AT_RING_GROUP_BITS];
}

static unsigned place_of(uint64_t position)
{
    return position & AT_RING_GROUP;
}

/* `position` plus `count` in one group: if that is its end, the start of the next, or
 * of the next lap. */
static uint64_t following(const at_ring *ring, uint64_t position, uint64_t count)
{
    uint64_t next = position + count;
    if (index_of(ring, next) >= ring->end) {
        return (position & ~(ring->one_lap - 1)) + ring->one_lap;
    }
    return place_of(next) == AT_RING_GROUP ? next + 1 : next;
}

/* The slots that do not hold the item of the lap of `position`, as bits. */
static uint64_t not_filled(const at_ring *ring, uint64_t turns, uint64_t position)
{
    return at_ring_not_free(ring, turns ^ AT_RING_FILLS, position);
}

int at_ring_init(at_ring *ring, size_t capacity)
{
    if (capacity == 0) {
        return AT_EINVALID;
    }
    if (capacity > CAPACITY_LIMIT) {
        return AT_ELIMIT;
    }
    size_t group_count = (capacity + AT_RING_GROUP - 1) / AT_RING_GROUP;
    ring->groups =
        at_calloc_aligned(AT_CACHE_LINE_BYTES, group_count * sizeof *ring->groups);
    if (ring->groups == NULL) {
        return AT_ENOMEM;
    }
    for (size_t i = 0; i < group_count; i++) {
        atomic_init(&ring->groups[i].turns, 0);
    }
    ring->capacity = capacity;
    ring->end = ((group_count - 1) << AT_RING_GROUP_BITS) + capacity -
                (group_count - 1) * AT_RING_GROUP;
    ring->closed_bit = AT_RING_GROUP + 1; /* a place never reaches above the index */
    while (ring->closed_bit < ring->end + 1) {
        ring->closed_bit *= 2;
    }
    ring->one_lap = ring->closed_bit * 2;
    atomic_init(&ring->closed, false);
    atomic_init(&ring->tail, 0);
    atomic_init(&ring->head, 0);
    return 0;
}

void at_ring_fini(at_ring *ring)
{
    at_free(ring->groups);
    ring->groups = NULL;
}

int at_ring_try_push(at_ring *ring, void *item)
{
    uint64_t tail = atomic_load(&ring->tail);
    for (;;) {
        if ((tail & ring->closed_bit) != 0) {
            return AT_ECLOSED;
        }
        at_ring_group *group = group_of(ring, tail);
        uint64_t bit = 1U << place_of(tail);
        if ((at_ring_not_free(ring, atomic_load(&group->turns), tail) & bit) == 0) {
            if (atomic_compare_exchange_weak(&ring->tail, &tail,
                                             following(ring, tail, 1))) {
                group->items[place_of(tail)] = item;
                atomic_fetch_xor(&group->turns, bit); /* pairs with the load in pop */
                return 0;
            }
            continue;
        }
        /* The item of the last lap is still there, unless the tail was stale. A
         * consumer that has claimed the slot and not yet emptied it will wake the
         * producers when it has: until then there is no room either. */
        uint64_t again = atomic_load(&ring->tail);
        if (again == tail) {
            return AT_EFULL;
        }
        tail = again;
    }
}

int at_ring_try_pop(at_ring *ring, void **item)
{
    uint64_t head = atomic_load(&ring->head);
    for (;;) {
        at_ring_group *group = group_of(ring, head);
        uint64_t bit = 1U << place_of(head);
        if ((not_filled(ring, atomic_load(&group->turns), head) & bit) == 0) {
            if (atomic_compare_exchange_weak(&ring->head, &head,
                                             following(ring, head, 1))) {
                *item = group->items[place_of(head)];
                /* Pairs with the load in push. */
                atomic_fetch_xor(&group->turns, bit << 8);
                return 0;
            }
            continue;
        }
        uint64_t tail = atomic_load(&ring->tail);
        uint64_t again = atomic_load(&ring->head);
        if (again == head) {
            /* Closed with the ends together is drained; a tail ahead of the head is a
             * producer between claiming and filling. */
            return tail == (head | ring->closed_bit) ? AT_ECLOSED : AT_EEMPTY;
        }
        head = again;
    }
}

/* ---- several at once ----------------------------------------------------------
 *
 * The first group's turns are changed last, and a fence follows, as strong as the
 * change of a single slot's. Who waits looks at the first slot; who then comes to the
 * others has read an end of the ring that was moved after it. */

enum {
    MANY_LIMIT = 1 << 20,
    /* Groups that are fetched ahead of those that are looked at. Each line comes from
     * the other side's cache, and will be written: it is asked for once, for both. */
    GROUPS_AHEAD = 8,
};

/* How many slots of the group at `position` lie from there on, up to `limit`. */
static unsigned rest_of_group(const at_ring *ring, uint64_t position, size_t limit)
{
    uint64_t index = index_of(ring, position);
    uint64_t size = ring->end - (index - place_of(index));
    size = (size < AT_RING_GROUP ? size : AT_RING_GROUP) - place_of(index);
    return (unsigned)(size < limit ? size : limit);
}

/* The turns of a group whose slots are all filled in the lap of `position`, or free. */
static uint64_t turns_of_all(const at_ring *ring, uint64_t position, bool filled)
{
    return at_ring_free_turns(ring, position) ^ (filled ? AT_RING_FILLS : 0);
}

/* How many of the `limit` slots of one group from `position` on are free in its lap, or
 * filled: as far as the first that is not. */
static unsigned run_in_group(const at_ring *ring, uint64_t position, bool filled,
                             unsigned limit)
{
    assert(limit <= AT_RING_GROUP);
    uint64_t turns =
        atomic_load_explicit(&group_of(ring, position)->turns, memory_order_acquire);
    uint64_t other = turns ^ turns_of_all(ring, position, filled);
    other = (other | other >> 8) & AT_RING_FILLS;
    /* One bit more ends the run where nothing else does. */
    return (unsigned)__builtin_ctzll(other >> place_of(position) | 1U << limit);
}

/* How many groups, up to `limit`, are filled or free in all of their slots. */
static size_t run_of_groups(const at_ring_group *group, uint64_t turns, size_t limit)
{
    size_t count = 0;
    while (count < limit) {
        /* Beyond the last group it is a hint about some other memory: harmless. */
        at_prefetch_write(&group[count + GROUPS_AHEAD]);
        if (atomic_load_explicit(&group[count].turns, memory_order_acquire) != turns) {
            break;
        }
        count++;
    }
    return count;
}

/* How many slots from `position` on, up to `limit`, are free in its lap, or filled;
 * `*end` is the position behind them. */
static size_t run_length(const at_ring *ring, uint64_t position, bool filled,
                         size_t limit, uint64_t *end)
{
    size_t count = 0;
    while (count < limit) {
        uint64_t index = index_of(ring, position);
        size_t groups = (limit - count) / AT_RING_GROUP;
        if (place_of(position) == 0 && groups != 0) {
            size_t left = (ring->end - index) >> AT_RING_GROUP_BITS;
            groups = run_of_groups(group_of(ring, position),
                                   turns_of_all(ring, position, filled),
                                   groups < left ? groups : left);
            count += groups * AT_RING_GROUP;
            position += groups << AT_RING_GROUP_BITS;
            if (index_of(ring, position) >= ring->end) {
                position = following(ring, position, 0);
            }
            if (groups != 0) {
                continue;
            }
        }
        unsigned rest = rest_of_group(ring, position, limit - count);
        unsigned run = run_in_group(ring, position, filled, rest);
        count += run;
        if (run != 0) {
            position = following(ring, position, run);
        }
        if (run < rest) {
            break;
        }
    }
    *end = position;
    return count;
}

/* The lines of the first groups of a batch, all at once. */
static void expect(const at_ring *ring, uint64_t position, size_t limit)
{
    const at_ring_group *group = group_of(ring, position);
    for (size_t i = 1; i < GROUPS_AHEAD && i * AT_RING_GROUP < limit; i++) {
        at_prefetch_write(&group[i]);
    }
}

/* Fill, or empty, `count` claimed slots of one group from `position` on. Who has
 * claimed all seven is alone with their turns until it changes them: a store does for
 * those. */
static void fill(at_ring *ring, uint64_t position, void *const *items, unsigned count)
{
    at_ring_group *group = group_of(ring, position);
    if (count == AT_RING_GROUP) {
        memcpy(group->items, items, sizeof group->items);
        uint64_t filled = turns_of_all(ring, position, true);
        atomic_store_explicit(&group->turns, filled, memory_order_release);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        group->items[place_of(position) + i] = items[i];
    }
    uint64_t bits = ((1U << count) - 1) << place_of(position);
    atomic_fetch_xor_explicit(&group->turns, bits, memory_order_release);
}

static void empty(at_ring *ring, uint64_t position, void **items, unsigned count)
{
    at_ring_group *group = group_of(ring, position);
    if (count == AT_RING_GROUP) {
        memcpy(items, group->items, sizeof group->items);
        uint64_t emptied = turns_of_all(ring, position + ring->one_lap, false);
        atomic_store_explicit(&group->turns, emptied, memory_order_release);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        items[i] = group->items[place_of(position) + i];
    }
    uint64_t bits = ((1U << count) - 1) << place_of(position);
    atomic_fetch_xor_explicit(&group->turns, bits << 8, memory_order_release);
}

int at_ring_try_push_many(at_ring *ring, void *const *items, size_t count)
{
    size_t limit = count < MANY_LIMIT ? count : MANY_LIMIT;
    uint64_t tail = atomic_load(&ring->tail);
    uint64_t end;
    expect(ring, tail, limit);
    size_t room =
        (tail & ring->closed_bit) == 0 ? run_length(ring, tail, false, limit, &end) : 0;
    if (room < 2 || !atomic_compare_exchange_strong(&ring->tail, &tail, end)) {
        int result = at_ring_try_push(ring, items[0]);
        return result == 0 ? 1 : result;
    }
    unsigned first = rest_of_group(ring, tail, room);
    uint64_t position = following(ring, tail, first);
    for (size_t i = first; i < room;) {
        unsigned rest = rest_of_group(ring, position, room - i);
        fill(ring, position, items + i, rest);
        position = following(ring, position, rest);
        i += rest;
    }
    fill(ring, tail, items, first);
    atomic_thread_fence(memory_order_seq_cst);
    return (int)room;
}

int at_ring_try_pop_many(at_ring *ring, void **items, size_t limit)
{
    limit = limit < MANY_LIMIT ? limit : MANY_LIMIT;
    uint64_t head = atomic_load(&ring->head);
    uint64_t end;
    expect(ring, head, limit);
    size_t count = run_length(ring, head, true, limit, &end);
    if (count < 2 || !atomic_compare_exchange_strong(&ring->head, &head, end)) {
        int result = at_ring_try_pop(ring, &items[0]);
        return result == 0 ? 1 : result;
    }
    unsigned first = rest_of_group(ring, head, count);
    uint64_t position = following(ring, head, first);
    for (size_t i = first; i < count;) {
        unsigned rest = rest_of_group(ring, position, count - i);
        empty(ring, position, items + i, rest);
        position = following(ring, position, rest);
        i += rest;
    }
    empty(ring, head, items, first);
    atomic_thread_fence(memory_order_seq_cst);
    return (int)count;
}

bool at_ring_close(at_ring *ring)
{
    uint64_t before = atomic_fetch_or(&ring->tail, ring->closed_bit);
    atomic_store(&ring->closed, true);
    return (before & ring->closed_bit) == 0;
}

bool at_ring_is_closed(const at_ring *ring)
{
    return (atomic_load(&ring->tail) & ring->closed_bit) != 0;
}

/* The number of a position's slot in the ring. */
static uint64_t number_of(const at_ring *ring, uint64_t position)
{
    uint64_t group = index_of(ring, position) >> AT_RING_GROUP_BITS;
    return group * AT_RING_GROUP + place_of(position);
}

size_t at_ring_count(const at_ring *ring)
{
    for (;;) {
        uint64_t tail = atomic_load(&ring->tail);
        uint64_t head = atomic_load(&ring->head);
        if (atomic_load(&ring->tail) != tail) {
            continue; /* the two were not of one moment */
        }
        tail &= ~ring->closed_bit;
        uint64_t first = number_of(ring, head);
        uint64_t last = number_of(ring, tail);
        if (first < last) {
            return (size_t)(last - first);
        }
        if (first > last) {
            return (size_t)(ring->capacity - first + last);
        }
        return tail == head ? 0 : (size_t)ring->capacity;
    }
}
