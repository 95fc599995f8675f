/* HTTP/2 against nghttp2 as the client, in memory: requests and what is answered. */
#include <string.h>

#include "base/error.h"
#include "check.h"
#include "h2_pair.h"

static void request_and_response(void)
{
    start();
    const field fields[] = {{":method", "GET"},        {":scheme", "https"},
                            {":path", "/a%20b?c=d&e"}, {":authority", "a.b:8080"},
                            {"cookie", "x=1"},         {"accept", "*/*"},
                            {"cookie", "y=2"},         {"empty", ""}};
    int32_t id = request(fields, 8, 0);
    pump();
    seen_stream *here = &seen[0];
    CHECK(id == 1 && here->stream != NULL && here->body_ended);
    CHECK(strcmp(here->text, "GET=/a%20b\n?=c=d&e\nhost=a.b:8080\naccept=*/*\n"
                             "empty=\ncookie=x=1; y=2\n") == 0);
    at_h1_header headers[] = {{{"Content-Type", 12}, {"text/plain", 10}},
                              {{"Connection", 10}, {"close", 5}},
                              {{"Transfer-Encoding", 17}, {"chunked", 7}}};
    at_h2_response response = {.status = 200,
                               .headers = headers,
                               .header_count = 3,
                               .date = {"D", 1},
                               .server = {"atoll", 5},
                               .body_bytes = 5};
    CHECK(at_h2_respond(server, here->stream, &response, false) == 0);
    CHECK(at_h2_respond(server, here->stream, &response, false) == AT_EBUSY);
    CHECK(at_h2_send(server, here->stream, (at_span){"he", 2}, false) == 2);
    CHECK(at_h2_send(server, here->stream, (at_span){"llo", 3}, true) == 5);
    CHECK(at_h2_send(server, here->stream, (at_span){"!", 1}, true) == AT_ECLOSED);
    pump();
    CHECK(strcmp(got[0].text, ":status=200\ndate=D\nserver=atoll\ncontent-length=5\n"
                              "content-type=text/plain\n\n") == 0);
    CHECK(got[0].body_size == 5 && got[0].closed && got[0].error == 0);
    CHECK(here->closed && here->error == 0 && here->unsent == 0);
    CHECK(here->sent_calls == 1 && open_streams() == 0);
    stop();
}

static void input_byte_by_byte(void)
{
    start();
    (void)get("/");
    const uint8_t *data;
    for (ssize_t size; (size = nghttp2_session_mem_send(client, &data)) > 0;) {
        for (ssize_t i = 0; i < size; i++) {
            CHECK(at_h2_input(server, (const char *)data + i, 1) == 0);
        }
    }
    CHECK(seen[0].stream != NULL && seen[0].body_ended);
    stop();
}

static void response_without_body(void)
{
    start();
    (void)get("/");
    pump();
    at_h2_response response = response_of(204);
    response.body_bytes = 0;
    CHECK(at_h2_respond(server, seen[0].stream, &response, true) == 0);
    pump();
    CHECK(strcmp(got[0].text, ":status=204\n\n") == 0);
    CHECK(got[0].closed && got[0].body_size == 0 && seen[0].sent_calls == 0);
    stop();
}

static void trailers_and_hints(void)
{
    start();
    (void)get("/");
    pump();
    at_h1_header link = {{"link", 4}, {"</a.css>", 8}};
    CHECK(at_h2_respond_interim(server, seen[0].stream, 103, &link, 1) == 0);
    CHECK(at_h2_respond_interim(server, seen[0].stream, 200, &link, 1) == AT_EINVALID);
    at_h2_response response = response_of(200);
    CHECK(at_h2_respond(server, seen[0].stream, &response, false) == 0);
    CHECK(at_h2_respond_interim(server, seen[0].stream, 103, &link, 1) == AT_EBUSY);
    static char body[100000];
    CHECK(at_h2_send(server, seen[0].stream, (at_span){body, sizeof body}, false) > 0);
    at_h1_header sum = {{"X-Sum", 5}, {"1", 1}};
    at_h1_header bad = {{"x-sum", 5}, {"1\n", 2}};
    CHECK(at_h2_send_trailers(server, seen[0].stream, &bad, 1) == AT_EINVALID);
    CHECK(at_h2_send_trailers(server, seen[0].stream, &sum, 1) == 0);
    CHECK(at_h2_send_trailers(server, seen[0].stream, &sum, 1) == AT_ECLOSED);
    pump();
    CHECK(strcmp(got[0].text,
                 ":status=103\nlink=</a.css>\n\n:status=200\n\nx-sum=1\n\n") == 0);
    CHECK(got[0].body_size == sizeof body && got[0].closed && got[0].error == 0);

    (void)get("/"); /* and behind a body that is sent already */
    pump();
    CHECK(at_h2_respond(server, seen[1].stream, &response, false) == 0);
    CHECK(at_h2_send(server, seen[1].stream, (at_span){"x", 1}, false) == 1);
    pump();
    CHECK(at_h2_send_trailers(server, seen[1].stream, &sum, 1) == 0);
    pump();
    CHECK(strcmp(got[1].text, ":status=200\n\nx-sum=1\n\n") == 0);
    CHECK(got[1].closed && got[1].error == 0);
    stop();
}

