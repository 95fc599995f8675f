/* How a connection of HTTP/2 ends: announced to the client, or said in the session's
 * stead. */
#include <string.h>

#include "check.h"
#include "h2_pair.h"
#include "http/h2_farewell.h"

static void shutting_down(void)
{
    start();
    (void)get("/");
    pump();
    at_h2_shutdown(server, false);
    (void)get("/late"); /* on its way before the notice arrives */
    pump();
    CHECK(got_goaway && goaway_error == 0 && goaway_last == INT32_MAX);
    CHECK(seen[1].stream != NULL);
    at_h2_shutdown(server, true);
    pump();
    CHECK(goaway_last == 3 && !at_h2_is_done(server));
    at_h2_response response = response_of(200);
    CHECK(at_h2_respond(server, seen[0].stream, &response, true) == 0);
    CHECK(at_h2_respond(server, seen[1].stream, &response, true) == 0);
    pump();
    CHECK(got[0].closed && got[1].closed && at_h2_is_done(server));
    stop();
}

/* What is said in the session's stead fits what the session said, whatever the state of
 * its encoder. */
static void farewell(void)
{
    start();
    int32_t begun = get("/begun"), waiting = get("/waiting");
    pump();
    at_h1_header header = {{"x-kept", 6}, {"in the dynamic table", 20}};
    at_h2_response response = response_of(200);
    response.headers = &header;
    response.header_count = 1;
    CHECK(at_h2_respond(server, seen_of(begun)->stream, &response, false) == 0);
    pump();
    /* The encoder owes the client a smaller table. */
    nghttp2_settings_entry smaller = {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 0};
    CHECK(nghttp2_submit_settings(client, 0, &smaller, 1) == 0);
    pump();
    CHECK(at_h2_last_stream(server) == waiting);
    char block[AT_H2_FAREWELL_BLOCK_BYTES];
    at_span date = {"Sun, 06 Nov 1994 08:49:37 GMT", 29};
    size_t size = at_h2_farewell_block(block, date, (at_span){"7", 1});
    at_h2_farewell words;
    at_h2_farewell_init(&words, false);
    CHECK(at_h2_farewell_reset(&words, begun, false));
    CHECK(at_h2_farewell_answer(&words, waiting, (at_span){block, size}));
    at_span text = at_h2_farewell_end(&words, waiting);
    CHECK(nghttp2_session_mem_recv(client, (const uint8_t *)text.data, text.size) ==
          (ssize_t)text.size);
    CHECK(got_of(begun)->closed && got_of(begun)->error == NGHTTP2_INTERNAL_ERROR);
    CHECK(got_of(waiting)->closed && got_of(waiting)->error == 0);
    CHECK(strcmp(got_of(waiting)->text, ":status=503\n"
                                        "date=Sun, 06 Nov 1994 08:49:37 GMT\n"
                                        "retry-after=7\n\n") == 0);
    CHECK(got_goaway && goaway_last == waiting);
    stop();
}

/* A head counts as sent when it has come out, whatever was said before it. */
static void heads_that_are_sent(void)
{
    start();
    int32_t id = get("/");
    pump();
    at_h2_stream *stream = seen_of(id)->stream;
    at_h1_header link = {{"link", 4}, {"</a>; rel=preload", 17}};
    CHECK(at_h2_respond_interim(server, stream, 103, &link, 1) == 0);
    pump();
    CHECK(!at_h2_head_is_sent(stream));
    at_h2_response response = response_of(200);
    CHECK(at_h2_respond(server, stream, &response, false) == 0);
    CHECK(!at_h2_head_is_sent(stream));
    pump();
    CHECK(at_h2_head_is_sent(stream) && !at_h2_is_sent(stream));
    stop();
}

/* To a client that has not even the server's SETTINGS, and to one with more streams
 * than there is room for. */
static void farewell_first(void)
{
    start();
    int32_t id = get("/");
    (void)client_to_server();
    char block[AT_H2_FAREWELL_BLOCK_BYTES];
    size_t size = at_h2_farewell_block(block, (at_span){NULL, 0}, (at_span){"1", 1});
    at_h2_farewell words;
    at_h2_farewell_init(&words, true);
    CHECK(at_h2_farewell_answer(&words, id, (at_span){block, size}));
    int32_t other = id + 2;
    while (at_h2_farewell_answer(&words, other, (at_span){block, size})) {
        other += 2;
    }
    while (at_h2_farewell_reset(&words, other, false)) {
        other += 2;
    }
    at_span text = at_h2_farewell_end(&words, id);
    CHECK(text.size <= AT_H2_FAREWELL_BYTES);
    CHECK(text.data[text.size - 17 + 3] == 7); /* the GOAWAY had room */
    /* As far as the client's own stream: of the others it knows nothing. */
    CHECK(nghttp2_session_mem_recv(client, (const uint8_t *)text.data, 9 + 9 + size) ==
          (ssize_t)(9 + 9 + size));
    CHECK(got_of(id)->closed && got_of(id)->error == 0);
    CHECK(strcmp(got_of(id)->text, ":status=503\nretry-after=1\n\n") == 0);
    stop();
}

int main(void)
{
    at_h2_limits_init(&limits);
    RUN(shutting_down);
    RUN(heads_that_are_sent);
    RUN(farewell);
    RUN(farewell_first);
    return 0;
}
