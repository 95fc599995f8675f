/* Is a reactor's owner alive, and what becomes of its connections if it is not; see
 * reactor.h.
 *
 * Whether a worker gets on is seen from outside, since one that is stuck can tell
 * nobody. It is asked: its eventfd is set, which a loop that turns answers by a batch,
 * however little there is to do. One that has begun none since the last question is
 * silent, whatever keeps it: Python code, C code that holds the GIL, a lock.
 *
 * Giving it up works under its mutex, which keeps every connection in the list from
 * being freed and every socket from being closed. What can be touched there beside the
 * owner, who may come back at any moment, is what a connection's claim says: one at
 * rest is taken away, and one whose request waits for its answer is answered.
 *
 * Any other is in the owner's hands. It is left there for a while: to be given up wakes
 * many an owner, by the signal that asks for its stack or by the exception that ends
 * what it did, and it is then in the middle of a request that it will answer. Only of
 * an owner who still shows no life the sockets are used: for a farewell where the claim
 * says that it falls between two frames, and then they are shut down.
 */
#include <pthread.h>

#include "http/h2_farewell.h"
#include "net/connection.h"
#include "net/h2.h"
#include "net/parting.h"
#include "net/reactor_internal.h"
#include "sys/clock.h"
#include "sys/wakefd.h"

int64_t at_reactor_probe(at_reactor *reactor, int64_t now_ns)
{
    uint64_t batches = atomic_load_explicit(&reactor->batches, memory_order_relaxed);
    int64_t silent_ns = 0;
    if (reactor->probed_since_ns == 0 || batches != reactor->probed_batches) {
        reactor->probed_batches = batches;
        reactor->probed_since_ns = now_ns;
    } else {
        silent_ns = now_ns - reactor->probed_since_ns;
    }
    at_wakefd_set(reactor->wake);
    return silent_ns;
}

uint64_t at_reactor_ask(at_reactor *reactor)
{
    at_wakefd_set(reactor->wake);
    return at_reactor_batches(reactor);
}

uint64_t at_reactor_batches(const at_reactor *reactor)
{
    return atomic_load_explicit(&reactor->batches, memory_order_relaxed);
}

bool at_reactor_is_given_up(const at_reactor *reactor)
{
    return atomic_load_explicit(&reactor->given_up, memory_order_relaxed);
}

/* Take from the owner what is in state `claim`, to end it: nothing of it is then in
 * use. */
static bool seize(at_connection *connection, unsigned claim)
{
    return atomic_compare_exchange_strong_explicit(
        &connection->claim, &claim, AT_CLAIM_ANSWERED, memory_order_acquire,
        memory_order_relaxed);
}

/* Say `answer` to who waits on the connection, and end it. */
static bool answer_instead(at_partings *partings, at_connection *connection,
                           at_span answer)
{
    if (!seize(connection, AT_CLAIM_ASKED)) {
        return false;
    }
    at_partings_say(partings, connection, answer);
    return true;
}

/* Requests without a word of an answer get it, also where there is one that waits for
 * room in the output; the others are broken off, a WebSocket among them, since its
 * close frame would have to fit the client's window. Gives how many were answered. */
static int end_streams(at_partings *partings, at_connection *connection, at_span block)
{
    at_h2_farewell farewell;
    int answered = 0;
    at_h2_farewell_init(&farewell, !connection->sent);
    for (const at_h2_carrier *carrier = connection->h2_carriers; carrier != NULL;
         carrier = carrier->after) {
        if (at_h2_head_is_sent(carrier->stream)) {
            bool is_whole = at_h2_is_sent(carrier->stream);
            at_h2_farewell_reset(&farewell, carrier->stream->id, is_whole);
        } else if (at_h2_farewell_answer(&farewell, carrier->stream->id, block)) {
            answered++;
        }
    }
    at_span text = at_h2_farewell_end(&farewell, at_h2_last_stream(connection->h2));
    at_partings_say(partings, connection, text);
    return answered;
}

