/* Broadcasts: order, the slow, endings, and threads that race. */
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "chan/broadcast.h"
#include "check.h"
#include "sys/clock.h"
#include "sys/park.h"
#include "sys/thread.h"

enum { MILLISECOND = 1000000, ITEMS = 5000 };

/* ---- items that are counted ---------------------------------------------------- */

static atomic_long live; /* references to items that are out */

static void *item_of(uintptr_t number)
{
    atomic_fetch_add(&live, 1);
    return (void *)number; // NOLINT(performance-no-int-to-ptr)
}

static void share(void *item, size_t count)
{
    CHECK(item != NULL);
    atomic_fetch_add(&live, (long)count);
}

static void drop(void *item)
{
    CHECK(item != NULL);
    atomic_fetch_sub(&live, 1);
}

static at_broadcast *broadcast_of(size_t capacity, at_slow slow)
{
    at_broadcast *made;
    CHECK(at_broadcast_new(&(at_broadcast_options){capacity, slow, share, drop},
                           &made) == 0);
    return made;
}

static at_channel *subscribed(at_broadcast *broadcast)
{
    at_channel *channel;
    CHECK(at_broadcast_subscribe(broadcast, &channel) == 0);
    return channel;
}

static void unref(void *thing)
{
    at_shared_unref(thing);
}

static void receives(at_channel *channel, uintptr_t number)
{
    void *item;
    CHECK(at_channel_try_recv(channel, &item) == 0);
    CHECK((uintptr_t)item == number);
    drop(item);
}

static int receives_nothing(at_channel *channel)
{
    void *item;
    return at_channel_try_recv(channel, &item);
}

static int sends(at_broadcast *broadcast, uintptr_t number)
{
    void *item = item_of(number);
    int result = at_broadcast_try_send(broadcast, item);
    if (result < 0) {
        drop(item);
    }
    return result;
}

/* ---- one thread ----------------------------------------------------------------- */

static int makes_and_frees(void)
{
    at_broadcast *broadcast;
    at_broadcast_options options = {2, AT_SLOW_DROPS, share, drop};
    int result = at_broadcast_new(&options, &broadcast);
    if (result < 0) {
        return result;
    }
    at_channel *channels[40] = {NULL};
    size_t made = 0;
    while (result >= 0 && made < 40) {
        result = at_broadcast_subscribe(broadcast, &channels[made]);
        made += result >= 0;
    }
    for (uintptr_t i = 1; result >= 0 && i <= 4; i++) {
        result = sends(broadcast, i); /* more than its own memory has chores for */
        CHECK(result < 0 || result == 40);
    }
    for (uintptr_t i = 0; result >= 0 && i < 2; i++) {
        void *items[2] = {item_of(5), item_of(6)};
        result = at_broadcast_try_send_many(broadcast, items, 2);
        CHECK(result < 0 || result == 2);
        if (result < 0) {
            drop(items[0]);
            drop(items[1]);
        }
    }
    at_peer *peer = NULL;
    if (result >= 0) {
        result = at_peer_join(78, &peer);
    }
    if (result >= 0) {
        at_member *member;
        result = at_broadcast_join(broadcast, peer, &member);
        if (result >= 0) {
            at_member_leave(member);
        }
        unref(peer);
    }
    for (size_t i = 0; i < made; i++) {
        unref(channels[i]);
    }
    unref(broadcast);
    CHECK(atomic_load(&live) == 0);
    return result < 0 ? result : 0;
}

static void each_gets_what_came_after_it(void)
{
    at_broadcast *broadcast = broadcast_of(4, AT_SLOW_WAITS);
    CHECK(sends(broadcast, 1) == 0);
    at_channel *first = subscribed(broadcast);
    CHECK(sends(broadcast, 2) == 1);
    at_channel *second = subscribed(broadcast);
    CHECK(sends(broadcast, 3) == 2 && at_broadcast_count(broadcast) == 2);
    receives(first, 2);
    receives(first, 3);
    receives(second, 3);
    CHECK(receives_nothing(first) == AT_EEMPTY);
    at_broadcast_close(broadcast);
    CHECK(at_broadcast_is_closed(broadcast));
    CHECK(sends(broadcast, 4) == AT_ECLOSED);
    CHECK(receives_nothing(first) == AT_ECLOSED);
    at_channel *late;
    CHECK(at_broadcast_subscribe(broadcast, &late) == AT_ECLOSED);
    unref(first);
    unref(second);
    unref(broadcast);
    CHECK(atomic_load(&live) == 0);
}

