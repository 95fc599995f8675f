/* Sleeping on a word; see sleep.h. */
#include "chan/sleep.h"

#include "base/error.h"
#include "chan/peer.h"
#include "sys/clock.h"

enum {
    NS_PER_MS = 1000000,
    /* How many are woken with one lock of the peer. */
    WAKE_BATCH = 16,
};

static int dozer_enter(at_dozer *dozer, at_peer *peer)
{
    (void)pthread_mutex_lock(&peer->mutex);
    bool closing = atomic_load(&peer->closing);
    if (!closing) {
        dozer->previous = NULL;
        dozer->next = peer->dozers;
        if (dozer->next != NULL) {
            dozer->next->previous = dozer;
        }
        peer->dozers = dozer;
        dozer->number = ++peer->doze_count;
    }
    (void)pthread_mutex_unlock(&peer->mutex);
    return closing ? AT_EENDING : 0;
}

static void dozer_leave(at_dozer *dozer, at_peer *peer)
{
    (void)pthread_mutex_lock(&peer->mutex);
    if (dozer->previous != NULL) {
        dozer->previous->next = dozer->next;
    } else {
        peer->dozers = dozer->next;
    }
    if (dozer->next != NULL) {
        dozer->next->previous = dozer->previous;
    }
    bool last = peer->dozers == NULL && atomic_load(&peer->closing);
    if (last) {
        atomic_store(&peer->all_awake, 1);
    }
    (void)pthread_mutex_unlock(&peer->mutex);
    if (last) {
        at_park_wake(&peer->all_awake, AT_PARK_ALL, AT_PARK_PRIVATE);
    }
}

int at_sleep_on(atomic_uint *word, unsigned expected, at_park_scope scope,
                const at_patience *patience)
{
    at_peer *peer = patience->peer;
    at_dozer dozer = {.word = word, .scope = scope, .thread = pthread_self()};
    if (peer == NULL) {
        return at_park_wait_watching(word, expected, patience->deadline_ns, scope);
    }
    int result = dozer_enter(&dozer, peer);
    if (result == 0) {
        /* Who interrupts sets the bit and then looks for sleepers. */
        result =
            at_park_is_told()
                ? AT_EINTERRUPTED
                : at_park_wait_watching(word, expected, patience->deadline_ns, scope);
        dozer_leave(&dozer, peer);
        if (atomic_load(&peer->closing)) {
            result = AT_EENDING;
        }
    }
    return result;
}

void at_dozers_end(at_peer *peer)
{
    for (;;) {
        struct {
            atomic_uint *word;
            at_park_scope scope;
        } woken[WAKE_BATCH];
        unsigned count = 0;
        (void)pthread_mutex_lock(&peer->mutex);
        for (at_dozer *one = peer->dozers; one != NULL && count < WAKE_BATCH;
             one = one->next) {
            woken[count].word = one->word;
            woken[count++].scope = one->scope;
        }
        (void)pthread_mutex_unlock(&peer->mutex);
        if (count == 0) {
            return;
        }
        for (unsigned i = 0; i < count; i++) {
            at_park_wake(woken[i].word, AT_PARK_ALL, woken[i].scope);
        }
        /* One that stood between its look at the peer and its sleep has missed this. */
        (void)at_park_wait(&peer->all_awake, 0, at_clock_deadline(NS_PER_MS),
                           AT_PARK_PRIVATE);
    }
}

/* The sleep of `thread` that is not newer than number `last`: false where there is
 * none.
 */
static bool dozer_find(at_peer *peer, pthread_t thread, uint64_t last, at_dozer *found)
{
    bool is_there = false;
    (void)pthread_mutex_lock(&peer->mutex);
    for (at_dozer *one = peer->dozers; one != NULL && !is_there; one = one->next) {
        if (pthread_equal(one->thread, thread) && one->number <= last) {
            *found = (at_dozer){.word = one->word, .scope = one->scope};
            is_there = true;
        }
    }
    (void)pthread_mutex_unlock(&peer->mutex);
    return is_there;
}

void at_dozer_interrupt(at_peer *peer, pthread_t thread)
{
    (void)pthread_mutex_lock(&peer->mutex);
    uint64_t last = peer->doze_count; /* later ones look before they sleep */
    (void)pthread_mutex_unlock(&peer->mutex);
    at_dozer one;
    while (dozer_find(peer, thread, last, &one)) {
        at_park_wake(one.word, AT_PARK_ALL, one.scope);
        /* If it stood between its look and its sleep it has missed this. */
        (void)at_park_wait(&peer->all_awake, 0, at_clock_deadline(NS_PER_MS),
                           AT_PARK_PRIVATE);
    }
}
