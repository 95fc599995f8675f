/* Channels: waiting, closing, select, peers, and threads that race. */
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "chan/channel.h"
#include "check.h"
#include "sys/clock.h"
#include "sys/park.h"
#include "sys/thread.h"
#include "sys/wakefd.h"

enum { MILLISECOND = 1000000, ITEMS = 20000 };

static atomic_long dropped;

static void drop(void *item)
{
    CHECK(item != NULL);
    atomic_fetch_add(&dropped, 1);
}

static void *item_of(uintptr_t number)
{
    return (void *)number; // NOLINT(performance-no-int-to-ptr)
}

static at_channel *channel_of(size_t capacity)
{
    at_channel *channel;
    CHECK(at_channel_new(&(at_channel_options){capacity, drop, false, NULL},
                         &channel) == 0);
    return channel;
}

static void unref(at_channel *channel)
{
    at_shared_unref((at_shared *)channel);
}

static at_patience forever(void)
{
    return (at_patience){AT_NEVER, NULL};
}

static at_patience briefly(void)
{
    return (at_patience){at_clock_deadline(2 * MILLISECOND), NULL};
}

static int makes_and_frees(void)
{
    at_channel *channel;
    int result = at_channel_new(&(at_channel_options){4, drop, false, NULL}, &channel);
    if (result < 0) {
        return result;
    }
    at_peer *peer;
    result = at_peer_join(77, &peer);
    if (result == 0) {
        at_member *member;
        result = at_channel_join(channel, peer, &member);
        if (result == 0) {
            at_member_leave(member);
        }
        at_shared_unref(&peer->shared);
    }
    unref(channel);
    return result;
}

static void alone(void)
{
    at_channel *channel = channel_of(2);
    void *item;
    CHECK(at_channel_try_recv(channel, &item) == AT_EEMPTY);
    CHECK(at_channel_try_send(channel, item_of(1)) == 0);
    CHECK(at_channel_try_send(channel, item_of(2)) == 0);
    CHECK(at_channel_try_send(channel, item_of(3)) == AT_EFULL);
    CHECK(at_channel_count(channel) == 2 && at_channel_capacity(channel) == 2);
    at_patience patience = briefly();
    CHECK(at_channel_send(channel, item_of(3), &patience) == AT_ETIMEOUT);
    CHECK(at_channel_try_recv(channel, &item) == 0 && item == item_of(1));
    CHECK(at_channel_close(channel) && !at_channel_close(channel));
    CHECK(at_channel_send(channel, item_of(3), &patience) == AT_ECLOSED);
    CHECK(at_channel_recv(channel, &item, &patience) == 0 && item == item_of(2));
    CHECK(at_channel_recv(channel, &item, &patience) == AT_ECLOSED);
    unref(channel);
}

static void leftovers_are_dropped(void)
{
    at_channel *channel = channel_of(8);
    for (uintptr_t i = 1; i <= 5; i++) {
        CHECK(at_channel_try_send(channel, item_of(i)) == 0);
    }
    atomic_store(&dropped, 0);
    unref(channel);
    CHECK(atomic_load(&dropped) == 5);
}

static void many_at_once(void)
{
    at_channel *channel = channel_of(4);
    void *items[8];
    for (uintptr_t i = 0; i < 8; i++) {
        items[i] = item_of(i + 1);
    }
    CHECK(at_channel_try_send_many(channel, items, 8) == 4);
    CHECK(at_channel_try_send_many(channel, items + 4, 4) == AT_EFULL);
    void *received[8];
    CHECK(at_channel_try_recv_many(channel, received, 3) == 3);
    CHECK(at_channel_try_recv_many(channel, received + 3, 8) == 1);
    CHECK(memcmp(items, received, 4 * sizeof *items) == 0);
    CHECK(at_channel_try_recv_many(channel, received, 8) == AT_EEMPTY);
    (void)at_channel_close(channel);
    CHECK(at_channel_try_recv_many(channel, received, 8) == AT_ECLOSED);
    CHECK(at_channel_try_send_many(channel, items, 8) == AT_ECLOSED);
    unref(channel);
}

