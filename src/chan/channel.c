/* Channels; see channel.h. */
#include "chan/channel.h"

#include <assert.h>
#include <limits.h>

#include "base/error.h"
#include "base/memory.h"
#include "chan/ring.h"

struct at_channel {
    at_shared shared;
    bool keep_open; /* fixed after init, as the next */
    void (*drop)(void *item);
    at_channel_feed feed;   /* all zero where members send */
    at_wait_queue *senders; /* `own_senders`, or the feed's */
    /* A sender of the feed waits for room here, and not only elsewhere. Pairs with the
     * turns of the ring: see await_room and tell_room. */
    atomic_bool awaited;
    atomic_bool orphaned;
    at_members members;
    pthread_mutex_t lag_mutex; /* of a feed that does not wait for the slow */
    size_t missed;             /* guarded: lag_mutex */
    /* The other side reads the counts with every message: nothing that changes often
     * shares a line with them. */
    _Alignas(AT_CACHE_LINE_BYTES) at_spin receiver_spin;
    at_spin sender_spin;
    at_spin brief_spin;
    _Alignas(AT_CACHE_LINE_BYTES) at_wait_queue receivers;
    _Alignas(AT_CACHE_LINE_BYTES) at_wait_queue own_senders;
    at_ring ring;
};

static void channel_free(at_shared *thing)
{
    at_channel *channel = (at_channel *)thing;
    if (channel->feed.source != NULL) {
        channel->feed.ended(channel->feed.source, channel);
        at_wait_notify_all(channel->senders);
        at_shared_unref(channel->feed.source);
    }
    at_members_fini(&channel->members);
    void *item;
    while (at_ring_try_pop(&channel->ring, &item) == 0) {
        channel->drop(item);
    }
    at_ring_fini(&channel->ring);
    at_wait_queue_fini(&channel->receivers);
    at_wait_queue_fini(&channel->own_senders);
    (void)pthread_mutex_destroy(&channel->lag_mutex);
    at_free(channel);
}

const at_shared_kind at_channel_kind = {"channel", channel_free};
const at_shared_kind at_subscription_kind = {"subscription", channel_free};

/* An interpreter has closed. */
static void channel_left(at_shared *thing, const at_members_left *left)
{
    at_channel *channel = (at_channel *)thing;
    if (channel->keep_open || left->others || at_channel_is_closed(channel)) {
        return;
    }
    bool orphaned = channel->feed.source != NULL
                        ? !left->alive
                        : (left->sent && !left->may_send && left->may_receive) ||
                              (left->received && !left->may_receive && left->may_send);
    if (orphaned) {
        atomic_store(&channel->orphaned, true);
        (void)at_channel_close(channel);
    }
}

int at_channel_new(const at_channel_options *options, at_channel **made)
{
    at_channel *channel = at_calloc_aligned(AT_CACHE_LINE_BYTES, sizeof *channel);
    if (channel == NULL) {
        return AT_ENOMEM;
    }
    int result = at_ring_init(&channel->ring, options->capacity);
    if (result < 0) {
        at_free(channel);
        return result;
    }
    const at_channel_feed *feed = options->feed;
    at_shared_init(&channel->shared,
                   feed != NULL ? &at_subscription_kind : &at_channel_kind);
    channel->keep_open = options->keep_open;
    channel->drop = options->drop;
    at_members_init(&channel->members, &channel->shared, channel_left);
    (void)pthread_mutex_init(&channel->lag_mutex, NULL);
    at_spin_init(&channel->receiver_spin);
    at_spin_init(&channel->sender_spin);
    at_spin_init(&channel->brief_spin);
    at_wait_queue_init(&channel->receivers);
    at_wait_queue_init(&channel->own_senders);
    channel->senders = &channel->own_senders;
    if (feed != NULL) {
        channel->feed = *feed;
        channel->senders = feed->senders;
        at_shared_ref(feed->source);
    }
    *made = channel;
    return 0;
}

/* ---- sending ---------------------------------------------------------------- */

/* A producer that was overtaken between claiming and filling its slot hides the items
 * behind it from a receiver that was woken for one of them. So whoever takes an item
 * and leaves others wakes the next receiver; the same holds for room and senders. */
static void receivers_pass_on(at_channel *channel)
{
    if (atomic_load(&channel->receivers.count) != 0 &&
        at_ring_count(&channel->ring) != 0) {
        at_wait_notify(&channel->receivers, 1);
    }
}

static void senders_pass_on(at_channel *channel)
{
    if (atomic_load(&channel->senders->count) != 0 &&
        at_ring_count(&channel->ring) < channel->ring.capacity) {
        at_wait_notify(channel->senders, 1);
    }
}

/* There is room for `count` more. A feed's sender waits until there is at all that it
 * feeds: those that it does not wait for would wake it for nothing. */
static void tell_room(at_channel *channel, unsigned count)
{
    if (channel->feed.source == NULL ||
        (atomic_load(&channel->awaited) && atomic_exchange(&channel->awaited, false))) {
        at_wait_notify(channel->senders, count);
    }
}

