/* Requests and connections of HTTP/2 that break the rules, and what they are told. */
#include <string.h>

#include "base/error.h"
#include "check.h"
#include "h2_pair.h"

static const struct {
    int status; /* 0: nghttp2 refuses it with a reset */
    field fields[5];
} refused[] = {
    {400,
     {{":method", "GET"},
      {":scheme", "https"},
      {":authority", "a.b"},
      {":path", "/a#b"}}},
    {400,
     {{":method", "GET"},
      {":scheme", "https"},
      {":authority", "a.b:x"},
      {":path", "/"}}},
    {400,
     {{":method", "GET"},
      {":scheme", "https"},
      {":authority", "a.b"},
      {":path", "/"},
      {"host", "c"}}},
    {0,
     {{":method", "GET"}, {":scheme", "https"}, {":authority", "a.b"}, {":path", "*"}}},
    {0,
     {{":method", "GET"}, {":scheme", "https"}, {":authority", "a.b"}, {":path", ""}}},
    {0,
     {{":method", "GET"},
      {":scheme", "https"},
      {":authority", "a.b"},
      {":path", "/"},
      {"connection", "close"}}},
    {0,
     {{":method", "GET"},
      {":scheme", "https"},
      {":authority", "a.b"},
      {":path", "/"},
      {"transfer-encoding", "chunked"}}},
    {0,
     {{":method", "POST"},
      {":scheme", "https"},
      {":authority", "a.b"},
      {":path", "/"},
      {"content-length", "1,1"}}},
};

static void refused_requests(void)
{
    start();
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        (void)request(refused[i].fields, refused[i].fields[4].name != NULL ? 5 : 4, 0);
        pump();
        char wanted[40] = "";
        if (refused[i].status != 0) {
            (void)snprintf(wanted, sizeof wanted, ":status=%d\ncontent-length=0\n\n",
                           refused[i].status);
        }
        if (seen[i].stream != NULL || strcmp(got[i].text, wanted) != 0) {
            (void)fprintf(stderr, "case %zu: %s", i, got[i].text);
        }
        CHECK(seen[i].stream == NULL && got[i].closed);
        CHECK(strcmp(got[i].text, wanted) == 0);
    }
    CHECK(server_result == 0 && !got_goaway);
    stop();
}

/* GET / of the stream with this identifier, as a raw frame. */
static void raw_get(char id)
{
    char frame[] = "\0\0\6\1\5\0\0\0\0\x82\x87\x84\x41\1a";
    frame[8] = id;
    CHECK(at_h2_input(server, frame, sizeof frame - 1) == 0);
}

/* The error of the GOAWAY in the server's output, or -1. The client does
 * not know of raw frames, so it is left out. */
static int last_error_of_server(void)
{
    at_bytes out;
    at_bytes_init(&out);
    CHECK(at_h2_output(server, &out, 1 << 20) == 0);
    int error = -1;
    const uint8_t *frame = (const uint8_t *)out.data;
    const uint8_t *end = out.size != 0 ? frame + out.size : frame;
    while (out.size != 0 && frame != end) {
        size_t size = 9 + ((size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2]);
        CHECK(size <= (size_t)(end - frame));
        error = frame[3] == NGHTTP2_GOAWAY ? frame[16] : error;
        frame += size;
    }
    at_bytes_fini(&out);
    return error;
}

/* A stream that is closed is not opened again, and one passed over never (RFC 9113,
 * 5.1.1). */
static void identifiers_only_grow(void)
{
    start();
    pump();
    raw_get(1);
    raw_get(5);
    CHECK(seen[0].stream != NULL && seen[2].stream != NULL);
    CHECK(last_error_of_server() == -1);
    raw_get(3);
    CHECK(seen[1].stream == NULL && last_error_of_server() == NGHTTP2_PROTOCOL_ERROR);
    stop();
    start();
    pump();
    raw_get(1);
    at_h2_response response = response_of(204);
    CHECK(at_h2_respond(server, seen[0].stream, &response, true) == 0);
    CHECK(last_error_of_server() == -1 && seen[0].closed);
    raw_get(1);
    CHECK(last_error_of_server() == NGHTTP2_STREAM_CLOSED);
    stop();
}

static void not_http2(void)
{
    start();
    CHECK(at_h2_input(server, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27) == AT_EFORMAT);
    stop();
    start();
    (void)get("/");
    pump();
    CHECK(at_h2_input(server, "\0\0\1\x06\0\0\0\0\0x", 10) == 0); /* a short PING */
    pump();
    CHECK(got_goaway && goaway_error == NGHTTP2_FRAME_SIZE_ERROR);
    CHECK(at_h2_is_done(server));
    stop();
    CHECK(seen[0].closed); /* told by at_h2_free at the latest */
}

int main(void)
{
    at_h2_limits_init(&limits);
    RUN(refused_requests);
    RUN(identifiers_only_grow);
    RUN(not_http2);
    return 0;
}
