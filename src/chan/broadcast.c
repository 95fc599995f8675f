/* Broadcasts; see broadcast.h. */
#include "chan/broadcast.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "chan/ring.h"

/* What the subscriptions keep: it outlives the broadcast while one of them is left. */
typedef struct hub {
    at_shared shared;
    at_broadcast_options options; /* fixed after init */
    /* Receivers look at its count with every item: what a sender writes with every item
     * lies on other lines. */
    _Alignas(AT_CACHE_LINE_BYTES) at_wait_queue senders;
    _Alignas(AT_CACHE_LINE_BYTES) pthread_mutex_t mutex;
    bool closed;           /* guarded: mutex, as the rest */
    at_channel **channels; /* not counted: each takes itself out when it is freed */
    size_t count;
    size_t capacity;
} hub;

struct at_broadcast {
    at_shared shared;
    hub *hub; /* a reference; fixed after init */
    at_members members;
    at_spin spin;
};

static void hub_free(at_shared *thing)
{
    hub *self = (hub *)thing;
    assert(self->count == 0);
    at_wait_queue_fini(&self->senders);
    (void)pthread_mutex_destroy(&self->mutex);
    at_free((void *)self->channels);
    at_free(self);
}

static const at_shared_kind hub_kind = {"hub", hub_free};

/* ---- life ------------------------------------------------------------------- */

static void broadcast_free(at_shared *thing)
{
    at_broadcast *broadcast = (at_broadcast *)thing;
    at_broadcast_close(broadcast);
    at_members_fini(&broadcast->members);
    at_shared_unref(&broadcast->hub->shared);
    at_free(broadcast);
}

const at_shared_kind at_broadcast_kind = {"broadcast", broadcast_free};

/* An interpreter has closed. */
static void broadcast_left(at_shared *thing, const at_members_left *left)
{
    if (!left->alive && !left->others) {
        at_broadcast_close((at_broadcast *)thing);
    }
}

int at_broadcast_new(const at_broadcast_options *options, at_broadcast **made)
{
    if (options->capacity == 0) {
        return AT_EINVALID;
    }
    at_broadcast *broadcast = at_calloc(1, sizeof *broadcast);
    hub *fresh = at_calloc_aligned(AT_CACHE_LINE_BYTES, sizeof *fresh);
    if (broadcast == NULL || fresh == NULL) {
        at_free(broadcast);
        at_free(fresh);
        return AT_ENOMEM;
    }
    at_shared_init(&fresh->shared, &hub_kind);
    fresh->options = *options;
    at_wait_queue_init(&fresh->senders);
    (void)pthread_mutex_init(&fresh->mutex, NULL);
    at_shared_init(&broadcast->shared, &at_broadcast_kind);
    broadcast->hub = fresh;
    at_members_init(&broadcast->members, &broadcast->shared, broadcast_left);
    at_spin_init(&broadcast->spin);
    *made = broadcast;
    return 0;
}

/* ---- the list of subscriptions ------------------------------------------------ */

static void subscription_ended(at_shared *source, at_channel *channel)
{
    hub *self = (hub *)source;
    (void)pthread_mutex_lock(&self->mutex);
    for (size_t i = 0; i < self->count; i++) {
        if (self->channels[i] == channel) {
            self->channels[i] = self->channels[--self->count];
            break;
        }
    }
    (void)pthread_mutex_unlock(&self->mutex);
}

/* Caller holds the mutex. False where there is no room. */
static bool add_locked(hub *self, at_channel *channel)
{
    if (self->count == self->capacity) {
        return false;
    }
    self->channels[self->count++] = channel;
    return true;
}

/* Exchange the array for one of twice the size, allocated by the caller. What is to be
 * freed. Caller holds the mutex. */
static at_channel **grow_locked(hub *self, at_channel **wider, size_t capacity)
{
    if (capacity <= self->capacity) {
        return wider; /* another thread was faster */
    }
    at_channel **narrow = self->channels;
    if (self->count != 0) {
        memcpy((void *)wider, (const void *)narrow, self->count * sizeof *wider);
    }
    self->channels = wider;
    self->capacity = capacity;
    return narrow;
}

static int add(hub *self, at_channel *channel)
{
    size_t capacity = 0;
    at_channel **spare = NULL;
    bool done = false;
    bool closed = false;
    while (!done && !closed) {
        if (capacity != 0) {
            spare = at_alloc(capacity * sizeof(at_channel *));
            if (spare == NULL) {
                return AT_ENOMEM;
            }
        }
        (void)pthread_mutex_lock(&self->mutex);
        if (spare != NULL) {
            spare = grow_locked(self, spare, capacity);
        }
        closed = self->closed;
        done = !closed && add_locked(self, channel);
        capacity = self->capacity != 0 ? self->capacity * 2 : 4;
        (void)pthread_mutex_unlock(&self->mutex);
        at_free((void *)spare);
        spare = NULL;
    }
    return closed ? AT_ECLOSED : 0;
}

