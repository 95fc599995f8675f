/* The ring: order, bounds, closing, and four threads at once. */
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "chan/ring.h"
#include "check.h"
#include "sys/thread.h"

enum { ITEMS_PER_PRODUCER = 20000, PRODUCERS = 2, CONSUMERS = 2, BATCH_LIMIT = 40 };

static void *item_of(uintptr_t number)
{
    return (void *)number; // NOLINT(performance-no-int-to-ptr)
}

static int makes_and_frees(void)
{
    at_ring ring;
    int result = at_ring_init(&ring, 8);
    if (result == 0) {
        at_ring_fini(&ring);
    }
    return result;
}

static void bounds(void)
{
    at_ring ring;
    CHECK(at_ring_init(&ring, 0) == AT_EINVALID);
    CHECK(at_ring_init(&ring, SIZE_MAX) == AT_ELIMIT);
    for (size_t capacity = 1; capacity <= 9; capacity++) {
        CHECK(at_ring_init(&ring, capacity) == 0);
        void *item;
        uintptr_t next_in = 1;
        uintptr_t next_out = 1;
        for (int lap = 0; lap < 5; lap++) {
            CHECK(at_ring_try_pop(&ring, &item) == AT_EEMPTY);
            for (size_t i = 0; i < capacity; i++) {
                CHECK(at_ring_count(&ring) == i);
                CHECK(at_ring_try_push(&ring, item_of(next_in++)) == 0);
            }
            CHECK(at_ring_count(&ring) == capacity);
            CHECK(at_ring_try_push(&ring, item_of(0)) == AT_EFULL);
            for (size_t i = 0; i < capacity; i++) {
                CHECK(at_ring_try_pop(&ring, &item) == 0);
                CHECK(item == item_of(next_out++));
            }
        }
        at_ring_fini(&ring);
    }
}

static void closing_keeps_what_was_accepted(void)
{
    for (size_t capacity = 1; capacity <= 4; capacity++) {
        at_ring ring;
        CHECK(at_ring_init(&ring, capacity) == 0);
        for (size_t i = 0; i < capacity; i++) {
            CHECK(at_ring_try_push(&ring, item_of(i + 1)) == 0);
        }
        CHECK(at_ring_close(&ring));
        CHECK(!at_ring_close(&ring));
        CHECK(at_ring_is_closed(&ring));
        CHECK(at_ring_try_push(&ring, item_of(99)) == AT_ECLOSED);
        CHECK(at_ring_count(&ring) == capacity);
        void *item;
        for (size_t i = 0; i < capacity; i++) {
            CHECK(at_ring_try_pop(&ring, &item) == 0);
            CHECK(item == item_of(i + 1));
        }
        CHECK(at_ring_try_pop(&ring, &item) == AT_ECLOSED);
        at_ring_fini(&ring);
    }
}

static void batches(void)
{
    for (size_t capacity = 1; capacity <= 30; capacity++) {
        at_ring ring;
        CHECK(at_ring_init(&ring, capacity) == 0);
        uintptr_t next_in = 1;
        uintptr_t next_out = 1;
        for (size_t round = 0; round < 200; round++) {
            void *items[BATCH_LIMIT];
            size_t wanted = 1 + round * 7 % BATCH_LIMIT;
            for (size_t i = 0; i < wanted; i++) {
                items[i] = item_of(next_in + i);
            }
            size_t room = capacity - at_ring_count(&ring);
            int sent = at_ring_try_push_many(&ring, items, wanted);
            if (room == 0) {
                CHECK(sent == AT_EFULL);
            } else {
                CHECK(sent == (int)(wanted < room ? wanted : room));
                next_in += (uintptr_t)sent;
            }
            CHECK(at_ring_may_pop(&ring));
            size_t count = at_ring_count(&ring);
            size_t limit = 1 + round * 5 % 33;
            int got = at_ring_try_pop_many(&ring, items, limit);
            CHECK(got == (int)(limit < count ? limit : count));
            for (int i = 0; i < got; i++) {
                CHECK(items[i] == item_of(next_out++));
            }
        }
        (void)at_ring_close(&ring);
        void *item = NULL;
        CHECK(at_ring_try_push_many(&ring, &item, 1) == AT_ECLOSED);
        void *rest[BATCH_LIMIT];
        while (next_out < next_in) {
            int got = at_ring_try_pop_many(&ring, rest, BATCH_LIMIT);
            CHECK(got > 0);
            for (int i = 0; i < got; i++) {
                CHECK(rest[i] == item_of(next_out++));
            }
        }
        CHECK(at_ring_may_pop(&ring));
        CHECK(at_ring_try_pop_many(&ring, rest, BATCH_LIMIT) == AT_ECLOSED);
        at_ring_fini(&ring);
    }
}