static void refused_responses(void)
{
    start();
    (void)get("/");
    pump();
    const at_h1_header bad[] = {{{"a b", 3}, {"c", 1}},
                                {{"a", 1}, {"b\r\nc", 4}},
                                {{"", 0}, {"c", 1}},
                                {{":status", 7}, {"200", 3}}};
    for (size_t i = 0; i < 4; i++) {
        at_h2_response response = response_of(200);
        response.headers = &bad[i];
        response.header_count = 1;
        CHECK(at_h2_respond(server, seen[0].stream, &response, true) == AT_EINVALID);
    }
    at_h2_response response = response_of(101);
    CHECK(at_h2_respond(server, seen[0].stream, &response, true) == AT_EINVALID);
    CHECK(at_h2_send(server, seen[0].stream, (at_span){"x", 1}, true) == AT_ECLOSED);
    stop();
}

static void websocket_by_extended_connect(void)
{
    start();
    pump(); /* the client must have seen the setting */
    const field fields[] = {{":method", "CONNECT"}, {":protocol", "websocket"},
                            {":scheme", "https"},   {":path", "/chat?room=1"},
                            {":authority", "a.b"},  {"sec-websocket-version", "13"}};
    (void)request(fields, 6, 10);
    pump();
    CHECK(strncmp(seen[0].text, "CONNECT=/chat\n?=room=1\nprotocol=websocket\n", 42) ==
          0);
    CHECK(seen[0].body_size == 10);
    stop();
}

/* A header block of several frames is given in one piece: others may speak between two
 * pieces. */
static void whole_blocks(void)
{
    start();
    (void)get("/");
    pump();
    static char value[30000];
    memset(value, 'v', sizeof value);
    at_h1_header headers[] = {{{"x-long", 6}, {value, sizeof value}},
                              {{"x-longer", 8}, {value, sizeof value}}};
    at_h2_response response = response_of(200);
    response.headers = headers;
    response.header_count = 2;
    CHECK(at_h2_respond(server, seen[0].stream, &response, true) == 0);
    at_bytes out;
    at_bytes_init(&out);
    CHECK(at_h2_output(server, &out, 1) == 0);
    size_t at = 0;
    uint8_t flags = 0;
    int frames = 0;
    while (at < out.size) {
        const uint8_t *head = (const uint8_t *)out.data + at;
        at += 9 + ((size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2]);
        flags = head[4];
        frames++;
    }
    CHECK(at == out.size && frames > 1 && (flags & NGHTTP2_FLAG_END_HEADERS) != 0);
    at_bytes_fini(&out);
    stop();
}

static int out_of_memory(void)
{
    memset(seen, 0, sizeof seen);
    consume_at_once = true;
    /* SETTINGS, and GET https://a/ with a cookie, as a client writes them */
    static const char input[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                "\0\0\0\x04\0\0\0\0\0"
                                "\0\0\x0b\1\5\0\0\0\1"
                                "\x82\x87\x84\x41\x01"
                                "a\x60\x03x=1";
    int result = at_h2_new(&limits, &events, &server);
    if (result != 0) {
        return result;
    }
    at_bytes out;
    at_bytes_init(&out);
    result = at_h2_input(server, input, sizeof input - 1);
    result = result == 0 ? at_h2_output(server, &out, 1 << 20) : result;
    if (result == 0) {
        CHECK(seen[0].stream != NULL);
        at_h2_response response = response_of(200);
        result = at_h2_respond(server, seen[0].stream, &response, false);
    }
    if (result == 0) {
        long unsent = at_h2_send(server, seen[0].stream, (at_span){"hello", 5}, false);
        result = unsent < 0 ? (int)unsent : 0;
    }
    at_h1_header sum = {{"x-sum", 5}, {"1", 1}};
    if (result == 0) {
        result = at_h2_send_trailers(server, seen[0].stream, &sum, 1);
    }
    result = result == 0 ? at_h2_output(server, &out, 1 << 20) : result;
    /* out of memory in the middle of an answer may cost the stream alone */
    if (result == 0 && !(seen[0].closed && seen[0].error == 0)) {
        result = AT_ENOMEM;
    }
    at_bytes_fini(&out);
    at_h2_free(server);
    return result;
}

int main(void)
{
    at_h2_limits_init(&limits);
    RUN(request_and_response);
    RUN(input_byte_by_byte);
    RUN(response_without_body);
    RUN(trailers_and_hints);
    RUN(refused_responses);
    RUN(websocket_by_extended_connect);
    RUN(whole_blocks);
    RUN_FAILING(out_of_memory);
    return 0;
}
