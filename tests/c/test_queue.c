/* Queues: alone, with threads, and with interpreters that close. */
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "chan/queue.h"
#include "check.h"
#include "sys/clock.h"
#include "sys/thread.h"

enum { MILLISECOND = 1000000, PUTTERS = 3, GETTERS = 2, EACH = 500 };

static int64_t fresh_id(void)
{
    static int64_t last = 5000;
    return ++last;
}

static at_peer *peer_of(int64_t id)
{
    at_peer *peer;
    CHECK(at_peer_join(id, &peer) == 0);
    return peer;
}

static at_queue *queue_of(int64_t limit)
{
    at_queue *queue;
    CHECK(at_queue_new(limit, AT_FATE_ERROR, 7, &queue) == 0);
    return queue;
}

static void unref(void *thing)
{
    at_shared_unref(thing);
}

static at_message *message_of(int64_t value)
{
    at_message *message;
    CHECK(at_message_new(&value, sizeof value, -1, &message) == 0);
    return message;
}

static int64_t value_in(at_message *message)
{
    int64_t value;
    CHECK(message != NULL && message->size_bytes == sizeof value);
    memcpy(&value, message->data, sizeof value);
    at_message_unref(message);
    return value;
}

static void put_value(at_queue *queue, int64_t value, at_peer *sender, at_fate fate)
{
    CHECK(at_queue_try_put(queue, message_of(value), sender, fate) == 0);
}

static int makes_and_frees(void)
{
    at_peer *peer = NULL;
    at_queue *queue = NULL;
    at_message *message = NULL;
    int64_t value = 1;
    int result = at_peer_join(4000, &peer);
    if (result == 0 && (result = at_queue_new(3, AT_FATE_REMOVE, 0, &queue)) == 0 &&
        (result = at_message_new(&value, sizeof value, -1, &message)) == 0 &&
        (result = at_queue_try_put(queue, message, peer, AT_FATE_REMOVE)) == 0) {
        message = NULL; /* the queue has it, and frees it */
    }
    at_message_unref(message);
    unref(queue);
    at_shared_unref(peer != NULL ? &peer->shared : NULL);
    return result;
}

static void alone(void)
{
    at_peer *peer = peer_of(fresh_id());
    at_queue *queue = queue_of(2);
    CHECK(at_queue_limit(queue) == 2 && at_queue_tag(queue) == 7);
    CHECK(at_queue_default_fate(queue) == AT_FATE_ERROR);
    at_message *message;
    at_fate fate;
    CHECK(at_queue_try_get(queue, &message, &fate) == AT_EEMPTY);
    put_value(queue, 1, peer, AT_FATE_ERROR);
    put_value(queue, 2, peer, AT_FATE_ERROR);
    at_message *third = message_of(3);
    CHECK(at_queue_try_put(queue, third, peer, AT_FATE_ERROR) == AT_EFULL);
    at_patience patience = {at_clock_deadline(MILLISECOND), NULL};
    CHECK(at_queue_put(queue, third, peer, AT_FATE_ERROR, &patience) == AT_ETIMEOUT);
    at_message_unref(third);
    for (int64_t i = 1; i <= 2; i++) {
        CHECK(at_queue_count(queue) == (size_t)(3 - i));
        CHECK(at_queue_try_get(queue, &message, &fate) == 0 && fate == AT_FATE_NONE);
        CHECK(value_in(message) == i);
    }
    patience.deadline_ns = at_clock_deadline(MILLISECOND);
    CHECK(at_queue_get(queue, &message, &fate, &patience) == AT_ETIMEOUT);
    CHECK(at_queue_waiting(queue) == 0);
    unref(queue);
    unref(peer);
}

static void numbers(void)
{
    at_queue *first = queue_of(0);
    at_queue *second = queue_of(0);
    CHECK(at_queue_number(first) < at_queue_number(second));
    at_queue *found = at_queue_find(at_queue_number(second));
    CHECK(found == second);
    unref(found);
    at_queue *all[4];
    CHECK(at_queue_list(all, 4) == 2 && all[0] == first && all[1] == second);
    unref(all[0]);
    unref(all[1]);
    CHECK(at_queue_list(all, 1) == 2 && all[0] == first);
    unref(all[0]);
    int64_t number = at_queue_number(first);
    unref(first);
    CHECK(at_queue_find(number) == NULL);
    unref(second);
}