static void a_full_one_holds_up_a_sender(void)
{
    at_broadcast *broadcast = broadcast_of(2, AT_SLOW_WAITS);
    at_channel *fast = subscribed(broadcast);
    at_channel *slow = subscribed(broadcast);
    CHECK(sends(broadcast, 1) == 2 && sends(broadcast, 2) == 2);
    receives(fast, 1);
    receives(fast, 2);
    CHECK(sends(broadcast, 3) == AT_EFULL);
    CHECK(receives_nothing(fast) == AT_EEMPTY); /* all or nothing */
    void *item = item_of(3);
    at_patience patience = {at_clock_deadline(2 * MILLISECOND), NULL};
    CHECK(at_broadcast_send(broadcast, item, &patience) == AT_ETIMEOUT);
    receives(slow, 1);
    CHECK(at_broadcast_send(broadcast, item, &patience) == 2);
    unref(slow); /* with two items in it */
    CHECK(sends(broadcast, 4) == 1);
    CHECK(at_channel_close(fast));
    CHECK(sends(broadcast, 5) == 0); /* one that is closed is passed over */
    receives(fast, 3);
    unref(fast);
    unref(broadcast);
    CHECK(atomic_load(&live) == 0);
}

static void a_slow_one_misses_the_oldest(void)
{
    at_broadcast *broadcast = broadcast_of(3, AT_SLOW_DROPS);
    at_channel *channel = subscribed(broadcast);
    for (uintptr_t i = 1; i <= 8; i++) {
        CHECK(sends(broadcast, i) == 1);
    }
    void *items[4];
    CHECK(at_channel_try_recv_many(channel, items, 4) == AT_ELAGGED);
    CHECK((uintptr_t)items[0] == 5);
    receives(channel, 6);
    CHECK(sends(broadcast, 9) == 1 && sends(broadcast, 10) == 1);
    size_t chosen = 7;
    CHECK(at_channel_try_select(&channel, 1, 0, items, &chosen) == AT_ELAGGED);
    CHECK(chosen == 0 && (uintptr_t)items[0] == 1);
    CHECK(sends(broadcast, 11) == 1);
    CHECK(at_channel_try_recv_more(channel, items, 4) == 0);
    CHECK(at_channel_try_recv_many(channel, items, 4) == AT_ELAGGED);
    CHECK((uintptr_t)items[0] == 1);
    CHECK(at_channel_try_recv_more(channel, items, 4) == 3);
    CHECK((uintptr_t)items[0] == 9 && (uintptr_t)items[2] == 11);
    for (size_t i = 0; i < 3; i++) {
        drop(items[i]);
    }
    unref(channel);
    unref(broadcast);
    CHECK(atomic_load(&live) == 0);
}

static void a_slow_one_is_closed(void)
{
    at_broadcast *broadcast = broadcast_of(2, AT_SLOW_CLOSES);
    at_channel *slow = subscribed(broadcast);
    at_channel *fast = subscribed(broadcast);
    CHECK(sends(broadcast, 1) == 2 && sends(broadcast, 2) == 2);
    receives(fast, 1);
    CHECK(sends(broadcast, 3) == 1 && sends(broadcast, 4) == 0);
    receives(slow, 1);
    receives(slow, 2);
    void *missed;
    CHECK(at_channel_try_recv(slow, &missed) == AT_ELAGGED);
    CHECK((uintptr_t)missed == 1);
    CHECK(receives_nothing(slow) == AT_ECLOSED);
    unref(slow);
    unref(fast);
    unref(broadcast);
    CHECK(atomic_load(&live) == 0);
}