/* End a connection, and tell its client that it is no fault of its own. Nothing can be
 * said of a response over HTTP/1.1 that has begun: that it breaks off is the message,
 * and TLS's close_notify would make a whole of one that ends with the connection. */
static int say_farewell(at_partings *partings, at_connection *connection, at_span block)
{
    static const char CLOSE[] = "\x88\x02\x03\xf4"; /* 1012: service restart */
    if (seize(connection, AT_CLAIM_FREE)) {
        at_partings_say(partings, connection, (at_span){NULL, 0});
    } else if (!seize(connection, AT_CLAIM_OPEN)) {
        /* Its owner is in the middle of something, or of a frame. */
        at_socket_shut(connection->descriptor);
    } else if (connection->phase == AT_PHASE_H2 && connection->h2 != NULL) {
        return end_streams(partings, connection, block);
    } else {
        at_partings_say(partings, connection, (at_span){CLOSE, sizeof CLOSE - 1});
    }
    return 0;
}

/* Caller holds the mutex. */
static at_newcomer *empty_list(at_reactor *reactor, at_span answer,
                               at_partings *partings, at_newcomer **spare,
                               int *spare_count, at_given_up *result)
{
    at_newcomer *list = reactor->inbox;
    reactor->inbox = NULL;
    for (at_newcomer *newcomer = list; newcomer != NULL; newcomer = newcomer->next) {
        atomic_fetch_sub_explicit(&reactor->record->load, 1, memory_order_relaxed);
        result->moved++;
    }
    for (at_connection *connection = reactor->connections; connection != NULL;
         connection = connection->after) {
        if (*spare_count > 0 &&
            at_reactor_take(reactor, connection, spare[*spare_count - 1])) {
            at_newcomer *newcomer = spare[--*spare_count];
            newcomer->next = list;
            list = newcomer;
            result->moved++;
            continue;
        }
        if (answer_instead(partings, connection, answer)) {
            result->answered++;
        }
    }
    return list;
}

at_newcomer *at_reactor_give_up(at_reactor *reactor, const at_last_words *words,
                                at_partings *partings, at_newcomer **spare,
                                int *spare_count, at_given_up *result)
{
    (void)pthread_mutex_lock(&reactor->mutex);
    reactor->inbox_closed = true;
    atomic_store(&reactor->record->open, false);
    atomic_store_explicit(&reactor->given_up, true, memory_order_relaxed);
    at_newcomer *list =
        empty_list(reactor, words->answer, partings, spare, spare_count, result);
    atomic_store_explicit(&reactor->disturbed, true, memory_order_relaxed);
    (void)pthread_mutex_unlock(&reactor->mutex);
    /* Should the owner come back, it shall find no client and an end. */
    for (int i = 0; i < reactor->listener_count; i++) {
        at_poll_remove(reactor->set, reactor->listeners[i]);
    }
    at_reactor_post_drain(reactor);
    return list;
}

/* Caller holds the mutex. */
static void cut_what_is_left(at_reactor *reactor, const at_last_words *words,
                             at_partings *partings, at_given_up *result)
{
    for (at_connection *connection = reactor->connections; connection != NULL;
         connection = connection->after) {
        unsigned claim = atomic_load_explicit(&connection->claim, memory_order_relaxed);
        if (claim == AT_CLAIM_TAKEN || claim == AT_CLAIM_ANSWERED) {
            continue; /* its socket is another's, or has had its end */
        }
        if (answer_instead(partings, connection, words->answer)) {
            result->answered++;
        } else {
            result->answered += say_farewell(partings, connection, words->block);
            result->cut++;
        }
    }
}

void at_reactor_cut(at_reactor *reactor, const at_last_words *words,
                    at_partings *partings, at_given_up *result)
{
    if (reactor->was_cut || at_reactor_probe(reactor, at_clock_ns()) == 0) {
        return; /* there is nothing left, or it has come back and drains */
    }
    reactor->was_cut = true;
    (void)pthread_mutex_lock(&reactor->mutex);
    cut_what_is_left(reactor, words, partings, result);
    (void)pthread_mutex_unlock(&reactor->mutex);
}
