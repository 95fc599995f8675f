/* Requests out of HTTP/2's fields; see h2_session.h.
 *
 * nghttp2 has checked the syntax of names and values, the set and order of the pseudo
 * fields, and that no field belongs to one connection. Here the fields are kept,
 * bounded and given the form of an HTTP/1.1 request.
 */
#include "http/h2_session.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "http/h1_target.h"
#include "http/h1_text.h"

enum { FIELD_OVERHEAD_BYTES = 32 /* RFC 9113 6.5.2 */, FAR_TOO_MUCH = 4 };

static bool is_text(at_span span, const char *text)
{
    return span.size == strlen(text) && memcmp(span.data, text, span.size) == 0;
}

static h2_pseudo pseudo_of(at_span name)
{
    static const char *const names[H2_PSEUDO_COUNT] = {":method", ":scheme", ":path",
                                                       ":authority", ":protocol"};
    int i = 0;
    while (i < H2_PSEUDO_COUNT && !is_text(name, names[i])) {
        i++;
    }
    return (h2_pseudo)i;
}

static int keep_text(h2_stream *stream, at_span name, at_span value, h2_field *field)
{
    *field = (h2_field){
        .name_at = (uint32_t)stream->text.size,
        .name_size = (uint32_t)name.size,
        .value_at = (uint32_t)(stream->text.size + name.size),
        .value_size = (uint32_t)value.size,
    };
    int result = at_bytes_reserve(&stream->text, name.size + value.size);
    if (result == 0) {
        (void)at_bytes_append(&stream->text, name.data, name.size);
        (void)at_bytes_append(&stream->text, value.data, value.size);
    }
    return result;
}

static int keep_cookie(h2_stream *stream, at_span value)
{
    int result = 0;
    if (stream->cookie.size != 0) {
        result = at_bytes_append(&stream->cookie, "; ", 2);
    }
    return result == 0 ? at_bytes_append(&stream->cookie, value.data, value.size)
                       : result;
}

int at_h2_keep_field(h2_stream *stream, at_span name, at_span value)
{
    const at_h2_limits *limits = &stream->h2->limits;
    stream->header_bytes += name.size + value.size + FIELD_OVERHEAD_BYTES;
    stream->field_count++;
    if (stream->header_bytes > (size_t)limits->header_bytes * FAR_TOO_MUCH) {
        return AT_ELIMIT;
    }
    if (stream->header_bytes > limits->header_bytes ||
        stream->field_count > limits->header_count + H2_PSEUDO_COUNT) {
        stream->refused_status = 431;
    }
    if (stream->head_is_read || stream->refused_status != 0) {
        return 0; /* trailers are only counted */
    }
    if (name.size != 0 && name.data[0] == ':') {
        h2_pseudo pseudo = pseudo_of(name);
        if (pseudo == H2_PSEUDO_COUNT) {
            return 0;
        }
        stream->has_pseudo[pseudo] = true;
        return keep_text(stream, name, value, &stream->pseudo[pseudo]);
    }
    if (is_text(name, "cookie")) {
        return keep_cookie(stream, value);
    }
    h2_field field;
    int result = keep_text(stream, name, value, &field);
    return result == 0 ? at_bytes_append(&stream->fields, &field, sizeof field)
                       : result;
}

static at_span value_of(const h2_stream *stream, const h2_field *field)
{
    return (at_span){stream->text.data + field->value_at, field->value_size};
}

static at_span pseudo_value(const h2_stream *stream, h2_pseudo pseudo)
{
    return stream->has_pseudo[pseudo] ? value_of(stream, &stream->pseudo[pseudo])
                                      : (at_span){"", 0};
}

/* Split the target by the rules of HTTP/1.1. gives: 0 or a status */
static int read_target(at_h2_request *request)
{
    at_h1_request h1;
    h1.method = request->method;
    h1.target = request->target;
    h1.path = h1.query = h1.authority = (at_span){"", 0};
    bool extended = request->protocol.size != 0;
    if (is_text(request->method, "CONNECT") && !extended) {
        h1.target = request->authority;
    } else if (extended) {
        h1.method = (at_span){"GET", 3}; /* it has a path, as RFC 8441 wants */
    } else if (h1.target.size != 0 && h1.target.data[0] != '/' &&
               h1.target.data[0] != '*') {
        return 400; /* :path is no place for an absolute form */
    }
    if (at_h1_read_target(&h1) != NULL) {
        return 400;
    }
    request->path = h1.path;
    request->query = h1.query;
    return 0;
}

static bool same(at_span a, at_span b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* The value must be digits: nghttp2 saw to it. */
static uint64_t number_of(at_span value)
{
    uint64_t number = 0;
    for (size_t i = 0; i < value.size; i++) {
        number = number * 10 + (uint64_t)(value.data[i] - '0');
    }
    return number;
}

/* Fill stream->headers, which has room. gives: 0 or a status */
static int fill_headers(h2_stream *stream, at_h2_request *request)
{
    const h2_field *fields = (const h2_field *)(const void *)stream->fields.data;
    size_t field_count = stream->fields.size / sizeof *fields;
    at_h1_header *headers = stream->headers;
    size_t count = 0;
    bool has_host = request->authority.size != 0;
    if (has_host) {
        headers[count++] = (at_h1_header){{"host", 4}, request->authority};
    }
    for (size_t i = 0; i < field_count; i++) {
        at_span name = {stream->text.data + fields[i].name_at, fields[i].name_size};
        at_span value = value_of(stream, &fields[i]);
        if (is_text(name, "host")) {
            if (has_host) {
                if (!same(value, headers[0].value)) {
                    return 400; /* a second one, or not what :authority says */
                }
                continue;
            }
            has_host = true;
            request->authority = value;
            headers[count] = headers[0]; /* it becomes the first */
            headers[0] = (at_h1_header){name, value};
            count++;
            continue;
        }
        if (is_text(name, "content-length")) {
            request->has_content_length = true;
            request->content_length = number_of(value);
        }
        headers[count++] = (at_h1_header){name, value};
    }
    if (stream->cookie.size != 0) {
        headers[count++] =
            (at_h1_header){{"cookie", 6}, {stream->cookie.data, stream->cookie.size}};
    }
    request->headers = headers;
    request->header_count = count;
    return at_h1_is_authority(request->authority) ? 0 : 400;
}

int at_h2_read_request(h2_stream *stream, at_h2_request *request)
{
    *request = (at_h2_request){
        .method = pseudo_value(stream, H2_METHOD),
        .scheme = pseudo_value(stream, H2_SCHEME),
        .target = pseudo_value(stream, H2_PATH),
        .path = {"", 0},
        .query = {"", 0},
        .authority = pseudo_value(stream, H2_AUTHORITY),
        .protocol = pseudo_value(stream, H2_PROTOCOL),
    };
    size_t room = stream->fields.size / sizeof(h2_field) + 2; /* Host and Cookie */
    stream->headers = at_calloc(room, sizeof *stream->headers);
    if (stream->headers == NULL) {
        return AT_ENOMEM;
    }
    if (!at_h1_is_token(request->method)) {
        return 400;
    }
    int status = read_target(request);
    return status != 0 ? status : fill_headers(stream, request);
}
