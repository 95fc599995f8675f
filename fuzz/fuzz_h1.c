/* A connection's worth of HTTP/1.1 requests: whatever the bytes, the parser reads no
 * further than it was given, says the same however they were cut, and lets nothing
 * through that could be read differently elsewhere. */
#include "fuzz.h"

#include <stdbool.h>

#include "base/error.h"
#include "http/h1.h"

static const at_h1_limits limits = {
    .request_line_bytes = 300, .head_bytes = 1000, .header_count = 20};

static bool has_control(at_span span)
{
    for (size_t i = 0; i < span.size; i++) {
        uint8_t byte = (uint8_t)span.data[i];
        if ((byte < 0x20 && byte != '\t') || byte == 0x7f) {
            return true;
        }
    }
    return false;
}

static void check_span(at_span span, const char *data, size_t size)
{
    HOLDS(span.size == 0 || (span.data >= data && span.size <= size &&
                             (size_t)(span.data - data) <= size - span.size));
    HOLDS(!has_control(span));
}

/* `path` may be the constant "/" or "*", which is not in the data. */
static void check_request(const at_h1_request *request, const char *data, size_t size)
{
    HOLDS(size <= limits.head_bytes + 2);
    check_span(request->method, data, size);
    check_span(request->target, data, size);
    check_span(request->query, data, size);
    check_span(request->authority, data, size);
    check_span(request->host, data, size);
    HOLDS(at_h1_is_token(request->method) && request->target.size != 0);
    HOLDS(request->target.size <= limits.request_line_bytes);
    HOLDS(request->header_count <= limits.header_count);
    size_t host_count = 0;
    size_t framing_count = 0;
    for (size_t i = 0; i < request->header_count; i++) {
        at_h1_header header = request->headers[i];
        check_span(header.name, data, size);
        check_span(header.value, data, size);
        HOLDS(at_h1_is_token(header.name) && at_h1_is_field_value(header.value));
        host_count += at_h1_equal(header.name, "host");
        framing_count += at_h1_equal(header.name, "content-length") ||
                         at_h1_equal(header.name, "transfer-encoding");
    }
    HOLDS(host_count == 1 || (host_count == 0 && request->version_minor == 0));
    HOLDS(framing_count <= 1);
    HOLDS(request->framing == AT_H1_NO_BODY || framing_count == 1);
}

static at_h1_request whole_request;
static at_h1_request piece_request;

/* The same head byte by byte. */
static long parse_by_byte(const uint8_t *data, size_t size)
{
    long result = AT_EAGAIN;
    for (size_t given = 0; given < size && result == AT_EAGAIN; given++) {
        char *copy = exact_copy(data, given + 1);
        result = at_h1_parse_head(&piece_request, copy, given + 1, given, &limits);
        HOLDS(result <= (long)(given + 1));
        free(copy);
    }
    return result;
}

static void check_same(long whole, long by_byte)
{
    HOLDS(whole == by_byte);
    HOLDS(whole_request.error_status == piece_request.error_status);
    HOLDS(whole_request.error_text == piece_request.error_text);
    HOLDS((whole == AT_EFORMAT || whole == AT_ELIMIT) ==
          (whole_request.error_status != 0));
    if (whole > 0) {
        HOLDS(whole_request.framing == piece_request.framing);
        HOLDS(whole_request.content_length == piece_request.content_length);
        HOLDS(whole_request.header_count == piece_request.header_count);
        HOLDS(whole_request.keep_alive == piece_request.keep_alive);
    }
}

/* Read a chunked body in steps of `step` bytes; returns what ended it, with the bytes
 * consumed and a sum over the body. */
static int read_chunked(const uint8_t *data, size_t size, size_t step, size_t *consumed,
                        uint64_t *sum)
{
    at_h1_chunked chunked;
    at_h1_chunked_init(&chunked);
    *consumed = 0;
    *sum = 0;
    int result = AT_EAGAIN;
    while (result == AT_EAGAIN && *consumed < size) {
        size_t here = size - *consumed < step ? size - *consumed : step;
        char *copy = exact_copy(data + *consumed, here);
        size_t at = 0;
        do {
            size_t used;
            at_span piece;
            result = at_h1_chunked_next(&chunked, copy + at, here - at, &used, &piece);
            HOLDS(used <= here - at);
            HOLDS((result == 1) == (piece.size != 0));
            for (size_t i = 0; i < piece.size; i++) {
                *sum = *sum * 31 + (uint8_t)piece.data[i];
            }
            at += used;
        } while (result == 1);
        HOLDS(result != AT_EAGAIN || at == here);
        *consumed += at;
        free(copy);
    }
    return result;
}

/* gives: how many bytes the chunked body took, or -1 where it has no end */
static long check_chunked(const uint8_t *data, size_t size)
{
    size_t whole_consumed;
    size_t piece_consumed;
    uint64_t whole_sum;
    uint64_t piece_sum;
    int whole = read_chunked(data, size, size, &whole_consumed, &whole_sum);
    int by_byte = read_chunked(data, size, 1, &piece_consumed, &piece_sum);
    HOLDS(whole == by_byte && whole_consumed == piece_consumed);
    HOLDS(whole_sum == piece_sum);
    return whole == 0 ? (long)whole_consumed : -1;
}

static void check_decoding(at_span path)
{
    char *decoded = exact_copy(path.data, path.size);
    size_t size = at_h1_decode_path((at_span){decoded, path.size}, decoded);
    HOLDS(size <= path.size);
    free(decoded);
}

/* Read one request from the front of the data. Returns how many bytes it took, or -1.
 */
static long check_one_request(const uint8_t *data, size_t size)
{
    long by_byte = parse_by_byte(data, size);
    char *copy = exact_copy(data, size);
    long head = at_h1_parse_head(&whole_request, copy, size, 0, &limits);
    check_same(head, by_byte);
    if (head > 0) {
        check_request(&whole_request, copy, (size_t)head);
        check_decoding(whole_request.path);
    }
    at_h1_framing framing = whole_request.framing;
    uint64_t length = whole_request.content_length;
    free(copy);
    if (head <= 0) {
        return -1;
    }
    size_t left = size - (size_t)head;
    if (framing == AT_H1_CHUNKED) {
        long body = check_chunked(data + head, left);
        return body < 0 ? -1 : head + body;
    }
    return length > left ? -1 : head + (long)length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at = 0;
    while (at < size) {
        long taken = check_one_request(data + at, size - at);
        if (taken < 0) {
            break;
        }
        at += (size_t)taken;
    }
    return 0;
}