/* ---- two threads -------------------------------------------------------------- */

typedef struct side {
    at_channel *in;
    at_channel *out;
    at_peer *peer;
    uintptr_t accepted;
    uintptr_t received;
    int result;
} side;

static void echo(void *data)
{
    side *self = data;
    at_patience patience = forever();
    void *item;
    while ((self->result = at_channel_recv(self->in, &item, &patience)) == 0) {
        CHECK(at_channel_send(self->out, item, &patience) == 0);
    }
}

static void ping_pong(void)
{
    side other = {.in = channel_of(1), .out = channel_of(1)};
    at_thread thread;
    CHECK(at_thread_start(&thread, "echo", echo, &other, NULL) == 0);
    at_patience patience = forever();
    for (uintptr_t i = 1; i <= 2000; i++) {
        void *item;
        CHECK(at_channel_send(other.in, item_of(i), &patience) == 0);
        CHECK(at_channel_recv(other.out, &item, &patience) == 0 && item == item_of(i));
    }
    (void)at_channel_close(other.in);
    at_thread_join(&thread);
    CHECK(other.result == AT_ECLOSED);
    unref(other.in);
    unref(other.out);
}

static void send_all(void *data)
{
    side *self = data;
    at_patience patience = forever();
    for (uintptr_t i = 1; i <= ITEMS; i++) {
        self->result = at_channel_send(self->out, item_of(i), &patience);
        if (self->result < 0) {
            return;
        }
        self->accepted++;
    }
}

/* Closes the channel in the midst of the others' sends, when so many were received by
 * all; never when it is 0. */
static atomic_ulong close_after;
static atomic_ulong received_by_all;

static void recv_all(void *data)
{
    side *self = data;
    at_patience patience = forever();
    void *item;
    while ((self->result = at_channel_recv(self->in, &item, &patience)) == 0) {
        self->received++;
        if (atomic_fetch_add(&received_by_all, 1) + 1 == atomic_load(&close_after)) {
            (void)at_channel_close(self->in);
        }
    }
}

enum { SIDES = 4 };

/* Two senders and two receivers; closed by a receiver or when the senders have ended.
 */
static void crowd(size_t capacity, unsigned long close_at)
{
    at_channel *channel = channel_of(capacity);
    side sides[SIDES] = {0};
    at_thread threads[SIDES];
    atomic_store(&close_after, close_at);
    atomic_store(&received_by_all, 0);
    for (int i = 0; i < SIDES; i++) {
        sides[i].in = channel;
        sides[i].out = channel;
        CHECK(at_thread_start(&threads[i], "side", i < 2 ? send_all : recv_all,
                              &sides[i], NULL) == 0);
    }
    at_thread_join(&threads[0]);
    at_thread_join(&threads[1]);
    CHECK(at_channel_close(channel) == (close_at == 0));
    at_thread_join(&threads[2]);
    at_thread_join(&threads[3]);
    uintptr_t received = sides[2].received + sides[3].received;
    CHECK(received == sides[0].accepted + sides[1].accepted);
    CHECK(close_at != 0 || received == 2 * (uintptr_t)ITEMS);
    CHECK(at_channel_count(channel) == 0);
    unref(channel);
}

static void crowds(void)
{
    crowd(1, 0);
    crowd(2, 0);
    crowd(100, 0);
    crowd(1, 500);
    crowd(16, 5000);
}

/* ---- select ------------------------------------------------------------------- */

