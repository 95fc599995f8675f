/* HTTP/2's flow control, both ways: who does not read stops who sends, nobody else. */
#include <string.h>

#include "check.h"
#include "h2_pair.h"

static void large_bodies(void)
{
    enum { SIZE = 3000000 };
    start();
    (void)post(SIZE);
    pump();
    CHECK(seen[0].body_size == SIZE && seen[0].body_ended);
    at_h2_response response = response_of(200);
    CHECK(at_h2_respond(server, seen[0].stream, &response, false) == 0);
    static char piece[10000];
    memset(piece, 'x', sizeof piece);
    unsigned sum = 0;
    size_t given = 0;
    while (given < SIZE) { /* a second piece only when the first is sent */
        long unsent = 0;
        while (unsent < 50000 && given < SIZE) {
            unsent = at_h2_send(server, seen[0].stream, (at_span){piece, sizeof piece},
                                given + sizeof piece == SIZE);
            CHECK(unsent > 0);
            given += sizeof piece;
        }
        pump();
        CHECK(seen[0].unsent == 0);
    }
    for (size_t i = 0; i < SIZE; i++) {
        sum = sum * 31 + 'x';
    }
    CHECK(got[0].body_size == SIZE && got[0].body_sum == sum && got[0].closed);
    stop();
}

static void unread_body_stops_the_client(void)
{
    start();
    consume_at_once = false;
    (void)post(2000000);
    pump();
    CHECK(seen[0].body_size == limits.stream_window_bytes && !seen[0].body_ended);
    while (seen[0].unconsumed != 0) {
        size_t size = seen[0].unconsumed;
        seen[0].unconsumed = 0;
        at_h2_consume(server, seen[0].stream, size);
        pump();
    }
    CHECK(seen[0].body_size == 2000000 && seen[0].body_ended);
    stop();
}

/* Bodies that nobody reads, of streams that are gone, do not use up the connection. */
static void window_of_closed_streams_comes_back(void)
{
    start();
    consume_at_once = false;
    for (int i = 0; i < 20; i++) {
        (void)post(300000);
        pump();
        CHECK(seen[i].body_size == limits.stream_window_bytes);
        at_h2_reset(server, seen[i].stream, 8);
        pump();
        CHECK(seen[i].closed && got[i].closed && got[i].error == 8);
    }
    stop();
}

int main(void)
{
    at_h2_limits_init(&limits);
    RUN(large_bodies);
    RUN(unread_body_stops_the_client);
    RUN(window_of_closed_streams_comes_back);
    return 0;
}