int at_broadcast_subscribe(at_broadcast *broadcast, at_channel **subscription)
{
    hub *self = broadcast->hub;
    at_channel_feed feed = {&self->shared, &self->senders, subscription_ended,
                            self->options.slow};
    at_channel_options options = {self->options.capacity, self->options.drop, false,
                                  &feed};
    at_channel *channel;
    int result = at_channel_new(&options, &channel);
    if (result < 0) {
        return result;
    }
    result = add(self, channel);
    if (result < 0) {
        at_shared_unref((at_shared *)channel);
        return result;
    }
    *subscription = channel;
    return 0;
}

/* ---- sending ---------------------------------------------------------------- */

enum {
    FIRST_WAKES = 32,
    FIRST_ENDS = 192,
    /* An item is refused by a subscription, and for each one another may have to go. */
    ENDS_OF_ONE = 2,
};

/* What is to be done once the mutex is free. There is room for a wake of each
 * subscription, and for the ends of one item at least. */
typedef struct chores {
    void **list; /* `first`, or raw memory: wakes, and behind them ends */
    size_t wake_capacity;
    size_t wake_count;
    size_t end_capacity;
    size_t end_count;
    void *first[FIRST_WAKES + FIRST_ENDS]; /* not initialised */
} chores;

static void add_wake(chores *later, at_channel *channel)
{
    later->list[later->wake_count++] = channel;
}

static void add_end(chores *later, void *item)
{
    later->list[later->wake_capacity + later->end_count++] = item;
}

/* Lock the hub, with room for what sending to its subscriptions leaves to do. */
static int lock_with_room(hub *self, chores *later)
{
    later->list = later->first;
    later->wake_capacity = FIRST_WAKES;
    later->end_capacity = FIRST_ENDS;
    later->wake_count = 0;
    later->end_count = 0;
    for (;;) {
        (void)pthread_mutex_lock(&self->mutex);
        if (self->count <= later->wake_capacity) {
            return 0;
        }
        size_t capacity = self->count + FIRST_WAKES;
        (void)pthread_mutex_unlock(&self->mutex);
        if (later->list != later->first) {
            at_free((void *)later->list);
        }
        later->wake_capacity = capacity;
        later->end_capacity = capacity * 2 * ENDS_OF_ONE;
        later->list = at_alloc((capacity + later->end_capacity) * sizeof *later->list);
        if (later->list == NULL) {
            return AT_ENOMEM;
        }
    }
}

static void unlock_and_finish(hub *self, chores *later)
{
    (void)pthread_mutex_unlock(&self->mutex);
    for (size_t i = 0; i < later->wake_count; i++) {
        at_channel *channel = later->list[i];
        at_channel_wake(channel);
        at_shared_unref((at_shared *)channel);
    }
    for (size_t i = 0; i < later->end_count; i++) {
        self->options.drop(later->list[later->wake_capacity + i]);
    }
    if (later->list != later->first) {
        at_free((void *)later->list);
    }
}

/* Is there room at each? If not, the first that has none tells when it has. Caller
 * holds the mutex. */
static bool await_room_locked(const hub *self)
{
    for (size_t i = 0; i < self->count; i++) {
        if (!at_channel_await_room(self->channels[i])) {
            return false;
        }
    }
    return true;
}

/* May the next item go: is there room for what it leaves to do, and, where it is waited
 * for, at each? Caller holds the mutex. */
static bool may_feed_locked(const hub *self, const chores *later)
{
    return later->end_count + self->count * ENDS_OF_ONE < later->end_capacity &&
           (self->options.slow != AT_SLOW_WAITS || await_room_locked(self));
}

/* Give `item` to all. How many got it. Caller holds the mutex. */
static int feed_locked(const hub *self, void *item, chores *later)
{
    /* All references at once, and before the first of them may let go of its own: the
     * line with the count is the receivers' from then on. The caller's is the last. */
    if (self->count > 1) {
        self->options.share(item, self->count - 1);
    } else if (self->count == 0) {
        add_end(later, item);
    }
    int fed_count = 0;
    for (size_t i = 0; i < self->count; i++) {
        void *dropped;
        if (at_channel_feed_item(self->channels[i], item, &dropped) == 0) {
            fed_count++;
        } else {
            add_end(later, item);
        }
        if (dropped != NULL) {
            add_end(later, dropped);
        }
    }
    return fed_count;
}

