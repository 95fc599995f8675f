/* Response heads: framing by status, method and version, and what is refused. */
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "check.h"
#include "http/h1_response.h"

static at_h1_header header(const char *name, const char *value)
{
    return (at_h1_header){{name, strlen(name)}, {value, strlen(value)}};
}

static at_h1_response response_of(int status, const at_h1_header *headers, size_t count)
{
    return (at_h1_response){
        .status = status,
        .headers = headers,
        .header_count = count,
        .body_bytes = -1,
        .keep_alive = true,
    };
}

static at_bytes out;

static void expect(const char *text)
{
    if (out.size != strlen(text) || memcmp(out.data, text, out.size) != 0) {
        (void)fprintf(stderr, "got:\n%.*s\nnot:\n%s\n", (int)out.size, out.data, text);
    }
    CHECK(out.size == strlen(text) && memcmp(out.data, text, out.size) == 0);
    at_bytes_fini(&out);
}

static void whole_head(void)
{
    const at_h1_header headers[] = {
        header("content-type", "text/plain"), header("Content-Length", " 5 "),
        header("Transfer-Encoding", "chunked"), header("Connection", "keep-alive"),
        header("Keep-Alive", "timeout=5")};
    at_h1_response response = response_of(200, headers, 5);
    response.date = (at_span){"D", 1};
    response.server = (at_span){"atoll", 5};
    CHECK(at_h1_write_head(&out, &response) == 0);
    CHECK(response.body_end == AT_H1_END_LENGTH && response.length_bytes == 5);
    CHECK(!response.will_close);
    expect("HTTP/1.1 200 OK\r\ndate: D\r\nserver: atoll\r\ncontent-type: text/plain\r\n"
           "content-length: 5\r\n\r\n");
}

static void own_date_and_server(void)
{
    const at_h1_header headers[] = {header("Date", "X"), header("SERVER", "mine")};
    at_h1_response response = response_of(599, headers, 2);
    response.date = (at_span){"D", 1};
    response.server = (at_span){"atoll", 5};
    response.body_bytes = 0;
    CHECK(at_h1_write_head(&out, &response) == 0);
    expect("HTTP/1.1 599 \r\nDate: X\r\nSERVER: mine\r\ncontent-length: 0\r\n\r\n");
}