static int sends_many(at_broadcast *broadcast, uintptr_t first, size_t count)
{
    void *items[300];
    CHECK(count <= 300);
    for (size_t i = 0; i < count; i++) {
        items[i] = item_of(first + i);
    }
    int result = at_broadcast_try_send_many(broadcast, items, count);
    for (size_t i = result > 0 ? (size_t)result : 0; i < count; i++) {
        drop(items[i]);
    }
    return result;
}

static void a_batch_goes_as_far_as_there_is_room_at_all(void)
{
    at_broadcast *broadcast = broadcast_of(5, AT_SLOW_WAITS);
    CHECK(sends_many(broadcast, 1, 100) == 100); /* to nobody */
    at_channel *fast = subscribed(broadcast);
    at_channel *slow = subscribed(broadcast);
    CHECK(sends_many(broadcast, 1, 3) == 3);
    receives(fast, 1);
    receives(fast, 2);
    CHECK(sends_many(broadcast, 4, 10) == 2);
    CHECK(sends_many(broadcast, 6, 10) == AT_EFULL);
    for (uintptr_t i = 3; i <= 5; i++) {
        receives(fast, i);
    }
    CHECK(receives_nothing(fast) == AT_EEMPTY);
    CHECK(at_channel_close(slow));
    CHECK(sends_many(broadcast, 6, 10) == 5); /* one that is closed is passed over */
    for (uintptr_t i = 1; i <= 5; i++) {
        receives(slow, i);
        receives(fast, 5 + i);
    }
    CHECK(receives_nothing(slow) == AT_ECLOSED);
    at_broadcast_close(broadcast);
    CHECK(sends_many(broadcast, 1, 2) == AT_ECLOSED);
    unref(fast);
    unref(slow);
    unref(broadcast);
    CHECK(atomic_load(&live) == 0);
}

/* More has to go for a batch than is kept account of: it is sent in parts. */
static void a_batch_for_the_slow(at_slow policy)
{
    enum { SLOW = 70, CAPACITY = 4 };
    at_broadcast *broadcast = broadcast_of(CAPACITY, policy);
    at_channel *slow[SLOW];
    for (size_t i = 0; i < SLOW; i++) {
        slow[i] = subscribed(broadcast);
    }
    uintptr_t next = 1;
    while (next <= 300) {
        int count = sends_many(broadcast, next, 301 - next);
        CHECK(count > 0);
        next += (uintptr_t)count;
    }
    for (size_t i = 0; i < SLOW; i++) {
        uintptr_t first = policy == AT_SLOW_DROPS ? 301 - CAPACITY : 1;
        void *missed;
        if (policy == AT_SLOW_DROPS) {
            CHECK(at_channel_try_recv(slow[i], &missed) == AT_ELAGGED);
            CHECK((uintptr_t)missed == 300 - CAPACITY);
        }
        for (uintptr_t j = 0; j < CAPACITY; j++) {
            receives(slow[i], first + j);
        }
        if (policy == AT_SLOW_CLOSES) {
            CHECK(at_channel_try_recv(slow[i], &missed) == AT_ELAGGED);
            CHECK((uintptr_t)missed == 1);
            CHECK(receives_nothing(slow[i]) == AT_ECLOSED);
        }
        unref(slow[i]);
    }
    unref(broadcast);
    CHECK(atomic_load(&live) == 0);
}

static void batches_for_the_slow(void)
{
    a_batch_for_the_slow(AT_SLOW_DROPS);
    a_batch_for_the_slow(AT_SLOW_CLOSES);
}

static void nobody_holds_it(void)
{
    at_broadcast *broadcast = broadcast_of(2, AT_SLOW_WAITS);
    at_channel *channel = subscribed(broadcast);
    CHECK(sends(broadcast, 1) == 1);
    unref(broadcast);
    receives(channel, 1);
    CHECK(receives_nothing(channel) == AT_ECLOSED);
    unref(channel);
}