typedef struct party {
    at_ring *ring;
    uintptr_t number; /* of the producer */
    size_t batch;     /* items at once, at most BATCH_LIMIT */
    unsigned accepted;
    unsigned received[PRODUCERS];
} party;

/* Items are producer << 32 | sequence, the sequence from 1. */
static void produce(void *data)
{
    party *self = data;
    uintptr_t next = 1;
    while (next <= ITEMS_PER_PRODUCER) {
        void *items[BATCH_LIMIT];
        size_t count = 0;
        while (count < self->batch && next + count <= ITEMS_PER_PRODUCER) {
            items[count] = item_of(self->number << 32 | (next + count));
            count++;
        }
        int result = count == 1 ? at_ring_try_push(self->ring, items[0])
                                : at_ring_try_push_many(self->ring, items, count);
        if (result == AT_EFULL) {
            (void)sched_yield();
            continue;
        }
        if (result == AT_ECLOSED) {
            return;
        }
        CHECK(result >= 0);
        result += count == 1;
        next += (uintptr_t)result;
        self->accepted += (unsigned)result;
    }
}

static void consume(void *data)
{
    party *self = data;
    uintptr_t last[PRODUCERS] = {0};
    for (;;) {
        void *items[BATCH_LIMIT];
        int result = self->batch == 1
                         ? at_ring_try_pop(self->ring, items)
                         : at_ring_try_pop_many(self->ring, items, self->batch);
        if (result == AT_ECLOSED) {
            return;
        }
        if (result == AT_EEMPTY) {
            (void)sched_yield();
            continue;
        }
        CHECK(result >= 0);
        int count = self->batch == 1 ? 1 : result;
        for (int i = 0; i < count; i++) {
            uintptr_t producer = (uintptr_t)items[i] >> 32;
            uintptr_t sequence = (uintptr_t)items[i] & UINT32_MAX;
            CHECK(producer < PRODUCERS && sequence > last[producer]);
            last[producer] = sequence;
            self->received[producer]++;
        }
    }
}

static void many_threads(size_t capacity, bool close_early, size_t batch)
{
    at_ring ring;
    CHECK(at_ring_init(&ring, capacity) == 0);
    party producers[PRODUCERS] = {0};
    party consumers[CONSUMERS] = {0};
    at_thread threads[PRODUCERS + CONSUMERS];
    for (uintptr_t i = 0; i < CONSUMERS; i++) {
        consumers[i].ring = &ring;
        consumers[i].batch = i == 0 ? batch : 1;
        CHECK(at_thread_start(&threads[PRODUCERS + i], "consumer", consume,
                              &consumers[i], NULL) == 0);
    }
    for (uintptr_t i = 0; i < PRODUCERS; i++) {
        producers[i].ring = &ring;
        producers[i].number = i;
        producers[i].batch = i == 0 ? batch : 1;
        CHECK(at_thread_start(&threads[i], "producer", produce, &producers[i], NULL) ==
              0);
    }
    if (close_early) {
        while (atomic_load(&ring.head) < 1000 * ring.one_lap / capacity) {
            (void)sched_yield();
        }
        (void)at_ring_close(&ring);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        at_thread_join(&threads[i]);
    }
    (void)at_ring_close(&ring);
    for (int i = 0; i < CONSUMERS; i++) {
        at_thread_join(&threads[PRODUCERS + i]);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        unsigned received = 0;
        for (int j = 0; j < CONSUMERS; j++) {
            received += consumers[j].received[i];
        }
        CHECK(received == producers[i].accepted);
        CHECK(close_early || received == ITEMS_PER_PRODUCER);
    }
    at_ring_fini(&ring);
}

static void nothing_lost_or_doubled(void)
{
    many_threads(1, false, 1);
    many_threads(3, false, 1);
    many_threads(64, false, 1);
    many_threads(2, false, 3);
    many_threads(64, false, 8);
    many_threads(20, false, BATCH_LIMIT);
    many_threads(128, false, BATCH_LIMIT);
}

static void nothing_lost_when_closed_in_mid_send(void)
{
    many_threads(1, true, 1);
    many_threads(7, true, 1);
    many_threads(256, true, BATCH_LIMIT);
}

int main(void)
{
    RUN_FAILING(makes_and_frees);
    RUN(bounds);
    RUN(batches);
    RUN(closing_keeps_what_was_accepted);
    RUN(nothing_lost_or_doubled);
    RUN(nothing_lost_when_closed_in_mid_send);
    return 0;
}