int at_channel_try_send(at_channel *channel, void *item)
{
    int result = at_ring_try_push(&channel->ring, item);
    if (result == 0) {
        at_wait_notify(&channel->receivers, 1);
        senders_pass_on(channel);
    }
    return result;
}

int at_channel_try_send_many(at_channel *channel, void **items, size_t count)
{
    size_t sent = 0;
    int result = AT_EFULL;
    while (sent < count && sent < INT_MAX / 2) {
        result = at_ring_try_push_many(&channel->ring, items + sent, count - sent);
        if (result < 0) {
            break;
        }
        sent += (size_t)result;
    }
    if (sent == 0) {
        return result;
    }
    /* One wake: a receiver that leaves items wakes the next. */
    at_wait_notify(&channel->receivers, 1);
    senders_pass_on(channel);
    return (int)sent;
}

typedef struct exchange {
    at_channel *channel;
    void *item;
} exchange;

static int attempt_send(void *context)
{
    exchange *wanted = context;
    int result = at_ring_try_push(&wanted->channel->ring, wanted->item);
    return result == AT_EFULL ? AT_EAGAIN : result;
}

int at_channel_send(at_channel *channel, void *item, const at_patience *patience)
{
    exchange wanted = {channel, item};
    at_wait_link link = {.queue = channel->senders};
    int result =
        at_wait(&link, 1, attempt_send, &wanted, &channel->sender_spin, patience);
    if (result == 0) {
        at_wait_notify(&channel->receivers, 1);
        senders_pass_on(channel);
    }
    return result;
}

/* ---- receiving -------------------------------------------------------------- */

/* The pop of one that is not waited for when it is slow. The mutex makes what it has
 * missed known before the first item behind the gap. */
static int pop_lagging(at_channel *channel, void **items, size_t limit, bool tells)
{
    bool drops = channel->feed.slow == AT_SLOW_DROPS;
    (void)pthread_mutex_lock(&channel->lag_mutex);
    int result = drops && channel->missed != 0
                     ? AT_ELAGGED
                     : at_ring_try_pop_many(&channel->ring, items, limit);
    if (result == AT_ECLOSED && channel->missed != 0) {
        result = AT_ELAGGED;
    }
    if (result == AT_ELAGGED && tells) {
        items[0] = (void *)channel->missed; /* NOLINT(performance-no-int-to-ptr) */
        channel->missed = 0;
    }
    (void)pthread_mutex_unlock(&channel->lag_mutex);
    return result;
}

static int pop(at_channel *channel, void **item)
{
    if (channel->feed.slow == AT_SLOW_WAITS) {
        return at_ring_try_pop(&channel->ring, item);
    }
    int result = pop_lagging(channel, item, 1, true);
    return result == 1 ? 0 : result;
}

int at_channel_try_recv(at_channel *channel, void **item)
{
    /* Who finds nothing mostly looks again: it leaves the tail to the senders. */
    if (!at_ring_may_pop(&channel->ring)) {
        return AT_EEMPTY;
    }
    int result = pop(channel, item);
    if (result == 0) {
        tell_room(channel, 1);
        receivers_pass_on(channel);
    }
    return result;
}

static int recv_many(at_channel *channel, void **items, size_t limit, bool tells)
{
    int count = channel->feed.slow == AT_SLOW_WAITS
                    ? at_ring_try_pop_many(&channel->ring, items, limit)
                    : pop_lagging(channel, items, limit, tells);
    if (count < 0) {
        return count;
    }
    tell_room(channel, (unsigned)count);
    receivers_pass_on(channel);
    return count;
}

int at_channel_try_recv_many(at_channel *channel, void **items, size_t limit)
{
    if (!at_ring_may_pop(&channel->ring)) {
        return AT_EEMPTY;
    }
    return recv_many(channel, items, limit, true);
}

int at_channel_try_recv_more(at_channel *channel, void **items, size_t limit)
{
    int count = recv_many(channel, items, limit, false);
    return count > 0 ? count : 0;
}

static int attempt_recv(void *context)
{
    exchange *wanted = context;
    if (!at_ring_may_pop(&wanted->channel->ring)) {
        return AT_EAGAIN;
    }
    int result = pop(wanted->channel, &wanted->item);
    return result == AT_EEMPTY ? AT_EAGAIN : result;
}

int at_channel_brief_recv(at_channel *channel, void **item)
{
    exchange wanted = {channel, NULL};
    int result = at_spin_briefly(&channel->brief_spin, attempt_recv, &wanted);
    *item = wanted.item;
    if (result == 0) {
        tell_room(channel, 1);
        receivers_pass_on(channel);
    }
    return result == AT_EAGAIN ? AT_EEMPTY : result;
}

int at_channel_recv(at_channel *channel, void **item, const at_patience *patience)
{
    exchange wanted = {channel, NULL};
    at_wait_link link = {.queue = &channel->receivers};
    int result =
        at_wait(&link, 1, attempt_recv, &wanted, &channel->receiver_spin, patience);
    *item = wanted.item;
    if (result == 0) {
        tell_room(channel, 1);
        receivers_pass_on(channel);
    }
    return result;
}

