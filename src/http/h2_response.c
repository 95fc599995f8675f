/* Responses over HTTP/2: heads as nghttp2 wants them, and bodies that wait for the
 * application on one side and for the client's window on the other; see h2.h. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "http/h2_session.h"

static h2_stream *stream_in(at_h2_stream *handle)
{
    return (h2_stream *)(void *)handle;
}

static int error_of(int nghttp2_code)
{
    return nghttp2_code == 0                   ? 0
           : nghttp2_code == NGHTTP2_ERR_NOMEM ? AT_ENOMEM
                                               : AT_ECLOSED;
}

/* ---- fields -------------------------------------------------------------- */

static nghttp2_nv field_of(at_span name, at_span value)
{
    return (nghttp2_nv){
        .name = (uint8_t *)(uintptr_t)name.data,
        .value = (uint8_t *)(uintptr_t)value.data,
        .namelen = name.size,
        .valuelen = value.size,
        .flags = NGHTTP2_NV_FLAG_NONE,
    };
}

static nghttp2_nv status_field(int status, char text[3])
{
    text[0] = (char)('0' + status / 100);
    text[1] = (char)('0' + status / 10 % 10);
    text[2] = (char)('0' + status % 10);
    return field_of((at_span){":status", 7}, (at_span){text, 3});
}

/* Fields that belong to one connection of HTTP/1.1 (RFC 9113 8.2.2). */
static bool is_left_out(at_span name)
{
    static const char *const names[] = {"connection", "keep-alive", "proxy-connection",
                                        "transfer-encoding", "upgrade"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (at_h1_equal(name, names[i])) {
            return true;
        }
    }
    return false;
}

/* Check and copy headers to `fields`. gives: how many; errs: AT_EINVALID */
static long put_fields(nghttp2_nv *fields, const at_h1_header *headers, size_t count)
{
    long put = 0;
    for (size_t i = 0; i < count; i++) {
        if (!at_h1_is_token(headers[i].name) ||
            !at_h1_is_field_value(headers[i].value)) {
            return AT_EINVALID;
        }
        if (!is_left_out(headers[i].name)) {
            fields[put++] = field_of(headers[i].name, headers[i].value);
        }
    }
    return put;
}

static bool has_header(const at_h1_header *headers, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (at_h1_equal(headers[i].name, name)) {
            return true;
        }
    }
    return false;
}

/* ---- the body ------------------------------------------------------------ */

static size_t unsent_bytes(const h2_stream *stream)
{
    return stream->body.size - stream->sent_bytes;
}

