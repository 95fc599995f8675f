/* Request heads: what is read, what is refused and with which status, whole and byte by
 * byte, always out of a block of exactly the bytes that were given. */
#include <string.h>

#include "base/error.h"
#include "check.h"
#include "http/h1.h"

static at_h1_limits limits;
static at_h1_request request;
static char *block;

/* Parse the first `size` bytes of `text` out of a fresh block, which stays until the
 * next call so that the request's spans may be looked at. */
static long parse_piece(const char *text, size_t size, size_t seen)
{
    free(block);
    block = malloc(size + (size == 0));
    CHECK(block != NULL);
    memcpy(block, text, size);
    return at_h1_parse_head(&request, block, size, seen, &limits);
}

static long parse_by_byte(const char *text, size_t size)
{
    long result = AT_EAGAIN;
    for (size_t given = 0; given < size && result == AT_EAGAIN; given++) {
        result = parse_piece(text, given + 1, given);
    }
    return result;
}

static long parse_sized(const char *text, size_t size)
{
    long by_byte = parse_by_byte(text, size);
    int status = request.error_status;
    long whole = parse_piece(text, size, 0);
    if (whole != by_byte || status != request.error_status) {
        (void)fprintf(stderr, "whole %ld, by byte %ld, for: %s\n", whole, by_byte,
                      text);
    }
    CHECK(whole == by_byte && status == request.error_status);
    return whole;
}

static long parse(const char *text)
{
    return parse_sized(text, strlen(text));
}

static bool is(at_span span, const char *text)
{
    return span.size == strlen(text) &&
           (span.size == 0 || memcmp(span.data, text, span.size) == 0);
}

#define HOST "Host: a\r\n"

static void simple_request(void)
{
    const char *text = "GET /a%20b?x=1&y HTTP/1.1\r\nHost: example.com:8080\r\n"
                       "X-Thing:  two words\t \r\nEmpty:\r\n\r\nGET /next";
    long size = parse(text);
    CHECK(size == (long)(strstr(text, "GET /next") - text));
    CHECK(is(request.method, "GET"));
    CHECK(is(request.target, "/a%20b?x=1&y"));
    CHECK(is(request.path, "/a%20b"));
    CHECK(is(request.query, "x=1&y"));
    CHECK(is(request.host, "example.com:8080"));
    CHECK(request.authority.size == 0);
    CHECK(request.version_minor == 1 && request.keep_alive);
    CHECK(request.framing == AT_H1_NO_BODY && request.content_length == 0);
    CHECK(request.header_count == 3);
    CHECK(is(request.headers[1].name, "x-thing"));
    CHECK(is(request.headers[1].value, "two words"));
    CHECK(is(request.headers[2].value, ""));
    CHECK(at_h1_find(&request, "empty") == &request.headers[2]);
    CHECK(at_h1_find(&request, "none") == NULL);
}

static void incomplete_heads(void)
{
    const char *text = "\r\nGET / HTTP/1.1\r\n" HOST "\r\n";
    for (size_t size = 0; size < strlen(text); size++) {
        CHECK(parse_piece(text, size, 0) == AT_EAGAIN);
    }
    CHECK(parse(text) == (long)strlen(text));
}

static void empty_line_before(void)
{
    CHECK(parse("\r\nGET / HTTP/1.0\r\n\r\n") == 20);
    CHECK(parse("\r\n\r\nGET / HTTP/1.0\r\n\r\n") == AT_EFORMAT);
    CHECK(parse("\nGET / HTTP/1.0\r\n\r\n") == AT_EFORMAT);
    CHECK(parse("\rGET / HTTP/1.0\r\n\r\n") == AT_EFORMAT);
}

