/* Channels; see channel.h. */
#include "chan/channel.h"

#include <assert.h>
#include <limits.h>

#include "base/error.h"
#include "base/memory.h"
#include "chan/ring.h"

struct at_channel_member {
    at_membership membership;
    at_channel *channel;     /* fixed after init */
    at_channel_member *next; /* guarded: members_mutex, as the next */
    size_t handle_count;
    bool gone;            /* guarded: members_mutex; its interpreter has closed */
    atomic_bool sends;    /* set once */
    atomic_bool receives; /* set once */
};

struct at_channel {
    at_shared shared;
    bool keep_open; /* fixed after init, as the next */
    void (*drop)(void *item);
    atomic_bool orphaned;
    pthread_mutex_t members_mutex;
    at_channel_member *members; /* guarded: members_mutex */
    /* The other side reads the counts with every message: nothing that changes often
     * shares a line with them. */
    _Alignas(AT_CACHE_LINE_BYTES) at_spin receiver_spin;
    at_spin sender_spin;
    at_spin brief_spin;
    _Alignas(AT_CACHE_LINE_BYTES) at_wait_queue receivers;
    _Alignas(AT_CACHE_LINE_BYTES) at_wait_queue senders;
    at_ring ring;
};

static void channel_free(at_shared *thing)
{
    at_channel *channel = (at_channel *)thing;
    while (channel->members != NULL) {
        at_channel_member *member = channel->members;
        channel->members = member->next;
        at_membership_leave(&member->membership);
        at_shared_unref(&member->membership.peer->shared);
        at_free(member);
    }
    void *item;
    while (at_ring_try_pop(&channel->ring, &item) == 0) {
        channel->drop(item);
    }
    at_ring_fini(&channel->ring);
    at_wait_queue_fini(&channel->receivers);
    at_wait_queue_fini(&channel->senders);
    (void)pthread_mutex_destroy(&channel->members_mutex);
    at_free(channel);
}

const at_shared_kind at_channel_kind = {"channel", channel_free};

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
    at_shared_init(&channel->shared, &at_channel_kind);
    channel->keep_open = options->keep_open;
    channel->drop = options->drop;
    (void)pthread_mutex_init(&channel->members_mutex, NULL);
    at_spin_init(&channel->receiver_spin);
    at_spin_init(&channel->sender_spin);
    at_spin_init(&channel->brief_spin);
    at_wait_queue_init(&channel->receivers);
    at_wait_queue_init(&channel->senders);
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
    if (atomic_load(&channel->senders.count) != 0 &&
        at_ring_count(&channel->ring) < channel->ring.capacity) {
        at_wait_notify(&channel->senders, 1);
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
    at_wait_link link = {.queue = &channel->senders};
    int result =
        at_wait(&link, 1, attempt_send, &wanted, &channel->sender_spin, patience);
    if (result == 0) {
        at_wait_notify(&channel->receivers, 1);
        senders_pass_on(channel);
    }
    return result;
}

/* ---- receiving -------------------------------------------------------------- */

int at_channel_try_recv(at_channel *channel, void **item)
{
    int result = at_ring_try_pop(&channel->ring, item);
    if (result == 0) {
        at_wait_notify(&channel->senders, 1);
        receivers_pass_on(channel);
    }
    return result;
}

int at_channel_try_recv_many(at_channel *channel, void **items, size_t limit)
{
    int count = at_ring_try_pop_many(&channel->ring, items, limit);
    if (count < 0) {
        return count;
    }
    at_wait_notify(&channel->senders, (unsigned)count);
    receivers_pass_on(channel);
    return count;
}

static int attempt_recv(void *context)
{
    exchange *wanted = context;
    if (!at_ring_may_pop(&wanted->channel->ring)) {
        return AT_EAGAIN;
    }
    int result = at_ring_try_pop(&wanted->channel->ring, &wanted->item);
    return result == AT_EEMPTY ? AT_EAGAIN : result;
}

