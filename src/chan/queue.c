/* Queues; see queue.h. */
#include "chan/queue.h"

#include <pthread.h>

#include "base/error.h"
#include "base/memory.h"

typedef struct item {
    struct item *next;
    at_message *message; /* a reference; NULL when its interpreter has closed */
    const at_peer *sender;
    at_fate fate;
} item;

/* An interpreter that has put something here. */
typedef struct sender {
    at_membership membership;
    at_queue *queue;
    struct sender *next; /* guarded: the queue's mutex */
} sender;

struct at_queue {
    at_shared shared;
    at_queue *next; /* guarded: the table's mutex */
    int64_t number; /* fixed after new, as the next three */
    int64_t limit;
    at_fate fate;
    int tag;
    at_wait_queue getters;
    at_wait_queue putters;
    at_spin spin;
    pthread_mutex_t mutex;
    item *first; /* guarded: mutex, as the rest */
    item **last; /* where the next one is hung */
    size_t count;
    sender *senders;
    bool closed;
};

/* Every queue of the process, oldest first. */
static struct {
    pthread_mutex_t mutex;
    at_queue *first;     /* guarded: mutex; not counted, as the next */
    int64_t last_number; /* guarded: mutex */
} queues = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* ---- life ---------------------------------------------------------------------- */

static void free_items(item *first)
{
    while (first != NULL) {
        item *next = first->next;
        at_message_unref(first->message);
        at_free(first);
        first = next;
    }
}

static void queue_free(at_shared *thing)
{
    at_queue *queue = (at_queue *)thing;
    (void)pthread_mutex_lock(&queues.mutex);
    for (at_queue **link = &queues.first; *link != NULL; link = &(*link)->next) {
        if (*link == queue) {
            *link = queue->next;
            break;
        }
    }
    (void)pthread_mutex_unlock(&queues.mutex);
    while (queue->senders != NULL) {
        sender *gone = queue->senders;
        queue->senders = gone->next;
        at_membership_leave(&gone->membership);
        at_shared_unref(&gone->membership.peer->shared);
        at_free(gone);
    }
    free_items(queue->first);
    at_wait_queue_fini(&queue->getters);
    at_wait_queue_fini(&queue->putters);
    (void)pthread_mutex_destroy(&queue->mutex);
    at_free(queue);
}

const at_shared_kind at_queue_kind = {"queue", queue_free};

int at_queue_new(int64_t limit, at_fate fate, int tag, at_queue **result)
{
    at_queue *queue = at_calloc(1, sizeof *queue);
    if (queue == NULL) {
        return AT_ENOMEM;
    }
    at_shared_init(&queue->shared, &at_queue_kind);
    at_wait_queue_init(&queue->getters);
    at_wait_queue_init(&queue->putters);
    at_spin_init(&queue->spin);
    (void)pthread_mutex_init(&queue->mutex, NULL);
    queue->limit = limit;
    queue->fate = fate;
    queue->tag = tag;
    queue->last = &queue->first;
    (void)pthread_mutex_lock(&queues.mutex);
    queue->number = ++queues.last_number;
    at_queue **link = &queues.first;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = queue;
    (void)pthread_mutex_unlock(&queues.mutex);
    *result = queue;
    return 0;
}

at_queue *at_queue_find(int64_t number)
{
    (void)pthread_mutex_lock(&queues.mutex);
    at_queue *found = queues.first;
    while (found != NULL && found->number != number) {
        found = found->next;
    }
    /* One that is on its way to queue_free() cannot be had any more. */
    if (found != NULL && !at_shared_try_ref(&found->shared)) {
        found = NULL;
    }
    (void)pthread_mutex_unlock(&queues.mutex);
    return found;
}

size_t at_queue_list(at_queue **found, size_t capacity)
{
    size_t count = 0;
    (void)pthread_mutex_lock(&queues.mutex);
    for (at_queue *queue = queues.first; queue != NULL; queue = queue->next) {
        if (count >= capacity) {
            count++;
        } else if (at_shared_try_ref(&queue->shared)) {
            found[count++] = queue;
        }
    }
    (void)pthread_mutex_unlock(&queues.mutex);
    return count;
}

