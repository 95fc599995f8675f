/* Interrupts: another thread sets a bit that a thread watches, and then ends its wait,
 * whatever it waits for and however far it has come; others are left asleep. */
#include <stdint.h>

#include "base/error.h"
#include "chan/channel.h"
#include "chan/lock.h"
#include "chan/peer.h"
#include "chan/sync.h"
#include "check.h"
#include "sys/clock.h"
#include "sys/park.h"
#include "sys/thread.h"

enum { INTERPRETER = 6, TOLD = 8, ROUNDS = 300 };

typedef struct waits {
    at_channel *channel;
    at_event *event;
    at_lock *lock; /* held by the main thread */
    at_peer *peer;
} waits;

typedef struct sleeper {
    waits *things;
    int (*wait)(waits *things, const at_patience *patience);
    atomic_uint bits;
    atomic_int begun;
    int result;
} sleeper;

static void drop(void *item)
{
    (void)item;
}

static int receive(waits *things, const at_patience *patience)
{
    void *item;
    return at_channel_recv(things->channel, &item, patience);
}

static int wait_for_event(waits *things, const at_patience *patience)
{
    return at_event_wait(things->event, patience);
}

static int take_lock(waits *things, const at_patience *patience)
{
    return at_lock_acquire(things->lock, patience);
}

static void sleep_once(void *data)
{
    sleeper *self = data;
    (void)at_park_set_watch((at_park_watch){.word = &self->bits, .told_bits = TOLD});
    at_patience patience = {AT_NEVER, self->things->peer};
    atomic_store(&self->begun, 1);
    do {
        self->result = self->wait(self->things, &patience);
    } while (self->result == AT_EINTERRUPTED && atomic_load(&self->bits) == 0);
    (void)at_park_set_watch((at_park_watch){.word = NULL});
}

static void start(at_thread *thread, sleeper *self, waits *things, int number)
{
    static int (*const ways[])(waits *, const at_patience *) = {receive, wait_for_event,
                                                                take_lock};
    *self = (sleeper){.things = things, .wait = ways[number % 3]};
    CHECK(at_thread_start(thread, "sleeper", sleep_once, self, NULL) == 0);
}

static void interrupt(at_thread *thread, sleeper *self)
{
    (void)atomic_fetch_or(&self->bits, TOLD);
    at_channels_thread_interrupted(INTERPRETER, thread->handle);
}

static waits things_new(void)
{
    waits things;
    at_channel_options options = {1, drop, false, NULL};
    at_origin origin = {0};
    CHECK(at_channel_new(&options, &things.channel) == 0);
    CHECK(at_event_new(&origin, &things.event, NULL) == 0);
    CHECK(at_lock_new(false, &origin, &things.lock, NULL) == 0);
    CHECK(at_peer_join(INTERPRETER, &things.peer) == 0);
    CHECK(at_lock_try_acquire(things.lock, NULL) == 0);
    return things;
}

static void things_free(waits *things)
{
    CHECK(at_lock_release(things->lock, NULL) == 0);
    at_shared_unref((at_shared *)things->channel);
    at_shared_unref((at_shared *)things->event);
    at_shared_unref((at_shared *)things->lock);
    at_shared_unref(&things->peer->shared);
}

static void every_moment_will_do(void)
{
    waits things = things_new();
    for (int i = 0; i < ROUNDS; i++) {
        sleeper self;
        at_thread thread;
        start(&thread, &self, &things, i);
        while (i % 2 != 0 && atomic_load(&self.begun) == 0) {
            at_park_relax();
        }
        interrupt(&thread, &self);
        at_thread_join(&thread);
        CHECK(self.result == AT_EINTERRUPTED);
    }
    things_free(&things);
}

static void others_sleep_on(void)
{
    waits things = things_new();
    sleeper sleepers[6];
    at_thread threads[6];
    for (int i = 0; i < 6; i++) {
        start(&threads[i], &sleepers[i], &things, i);
    }
    for (int i = 0; i < 3; i++) {
        interrupt(&threads[i], &sleepers[i]);
        at_thread_join(&threads[i]);
        CHECK(sleepers[i].result == AT_EINTERRUPTED);
    }
    CHECK(at_channel_try_send(things.channel, &things) == 0);
    at_event_set(things.event);
    CHECK(at_lock_release(things.lock, NULL) == 0);
    for (int i = 3; i < 6; i++) {
        at_thread_join(&threads[i]);
        CHECK(sleepers[i].result == 0);
    }
    things_free(&things); /* a Lock may be released by any thread */
}

static void who_waits_for_nothing_is_left_alone(void)
{
    waits things = things_new();
    at_channels_thread_interrupted(INTERPRETER, pthread_self());
    at_channels_thread_interrupted(INTERPRETER + 1, pthread_self());
    CHECK(!at_park_is_told());
    things_free(&things);
}

int main(void)
{
    RUN(every_moment_will_do);
    RUN(others_sleep_on);
    RUN(who_waits_for_nothing_is_left_alone);
    return 0;
}