int at_channel_brief_recv(at_channel *channel, void **item)
{
    exchange wanted = {channel, NULL};
    int result = at_spin_briefly(&channel->brief_spin, attempt_recv, &wanted);
    if (result == 0) {
        *item = wanted.item;
        at_wait_notify(&channel->senders, 1);
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
    if (result == 0) {
        *item = wanted.item;
        at_wait_notify(&channel->senders, 1);
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
        int result = at_ring_try_pop(&wanted->channels[place]->ring, &wanted->item);
        if (result == 0) {
            wanted->chosen = place;
            return 0;
        }
        closed_count += result == AT_ECLOSED;
    }
    return closed_count == wanted->count ? AT_ECLOSED : AT_EAGAIN;
}

static int selection_end(selection *wanted, int result, void **item, size_t *chosen)
{
    if (result == 0) {
        *chosen = wanted->chosen;
        at_channel *channel = wanted->channels[wanted->chosen];
        *item = wanted->item;
        at_wait_notify(&channel->senders, 1);
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

/* ---- closing and looking ----------------------------------------------------- */

bool at_channel_close(at_channel *channel)
{
    bool closed = at_ring_close(&channel->ring);
    if (closed) {
        at_wait_notify_all(&channel->receivers);
        at_wait_notify_all(&channel->senders);
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
    return &channel->senders;
}

/* ---- members ----------------------------------------------------------------- */

/* Are all who are left on one side? Caller holds members_mutex; `gone` has just left.
 * The caller of this holds one reference that is no member's. */
static bool is_orphaned_by(at_channel *channel, const at_channel_member *gone)
{
    size_t handle_count = 0;
    bool may_send = false;
    bool may_receive = false;
    for (const at_channel_member *member = channel->members; member != NULL;
         member = member->next) {
        handle_count += member->handle_count;
        if (member->gone) {
            continue;
        }
        bool sends = atomic_load(&member->sends);
        bool receives = atomic_load(&member->receives);
        bool is_new = !sends && !receives && member->handle_count != 0;
        may_send |= sends || is_new;
        may_receive |= receives || is_new;
    }
    if (atomic_load(&channel->shared.references) > handle_count + 1) {
        return false;
    }
    return (atomic_load(&gone->sends) && !may_send && may_receive) ||
           (atomic_load(&gone->receives) && !may_receive && may_send);
}

static void member_closing(at_membership *membership)
{
    at_channel_member *member = (at_channel_member *)membership;
    at_channel *channel = member->channel;
    (void)pthread_mutex_lock(&channel->members_mutex);
    member->gone = true;
    bool orphaned = !channel->keep_open && is_orphaned_by(channel, member);
    (void)pthread_mutex_unlock(&channel->members_mutex);
    if (orphaned && !at_channel_is_closed(channel)) {
        atomic_store(&channel->orphaned, true);
        (void)at_channel_close(channel);
    }
}

static at_channel_member *member_find(at_channel *channel, const at_peer *peer)
{
    for (at_channel_member *member = channel->members; member != NULL;
         member = member->next) {
        if (member->membership.peer == peer) {
            return member;
        }
    }
    return NULL;
}

int at_channel_member_join(at_channel *channel, at_peer *peer,
                           at_channel_member **joined)
{
    at_channel_member *fresh = at_calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        return AT_ENOMEM;
    }
    fresh->channel = channel;
    fresh->membership.peer = peer;
    fresh->membership.thing = &channel->shared;
    fresh->membership.closing = member_closing;

    (void)pthread_mutex_lock(&channel->members_mutex);
    at_channel_member *member = member_find(channel, peer);
    int result = 0;
    if (member == NULL) {
        result = at_membership_enter(&fresh->membership);
        if (result == 0) {
            at_shared_ref(&peer->shared);
            fresh->next = channel->members;
            channel->members = fresh;
            member = fresh;
            fresh = NULL;
        }
    }
    if (result == 0) {
        member->handle_count++;
        *joined = member;
    }
    (void)pthread_mutex_unlock(&channel->members_mutex);
    at_free(fresh);
    return result;
}

void at_channel_member_leave(at_channel_member *member)
{
    (void)pthread_mutex_lock(&member->channel->members_mutex);
    member->handle_count--;
    (void)pthread_mutex_unlock(&member->channel->members_mutex);
}

void at_channel_member_sends(at_channel_member *member)
{
    if (!atomic_load_explicit(&member->sends, memory_order_relaxed)) {
        atomic_store(&member->sends, true);
    }
}

void at_channel_member_receives(at_channel_member *member)
{
    if (!atomic_load_explicit(&member->receives, memory_order_relaxed)) {
        atomic_store(&member->receives, true);
    }
}