/* ---- looking ------------------------------------------------------------------- */

int64_t at_queue_number(const at_queue *queue)
{
    return queue->number;
}

int64_t at_queue_limit(const at_queue *queue)
{
    return queue->limit;
}

at_fate at_queue_default_fate(const at_queue *queue)
{
    return queue->fate;
}

int at_queue_tag(const at_queue *queue)
{
    return queue->tag;
}

size_t at_queue_count(at_queue *queue)
{
    (void)pthread_mutex_lock(&queue->mutex);
    size_t count = queue->count;
    (void)pthread_mutex_unlock(&queue->mutex);
    return count;
}

size_t at_queue_waiting(at_queue *queue)
{
    return atomic_load(&queue->getters.count);
}

bool at_queue_is_closed(at_queue *queue)
{
    (void)pthread_mutex_lock(&queue->mutex);
    bool closed = queue->closed;
    (void)pthread_mutex_unlock(&queue->mutex);
    return closed;
}

/* ---- interpreters that close ----------------------------------------------------- */

/* Take out what `gone` put and wants removed, and empty the rest of it: the messages of
 * those, whose items stay, hang together by their `next` in `*emptied`. The caller
 * holds the mutex, and frees both. */
static item *withdraw_locked(at_queue *queue, const at_peer *gone, at_message **emptied)
{
    item *removed = NULL;
    item **link = &queue->first;
    while (*link != NULL) {
        item *one = *link;
        bool theirs = one->sender == gone && one->message != NULL;
        if (theirs && one->fate == AT_FATE_REMOVE) {
            *link = one->next;
            one->next = removed;
            removed = one;
            queue->count--;
            continue;
        }
        if (theirs) {
            one->message->next = *emptied;
            *emptied = one->message;
            one->message = NULL;
        }
        link = &one->next;
    }
    queue->last = link;
    return removed;
}

static void sender_closing(at_membership *membership)
{
    sender *closing = (sender *)membership;
    at_queue *queue = closing->queue;
    at_message *emptied = NULL;
    (void)pthread_mutex_lock(&queue->mutex);
    item *removed = withdraw_locked(queue, closing->membership.peer, &emptied);
    (void)pthread_mutex_unlock(&queue->mutex);
    if (removed != NULL) {
        at_wait_notify_all(&queue->putters);
    }
    free_items(removed);
    while (emptied != NULL) {
        at_message *next = emptied->next;
        at_message_unref(emptied);
        emptied = next;
    }
}

static sender *sender_find(at_queue *queue, const at_peer *peer)
{
    sender *found = queue->senders;
    while (found != NULL && found->membership.peer != peer) {
        found = found->next;
    }
    return found;
}

/* Have the queue told when `peer` closes. */
static int sender_join(at_queue *queue, at_peer *peer)
{
    (void)pthread_mutex_lock(&queue->mutex);
    bool known = sender_find(queue, peer) != NULL;
    (void)pthread_mutex_unlock(&queue->mutex);
    if (known) {
        return 0;
    }
    sender *fresh = at_calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        return AT_ENOMEM;
    }
    fresh->queue = queue;
    fresh->membership.peer = peer;
    fresh->membership.thing = &queue->shared;
    fresh->membership.closing = sender_closing;
    int result = 0;
    (void)pthread_mutex_lock(&queue->mutex);
    if (sender_find(queue, peer) == NULL) {
        result = at_membership_enter(&fresh->membership);
        if (result == 0) {
            at_shared_ref(&peer->shared);
            fresh->next = queue->senders;
            queue->senders = fresh;
            fresh = NULL;
        }
    }
    (void)pthread_mutex_unlock(&queue->mutex);
    at_free(fresh);
    return result;
}

/* ---- putting ------------------------------------------------------------------- */

typedef struct put_attempt {
    at_queue *queue;
    item *fresh;
} put_attempt;