static void select_alone(void)
{
    at_channel *channels[3] = {channel_of(1), channel_of(1), channel_of(1)};
    void *item;
    size_t chosen;
    CHECK(at_channel_try_select(channels, 3, 0, &item, &chosen) == AT_EEMPTY);
    at_patience patience = briefly();
    CHECK(at_channel_select(channels, 3, 0, &item, &chosen, &patience) == AT_ETIMEOUT);
    CHECK(at_channel_try_send(channels[2], item_of(9)) == 0);
    CHECK(at_channel_try_send(channels[0], item_of(8)) == 0);
    CHECK(at_channel_try_select(channels, 3, 1, &item, &chosen) == 0);
    CHECK(chosen == 2 && item == item_of(9));
    patience = forever();
    CHECK(at_channel_select(channels, 3, 1, &item, &chosen, &patience) == 0);
    CHECK(chosen == 0 && item == item_of(8));
    (void)at_channel_close(channels[0]);
    (void)at_channel_close(channels[1]);
    CHECK(at_channel_try_select(channels, 3, 0, &item, &chosen) == AT_EEMPTY);
    CHECK(at_channel_try_send(channels[2], item_of(7)) == 0);
    (void)at_channel_close(channels[2]);
    CHECK(at_channel_select(channels, 3, 0, &item, &chosen, &patience) == 0);
    CHECK(chosen == 2 && item == item_of(7));
    CHECK(at_channel_select(channels, 3, 0, &item, &chosen, &patience) == AT_ECLOSED);
    CHECK(at_channel_select(channels, AT_SELECT_LIMIT + 1, 0, &item, &chosen,
                            &patience) == AT_ELIMIT);
    for (int i = 0; i < 3; i++) {
        unref(channels[i]);
    }
}

static void select_races(void)
{
    side senders[2] = {{.out = channel_of(2)}, {.out = channel_of(2)}};
    at_channel *channels[2] = {senders[0].out, senders[1].out};
    at_thread threads[2];
    for (int i = 0; i < 2; i++) {
        CHECK(at_thread_start(&threads[i], "sender", send_all, &senders[i], NULL) == 0);
    }
    uintptr_t last[2] = {0};
    at_patience patience = forever();
    for (size_t i = 0; i < 2 * (size_t)ITEMS; i++) {
        void *item;
        size_t chosen;
        CHECK(at_channel_select(channels, 2, i, &item, &chosen, &patience) == 0);
        CHECK((uintptr_t)item == ++last[chosen]);
    }
    for (int i = 0; i < 2; i++) {
        at_thread_join(&threads[i]);
        CHECK(last[i] == ITEMS);
        unref(channels[i]);
    }
}

/* ---- peers -------------------------------------------------------------------- */

static void wait_in_interpreter(void *data)
{
    side *self = data;
    at_patience patience = {AT_NEVER, self->peer};
    void *item;
    self->result = at_channel_recv(self->in, &item, &patience);
}

static void closing_wakes_sleepers(void)
{
    at_peer *peer;
    CHECK(at_peer_join(5, &peer) == 0);
    side sides[3];
    at_thread threads[3];
    for (int i = 0; i < 3; i++) {
        sides[i] = (side){.in = channel_of(1), .peer = peer};
        CHECK(at_thread_start(&threads[i], "waiter", wait_in_interpreter, &sides[i],
                              NULL) == 0);
    }
    at_channels_interpreter_closing(4);
    at_channels_interpreter_closing(5);
    for (int i = 0; i < 3; i++) {
        at_thread_join(&threads[i]);
        CHECK(sides[i].result == AT_EENDING);
        wait_in_interpreter(&sides[i]);
        CHECK(sides[i].result == AT_EENDING);
        unref(sides[i].in);
    }
    at_shared_unref(&peer->shared);
}

static at_member *member_of(at_channel *channel, int64_t interpreter_id)
{
    at_peer *peer;
    CHECK(at_peer_join(interpreter_id, &peer) == 0);
    at_member *member;
    at_shared_ref((at_shared *)channel);
    CHECK(at_channel_join(channel, peer, &member) == 0);
    at_shared_unref(&peer->shared);
    return member;
}

static void let_go(at_channel *channel, at_member *member)
{
    at_member_leave(member);
    unref(channel);
}