static void note_sleepers_locked(const hub *self, chores *later)
{
    for (size_t i = 0; i < self->count; i++) {
        at_channel *channel = self->channels[i];
        /* One that is on its way to be freed has nobody to wake. */
        if (at_channel_has_sleepers(channel) &&
            at_shared_try_ref((at_shared *)channel)) {
            add_wake(later, channel);
        }
    }
}

/* at_broadcast_try_send_many(); `*fed_count` is how many got the last. */
static int send_some(hub *self, void **items, size_t count, int *fed_count)
{
    chores later;
    int result = lock_with_room(self, &later);
    if (result < 0) {
        return result;
    }
    int sent = 0;
    bool room_left = false;
    if (!self->closed) {
        while ((size_t)sent < count && sent < INT_MAX &&
               may_feed_locked(self, &later)) {
            *fed_count = feed_locked(self, items[sent++], &later);
        }
        result = sent > 0 ? sent : AT_EFULL;
    } else {
        result = AT_ECLOSED;
    }
    if (sent > 0) {
        note_sleepers_locked(self, &later);
        room_left = self->options.slow == AT_SLOW_WAITS &&
                    atomic_load(&self->senders.count) != 0 && await_room_locked(self);
    }
    unlock_and_finish(self, &later);
    if (room_left) {
        at_wait_notify(&self->senders, 1);
    }
    return result;
}

int at_broadcast_try_send(at_broadcast *broadcast, void *item)
{
    int fed_count;
    int result = send_some(broadcast->hub, &item, 1, &fed_count);
    return result < 0 ? result : fed_count;
}

int at_broadcast_try_send_many(at_broadcast *broadcast, void **items, size_t count)
{
    int fed_count;
    return send_some(broadcast->hub, items, count, &fed_count);
}

typedef struct sending {
    at_broadcast *broadcast;
    void *item;
} sending;

static int attempt_send(void *context)
{
    sending *wanted = context;
    int result = at_broadcast_try_send(wanted->broadcast, wanted->item);
    return result == AT_EFULL ? AT_EAGAIN : result;
}

int at_broadcast_send(at_broadcast *broadcast, void *item, const at_patience *patience)
{
    sending wanted = {broadcast, item};
    at_wait_link link = {.queue = &broadcast->hub->senders};
    int result = at_wait(&link, 1, attempt_send, &wanted, &broadcast->spin, patience);
    if (result == AT_ENOMEM) {
        at_wait_notify(&broadcast->hub->senders,
                       1); /* of room that this did not take */
    }
    return result;
}

/* ---- closing and looking ------------------------------------------------------- */

/* Take one subscription that still lives out of the list, with a reference, or NULL. */
static at_channel *take_one(hub *self)
{
    at_channel *taken = NULL;
    (void)pthread_mutex_lock(&self->mutex);
    self->closed = true;
    while (self->count != 0 && taken == NULL) {
        at_channel *last = self->channels[--self->count];
        taken = at_shared_try_ref((at_shared *)last) ? last : NULL;
    }
    (void)pthread_mutex_unlock(&self->mutex);
    return taken;
}

void at_broadcast_close(at_broadcast *broadcast)
{
    for (at_channel *each; (each = take_one(broadcast->hub)) != NULL;) {
        (void)at_channel_close(each);
        at_shared_unref((at_shared *)each);
    }
    at_wait_notify_all(&broadcast->hub->senders);
}

bool at_broadcast_is_closed(at_broadcast *broadcast)
{
    hub *self = broadcast->hub;
    (void)pthread_mutex_lock(&self->mutex);
    bool closed = self->closed;
    (void)pthread_mutex_unlock(&self->mutex);
    return closed;
}

size_t at_broadcast_capacity(const at_broadcast *broadcast)
{
    return broadcast->hub->options.capacity;
}

at_slow at_broadcast_slow(const at_broadcast *broadcast)
{
    return broadcast->hub->options.slow;
}

size_t at_broadcast_count(at_broadcast *broadcast)
{
    hub *self = broadcast->hub;
    size_t open_count = 0;
    (void)pthread_mutex_lock(&self->mutex);
    for (size_t i = 0; i < self->count; i++) {
        open_count += !at_channel_is_closed(self->channels[i]);
    }
    (void)pthread_mutex_unlock(&self->mutex);
    return open_count;
}

at_wait_queue *at_broadcast_senders(at_broadcast *broadcast)
{
    return &broadcast->hub->senders;
}

int at_broadcast_join(at_broadcast *broadcast, at_peer *peer, at_member **member)
{
    return at_members_join(&broadcast->members, peer, member);
}