static int attempt_put(void *context)
{
    put_attempt *put = context;
    at_queue *queue = put->queue;
    int result = 0;
    (void)pthread_mutex_lock(&queue->mutex);
    if (queue->closed) {
        result = AT_ECLOSED;
    } else if (queue->limit > 0 && queue->count >= (size_t)queue->limit) {
        result = AT_EAGAIN;
    } else if (atomic_load(&put->fresh->sender->closing)) {
        result = AT_EENDING; /* sender_closing() may have been here already */
    } else {
        *queue->last = put->fresh;
        queue->last = &put->fresh->next;
        queue->count++;
    }
    (void)pthread_mutex_unlock(&queue->mutex);
    return result;
}

/* `patience` NULL: do not wait. */
static int put(at_queue *queue, at_message *message, at_peer *peer, at_fate fate,
               const at_patience *patience) AT_UNCHECKED
{
    int result = sender_join(queue, peer);
    if (result < 0) {
        return result;
    }
    item *fresh = at_calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        return AT_ENOMEM;
    }
    *fresh = (item){.message = message, .sender = peer, .fate = fate};
    put_attempt attempt = {queue, fresh};
    if (patience == NULL) {
        result = attempt_put(&attempt);
        result = result == AT_EAGAIN ? AT_EFULL : result;
    } else {
        at_wait_link link = {.queue = &queue->putters};
        result = at_wait(&link, 1, attempt_put, &attempt, &queue->spin, patience);
    }
    if (result < 0) {
        at_free(fresh);
        return result;
    }
    at_wait_notify(&queue->getters, 1);
    return 0;
}

int at_queue_try_put(at_queue *queue, at_message *message, at_peer *peer, at_fate fate)
{
    return put(queue, message, peer, fate, NULL);
}

int at_queue_put(at_queue *queue, at_message *message, at_peer *peer, at_fate fate,
                 const at_patience *patience)
{
    return put(queue, message, peer, fate, patience);
}

/* ---- getting ------------------------------------------------------------------- */

typedef struct get_attempt {
    at_queue *queue;
    item *taken;
} get_attempt;

static int attempt_get(void *context)
{
    get_attempt *get = context;
    at_queue *queue = get->queue;
    int result = 0;
    (void)pthread_mutex_lock(&queue->mutex);
    item *taken = queue->first;
    if (taken != NULL) {
        queue->first = taken->next;
        if (queue->first == NULL) {
            queue->last = &queue->first;
        }
        queue->count--;
        get->taken = taken;
    } else {
        result = queue->closed ? AT_ECLOSED : AT_EAGAIN;
    }
    (void)pthread_mutex_unlock(&queue->mutex);
    return result;
}

static void take_apart(get_attempt *get, at_message **message, at_fate *fate)
{
    *message = get->taken->message;
    *fate = get->taken->message == NULL ? get->taken->fate : AT_FATE_NONE;
    at_free(get->taken);
    at_wait_notify(&get->queue->putters, 1);
}

int at_queue_try_get(at_queue *queue, at_message **message, at_fate *fate)
{
    get_attempt get = {queue, NULL};
    int result = attempt_get(&get);
    if (result == 0) {
        take_apart(&get, message, fate);
    }
    return result == AT_EAGAIN ? AT_EEMPTY : result;
}

int at_queue_get(at_queue *queue, at_message **message, at_fate *fate,
                 const at_patience *patience)
{
    get_attempt get = {queue, NULL};
    at_wait_link link = {.queue = &queue->getters};
    int result = at_wait(&link, 1, attempt_get, &get, &queue->spin, patience);
    if (result == 0) {
        take_apart(&get, message, fate);
    }
    return result;
}

void at_queue_close(at_queue *queue, bool drop)
{
    item *dropped = NULL;
    (void)pthread_mutex_lock(&queue->mutex);
    queue->closed = true;
    if (drop) {
        dropped = queue->first;
        queue->first = NULL;
        queue->last = &queue->first;
        queue->count = 0;
    }
    (void)pthread_mutex_unlock(&queue->mutex);
    free_items(dropped);
    at_wait_notify_all(&queue->getters);
    at_wait_notify_all(&queue->putters);
}