/* nghttp2 asks for body bytes. */
static ssize_t read_body(nghttp2_session *session, int32_t stream_id, uint8_t *buffer,
                         size_t size_max, uint32_t *flags, nghttp2_data_source *source,
                         void *context)
{
    h2_stream *stream = source->ptr;
    at_h2 *h2 = context;
    size_t size = unsent_bytes(stream);
    if (size == 0 && !stream->is_ended) {
        stream->is_waiting = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    size = size < size_max ? size : size_max;
    if (size != 0) {
        memcpy(buffer, stream->body.data + stream->sent_bytes, size);
        stream->sent_bytes += size;
    }
    size_t left = unsent_bytes(stream);
    if (left == 0) {
        stream->body.size = stream->sent_bytes = 0;
        if (stream->is_ended) {
            *flags |= NGHTTP2_DATA_FLAG_EOF;
        }
    }
    if ((*flags & NGHTTP2_DATA_FLAG_EOF) != 0 && stream->trailers != NULL) {
        /* Submitted any earlier, they could overtake the data. */
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (nghttp2_submit_trailer(session, stream_id, stream->trailers,
                                   stream->trailer_count) != 0) {
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* it resets the stream */
        }
    }
    if (size != 0 && stream->is_told && !stream->is_reset) {
        h2->events.on_sent(h2->events.context, &stream->handle, left);
    }
    return (ssize_t)size;
}

static int resume(at_h2 *h2, h2_stream *stream)
{
    if (!stream->is_waiting) {
        return 0;
    }
    int result = error_of(nghttp2_session_resume_data(h2->session, stream->handle.id));
    stream->is_waiting = result != 0;
    return result;
}

/* Append all of the pieces, or nothing. Returns 0 or AT_ENOMEM. */
static int append_all(at_bytes *to, const at_span *pieces, int count)
{
    size_t size = 0;
    for (int i = 0; i < count; i++) {
        size += pieces[i].size;
    }
    int result = at_bytes_reserve(to, size);
    for (int i = 0; i < count && result == 0; i++) {
        result = at_bytes_append(to, pieces[i].data, pieces[i].size);
    }
    return result;
}

long at_h2_send(at_h2 *h2, at_h2_stream *handle, at_span data, bool is_end)
{
    return at_h2_send_pieces(h2, handle, &data, 1, is_end);
}

long at_h2_send_pieces(at_h2 *h2, at_h2_stream *handle, const at_span *pieces,
                       int count, bool is_end)
{
    h2_stream *stream = stream_in(handle);
    if (!stream->is_begun || stream->is_ended || stream->is_reset) {
        return AT_ECLOSED;
    }
    /* What was sent is dropped once it outweighs what a move of the rest costs. */
    if (stream->sent_bytes > stream->body.size / 2) {
        at_bytes_consume(&stream->body, stream->sent_bytes);
        stream->sent_bytes = 0;
    }
    size_t before = stream->body.size;
    int result = append_all(&stream->body, pieces, count);
    if (result == 0 && (stream->body.size != before || is_end)) {
        result = resume(h2, stream);
    }
    if (result != 0) {
        stream->body.size = before;
        return result;
    }
    stream->is_ended = is_end;
    return (long)unsent_bytes(stream);
}

/* ---- heads --------------------------------------------------------------- */

static int submit_head(at_h2 *h2, h2_stream *stream, const nghttp2_nv *fields,
                       size_t field_count, bool is_end)
{
    nghttp2_data_provider provider = {
        .source = {.ptr = stream},
        .read_callback = read_body,
    };
    int result =
        error_of(nghttp2_submit_response(h2->session, stream->handle.id, fields,
                                         field_count, is_end ? NULL : &provider));
    if (result == 0) {
        stream->is_begun = true;
        stream->is_ended = is_end;
    }
    return result;
}

int at_h2_respond(at_h2 *h2, at_h2_stream *handle, const at_h2_response *response,
                  bool is_end)
{
    h2_stream *stream = stream_in(handle);
    const at_h1_header *headers = response->headers;
    size_t header_count = response->header_count;
    if (stream->is_reset) {
        return AT_ECLOSED;
    }
    if (stream->is_begun) {
        return AT_EBUSY;
    }
    if (response->status < 200 || response->status > 999) {
        return AT_EINVALID;
    }
    enum { OWN_FIELDS = 4 }; /* :status, date, server, content-length */
    nghttp2_nv *fields = at_calloc(header_count + OWN_FIELDS, sizeof *fields);
    if (fields == NULL) {
        return AT_ENOMEM;
    }
    char status[3];
    char length[24];
    size_t count = 0;
    fields[count++] = status_field(response->status, status);
    if (response->date.size != 0 && !has_header(headers, header_count, "date")) {
        fields[count++] = field_of((at_span){"date", 4}, response->date);
    }
    if (response->server.size != 0 && !has_header(headers, header_count, "server")) {
        fields[count++] = field_of((at_span){"server", 6}, response->server);
    }
    if (response->body_bytes >= 0 && response->status != 204 &&
        !has_header(headers, header_count, "content-length")) {
        int size =
            snprintf(length, sizeof length, "%lld", (long long)response->body_bytes);
        fields[count++] =
            field_of((at_span){"content-length", 14}, (at_span){length, (size_t)size});
    }
    long put = put_fields(fields + count, headers, header_count);
    int result = (int)put;
    if (put >= 0) {
        result = submit_head(h2, stream, fields, count + (size_t)put, is_end);
    }
    at_free(fields);
    return result;
}

int at_h2_refuse(at_h2 *h2, h2_stream *stream, int status)
{
    at_h2_response response = {.status = status, .body_bytes = 0};
    return at_h2_respond(h2, &stream->handle, &response, true);
}

int at_h2_respond_interim(at_h2 *h2, at_h2_stream *handle, int status,
                          const at_h1_header *headers, size_t header_count)
{
    h2_stream *stream = stream_in(handle);
    if (stream->is_begun || stream->is_reset) {
        return AT_EBUSY;
    }
    if (status < 100 || status > 199 || status == 101) {
        return AT_EINVALID;
    }
    nghttp2_nv *fields = at_calloc(header_count + 1, sizeof *fields);
    if (fields == NULL) {
        return AT_ENOMEM;
    }
    char text[3];
    fields[0] = status_field(status, text);
    long put = put_fields(fields + 1, headers, header_count);
    int result = (int)put;
    if (put >= 0) {
        result =
            error_of(nghttp2_submit_headers(h2->session, NGHTTP2_FLAG_NONE, handle->id,
                                            NULL, fields, (size_t)put + 1, NULL));
    }
    at_free(fields);
    return result;
}

/* Copy fields and their text into one block, for when they are sent. */
static nghttp2_nv *copy_fields(const nghttp2_nv *fields, size_t count)
{
    size_t size = count * sizeof *fields;
    for (size_t i = 0; i < count; i++) {
        size += fields[i].namelen + fields[i].valuelen;
    }
    nghttp2_nv *copy = at_alloc(size);
    if (copy == NULL) {
        return NULL;
    }
    uint8_t *text = (uint8_t *)(copy + count);
    for (size_t i = 0; i < count; i++) {
        copy[i] = fields[i];
        copy[i].name = memcpy(text, fields[i].name, fields[i].namelen);
        text += fields[i].namelen;
        copy[i].value = text;
        if (fields[i].valuelen != 0) {
            memcpy(text, fields[i].value, fields[i].valuelen);
        }
        text += fields[i].valuelen;
    }
    return copy;
}

int at_h2_send_trailers(at_h2 *h2, at_h2_stream *handle, const at_h1_header *trailers,
                        size_t trailer_count)
{
    h2_stream *stream = stream_in(handle);
    if (!stream->is_begun || stream->is_ended || stream->is_reset) {
        return AT_ECLOSED;
    }
    nghttp2_nv *fields = at_calloc(trailer_count, sizeof *fields);
    if (fields == NULL) {
        return AT_ENOMEM;
    }
    long put = put_fields(fields, trailers, trailer_count);
    int result = put < 0 ? (int)put : 0;
    if (put > 0) {
        stream->trailers = copy_fields(fields, (size_t)put);
        stream->trailer_count = (size_t)put;
        result = stream->trailers != NULL ? 0 : AT_ENOMEM;
    }
    at_free(fields);
    if (result == 0) {
        result = resume(h2, stream);
    }
    if (result != 0) {
        at_free(stream->trailers);
        stream->trailers = NULL;
        stream->trailer_count = 0;
        return result;
    }
    stream->is_ended = true;
    return 0;
}

void at_h2_reset(at_h2 *h2, at_h2_stream *handle, uint32_t error)
{
    h2_stream *stream = stream_in(handle);
    stream->is_reset = true;
    /* The frame would overtake what is queued of the response. */
    if (error == 0 && stream->is_ended && !stream->is_sent) {
        stream->resets_when_sent = true;
        return;
    }
    h2_must(h2, nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, handle->id,
                                          error));
}
