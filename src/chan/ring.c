/* The bounded ring; see ring.h. */
#include "chan/ring.h"

#include <assert.h>

#include "base/error.h"
#include "base/memory.h"
#include "sys/park.h"

enum { CAPACITY_LIMIT = 1 << 30 };

static uint64_t index_of(const at_ring *ring, uint64_t position)
{
    return position & (ring->closed_bit - 1);
}

/* The position behind `position`: the next index, or the first of the next lap. */
static uint64_t following(const at_ring *ring, uint64_t position)
{
    if (index_of(ring, position) + 1 < ring->capacity) {
        return position + 1;
    }
    return (position & ~(ring->one_lap - 1)) + ring->one_lap;
}

int at_ring_init(at_ring *ring, size_t capacity)
{
    if (capacity == 0) {
        return AT_EINVALID;
    }
    if (capacity > CAPACITY_LIMIT) {
        return AT_ELIMIT;
    }
    ring->slots = at_calloc(capacity, sizeof *ring->slots);
    if (ring->slots == NULL) {
        return AT_ENOMEM;
    }
    ring->capacity = capacity;
    ring->closed_bit = 1;
    while (ring->closed_bit < capacity + 1) {
        ring->closed_bit *= 2;
    }
    ring->one_lap = ring->closed_bit * 2;
    for (size_t i = 0; i < capacity; i++) {
        atomic_init(&ring->slots[i].stamp, i);
    }
    atomic_init(&ring->closed, false);
    atomic_init(&ring->tail, 0);
    atomic_init(&ring->head, 0);
    return 0;
}

void at_ring_fini(at_ring *ring)
{
    at_free(ring->slots);
    ring->slots = NULL;
}

int at_ring_try_push(at_ring *ring, void *item)
{
    uint64_t tail = atomic_load(&ring->tail);
    for (;;) {
        if ((tail & ring->closed_bit) != 0) {
            return AT_ECLOSED;
        }
        at_ring_slot *slot = &ring->slots[index_of(ring, tail)];
        uint64_t stamp = atomic_load(&slot->stamp);
        if (stamp == tail) {
            if (atomic_compare_exchange_weak(&ring->tail, &tail,
                                             following(ring, tail))) {
                slot->item = item;
                atomic_store(&slot->stamp, tail + 1); /* pairs with the load in pop */
                return 0;
            }
        } else if (stamp + ring->one_lap == tail + 1) {
            /* The item of the last lap is still there, unless the tail was stale. A
             * consumer that has claimed the slot and not yet freed it will wake the
             * producers when it has: until then there is no room either. */
            uint64_t again = atomic_load(&ring->tail);
            if (again == tail) {
                return AT_EFULL;
            }
            tail = again;
        } else {
            at_park_relax();
            tail = atomic_load(&ring->tail);
        }
    }
}

int at_ring_try_pop(at_ring *ring, void **item)
{
    uint64_t head = atomic_load(&ring->head);
    for (;;) {
        at_ring_slot *slot = &ring->slots[index_of(ring, head)];
        uint64_t stamp = atomic_load(&slot->stamp);
        if (stamp == head + 1) {
            if (atomic_compare_exchange_weak(&ring->head, &head,
                                             following(ring, head))) {
                *item = slot->item;
                /* Pairs with the load in push. */
                atomic_store(&slot->stamp, head + ring->one_lap);
                return 0;
            }
        } else if (stamp == head) {
            uint64_t tail = atomic_load(&ring->tail);
            uint64_t again = atomic_load(&ring->head);
            if (again == head) {
                /* Closed with the ends together is drained; a tail ahead of the head is
                 * a producer between claiming and filling. */
                return tail == (head | ring->closed_bit) ? AT_ECLOSED : AT_EEMPTY;
            }
            head = again;
        } else {
            at_park_relax();
            head = atomic_load(&ring->head);
        }
    }
}

/* ---- several at once ----------------------------------------------------------
 *
 * The stamps are stored from the last to the first. Who waits looks at the first one,
 * for which the sequentially consistent store is; who then comes to the others has read
 * an end of the ring that was moved after that store. */

