/* See parting.h. */
#include "net/parting.h"

#include <string.h>

#include "http/h2_farewell.h"
#include "sys/clock.h"
#include "sys/pollset.h"
#include "sys/stream.h"

enum {
    /* Beside a farewell, a read's worth of small frames may wait on a connection. */
    LONGEST_BYTES = 2 * AT_H2_FAREWELL_BYTES + (4 << 10),
    ALL_BYTES = 8 * LONGEST_BYTES, /* most are far shorter */
    MS_NS = 1000000,
};

int at_partings_init(at_partings *partings)
{
    partings->count = 0;
    at_bytes_init(&partings->text);
    return at_bytes_reserve(&partings->text, ALL_BYTES);
}

/* Write the words behind those that are kept. Gives their size, or an error. */
static long write_words(at_bytes *to, at_connection *connection, at_span text)
{
    size_t waiting = at_connection_waiting(connection);
    size_t room = to->capacity - to->size;
    char *at = to->data + to->size;
    at_span words[] = {
        {waiting != 0 ? connection->out.data + connection->out_start : NULL, waiting},
        text,
    };
    if (connection->tls != NULL) {
        return at_tls_write_last(connection->tls, words, 2, at, room);
    }
    if (waiting + text.size > room) {
        return AT_ELIMIT;
    }
    for (int i = 0; i < 2; i++) {
        if (words[i].size != 0) {
            memcpy(at, words[i].data, words[i].size);
            at += words[i].size;
        }
    }
    return (long)(waiting + text.size);
}

/* Send what is behind `start`. Gives how much is left; an error has no rest. */
static size_t send_rest(int descriptor, const char *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    long taken = at_socket_send(descriptor, &(at_span){data, size}, 1);
    if (taken < 0) {
        return taken == AT_EAGAIN ? size : 0;
    }
    return size - (size_t)taken;
}

void at_partings_say(at_partings *partings, at_connection *connection, at_span text)
{
    at_bytes *kept = &partings->text;
    long size = partings->count < AT_PARTINGS_MAX ? write_words(kept, connection, text)
                                                  : AT_ELIMIT;
    if (size > 0) {
        int descriptor = connection->descriptor;
        size_t left = send_rest(descriptor, kept->data + kept->size, (size_t)size);
        int copy = left != 0 ? at_socket_copy(descriptor) : -1;
        if (copy >= 0) {
            int at = partings->count++;
            kept->size += (size_t)size;
            partings->each[at].descriptor = copy;
            partings->each[at].start = kept->size - left;
            partings->each[at].size = left;
            return;
        }
    }
    at_socket_shut(connection->descriptor);
}

/* ---- later ----------------------------------------------------------------------- */

static void end(at_partings *partings, int at)
{
    int descriptor = partings->each[at].descriptor;
    if (descriptor >= 0) {
        partings->each[at].descriptor = -1;
        at_socket_shut(descriptor);
        at_socket_close(descriptor);
    }
}

/* Gives whether it is said, or cannot be. */
static bool go_on(at_partings *partings, int at)
{
    size_t size = partings->each[at].size;
    size_t left = send_rest(partings->each[at].descriptor,
                            partings->text.data + partings->each[at].start, size);
    partings->each[at].start += size - left;
    partings->each[at].size = left;
    return left == 0;
}

static void wait_and_send(at_partings *partings, int set, int64_t until_ns) AT_DETACHED;
static void wait_and_send(at_partings *partings, int set, int64_t until_ns)
{
    int waiting = 0;
    for (int i = 0; i < partings->count; i++) {
        if (at_poll_add(set, partings->each[i].descriptor, AT_POLL_WRITABLE,
                        &partings->each[i]) == 0) {
            waiting++;
        }
    }
    int64_t now = at_clock_ns();
    while (waiting > 0 && now < until_ns) {
        at_poll_event events[AT_POLL_BATCH];
        int ms = (int)((until_ns - now + MS_NS - 1) / MS_NS);
        int count = at_poll_wait(set, events, ms);
        for (int i = 0; i < count; i++) {
            int at = (int)((char *)events[i].user - (char *)partings->each) /
                     (int)sizeof partings->each[0];
            if ((events[i].ready & AT_POLL_HANGUP) || go_on(partings, at)) {
                at_poll_remove(set, partings->each[at].descriptor);
                end(partings, at);
                waiting--;
            }
        }
        now = at_clock_ns();
    }
}

void at_partings_finish(at_partings *partings, int64_t limit_ns)
{
    int set = partings->count != 0 ? at_poll_open(NULL) : -1;
    if (set >= 0) {
        wait_and_send(partings, set, at_clock_ns() + limit_ns);
        at_poll_close(set);
    }
    for (int i = 0; i < partings->count; i++) {
        end(partings, i);
    }
    at_bytes_fini(&partings->text);
}