static void closing_ends_it(void)
{
    at_peer *peer = peer_of(fresh_id());
    at_message *message;
    at_fate fate;
    for (int drop = 0; drop < 2; drop++) {
        at_queue *queue = queue_of(0);
        put_value(queue, 1, peer, AT_FATE_ERROR);
        at_queue_close(queue, drop != 0);
        CHECK(at_queue_is_closed(queue));
        at_message *late = message_of(2);
        CHECK(at_queue_try_put(queue, late, peer, AT_FATE_ERROR) == AT_ECLOSED);
        at_message_unref(late);
        if (!drop) {
            CHECK(at_queue_try_get(queue, &message, &fate) == 0);
            CHECK(value_in(message) == 1);
        }
        CHECK(at_queue_try_get(queue, &message, &fate) == AT_ECLOSED);
        unref(queue);
    }
    unref(peer);
}

/* Each item goes the way that its sender chose for it, and the rest stays in order. */
static void fates(void)
{
    int64_t id = fresh_id();
    at_peer *gone = peer_of(id);
    at_peer *stays = peer_of(fresh_id());
    at_queue *queue = queue_of(0);
    static const at_fate chosen[] = {AT_FATE_REMOVE, AT_FATE_ERROR, AT_FATE_REPLACE,
                                     AT_FATE_REMOVE};
    for (int64_t i = 0; i < 4; i++) {
        put_value(queue, i, gone, chosen[i]);
        put_value(queue, 10 + i, stays, AT_FATE_REMOVE);
    }
    put_value(queue, 4, gone, AT_FATE_REMOVE); /* the last: what follows is hung on */
    at_channels_interpreter_closing(id);
    CHECK(at_queue_count(queue) == 6);
    put_value(queue, 14, stays, AT_FATE_REMOVE);
    at_message *late = message_of(5);
    CHECK(at_queue_try_put(queue, late, gone, AT_FATE_ERROR) == AT_EENDING);
    at_message_unref(late);
    static const struct {
        at_fate fate;
        int64_t value;
    } expected[] = {
        {AT_FATE_NONE, 10},   {AT_FATE_ERROR, 0}, {AT_FATE_NONE, 11},
        {AT_FATE_REPLACE, 0}, {AT_FATE_NONE, 12}, {AT_FATE_NONE, 13},
        {AT_FATE_NONE, 14},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        at_message *message;
        at_fate fate;
        CHECK(at_queue_try_get(queue, &message, &fate) == 0);
        CHECK(fate == expected[i].fate);
        CHECK(fate != AT_FATE_NONE ? message == NULL
                                   : value_in(message) == expected[i].value);
    }
    CHECK(at_queue_count(queue) == 0);
    unref(queue);
    unref(stays);
    unref(gone);
}

/* Many of one interpreter, of both kinds, and one pass for all of them. */
static void a_long_queue_is_given_up_at_once(void)
{
    enum { ITEMS = 100000 };
    int64_t id = fresh_id();
    at_peer *gone = peer_of(id);
    at_queue *queue = queue_of(0);
    for (int64_t i = 0; i < ITEMS; i++) {
        put_value(queue, i, gone, i % 4 == 0 ? AT_FATE_REMOVE : AT_FATE_REPLACE);
    }
    at_channels_interpreter_closing(id);
    CHECK(at_queue_count(queue) == ITEMS / 4 * 3);
    for (int64_t i = 0; i < ITEMS / 4 * 3; i++) {
        at_message *message;
        at_fate fate;
        CHECK(at_queue_try_get(queue, &message, &fate) == 0);
        CHECK(message == NULL && fate == AT_FATE_REPLACE);
    }
    unref(queue);
    unref(gone);
}

typedef struct traffic {
    at_queue *queue;
    at_peer *peer;
    atomic_int next_putter;
    atomic_llong sum;
    atomic_int got;
} traffic;

