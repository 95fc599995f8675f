/* Chunked bodies: whole and byte by byte, with everything that is refused. */
#include <string.h>

#include "base/error.h"
#include "check.h"
#include "http/h1.h"

static at_h1_chunked chunked;
static char body[70000];
static size_t body_size;
static size_t consumed;

/* Decode `text` in steps of at most `step` bytes, each out of its own block. */
static int decode_in_steps(const char *text, size_t size, size_t step)
{
    at_h1_chunked_init(&chunked);
    body_size = consumed = 0;
    int result = AT_EAGAIN;
    while (result == AT_EAGAIN && consumed < size) {
        size_t here = size - consumed < step ? size - consumed : step;
        char *block = malloc(here);
        CHECK(block != NULL);
        memcpy(block, text + consumed, here);
        size_t at = 0;
        do {
            size_t used;
            at_span piece;
            result = at_h1_chunked_next(&chunked, block + at, here - at, &used, &piece);
            CHECK((result == 1) == (piece.size != 0));
            if (piece.size != 0) {
                memcpy(body + body_size, piece.data, piece.size);
                body_size += piece.size;
            }
            at += used;
        } while (result == 1);
        CHECK(result != AT_EAGAIN || at == here);
        consumed += at;
        free(block);
    }
    return result;
}

static int decode(const char *text)
{
    size_t size = strlen(text);
    int whole = decode_in_steps(text, size, size);
    size_t whole_body = body_size;
    size_t whole_consumed = consumed;
    int by_byte = decode_in_steps(text, size, 1);
    if (whole != by_byte) {
        (void)fprintf(stderr, "whole %d, by byte %d, for: %s\n", whole, by_byte, text);
    }
    CHECK(whole == by_byte && whole_body == body_size && whole_consumed == consumed);
    return whole;
}

static void good_bodies(void)
{
    static const struct {
        const char *text;
        const char *body;
    } cases[] = {
        {"0\r\n\r\n", ""},
        {"5\r\nhello\r\n0\r\n\r\n", "hello"},
        {"5\r\nhello\r\n00006\r\n world\r\n000\r\n\r\n", "hello world"},
        {"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"},
        {"1;a\r\nx\r\n1;a=b;c=\"d;\\\"e\\\\\t\"\r\ny\r\n0;z\r\n\r\n", "xy"},
        {"0\r\nX-Sum: 1\r\nY:\r\n\r\n", ""},
        {"0\r\nContent-Lengths: 1\r\nTransfer-Encodings: x\r\nhos: t\r\n\r\n", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK(decode(cases[i].text) == 0);
        CHECK(consumed == strlen(cases[i].text));
        CHECK(body_size == strlen(cases[i].body));
        CHECK(memcmp(body, cases[i].body, body_size) == 0);
    }
}

static void next_request_is_left(void)
{
    CHECK(decode("1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n") == 0);
    CHECK(consumed == 11 && body_size == 1);
}

static void incomplete_bodies(void)
{
    const char *text = "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n";
    for (size_t size = 1; size < strlen(text); size++) {
        CHECK(decode_in_steps(text, size, size) == AT_EAGAIN);
        CHECK(decode_in_steps(text, size, 1) == AT_EAGAIN);
    }
}

static void refused_bodies(void)
{
    static const char *const cases[] = {
        "\r\n",
        "\n",
        "x\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 1\r\nx\r\n",
        "1 \r\nx\r\n",
        "1\t;a\r\nx\r\n",
        "1\nx\r\n",
        "1\rx\r\n",
        "1\r\nxy\r\n",
        "1\r\nx\n",
        "1\r\nx\ry",
        "1\r\nx0\r\n\r\n",
        "1;\r\nx\r\n",
        "1;a=\r\nx\r\n",
        "1;a b\r\nx\r\n",
        "1;a=b=c\r\nx\r\n",
        "1;a\nx\r\n",
        "1;a=\"\n\"\r\nx\r\n",
        "1;a=\"\\\r\"\r\nx\r\n",
        "1;a=\"b\"c\r\nx\r\n",
        "8000000000000000\r\n",
        "FFFFFFFFFFFFFFFF\r\n",
        "10000000000000000\r\n",
        "00000000000000001\r\n",
        "0\r\n\n",
        "0\r\n\rx",
        "0\r\nX\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n: y\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX: y\r\n z\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX: \x01\r\n\r\n",
        "0\r\nContent-Length: 1\r\n\r\n",
        "0\r\ntransfer-ENCODING: chunked\r\n\r\n",
        "0\r\nHost: a\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int result = decode(cases[i]);
        if (result != AT_EFORMAT) {
            (void)fprintf(stderr, "%d for: %s\n", result, cases[i]);
        }
        CHECK(result == AT_EFORMAT);
        CHECK(chunked.error_status == 400 && chunked.error_text != NULL);
        size_t used;
        at_span piece; /* and it stays refused */
        CHECK(at_h1_chunked_next(&chunked, "0\r\n\r\n", 5, &used, &piece) ==
              AT_EFORMAT);
    }
}

static void large_sizes(void)
{
    size_t used;
    at_span piece;
    at_h1_chunked_init(&chunked);
    CHECK(at_h1_chunked_next(&chunked, "7FFFFFFFFFFFFFFF\r\nx", 19, &used, &piece) ==
          1);
    CHECK(used == 19 && piece.size == 1);
    CHECK(chunked.chunk_left == (uint64_t)INT64_MAX - 1);
}

static void overhead_is_bounded(void)
{
    static char text[70000];
    (void)strcpy(text, "1;");
    memset(text + 2, 'a', 20000);
    CHECK(decode_in_steps(text, strlen(text), 1000) == AT_ELIMIT);
    CHECK(chunked.error_status == 400);

    size_t size = 0;
    for (int i = 0; i < 2000; i++) { /* little by little, over many chunks */
        memcpy(text + size, "1;abcdefghi\r\nx\r\n", 16);
        size += 16;
    }
    CHECK(decode_in_steps(text, size, 1000) == AT_ELIMIT);

    (void)strcpy(text, "0\r\nX: ");
    memset(text + 6, 'a', 10000);
    text[10006] = '\0';
    CHECK(decode_in_steps(text, strlen(text), 1000) == AT_ELIMIT);
    CHECK(chunked.error_status == 431);
}

int main(void)
{
    RUN(good_bodies);
    RUN(next_request_is_left);
    RUN(incomplete_bodies);
    RUN(refused_bodies);
    RUN(large_sizes);
    RUN(overhead_is_bounded);
    return 0;
}
