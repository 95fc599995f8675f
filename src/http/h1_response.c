/* HTTP/1.1 responses; see h1_response.h. */
#include "http/h1_response.h"

#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "http/h1_text.h"
#include "http/scan.h"

/* X(status, reason): the registry of RFC 9110 15 and its relatives. */
#define STATUSES(X)                                                                    \
    X(100, "Continue")                                                                 \
    X(101, "Switching Protocols")                                                      \
    X(102, "Processing")                                                               \
    X(103, "Early Hints")                                                              \
    X(200, "OK")                                                                       \
    X(201, "Created")                                                                  \
    X(202, "Accepted")                                                                 \
    X(203, "Non-Authoritative Information")                                            \
    X(204, "No Content")                                                               \
    X(205, "Reset Content")                                                            \
    X(206, "Partial Content")                                                          \
    X(207, "Multi-Status")                                                             \
    X(208, "Already Reported")                                                         \
    X(226, "IM Used")                                                                  \
    X(300, "Multiple Choices")                                                         \
    X(301, "Moved Permanently")                                                        \
    X(302, "Found")                                                                    \
    X(303, "See Other")                                                                \
    X(304, "Not Modified")                                                             \
    X(305, "Use Proxy")                                                                \
    X(307, "Temporary Redirect")                                                       \
    X(308, "Permanent Redirect")                                                       \
    X(400, "Bad Request")                                                              \
    X(401, "Unauthorized")                                                             \
    X(402, "Payment Required")                                                         \
    X(403, "Forbidden")                                                                \
    X(404, "Not Found")                                                                \
    X(405, "Method Not Allowed")                                                       \
    X(406, "Not Acceptable")                                                           \
    X(407, "Proxy Authentication Required")                                            \
    X(408, "Request Timeout")                                                          \
    X(409, "Conflict")                                                                 \
    X(410, "Gone")                                                                     \
    X(411, "Length Required")                                                          \
    X(412, "Precondition Failed")                                                      \
    X(413, "Content Too Large")                                                        \
    X(414, "URI Too Long")                                                             \
    X(415, "Unsupported Media Type")                                                   \
    X(416, "Range Not Satisfiable")                                                    \
    X(417, "Expectation Failed")                                                       \
    X(418, "I'm a Teapot")                                                             \
    X(421, "Misdirected Request")                                                      \
    X(422, "Unprocessable Content")                                                    \
    X(423, "Locked")                                                                   \
    X(424, "Failed Dependency")                                                        \
    X(425, "Too Early")                                                                \
    X(426, "Upgrade Required")                                                         \
    X(428, "Precondition Required")                                                    \
    X(429, "Too Many Requests")                                                        \
    X(431, "Request Header Fields Too Large")                                          \
    X(451, "Unavailable For Legal Reasons")                                            \
    X(500, "Internal Server Error")                                                    \
    X(501, "Not Implemented")                                                          \
    X(502, "Bad Gateway")                                                              \
    X(503, "Service Unavailable")                                                      \
    X(504, "Gateway Timeout")                                                          \
    X(505, "HTTP Version Not Supported")                                               \
    X(506, "Variant Also Negotiates")                                                  \
    X(507, "Insufficient Storage")                                                     \
    X(508, "Loop Detected")                                                            \
    X(511, "Network Authentication Required")

#define LINE_BEGIN "HTTP/1.1 "
enum { LINE_BEGIN_BYTES = sizeof LINE_BEGIN - 1, CODE_BYTES = 4 };