static void unknown_length(void)
{
    at_h1_response response = response_of(200, NULL, 0);
    CHECK(at_h1_write_head(&out, &response) == 0);
    CHECK(response.body_end == AT_H1_END_CHUNK && !response.will_close);
    expect("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");

    response.is_http_10 = true;
    CHECK(at_h1_write_head(&out, &response) == 0);
    CHECK(response.body_end == AT_H1_END_CLOSE && response.will_close);
    expect("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
}

static void http_10_keep_alive(void)
{
    at_h1_response response = response_of(200, NULL, 0);
    response.is_http_10 = true;
    response.body_bytes = 1;
    CHECK(at_h1_write_head(&out, &response) == 0);
    CHECK(response.body_end == AT_H1_END_LENGTH && !response.will_close);
    expect("HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\n");
}

static void responses_without_body(void)
{
    const at_h1_header headers[] = {header("content-length", "7")};
    at_h1_response response = response_of(204, headers, 1);
    CHECK(at_h1_write_head(&out, &response) == 0);
    CHECK(response.body_end == AT_H1_END_NONE);
    expect("HTTP/1.1 204 No Content\r\n\r\n");

    response = response_of(304, headers, 1);
    CHECK(at_h1_write_head(&out, &response) == 0);
    CHECK(response.body_end == AT_H1_END_NONE);
    expect("HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n");

    response = response_of(304, NULL, 0);
    response.body_bytes = 0;
    CHECK(at_h1_write_head(&out, &response) == 0);
    expect("HTTP/1.1 304 Not Modified\r\n\r\n");

    response = response_of(200, headers, 1); /* the app sends nothing to HEAD */
    response.is_head = true;
    response.body_bytes = 0;
    CHECK(at_h1_write_head(&out, &response) == 0);
    CHECK(response.body_end == AT_H1_END_NONE && !response.will_close);
    expect("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n");

    response = response_of(200, NULL, 0);
    response.is_head = response.is_http_10 = true;
    response.body_bytes = 0;
    CHECK(at_h1_write_head(&out, &response) == 0);
    CHECK(response.body_end == AT_H1_END_NONE && !response.will_close);
    expect("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n\r\n");
}

static void closing(void)
{
    const at_h1_header headers[] = {header("connection", "x, Close")};
    at_h1_response response = response_of(200, headers, 1);
    CHECK(at_h1_write_head(&out, &response) == 0);
    CHECK(response.will_close && response.body_end == AT_H1_END_CHUNK);
    expect(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n");
}

static void upgrade(void)
{
    const at_h1_header headers[] = {header("upgrade", "websocket")};
    at_h1_response response = response_of(101, headers, 1);
    response.upgrade = true;
    CHECK(at_h1_write_head(&out, &response) == 0);
    CHECK(response.body_end == AT_H1_END_NONE);
    expect("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
           "connection: Upgrade\r\n\r\n");
}

static void refused_responses(void)
{
    const at_h1_header bad[][2] = {
        {header("a b", "c")},
        {header("", "c")},
        {header("a:", "c")},
        {header("a", "c\r\nx: y")},
        {header("a", "c\n")},
        {header("a\r\nb", "c")},
        {header("content-length", "x")},
        {header("content-length", "")},
        {header("content-length", "-1")},
        {header("content-length", "1"), header("content-length", "1")},
        {header("content-length", "4")},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        at_h1_response response = response_of(200, bad[i], bad[i][1].name.size ? 2 : 1);
        response.body_bytes = 5;
        CHECK(at_h1_write_head(&out, &response) == AT_EINVALID);
        CHECK(response.error_text != NULL && out.size == 0);
    }
    const int statuses[] = {-1, 0, 100, 101, 103, 199, 1000};
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        at_h1_response response = response_of(statuses[i], NULL, 0);
        CHECK(at_h1_write_head(&out, &response) == AT_EINVALID);
    }
}

static void interim_responses(void)
{
    CHECK(at_h1_write_interim(&out, 100, NULL, 0) == 0);
    expect("HTTP/1.1 100 Continue\r\n\r\n");
    at_h1_header link = header("link", "</a.css>; rel=preload");
    CHECK(at_h1_write_interim(&out, 103, &link, 1) == 0);
    expect("HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n");
    CHECK(at_h1_write_interim(&out, 101, NULL, 0) == AT_EINVALID);
    CHECK(at_h1_write_interim(&out, 200, NULL, 0) == AT_EINVALID);
    at_h1_header length = header("content-length", "1");
    CHECK(at_h1_write_interim(&out, 103, &length, 1) == AT_EINVALID);
    CHECK(out.size == 0);
}

static void chunks(void)
{
    static const uint64_t sizes[] = {1, 15, 16, 255, 256, 65535, 1 << 20, UINT64_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char prefix[AT_H1_CHUNK_PREFIX_MAX];
        char wanted[32];
        int size =
            snprintf(wanted, sizeof wanted, "%llx\r\n", (unsigned long long)sizes[i]);
        CHECK(at_h1_chunk_prefix(prefix, sizes[i]) == (size_t)size);
        CHECK(memcmp(prefix, wanted, (size_t)size) == 0);
    }
    CHECK(at_h1_write_last_chunk(&out, NULL, 0) == 0);
    expect("0\r\n\r\n");
    at_h1_header sum = header("x-sum", "1");
    CHECK(at_h1_write_last_chunk(&out, &sum, 1) == 0);
    expect("0\r\nx-sum: 1\r\n\r\n");
    at_h1_header coding = header("transfer-encoding", "x");
    CHECK(at_h1_write_last_chunk(&out, &coding, 1) == AT_EINVALID);
}

static void dates(void)
{
    char date[AT_HTTP_DATE_BYTES];
    at_http_date(date, 784111777);
    CHECK(memcmp(date, "Sun, 06 Nov 1994 08:49:37 GMT", sizeof date) == 0);
    for (int64_t at = 0; at < 253402300800; at += 86400 * 9 + 4321) {
        time_t seconds = (time_t)at;
        struct tm parts;
        char wanted[40];
        CHECK(gmtime_r(&seconds, &parts) != NULL);
        CHECK(strftime(wanted, sizeof wanted, "%a, %d %b %Y %H:%M:%S GMT", &parts) ==
              sizeof date);
        at_http_date(date, at);
        CHECK(memcmp(date, wanted, sizeof date) == 0);
    }
}

static int out_of_memory(void)
{
    at_bytes bytes;
    at_bytes_init(&bytes);
    at_h1_response response = response_of(200, NULL, 0);
    int result = at_h1_write_head(&bytes, &response);
    result = result == 0 ? at_h1_write_last_chunk(&bytes, NULL, 0) : result;
    at_bytes_fini(&bytes);
    return result;
}

int main(void)
{
    at_bytes_init(&out);
    RUN(whole_head);
    RUN(own_date_and_server);
    RUN(unknown_length);
    RUN(http_10_keep_alive);
    RUN(responses_without_body);
    RUN(closing);
    RUN(upgrade);
    RUN(refused_responses);
    RUN(interim_responses);
    RUN(chunks);
    RUN(dates);
    RUN_FAILING(out_of_memory);
    return 0;
}
