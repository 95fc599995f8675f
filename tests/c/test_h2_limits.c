/* What a client of HTTP/2 may not make too much of: heads, streams, resets, frames. */
#include <string.h>

#include "base/error.h"
#include "check.h"
#include "h2_pair.h"

static void large_heads(void)
{
    limits.header_bytes = 4000;
    start();
    static char value[3900];
    memset(value, 'v', sizeof value - 1);
    const field fields[] = {{":method", "POST"},
                            {":scheme", "https"},
                            {":authority", "a"},
                            {":path", "/"},
                            {"x", value}};
    (void)request(fields, 5, 100000); /* and its body goes nowhere */
    pump();
    CHECK(seen[0].stream == NULL && got[0].closed);
    CHECK(strcmp(got[0].text, ":status=431\ncontent-length=0\n\n") == 0);
    CHECK(server_result == 0);
    (void)get("/");
    pump();
    CHECK(seen[1].stream != NULL); /* the connection goes on */

    field many[30] = {
        {":method", "GET"}, {":scheme", "https"}, {":authority", "a"}, {":path", "/"}};
    for (size_t i = 4; i < 30; i++) {
        many[i] = (field){"x", value};
    }
    (void)request(many, 18, 0); /* the client itself sends no more than 64 KiB */
    pump();
    CHECK(server_result == AT_ELIMIT && got_goaway);
    CHECK(goaway_error == NGHTTP2_ENHANCE_YOUR_CALM);
    stop();
    at_h2_limits_init(&limits);
    limits.header_count = 10;
    start();
    (void)request(many, 4, 0);
    for (size_t i = 4; i < 30; i++) {
        many[i] = (field){"x", "y"};
    }
    (void)request(many, 30, 0);
    pump();
    CHECK(seen[0].stream != NULL && seen[1].stream == NULL);
    CHECK(strcmp(got[1].text, ":status=431\ncontent-length=0\n\n") == 0);
    stop();
    at_h2_limits_init(&limits);
}

static void too_many_streams(void)
{
    limits.concurrent_streams = 5;
    start();
    pump();
    for (int i = 0; i < 8; i++) {
        (void)get("/");
    }
    pump();
    CHECK(open_streams() == 5);
    at_h2_response response = response_of(200);
    CHECK(at_h2_respond(server, seen[0].stream, &response, true) == 0);
    pump(); /* the client had kept the others back */
    CHECK(open_streams() == 5 && seen[5].stream != NULL);
    stop();
    at_h2_limits_init(&limits);
}

static void rapid_reset(void)
{
    start();
    pump();
    int resets = 0;
    for (int i = 0; i < 300 && server_result == 0; i++) {
        int32_t id = get("/");
        (void)client_to_server();
        CHECK(nghttp2_submit_rst_stream(client, 0, id, NGHTTP2_CANCEL) == 0);
        pump();
        resets++;
        if (resets == 90) {
            at_h2_tick(server); /* a second later the budget is whole again */
        }
    }
    CHECK(server_result == AT_ELIMIT && resets == 90 + 101);
    CHECK(got_goaway && goaway_error == NGHTTP2_ENHANCE_YOUR_CALM);
    CHECK(open_streams() == 0);
    stop();
}

/* Streams that are answered may end as often as they like. */
static void finished_streams_cost_nothing(void)
{
    start();
    for (int i = 0; i < 300; i++) {
        (void)get("/");
        pump();
        at_h2_response response = response_of(200);
        CHECK(at_h2_respond(server, seen[i].stream, &response, true) == 0);
        pump();
        CHECK(seen[i].closed && seen[i].error == 0);
    }
    CHECK(server_result == 0);
    stop();
}

/* Send one raw frame `count` times. Returns the first error. */
static int flood(const char *frame, size_t size, int count)
{
    int result = 0;
    for (int i = 0; i < count && result == 0; i++) {
        result = at_h2_input(server, frame, size);
        at_bytes out;
        at_bytes_init(&out);
        int output = at_h2_output(server, &out, 1 << 20);
        result = result == 0 ? output : result;
        at_bytes_fini(&out);
    }
    return result;
}

static void floods(void)
{
    static const char ping[] = "\0\0\x08\x06\0\0\0\0\0"
                               "01234567";
    start();
    pump();
    CHECK(flood(ping, 17, 900) == 0);
    at_h2_tick(server);
    CHECK(flood(ping, 17, 1002) == AT_ELIMIT);
    stop();
    start();
    pump();
    CHECK(flood("\0\0\0\x04\0\0\0\0\0", 9, 1002) == AT_ELIMIT); /* SETTINGS */
    stop();
    start();
    (void)post(10);
    got[0].to_send = SIZE_MAX; /* never ends by itself */
    (void)client_to_server();
    CHECK(flood("\0\0\0\0\0\0\0\0\1", 9, 1002) == AT_ELIMIT); /* empty DATA */
    stop();
}

static void continuation_flood(void)
{
    start();
    pump();
    /* ":method: GET" and no END_HEADERS, then empty CONTINUATIONs without end */
    CHECK(at_h2_input(server, "\0\0\1\1\1\0\0\0\1\x82", 10) == 0);
    bool ended = false;
    for (int i = 0; i < 1000 && !ended; i++) {
        ended = at_h2_input(server, "\0\0\0\x09\0\0\0\0\1", 9) != 0;
        (void)server_to_client();
        ended |= at_h2_is_done(server);
    }
    CHECK(ended);
    stop();
}

int main(void)
{
    at_h2_limits_init(&limits);
    RUN(large_heads);
    RUN(too_many_streams);
    RUN(rapid_reset);
    RUN(finished_streams_cost_nothing);
    RUN(floods);
    RUN(continuation_flood);
    return 0;
}