/* Whole status lines with their CRLF. */
static at_span status_line(int status)
{
    switch (status) {
#define STATUS_LINE(code, reason)                                                      \
    case code:                                                                         \
        return (at_span){LINE_BEGIN #code " " reason "\r\n",                           \
                         sizeof(LINE_BEGIN #code " " reason "\r\n") - 1};
        STATUSES(STATUS_LINE)
#undef STATUS_LINE
    default:
        return (at_span){NULL, 0};
    }
}

static void write_two_digits(char *at, int number)
{
    at[0] = (char)('0' + number / 10 % 10);
    at[1] = (char)('0' + number % 10);
}

void at_http_date(char date[AT_HTTP_DATE_BYTES], int64_t unix_seconds)
{
    assert(unix_seconds >= 0 && unix_seconds < 253402300800);
    int64_t days = unix_seconds / 86400;
    int second = (int)(unix_seconds % 86400);
    /* Years begin in March here, so that the leap day is a year's last; an era has 400
     * years. The civil calendar from a count of days, as Howard Hinnant derives it. */
    int64_t shifted = days + 719468;
    int era_day = (int)(shifted % 146097);
    int era_year =
        (era_day - era_day / 1460 + era_day / 36524 - era_day / 146096) / 365;
    int year_day = era_day - (365 * era_year + era_year / 4 - era_year / 100);
    int month = (5 * year_day + 2) / 153; /* 0 is March */
    int day = year_day - (153 * month + 2) / 5 + 1;
    int year = (int)(shifted / 146097) * 400 + era_year + (month >= 10);
    memcpy(date, &"ThuFriSatSunMonTueWed"[days % 7 * 3], 3);
    memcpy(date + 3, ", ", 2);
    write_two_digits(date + 5, day);
    date[7] = ' ';
    memcpy(date + 8, &"MarAprMayJunJulAugSepOctNovDecJanFeb"[(size_t)month * 3], 3);
    date[11] = ' ';
    write_two_digits(date + 12, year / 100);
    write_two_digits(date + 14, year);
    date[16] = ' ';
    write_two_digits(date + 17, second / 3600);
    date[19] = ':';
    write_two_digits(date + 20, second / 60 % 60);
    date[22] = ':';
    write_two_digits(date + 23, second % 60);
    memcpy(date + 25, " GMT", 4);
}

/* ---- what the application's headers say --------------------------------- */

typedef enum header_kind {
    KIND_PLAIN,
    KIND_CONNECTION,
    KIND_CONTENT_LENGTH,
    KIND_DATE,
    KIND_DROPPED, /* Transfer-Encoding and Keep-Alive: the server's own business */
    KIND_SERVER,
} header_kind;

static header_kind kind_of(at_span name)
{
    switch (name.size) {
    case 4:
        return at_h1_equal(name, "date") ? KIND_DATE : KIND_PLAIN;
    case 6:
        return at_h1_equal(name, "server") ? KIND_SERVER : KIND_PLAIN;
    case 10:
        return at_h1_equal(name, "connection")   ? KIND_CONNECTION
               : at_h1_equal(name, "keep-alive") ? KIND_DROPPED
                                                 : KIND_PLAIN;
    case 14:
        return at_h1_equal(name, "content-length") ? KIND_CONTENT_LENGTH : KIND_PLAIN;
    case 17:
        return at_h1_equal(name, "transfer-encoding") ? KIND_DROPPED : KIND_PLAIN;
    default:
        return KIND_PLAIN;
    }
}

/* A head being planned: the pass that checks finds its size, the next one writes. */
typedef struct head_plan {
    size_t size_bytes;
    bool has_date;
    bool has_server;
    bool has_length; /* of the application's making */
    uint64_t length;
    bool wants_close;
    bool sends_length; /* the plan's decision */
} head_plan;

static int invalid(at_h1_response *response, const char *text)
{
    response->error_text = text;
    return AT_EINVALID;
}

static bool read_length(at_span value, uint64_t *length)
{
    value = at_h1_trim(value);
    *length = 0;
    for (size_t i = 0; i < value.size; i++) {
        unsigned digit = (unsigned)(uint8_t)value.data[i] - '0';
        if (digit > 9 || *length > ((uint64_t)INT64_MAX - digit) / 10) {
            return false;
        }
        *length = *length * 10 + digit;
    }
    return value.size != 0;
}

static size_t field_bytes(at_span name, at_span value)
{
    return name.size + value.size + 4; /* ": " and CRLF */
}

/* Check the headers and note what they say. */
static int read_headers(at_h1_response *response, head_plan *plan)
{
    for (size_t i = 0; i < response->header_count; i++) {
        const at_h1_header *header = &response->headers[i];
        if (!at_h1_is_token(header->name)) {
            return invalid(response, "invalid header name in the response");
        }
        if (!at_h1_is_field_value(header->value)) {
            return invalid(response, "control character in a header of the response");
        }
        switch (kind_of(header->name)) {
        case KIND_CONNECTION:
            plan->wants_close |= at_h1_has_token(header->value, "close");
            continue;
        case KIND_CONTENT_LENGTH:
            if (plan->has_length || !read_length(header->value, &plan->length)) {
                return invalid(response, "invalid Content-Length in the response");
            }
            plan->has_length = true;
            continue;
        case KIND_DROPPED:
            continue;
        case KIND_DATE:
            plan->has_date = true;
            break;
        case KIND_SERVER:
            plan->has_server = true;
            break;
        case KIND_PLAIN:
            break;
        }
        plan->size_bytes += field_bytes(header->name, header->value);
    }
    return 0;
}

/* RFC 9112 6.3 and RFC 9110 8.6: how the body ends, and whether a length is sent. */
static int decide_body(at_h1_response *response, head_plan *plan)
{
    int status = response->status;
    bool bodiless = status == 101 || status == 204;
    if (!bodiless && !plan->has_length && response->body_bytes >= 0) {
        plan->length = (uint64_t)response->body_bytes;
        /* To HEAD, and with 304, the length would be that of a GET, and an application
         * that sent no body then may not have known it. */
        plan->sends_length =
            status != 304 && (!response->is_head || response->body_bytes > 0);
    } else {
        plan->sends_length = plan->has_length && !bodiless;
    }
    if (bodiless || status == 304 || response->is_head) {
        response->body_end = AT_H1_END_NONE;
    } else if (plan->sends_length) {
        if (response->body_bytes >= 0 &&
            plan->length != (uint64_t)response->body_bytes) {
            return invalid(response, "Content-Length is not the size of the body");
        }
        response->body_end = AT_H1_END_LENGTH;
        response->length_bytes = plan->length;
    } else {
        response->body_end = response->is_http_10 ? AT_H1_END_CLOSE : AT_H1_END_CHUNK;
    }
    response->will_close = !response->keep_alive || plan->wants_close ||
                           response->body_end == AT_H1_END_CLOSE;
    return 0;
}

/* ---- writing ------------------------------------------------------------- */

static char *put(char *at, at_span text)
{
    if (text.size != 0) {
        memcpy(at, text.data, text.size);
    }
    return at + text.size;
}

#define PUT_TEXT(at, text) put((at), (at_span){(text), sizeof(text) - 1})

static char *put_field(char *at, at_span name, at_span value)
{
    at = put(at, name);
    *at++ = ':';
    *at++ = ' ';
    at = put(at, value);
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

static char *put_number(char *at, uint64_t number)
{
    char digits[20];
    size_t first = sizeof digits;
    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    return put(at, (at_span){digits + first, sizeof digits - first});
}

static char *put_status_line(char *at, int status)
{
    at_span line = status_line(status);
    if (line.size != 0) {
        return put(at, line);
    }
    at = PUT_TEXT(at, LINE_BEGIN);
    at = put_number(at, (uint64_t)status);
    return PUT_TEXT(at, " \r\n"); /* the space stays without a reason, too */
}

/* More than the longest status line and all the fields that the server adds, but for
 * the values of Date and Server. */
enum { SERVER_FIELDS_MAX = 256 };

static char *put_framing(char *at, const at_h1_response *response,
                         const head_plan *plan)
{
    if (plan->sends_length) {
        at = PUT_TEXT(at, "content-length: ");
        at = put_number(at, plan->length);
        at = PUT_TEXT(at, "\r\n");
    } else if (response->body_end == AT_H1_END_CHUNK) {
        at = PUT_TEXT(at, "transfer-encoding: chunked\r\n");
    }
    if (response->upgrade) {
        at = PUT_TEXT(at, "connection: Upgrade\r\n");
    } else if (response->will_close) {
        at = PUT_TEXT(at, "connection: close\r\n");
    } else if (response->is_http_10) {
        at = PUT_TEXT(at, "connection: keep-alive\r\n");
    }
    return at;
}

static char *put_headers(char *at, const at_h1_header *headers, size_t header_count)
{
    for (size_t i = 0; i < header_count; i++) {
        header_kind kind = kind_of(headers[i].name);
        if (kind == KIND_PLAIN || kind == KIND_DATE || kind == KIND_SERVER) {
            at = put_field(at, headers[i].name, headers[i].value);
        }
    }
    return at;
}

int at_h1_write_head(at_bytes *out, at_h1_response *response)
{
    head_plan plan = {0};
    response->error_text = NULL;
    response->length_bytes = 0;
    if (response->upgrade != (response->status == 101) ||
        (response->status < 200 && !response->upgrade) || response->status > 999) {
        return invalid(response, "invalid status of the response");
    }
    int result = read_headers(response, &plan);
    result = result == 0 ? decide_body(response, &plan) : result;
    if (result != 0) {
        return result;
    }
    result = at_bytes_reserve(out, plan.size_bytes + response->date.size +
                                       response->server.size + SERVER_FIELDS_MAX);
    if (result != 0) {
        return result;
    }
    char *begin = out->data + out->size;
    char *at = put_status_line(begin, response->status);
    if (!plan.has_date && response->date.size != 0) {
        at = put_field(at, (at_span){"date", 4}, response->date);
    }
    if (!plan.has_server && response->server.size != 0) {
        at = put_field(at, (at_span){"server", 6}, response->server);
    }
    at = put_headers(at, response->headers, response->header_count);
    at = put_framing(at, response, &plan);
    at = PUT_TEXT(at, "\r\n");
    out->size += (size_t)(at - begin);
    assert(out->size <= out->capacity);
    return 0;
}

/* Headers of an interim response or trailers: plain ones only.
 * gives: their size in bytes; errs: AT_EINVALID */
static long check_plain_headers(const at_h1_header *headers, size_t header_count)
{
    size_t size_bytes = 0;
    for (size_t i = 0; i < header_count; i++) {
        header_kind kind = kind_of(headers[i].name);
        if (!at_h1_is_token(headers[i].name) ||
            !at_h1_is_field_value(headers[i].value) ||
            (kind != KIND_PLAIN && kind != KIND_DATE && kind != KIND_SERVER)) {
            return AT_EINVALID;
        }
        size_bytes += field_bytes(headers[i].name, headers[i].value);
    }
    return (long)size_bytes;
}

static int append_block(at_bytes *out, at_span first, const at_h1_header *headers,
                        size_t header_count)
{
    long fields = check_plain_headers(headers, header_count);
    if (fields < 0) {
        return (int)fields;
    }
    int result = at_bytes_reserve(out, first.size + (size_t)fields + 2);
    if (result != 0) {
        return result;
    }
    char *at = put(out->data + out->size, first);
    at = put_headers(at, headers, header_count);
    at = PUT_TEXT(at, "\r\n");
    out->size = (size_t)(at - out->data);
    return 0;
}

int at_h1_write_interim(at_bytes *out, int status, const at_h1_header *headers,
                        size_t header_count)
{
    at_span line = status_line(status);
    if (status < 100 || status >= 200 || status == 101 || line.size == 0) {
        return AT_EINVALID;
    }
    return append_block(out, line, headers, header_count);
}

size_t at_h1_chunk_prefix(char prefix[AT_H1_CHUNK_PREFIX_MAX], uint64_t size_bytes)
{
    assert(size_bytes != 0);
    int digit_count = (67 - __builtin_clzll(size_bytes)) / 4;
    for (int i = digit_count - 1; i >= 0; i--) {
        prefix[i] = "0123456789abcdef"[size_bytes & 15];
        size_bytes >>= 4;
    }
    prefix[digit_count] = '\r';
    prefix[digit_count + 1] = '\n';
    return (size_t)digit_count + 2;
}

int at_h1_write_last_chunk(at_bytes *out, const at_h1_header *trailers,
                           size_t trailer_count)
{
    return append_block(out, (at_span){"0\r\n", 3}, trailers, trailer_count);
}