static void put_many(void *data)
{
    traffic *all = data;
    at_patience patience = {AT_NEVER, NULL};
    int64_t first = atomic_fetch_add(&all->next_putter, 1) * (int64_t)EACH;
    for (int64_t i = first; i < first + EACH; i++) {
        CHECK(at_queue_put(all->queue, message_of(i), all->peer, AT_FATE_ERROR,
                           &patience) == 0);
    }
}

static void get_until_closed(void *data)
{
    traffic *all = data;
    at_patience patience = {AT_NEVER, NULL};
    int64_t last[PUTTERS];
    memset(last, -1, sizeof last);
    at_message *message;
    at_fate fate;
    int result;
    while ((result = at_queue_get(all->queue, &message, &fate, &patience)) == 0) {
        int64_t value = value_in(message);
        CHECK(value > last[value / EACH]); /* the order of each putter */
        last[value / EACH] = value;
        atomic_fetch_add(&all->sum, value);
        atomic_fetch_add(&all->got, 1);
    }
    CHECK(result == AT_ECLOSED);
}

static void nothing_is_lost_or_doubled(void)
{
    traffic all = {.queue = queue_of(5), .peer = peer_of(fresh_id())};
    at_thread putters[PUTTERS];
    at_thread getters[GETTERS];
    for (int i = 0; i < GETTERS; i++) {
        CHECK(at_thread_start(&getters[i], "getter", get_until_closed, &all, NULL) ==
              0);
    }
    for (int i = 0; i < PUTTERS; i++) {
        CHECK(at_thread_start(&putters[i], "putter", put_many, &all, NULL) == 0);
    }
    for (int i = 0; i < PUTTERS; i++) {
        at_thread_join(&putters[i]);
    }
    at_queue_close(all.queue, false);
    for (int i = 0; i < GETTERS; i++) {
        at_thread_join(&getters[i]);
    }
    long long count = (long long)PUTTERS * EACH;
    CHECK(atomic_load(&all.got) == count);
    CHECK(atomic_load(&all.sum) == count * (count - 1) / 2);
    unref(all.queue);
    unref(all.peer);
}

static void put_until_ending(void *data)
{
    traffic *all = data;
    at_patience patience = {AT_NEVER, all->peer};
    int result = 0;
    for (int64_t i = 0; result == 0; i++) {
        at_message *message = message_of(i);
        result = at_queue_put(all->queue, message, all->peer,
                              i % 2 == 0 ? AT_FATE_REMOVE : AT_FATE_ERROR, &patience);
        if (result < 0) {
            at_message_unref(message);
        }
        atomic_fetch_add(&all->got, 1);
    }
    CHECK(result == AT_EENDING);
}

/* An interpreter that closes in mid-put leaves places that say so, and no messages. */
static void closing_in_mid_put(void)
{
    for (int round = 0; round < 30; round++) {
        int64_t id = fresh_id();
        traffic all = {.queue = queue_of(round % 2 == 0 ? 4 : 0), .peer = peer_of(id)};
        at_thread thread;
        CHECK(at_thread_start(&thread, "putter", put_until_ending, &all, NULL) == 0);
        while (atomic_load(&all.got) < 3) {
            at_message *message;
            at_fate fate;
            if (at_queue_try_get(all.queue, &message, &fate) == 0) {
                (void)value_in(message);
            }
        }
        at_channels_interpreter_closing(id);
        at_thread_join(&thread);
        at_message *message;
        at_fate fate;
        while (at_queue_try_get(all.queue, &message, &fate) == 0) {
            CHECK(message == NULL && fate == AT_FATE_ERROR);
        }
        unref(all.queue);
        unref(all.peer);
    }
}

int main(void)
{
    RUN_FAILING(makes_and_frees);
    RUN(alone);
    RUN(numbers);
    RUN(closing_ends_it);
    RUN(fates);
    RUN(a_long_queue_is_given_up_at_once);
    RUN(nothing_is_lost_or_doubled);
    RUN(closing_in_mid_put);
    return 0;
}