static void last_sender_closes_the_channel(void)
{
    at_channel *channel = channel_of(4);
    at_member *main_end = member_of(channel, 0);
    at_member *first = member_of(channel, 11);
    at_member *second = member_of(channel, 12);
    unref(channel); /* the members hold it now */
    at_member_receives(main_end);
    at_member_sends(first);
    at_member_sends(second);
    CHECK(at_channel_try_send(channel, item_of(1)) == 0);
    at_channels_interpreter_closing(11);
    CHECK(!at_channel_is_closed(channel));
    at_channels_interpreter_closing(12);
    CHECK(at_channel_is_closed(channel) && at_channel_is_orphaned(channel));
    void *item;
    CHECK(at_channel_try_recv(channel, &item) == 0);
    CHECK(at_channel_try_recv(channel, &item) == AT_ECLOSED);
    let_go(channel, first);
    let_go(channel, second);
    let_go(channel, main_end);
}

static void who_may_yet_send_keeps_it_open(void)
{
    at_channel *channel = channel_of(4);
    at_member *main_end = member_of(channel, 0);
    at_member *worker = member_of(channel, 21);
    at_member *newcomer = member_of(channel, 22);
    at_member_receives(main_end);
    at_member_sends(worker);
    at_channels_interpreter_closing(21);
    CHECK(!at_channel_is_closed(channel)); /* the newcomer may send */
    at_member_sends(newcomer);
    at_channels_interpreter_closing(22);
    CHECK(!at_channel_is_closed(channel)); /* a reference that is no member's */
    let_go(channel, worker);
    let_go(channel, newcomer);
    let_go(channel, main_end);
    unref(channel);
}

static void last_receiver_closes_the_channel(void)
{
    at_channel *channel = channel_of(4);
    at_member *main_end = member_of(channel, 0);
    at_member *worker = member_of(channel, 31);
    unref(channel);
    at_member_sends(main_end);
    at_member_receives(worker);
    at_channels_interpreter_closing(31);
    CHECK(at_channel_try_send(channel, item_of(1)) == AT_ECLOSED);
    let_go(channel, worker);
    let_go(channel, main_end);
}

/* ---- waiters that call ---------------------------------------------------------- */

typedef struct armed {
    at_shared shared;
    at_waiter waiter;
    at_wait_link link;
    atomic_int calls;
} armed;

static void armed_free(at_shared *thing)
{
    at_free(thing);
}

static const at_shared_kind armed_kind = {"armed", armed_free};

static void count_call(at_waiter *waiter)
{
    armed *self = (armed *)waiter->owner;
    atomic_fetch_add(&self->calls, 1);
}

static armed *armed_new(at_channel *channel)
{
    armed *self = at_calloc(1, sizeof *self);
    CHECK(self != NULL);
    at_shared_init(&self->shared, &armed_kind);
    self->waiter.owner = &self->shared;
    self->waiter.call = count_call;
    self->link.queue = at_channel_receivers(channel);
    at_wait_arm(&self->waiter, &self->link, 1);
    return self;
}

static void armed_waiters(void)
{
    at_channel *channel = channel_of(4);
    armed *first = armed_new(channel);
    armed *second = armed_new(channel);
    CHECK(at_channel_try_send(channel, item_of(1)) == 0);
    CHECK(atomic_load(&first->calls) == 1 && atomic_load(&second->calls) == 0);
    /* The first leaves without having used it: the second is told. */
    at_wait_disarm(&first->waiter, &first->link, 1, false);
    CHECK(atomic_load(&second->calls) == 1);
    at_wait_disarm(&second->waiter, &second->link, 1, true);
    at_shared_unref(&first->shared);
    at_shared_unref(&second->shared);
    unref(channel);
}

int main(void)
{
    RUN_FAILING(makes_and_frees);
    RUN(alone);
    RUN(leftovers_are_dropped);
    RUN(many_at_once);
    RUN(ping_pong);
    RUN(crowds);
    RUN(select_alone);
    RUN(select_races);
    RUN(closing_wakes_sleepers);
    RUN(last_sender_closes_the_channel);
    RUN(who_may_yet_send_keeps_it_open);
    RUN(last_receiver_closes_the_channel);
    RUN(armed_waiters);
    return 0;
}