static void http2_preface(void)
{
    CHECK(parse("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == 0);
    CHECK(parse("PRI * HTTP/2.0\r\n\r\nSM\r\n") == AT_EAGAIN);
    CHECK(parse("PRI * HTTP/2.0\r\n\r\nSM\r\nX") == AT_EFORMAT);
    CHECK(request.error_status == 505);
    CHECK(parse("PRI /x HTTP/1.1\r\n" HOST "\r\n") > 0);
    CHECK(parse("\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == AT_EFORMAT);
    CHECK(request.error_status == 505);
}

/* Requests that end in an error, and its status. */
static const struct {
    int status;
    const char *text;
} refused[] = {
    /* request line */
    {400, "GET  / HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET / HTTP/1.1 \r\n" HOST "\r\n"},
    {400, " GET / HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET /\r\n\r\n"},
    {400, "GET\r\n\r\n"},
    {400, "GET / \r\n\r\n"},
    {400, "G(T / HTTP/1.1\r\n" HOST "\r\n"},
    {400, "G\xc3\xa9T / HTTP/1.1\r\n" HOST "\r\n"},
    {400, "\x16\x03\x01"},
    {400, "GET / HTTP/1.1\n" HOST "\r\n"},
    {400, "GET /\rHTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET\t/ HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET / http/1.1\r\n" HOST "\r\n"},
    {400, "GET / HTTP/1\r\n" HOST "\r\n"},
    {400, "GET / HTTP/1.10\r\n" HOST "\r\n"},
    {400, "GET / HTTQ/1.1\r\n" HOST "\r\n"},
    {505, "GET / HTTP/1.2\r\n" HOST "\r\n"},
    {505, "GET / HTTP/0.9\r\n" HOST "\r\n"},
    {505, "GET / HTTP/2.0\r\n" HOST "\r\n"},
    {505, "GET / HTTP/3.1\r\n" HOST "\r\n"},
    /* targets */
    {400, "GET /a#b HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET /\x01 HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET /\x7f HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET /0123456789abcdef\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET a HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET * HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET ftp://a/ HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET http:///x HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET http://:80/x HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET http://me@a/x HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET http://a:b/x HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET http://a:99999/x HTTP/1.1\r\n" HOST "\r\n"},
    {400, "CONNECT / HTTP/1.1\r\n" HOST "\r\n"},
    {400, "CONNECT a HTTP/1.1\r\n" HOST "\r\n"},
    {400, "CONNECT a: HTTP/1.1\r\n" HOST "\r\n"},
    {400, "CONNECT :1 HTTP/1.1\r\n" HOST "\r\n"},
    {400, "GET a:80 HTTP/1.1\r\n" HOST "\r\n"},
    /* fields */
    {400, "GET / HTTP/1.1\r\n" HOST "X : y\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X\t: y\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST ": y\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X: y\r\n z\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X: y\r\n\tz\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n X: y\r\n" HOST "\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X: y\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X: y\n\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X: a\rb\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X: a\r\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X: a\x01\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X: 0123456789abcdef0\x7f\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X(: a\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST "X\xc3: a\r\n\r\n"},
    /* Host */
    {400, "GET / HTTP/1.1\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n" HOST HOST "\r\n"},
    {400, "GET / HTTP/1.0\r\n" HOST HOST "\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: me@a\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: a%2\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: []\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n"},
    {400, "GET http://a/ HTTP/1.1\r\n\r\n"},
    /* framing */
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: \r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 0x1\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1 1\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1,1\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1, 1\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 9223372036854775808\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551617\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 1\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST
          "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST
          "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"},
    {400, "POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST
          "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, gzip\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \"chunked\"\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked;q=1\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \vchunked\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding : chunked\r\n\r\n"},
    {501, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n"},
    {501, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, chunked\r\n\r\n"},
    {501, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: ,chunked\r\n\r\n"},
    {417, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nExpect: tea\r\n\r\n"},
};

static void refused_requests(void)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        long result = parse(refused[i].text);
        if (result != AT_EFORMAT || request.error_status != refused[i].status) {
            (void)fprintf(stderr, "%ld, status %d, not %d for: %s\n", result,
                          request.error_status, refused[i].status, refused[i].text);
        }
        CHECK(result == AT_EFORMAT && request.error_status == refused[i].status);
        CHECK(request.error_text != NULL);
    }
}

static void nul_bytes(void)
{
    static const char in_value[] = "GET / HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n";
    static const char in_name[] = "GET / HTTP/1.1\r\n" HOST "X\0: ab\r\n\r\n";
    static const char in_target[] = "GET /\0 HTTP/1.1\r\n" HOST "\r\n";
    CHECK(parse_sized(in_value, sizeof in_value - 1) == AT_EFORMAT);
    CHECK(parse_sized(in_name, sizeof in_name - 1) == AT_EFORMAT);
    CHECK(parse_sized(in_target, sizeof in_target - 1) == AT_EFORMAT);
}

static void targets(void)
{
    CHECK(parse("GET HTTP://b:80/x?y HTTP/1.1\r\n" HOST "\r\n") > 0);
    CHECK(is(request.path, "/x") && is(request.query, "y"));
    CHECK(is(request.authority, "b:80") && is(request.host, "b:80"));
    CHECK(is(request.headers[0].value, "b:80"));

    CHECK(parse("GET https://b HTTP/1.1\r\n" HOST "\r\n") > 0);
    CHECK(is(request.path, "/") && is(request.query, "") && is(request.host, "b"));
    CHECK(parse("GET http://b?q HTTP/1.0\r\n\r\n") > 0);
    CHECK(is(request.path, "/") && is(request.query, "q") && is(request.host, "b"));
    CHECK(parse("OPTIONS http://b HTTP/1.1\r\n" HOST "\r\n") > 0);
    CHECK(is(request.path, "*"));
    CHECK(parse("OPTIONS * HTTP/1.1\r\n" HOST "\r\n") > 0);
    CHECK(is(request.path, "*") && request.authority.size == 0);
    CHECK(parse("CONNECT [::1]:443 HTTP/1.1\r\n" HOST "\r\n") > 0);
    CHECK(is(request.authority, "[::1]:443") && request.path.size == 0);
    CHECK(is(request.host, "a"));
    CHECK(parse("GET //x??a=/? HTTP/1.1\r\n" HOST "\r\n") > 0);
    CHECK(is(request.path, "//x") && is(request.query, "?a=/?"));
}

static void hosts(void)
{
    static const char *const good[] = {
        "",   "a",       "a.b.c:1", "127.0.0.1:80",           "[::1]",
        "a:", "A-b_c~!", "a%41",    "[::ffff:1.2.3.4]:65535", "[v1.x:y]",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char text[200];
        (void)snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n",
                       good[i]);
        CHECK(parse(text) > 0);
        CHECK(is(request.host, good[i]));
    }
}

static void bodies(void)
{
    CHECK(parse("POST / HTTP/1.1\r\n" HOST "CONTENT-length:  010 \r\n\r\n") > 0);
    CHECK(request.framing == AT_H1_LENGTH && request.content_length == 10);
    CHECK(parse("POST / HTTP/1.1\r\n" HOST
                "Content-Length: 9223372036854775807\r\n\r\n") > 0);
    CHECK(request.content_length == INT64_MAX);
    CHECK(parse("POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n") > 0);
    CHECK(request.framing == AT_H1_NO_BODY);
    CHECK(parse("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: CHUNKed\r\n\r\n") > 0);
    CHECK(request.framing == AT_H1_CHUNKED && request.content_length == 0);
}

static void connection_options(void)
{
    CHECK(parse("GET / HTTP/1.1\r\n" HOST "Connection: Close\r\n\r\n") > 0);
    CHECK(!request.keep_alive);
    CHECK(parse("GET / HTTP/1.1\r\n" HOST "Connection: x, ,close\r\n\r\n") > 0);
    CHECK(!request.keep_alive);
    CHECK(parse("GET / HTTP/1.1\r\n" HOST "Connection: closed\r\n\r\n") > 0);
    CHECK(request.keep_alive);
    CHECK(parse("GET / HTTP/1.0\r\n\r\n") > 0);
    CHECK(!request.keep_alive);
    CHECK(parse("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n") > 0);
    CHECK(request.keep_alive);
    CHECK(
        parse("GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n") >
        0);
    CHECK(!request.keep_alive);
}

static void expectations(void)
{
    CHECK(parse("PUT / HTTP/1.1\r\n" HOST
                "Content-Length: 1\r\nExpect: 100-Continue\r\n\r\n") > 0);
    CHECK(request.expect_continue);
    CHECK(parse("PUT / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n\r\n") > 0);
    CHECK(!request.expect_continue);
    CHECK(parse("PUT / HTTP/1.0\r\nContent-Length: 1\r\nExpect: tea\r\n\r\n") > 0);
    CHECK(!request.expect_continue);
}

static void upgrades(void)
{
    CHECK(parse("GET / HTTP/1.1\r\n" HOST
                "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n") > 0);
    CHECK(request.upgrade_websocket && !request.upgrade_h2c);
    CHECK(parse("POST / HTTP/1.1\r\n" HOST
                "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n") > 0);
    CHECK(!request.upgrade_websocket);
    CHECK(parse("GET / HTTP/1.1\r\n" HOST "Upgrade: websocket\r\n\r\n") > 0);
    CHECK(!request.upgrade_websocket);
    CHECK(parse("GET / HTTP/1.0\r\n" HOST
                "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n") > 0);
    CHECK(!request.upgrade_websocket);
    CHECK(parse("GET / HTTP/1.1\r\n" HOST "Connection: Upgrade, HTTP2-Settings\r\n"
                "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n") > 0);
    CHECK(request.upgrade_h2c);
}

static void limits_are_kept(void)
{
    limits =
        (at_h1_limits){.request_line_bytes = 20, .head_bytes = 60, .header_count = 2};
    CHECK(parse("GET /0123456 HTTP/1.0\r\n\r\n") == AT_ELIMIT);
    CHECK(request.error_status == 414);
    CHECK(parse("GET /012345 HTTP/1.0\r\n\r\n") > 0);
    CHECK(
        parse("GET /01234567890123456789012345678901234567890123456789012345678901") ==
        AT_ELIMIT);
    CHECK(request.error_status == 414);
    const char *full = "GET / HTTP/1.0\r\nA: 012345678901234567890123456789012345\r\n"
                       "\r\n";
    limits.head_bytes = strlen(full);
    CHECK(parse(full) == (long)strlen(full));
    limits.head_bytes--;
    CHECK(parse(full) == AT_ELIMIT && request.error_status == 431);
    CHECK(parse("GET / HTTP/1.0\r\nA:\r\nB:\r\n\r\n") > 0);
    CHECK(parse("GET / HTTP/1.0\r\nA:\r\nB:\r\nC:\r\n\r\n") == AT_ELIMIT);
    CHECK(request.error_status == 431);
    limits.header_count = SIZE_MAX;
    limits.head_bytes = SIZE_MAX;
    limits.request_line_bytes = SIZE_MAX;
    char many[2000] = "GET / HTTP/1.0\r\n";
    for (int i = 0; i < AT_H1_HEADERS_MAX; i++) {
        (void)strcat(many, "A: b\r\n");
    }
    size_t size = strlen(many);
    CHECK(parse(strcat(many, "\r\n")) > 0);
    CHECK(request.header_count == AT_H1_HEADERS_MAX);
    many[size] = '\0';
    CHECK(parse(strcat(many, "A: b\r\n\r\n")) == AT_ELIMIT);
    at_h1_limits_init(&limits);
}

static void checks_for_responses(void)
{
    CHECK(at_h1_is_token((at_span){"X-Thing_1", 9}));
    CHECK(!at_h1_is_token((at_span){"", 0}));
    CHECK(!at_h1_is_token((at_span){"a b", 3}));
    CHECK(!at_h1_is_token((at_span){"a\0", 2}));
    CHECK(at_h1_is_field_value((at_span){NULL, 0}));
    CHECK(at_h1_is_field_value((at_span){"a\tb \xff", 5}));
    CHECK(!at_h1_is_field_value((at_span){"0123456789abcdef0\r\nX: y", 23}));
    CHECK(!at_h1_is_field_value((at_span){"0123456789abcde\n", 16}));
    CHECK(!at_h1_is_field_value((at_span){"\0", 1}));
}

static void percent_decoding(void)
{
    static const struct {
        const char *encoded;
        const char *decoded;
    } cases[] = {
        {"", ""},
        {"/plain", "/plain"},
        {"/a%20b%2Fc%2f", "/a b/c/"},
        {"%E2%82%AC", "\xe2\x82\xac"},
        {"%", "%"},
        {"%4", "%4"},
        {"%zz%41", "%zzA"},
        {"%%41", "%A"},
        {"%2525", "%25"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[40];
        size_t size = strlen(cases[i].encoded);
        memcpy(text, cases[i].encoded, size);
        size_t decoded = at_h1_decode_path((at_span){text, size}, text);
        CHECK(is((at_span){text, decoded}, cases[i].decoded));
    }
    char byte;
    CHECK(at_h1_decode_path((at_span){"%00", 3}, &byte) == 1 && byte == '\0');
}

int main(void)
{
    at_h1_limits_init(&limits);
    RUN(simple_request);
    RUN(incomplete_heads);
    RUN(empty_line_before);
    RUN(http2_preface);
    RUN(refused_requests);
    RUN(nul_bytes);
    RUN(targets);
    RUN(hosts);
    RUN(bodies);
    RUN(connection_options);
    RUN(expectations);
    RUN(upgrades);
    RUN(limits_are_kept);
    RUN(checks_for_responses);
    RUN(percent_decoding);
    free(block);
    return 0;
}
