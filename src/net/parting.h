/* The last words on connections whose owner does not come back.
 *
 * They are said whole or not at all: half a frame would be the client's protocol error,
 * and half a TLS record a forgery. What a socket does not take at once is kept here,
 * with a descriptor of its own, since the owner may come back and close its; and is
 * sent, when no lock is held any more, as the client makes room. A client that makes
 * none in that time has its connection broken off where the kernel stopped, which is as
 * it would be without these words.
 *
 * All memory is taken before the first word, because words are said under the mutex of
 * a reactor.
 */
#ifndef AT_NET_PARTING_H
#define AT_NET_PARTING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/contexts.h"
#include "net/connection.h"

enum { AT_PARTINGS_MAX = 256 };

typedef struct at_partings {
    at_bytes text; /* what is left to say on all of them */
    int count;
    struct {
        int descriptor; /* ours; -1: it is said */
        size_t start, size;
    } each[AT_PARTINGS_MAX];
} at_partings;

/* errs: AT_ENOMEM */
int at_partings_init(at_partings *partings);

/* Say what waits on the connection, and `text` behind it; within TLS, also that it is
 * the last. Then the socket is shut, now or by at_partings_finish.
 * ctx: any that has seized the connection, or has its last word to say; never blocks */
void at_partings_say(at_partings *partings, at_connection *connection, at_span text);

/* Give clients until `limit_ns` from now to take what was not taken; and the end.
 * ctx: detached, without a lock */
void at_partings_finish(at_partings *partings, int64_t limit_ns) AT_DETACHED;

#endif