static void an_interpreter_closes(void)
{
    at_broadcast *broadcast = broadcast_of(1, AT_SLOW_WAITS);
    at_channel *gone = subscribed(broadcast);
    at_channel *stays = subscribed(broadcast);
    at_peer *peers[2];
    at_member *members[3];
    CHECK(at_peer_join(81, &peers[0]) == 0 && at_peer_join(82, &peers[1]) == 0);
    CHECK(at_channel_join(gone, peers[0], &members[0]) == 0);
    CHECK(at_channel_join(stays, peers[1], &members[1]) == 0);
    CHECK(at_broadcast_join(broadcast, peers[1], &members[2]) == 0);
    CHECK(sends(broadcast, 1) == 2);
    receives(stays, 1);
    CHECK(sends(broadcast, 2) == AT_EFULL);
    at_channels_interpreter_closing(81); /* with its handle left behind */
    CHECK(at_channel_is_orphaned(gone));
    CHECK(sends(broadcast, 2) == 1);
    at_channels_interpreter_closing(82);
    CHECK(at_broadcast_is_closed(broadcast) && at_channel_is_closed(stays));
    at_member_leave(members[0]);
    at_member_leave(members[1]);
    at_member_leave(members[2]);
    unref(gone);
    unref(stays);
    unref(broadcast);
    unref(peers[0]);
    unref(peers[1]);
    CHECK(atomic_load(&live) == 0);
}

/* ---- threads --------------------------------------------------------------------- */

enum { SENDERS = 2, RECEIVERS = 3, EVERY = SENDERS * ITEMS };

typedef struct sender {
    at_broadcast *broadcast;
    uintptr_t first;
    int result;
} sender;

static void send_all(void *data)
{
    sender *self = data;
    at_patience patience = {AT_NEVER, NULL};
    for (uintptr_t i = 0; i < ITEMS; i++) {
        void *item = item_of(self->first + i);
        self->result = at_broadcast_send(self->broadcast, item, &patience);
        if (self->result < 0) {
            drop(item);
            return;
        }
    }
}

static void send_batches(void *data)
{
    sender *self = data;
    at_patience patience = {AT_NEVER, NULL};
    for (uintptr_t i = 0; i < ITEMS;) {
        void *items[100];
        size_t count = 0;
        while (count < 100 && i + count < ITEMS) {
            items[count] = item_of(self->first + i + count);
            count++;
        }
        i += count;
        for (size_t sent = 0; sent < count;) {
            int result =
                at_broadcast_try_send_many(self->broadcast, items + sent, count - sent);
            if (result == AT_EFULL) {
                result = at_broadcast_send(self->broadcast, items[sent], &patience);
                CHECK(result >= 0);
                result = 1;
            }
            CHECK(result > 0);
            sent += (size_t)result;
        }
    }
}

typedef struct receiver {
    at_channel *channel;
    size_t count;
    size_t missed;
    uintptr_t got[EVERY];
} receiver;

static void recv_all(void *data)
{
    receiver *self = data;
    at_patience patience = {AT_NEVER, NULL};
    for (;;) {
        void *item;
        int result = at_channel_recv(self->channel, &item, &patience);
        if (result == AT_ELAGGED) {
            self->missed += (uintptr_t)item;
        } else if (result < 0) {
            CHECK(result == AT_ECLOSED);
            return;
        } else {
            CHECK(self->count < EVERY);
            self->got[self->count++] = (uintptr_t)item;
            drop(item);
        }
    }
}

static receiver receivers[RECEIVERS];