enum {
    MANY_LIMIT = 1 << 20,
    /* Slots that are fetched ahead of those that are looked at. Each line comes from
     * the other side's cache, and will be written: it is asked for once, for both. */
    SLOTS_AHEAD = 32,
};

/* How many slots from `position` on, up to `limit`, have the stamp `position + ahead`;
 * `*end` is the position behind them. */
static size_t run_length(const at_ring *ring, uint64_t position, uint64_t ahead,
                         size_t limit, uint64_t *end)
{
    size_t count = 0;
    while (count < limit) {
        uint64_t index = index_of(ring, position);
        if (count + SLOTS_AHEAD < limit) {
            /* Beyond the last slot it is a hint about some other memory: harmless. */
            __builtin_prefetch(&ring->slots[index] + SLOTS_AHEAD, 1);
        }
        if (atomic_load_explicit(&ring->slots[index].stamp, memory_order_acquire) !=
            position + ahead) {
            break;
        }
        position = following(ring, position);
        count++;
    }
    *end = position;
    return count;
}

/* The position `ahead`, less than the capacity, behind `first`. */
static uint64_t position_at(const at_ring *ring, uint64_t first, size_t ahead)
{
    uint64_t index = index_of(ring, first) + ahead;
    if (index < ring->capacity) {
        return first + ahead;
    }
    return (first & ~(ring->one_lap - 1)) + ring->one_lap + (index - ring->capacity);
}

int at_ring_try_push_many(at_ring *ring, void *const *items, size_t count)
{
    size_t limit = count < MANY_LIMIT ? count : MANY_LIMIT;
    uint64_t tail = atomic_load(&ring->tail);
    uint64_t end;
    size_t room =
        (tail & ring->closed_bit) == 0 ? run_length(ring, tail, 0, limit, &end) : 0;
    if (room < 2 || !atomic_compare_exchange_strong(&ring->tail, &tail, end)) {
        int result = at_ring_try_push(ring, items[0]);
        return result == 0 ? 1 : result;
    }
    for (size_t i = room; i-- > 1;) {
        uint64_t position = position_at(ring, tail, i);
        at_ring_slot *slot = &ring->slots[index_of(ring, position)];
        slot->item = items[i];
        atomic_store_explicit(&slot->stamp, position + 1, memory_order_release);
    }
    at_ring_slot *first = &ring->slots[index_of(ring, tail)];
    first->item = items[0];
    atomic_store(&first->stamp, tail + 1);
    return (int)room;
}

int at_ring_try_pop_many(at_ring *ring, void **items, size_t limit)
{
    limit = limit < MANY_LIMIT ? limit : MANY_LIMIT;
    uint64_t head = atomic_load(&ring->head);
    uint64_t end;
    size_t count = run_length(ring, head, 1, limit, &end);
    if (count < 2 || !atomic_compare_exchange_strong(&ring->head, &head, end)) {
        int result = at_ring_try_pop(ring, &items[0]);
        return result == 0 ? 1 : result;
    }
    for (size_t i = count; i-- > 1;) {
        uint64_t position = position_at(ring, head, i);
        at_ring_slot *slot = &ring->slots[index_of(ring, position)];
        items[i] = slot->item;
        atomic_store_explicit(&slot->stamp, position + ring->one_lap,
                              memory_order_release);
    }
    at_ring_slot *first = &ring->slots[index_of(ring, head)];
    items[0] = first->item;
    atomic_store(&first->stamp, head + ring->one_lap);
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

size_t at_ring_count(const at_ring *ring)
{
    for (;;) {
        uint64_t tail = atomic_load(&ring->tail);
        uint64_t head = atomic_load(&ring->head);
        if (atomic_load(&ring->tail) != tail) {
            continue; /* the two were not of one moment */
        }
        tail &= ~ring->closed_bit;
        uint64_t first = index_of(ring, head);
        uint64_t last = index_of(ring, tail);
        if (first < last) {
            return (size_t)(last - first);
        }
        if (first > last) {
            return (size_t)(ring->capacity - first + last);
        }
        return tail == head ? 0 : (size_t)ring->capacity;
    }
}