typedef struct selection {
    at_channel **channels;
    size_t count;
    size_t start;
    void *item;
    size_t chosen;
} selection;

static int attempt_select(void *context)
{
    selection *wanted = context;
    size_t closed_count = 0;
    for (size_t i = 0; i < wanted->count; i++) {
        size_t place = (wanted->start + i) % wanted->count;
        int result = pop(wanted->channels[place], &wanted->item);
        if (result == 0 || result == AT_ELAGGED) {
            wanted->chosen = place;
            return result;
        }
        closed_count += result == AT_ECLOSED;
    }
    return closed_count == wanted->count ? AT_ECLOSED : AT_EAGAIN;
}

static int selection_end(selection *wanted, int result, void **item, size_t *chosen)
{
    *chosen = wanted->chosen;
    *item = wanted->item;
    if (result == 0) {
        at_channel *channel = wanted->channels[wanted->chosen];
        tell_room(channel, 1);
        receivers_pass_on(channel);
    }
    return result;
}

int at_channel_try_select(at_channel **channels, size_t count, size_t start,
                          void **item, size_t *chosen)
{
    selection wanted = {channels, count, start, NULL, 0};
    int result = attempt_select(&wanted);
    return selection_end(&wanted, result == AT_EAGAIN ? AT_EEMPTY : result, item,
                         chosen);
}

int at_channel_select(at_channel **channels, size_t count, size_t start, void **item,
                      size_t *chosen, const at_patience *patience)
{
    if (count > AT_SELECT_LIMIT) {
        return AT_ELIMIT;
    }
    at_wait_link links[AT_SELECT_LIMIT];
    for (size_t i = 0; i < count; i++) {
        links[i] = (at_wait_link){.queue = &channels[i]->receivers};
    }
    selection wanted = {channels, count, start, NULL, 0};
    at_spin *spin = count != 0 ? &channels[0]->receiver_spin : NULL;
    int result = at_wait(links, count, attempt_select, &wanted, spin, patience);
    return selection_end(&wanted, result, item, chosen);
}

/* ---- feeding ------------------------------------------------------------------ */

static bool has_room(const at_channel *channel)
{
    return at_ring_may_push(&channel->ring) || at_ring_is_closed(&channel->ring);
}

bool at_channel_await_room(at_channel *channel)
{
    if (has_room(channel)) {
        return true;
    }
    atomic_store(&channel->awaited, true);
    return has_room(channel); /* what was made before that was not told */
}

int at_channel_feed_item(at_channel *channel, void *item, void **dropped)
{
    *dropped = NULL;
    int result = at_ring_try_push(&channel->ring, item);
    if (result != AT_EFULL || channel->feed.slow == AT_SLOW_WAITS) {
        return result;
    }
    (void)pthread_mutex_lock(&channel->lag_mutex);
    /* Nobody is in the midst of a pop now: full is full. */
    result = at_ring_try_push(&channel->ring, item);
    if (result == AT_EFULL) {
        channel->missed++;
        if (channel->feed.slow == AT_SLOW_DROPS) {
            (void)at_ring_try_pop(&channel->ring, dropped);
            result = at_ring_try_push(&channel->ring, item);
        } else {
            (void)at_ring_close(&channel->ring);
            result = AT_ECLOSED;
        }
    }
    (void)pthread_mutex_unlock(&channel->lag_mutex);
    return result;
}

bool at_channel_has_sleepers(const at_channel *channel)
{
    return atomic_load(&channel->receivers.count) != 0;
}

void at_channel_wake(at_channel *channel)
{
    if (at_channel_is_closed(channel)) {
        at_wait_notify_all(&channel->receivers);
    } else {
        at_wait_notify(&channel->receivers, 1);
    }
}

/* ---- closing and looking ----------------------------------------------------- */

bool at_channel_close(at_channel *channel)
{
    bool closed = at_ring_close(&channel->ring);
    if (closed) {
        at_wait_notify_all(&channel->receivers);
        at_wait_notify_all(channel->senders);
    }
    return closed;
}

bool at_channel_is_closed(const at_channel *channel)
{
    return at_ring_is_closed(&channel->ring);
}

bool at_channel_is_orphaned(const at_channel *channel)
{
    return atomic_load(&channel->orphaned);
}

size_t at_channel_count(const at_channel *channel)
{
    return at_ring_count(&channel->ring);
}

size_t at_channel_capacity(const at_channel *channel)
{
    return (size_t)channel->ring.capacity;
}

at_wait_queue *at_channel_receivers(at_channel *channel)
{
    return &channel->receivers;
}

at_wait_queue *at_channel_senders(at_channel *channel)
{
    return channel->senders;
}

/* ---- members ----------------------------------------------------------------- */

int at_channel_join(at_channel *channel, at_peer *peer, at_member **member)
{
    return at_members_join(&channel->members, peer, member);
}