static void race(size_t capacity, at_slow slow)
{
    at_broadcast *broadcast = broadcast_of(capacity, slow);
    sender senders[SENDERS];
    at_thread threads[SENDERS + RECEIVERS];
    memset(receivers, 0, sizeof receivers);
    for (size_t i = 0; i < RECEIVERS; i++) {
        receivers[i].channel = subscribed(broadcast);
        CHECK(at_thread_start(&threads[i], "receiver", recv_all, &receivers[i], NULL) ==
              0);
    }
    for (size_t i = 0; i < SENDERS; i++) {
        senders[i] = (sender){broadcast, 1 + i * ITEMS, 0};
        CHECK(at_thread_start(&threads[RECEIVERS + i], "sender",
                              i == 0 ? send_all : send_batches, &senders[i],
                              NULL) == 0);
    }
    for (size_t i = 0; i < SENDERS; i++) {
        at_thread_join(&threads[RECEIVERS + i]);
        CHECK(senders[i].result >= 0);
    }
    at_broadcast_close(broadcast);
    for (size_t i = 0; i < RECEIVERS; i++) {
        at_thread_join(&threads[i]);
        if (slow != AT_SLOW_CLOSES) {
            CHECK(receivers[i].count + receivers[i].missed == EVERY);
        }
        CHECK(slow != AT_SLOW_WAITS || receivers[i].missed == 0);
        CHECK(slow != AT_SLOW_WAITS ||
              memcmp(receivers[i].got, receivers[0].got, sizeof receivers[0].got) == 0);
        uintptr_t last[SENDERS] = {0};
        for (size_t j = 0; j < receivers[i].count; j++) {
            uintptr_t number = receivers[i].got[j];
            size_t from = (number - 1) / ITEMS;
            CHECK(from < SENDERS && number > last[from]);
            last[from] = number;
        }
        unref(receivers[i].channel);
    }
    unref(broadcast);
    CHECK(atomic_load(&live) == 0);
}

static void races(void)
{
    race(1, AT_SLOW_WAITS);
    race(64, AT_SLOW_WAITS);
    race(1, AT_SLOW_DROPS);
    race(16, AT_SLOW_DROPS);
    race(16, AT_SLOW_CLOSES);
}

/* Subscriptions come and go while a sender waits for room at them. */
static void come_and_go(void *data)
{
    at_broadcast *broadcast = data;
    at_channel *channel;
    while (at_broadcast_subscribe(broadcast, &channel) == 0) {
        at_patience patience = {at_clock_deadline(MILLISECOND), NULL};
        void *item;
        if (at_channel_recv(channel, &item, &patience) == 0) {
            drop(item);
        }
        unref(channel);
    }
}

/* The same, never receiving: each is full, or closed, when an item comes. */
static void come_and_close(void *data)
{
    at_broadcast *broadcast = data;
    at_channel *channel;
    while (at_broadcast_subscribe(broadcast, &channel) == 0) {
        for (int i = 0; i < 100 && at_channel_count(channel) == 0; i++) {
            at_park_relax();
        }
        (void)at_channel_close(channel);
        unref(channel);
    }
}

static void guests(at_slow slow, void (*visit)(void *data))
{
    at_broadcast *broadcast = broadcast_of(1, slow);
    at_thread threads[2];
    for (size_t i = 0; i < 2; i++) {
        CHECK(at_thread_start(&threads[i], "guest", visit, broadcast, NULL) == 0);
    }
    sender host = {broadcast, 1, 0};
    send_all(&host);
    CHECK(host.result >= 0);
    at_broadcast_close(broadcast);
    for (size_t i = 0; i < 2; i++) {
        at_thread_join(&threads[i]);
    }
    unref(broadcast);
    CHECK(atomic_load(&live) == 0);
}

static void who_goes_holds_up_nobody(void)
{
    guests(AT_SLOW_WAITS, come_and_go);
    guests(AT_SLOW_WAITS, come_and_close);
}

static void who_closes_leaves_nothing(void)
{
    guests(AT_SLOW_DROPS, come_and_close);
    guests(AT_SLOW_CLOSES, come_and_close);
}

int main(void)
{
    RUN_FAILING(makes_and_frees);
    RUN(each_gets_what_came_after_it);
    RUN(a_full_one_holds_up_a_sender);
    RUN(a_slow_one_misses_the_oldest);
    RUN(a_slow_one_is_closed);
    RUN(a_batch_goes_as_far_as_there_is_room_at_all);
    RUN(batches_for_the_slow);
    RUN(nobody_holds_it);
    RUN(an_interpreter_closes);
    RUN(races);
    RUN(who_goes_holds_up_nobody);
    RUN(who_closes_leaves_nothing);
    return 0;
}
