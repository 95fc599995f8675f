/* The session and its streams; see h2.h. Requests are read in h2_request.c, responses
 * are written in h2_response.c. */
#include "http/h2.h"

#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "http/h2_session.h"

void at_h2_limits_init(at_h2_limits *limits)
{
    *limits = (at_h2_limits){
        .concurrent_streams = 100,
        .header_bytes = 32768,
        .header_count = 100,
        .stream_window_bytes = 256 * 1024,
        .connection_window_bytes = 1024 * 1024,
        .resets_per_tick = 100,
        .control_per_tick = 1000,
    };
}

/* ---- streams ------------------------------------------------------------- */

static h2_stream *stream_new(at_h2 *h2, int32_t id)
{
    h2_stream *stream = at_calloc(1, sizeof *stream);
    if (stream == NULL) {
        return NULL;
    }
    stream->handle.id = id;
    stream->h2 = h2;
    stream->next = h2->streams;
    if (stream->next != NULL) {
        stream->next->previous = stream;
    }
    h2->streams = stream;
    return stream;
}

static void stream_free(h2_stream *stream)
{
    at_h2 *h2 = stream->h2;
    if (stream->next != NULL) {
        stream->next->previous = stream->previous;
    }
    if (stream->previous != NULL) {
        stream->previous->next = stream->next;
    } else {
        h2->streams = stream->next;
    }
    at_bytes_fini(&stream->text);
    at_bytes_fini(&stream->fields);
    at_bytes_fini(&stream->cookie);
    at_bytes_fini(&stream->body);
    at_free(stream->headers);
    at_free(stream->trailers);
    at_free(stream);
}

static void stream_close(h2_stream *stream, uint32_t error)
{
    at_h2 *h2 = stream->h2;
    if (stream->is_told) {
        h2->events.on_close(h2->events.context, &stream->handle, error);
    }
    stream_free(stream);
}

/* ---- what the client may cost -------------------------------------------- */

/* Remember why, and make nghttp2 end the session. */
static int fail(at_h2 *h2, int code)
{
    if (h2->failure == 0) {
        h2->failure = code;
    }
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* Take one from a budget. Returns 0 or what a callback must. */
static int spend(at_h2 *h2, uint32_t *budget)
{
    if (*budget == 0) {
        return fail(h2, AT_ELIMIT);
    }
    (*budget)--;
    return 0;
}

void at_h2_tick(at_h2 *h2)
{
    h2->resets_left = h2->limits.resets_per_tick;
    h2->control_left = h2->limits.control_per_tick;
}

static bool is_idle_work(const nghttp2_frame *frame)
{
    switch (frame->hd.type) {
    case NGHTTP2_PING:
    case NGHTTP2_SETTINGS:
        return (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0;
    case NGHTTP2_PRIORITY:
        return true;
    case NGHTTP2_DATA:
        return frame->hd.length == 0 &&
               (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0;
    default:
        return false;
    }
}

/* ---- nghttp2's callbacks ------------------------------------------------- */

static h2_stream *stream_of(at_h2 *h2, int32_t id)
{
    return nghttp2_session_get_stream_user_data(h2->session, id);
}

/* An identifier is passed over for ever: RFC 9113, 5.1.1. nghttp2 ignores what comes
 * for a stream that it does not know, since it may have forgotten it. */
static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *head,
                          void *context)
{
    at_h2 *h2 = context;
    int32_t id = head->stream_id;
    if (head->type != NGHTTP2_HEADERS || id % 2 == 0) {
        return 0;
    }
    if (id > h2->last_id) {
        if (id > h2->last_id + 2) {
            h2->gaps[h2->gap_count++ % H2_GAPS_MAX] = (h2_gap){h2->last_id + 2, id - 2};
        }
        h2->last_id = id;
        return 0;
    }
    for (unsigned i = 0; i < h2->gap_count && i < H2_GAPS_MAX; i++) {
        if (id >= h2->gaps[i].first && id <= h2->gaps[i].last) {
            int code =
                nghttp2_session_terminate_session(session, NGHTTP2_PROTOCOL_ERROR);
            return code == 0 ? 0 : fail(h2, AT_ENOMEM);
        }
    }
    return 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame,
                            void *context)
{
    at_h2 *h2 = context;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    h2_stream *stream = stream_new(h2, frame->hd.stream_id);
    if (stream == NULL) {
        return fail(h2, AT_ENOMEM);
    }
    (void)nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, stream);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame,
                     const uint8_t *name, size_t name_size, const uint8_t *value,
                     size_t value_size, uint8_t flags, void *context)
{
    at_h2 *h2 = context;
    h2_stream *stream = stream_of(h2, frame->hd.stream_id);
    if (stream == NULL) {
        return 0;
    }
    int result = at_h2_keep_field(stream, (at_span){(const char *)name, name_size},
                                  (at_span){(const char *)value, value_size});
    return result == 0 ? 0 : fail(h2, result);
}

/* The head is complete: hand it on, or answer it here. */
static int finish_head(at_h2 *h2, h2_stream *stream, bool has_body)
{
    at_h2_request request;
    stream->head_is_read = true;
    if (stream->refused_status == 0) {
        int status = at_h2_read_request(stream, &request);
        if (status < 0) {
            return fail(h2, status);
        }
        stream->refused_status = status;
    }
    if (stream->refused_status != 0) {
        int result = at_h2_refuse(h2, stream, stream->refused_status);
        if (has_body) {
            at_h2_reset(h2, &stream->handle, NGHTTP2_NO_ERROR);
        }
        return result == 0 ? 0 : fail(h2, result);
    }
    request.has_body = has_body;
    stream->is_told = true;
    h2->events.on_request(h2->events.context, &stream->handle, &request);
    return 0;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame,
                         void *context)
{
    at_h2 *h2 = context;
    if (is_idle_work(frame)) {
        int result = spend(h2, &h2->control_left);
        if (result != 0) {
            return result;
        }
    }
    bool is_headers = frame->hd.type == NGHTTP2_HEADERS;
    if (!is_headers && frame->hd.type != NGHTTP2_DATA) {
        return 0;
    }
    h2_stream *stream = stream_of(h2, frame->hd.stream_id);
    if (stream == NULL) {
        return 0;
    }
    bool is_end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (is_headers && !stream->head_is_read) {
        int result = finish_head(h2, stream, !is_end);
        if (result != 0) {
            return result;
        }
        stream = stream_of(h2, frame->hd.stream_id); /* it may have been reset */
    }
    if (is_end && stream != NULL && stream->is_told && !stream->is_reset) {
        h2->events.on_body_end(h2->events.context, &stream->handle);
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                         const uint8_t *data, size_t size, void *context)
{
    at_h2 *h2 = context;
    h2_stream *stream = stream_of(h2, stream_id);
    if (stream == NULL || !stream->is_told || stream->is_reset) {
        h2_must(h2, nghttp2_session_consume(session, stream_id, size)); /* nobody's */
        return 0;
    }
    stream->unread_bytes += size;
    h2->events.on_body(h2->events.context, &stream->handle,
                       (at_span){(const char *)data, size});
    return 0;
}

/* However a stream ended before its response, the work for it was for nothing: a client
 * that resets, and one that provokes the server into resetting, pay alike. */
static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error,
                           void *context)
{
    at_h2 *h2 = context;
    h2_stream *stream = stream_of(h2, stream_id);
    if (stream == NULL) {
        return 0;
    }
    bool in_vain = !stream->is_sent && !stream->is_reset;
    (void)nghttp2_session_set_stream_user_data(session, stream_id, NULL);
    /* Nobody will read these: the other streams need their share of the window back. */
    h2_must(h2, nghttp2_session_consume_connection(session, stream->unread_bytes));
    stream_close(stream, error);
    return in_vain ? spend(h2, &h2->resets_left) : 0;
}

static bool is_interim(const nghttp2_headers *headers)
{
    return headers->nvlen != 0 && headers->nva[0].valuelen == 3 &&
           headers->nva[0].value[0] == '1'; /* the first is the status */
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame,
                         void *context)
{
    at_h2 *h2 = context;
    bool is_head = frame->hd.type == NGHTTP2_HEADERS;
    bool ends = (frame->hd.type == NGHTTP2_DATA || is_head) &&
                (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    h2_stream *stream = ends || is_head ? stream_of(h2, frame->hd.stream_id) : NULL;
    if (stream != NULL && is_head && !is_interim(&frame->headers)) {
        stream->head_is_sent = true;
    }
    if (stream != NULL && ends) {
        stream->is_sent = true;
        if (stream->resets_when_sent) {
            /* Without it the client sends on, to nobody, and has its answer. */
            (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE,
                                            frame->hd.stream_id, NGHTTP2_NO_ERROR);
        }
    }
    return 0;
}

/* ---- life ---------------------------------------------------------------- */

static void *session_alloc(size_t size_bytes, void *unused)
{
    (void)unused;
    return at_alloc(size_bytes);
}

static void session_free(void *block, void *unused)
{
    (void)unused;
    at_free(block);
}

static void *session_calloc(size_t count, size_t size_bytes, void *unused)
{
    (void)unused;
    return at_calloc(count, size_bytes);
}

static void *session_realloc(void *block, size_t size_bytes, void *unused)
{
    (void)unused;
    return at_realloc(block, size_bytes);
}

static int open_session(at_h2 *h2, const nghttp2_session_callbacks *callbacks,
                        const nghttp2_option *options)
{
    nghttp2_mem memory = {NULL, session_alloc, session_free, session_calloc,
                          session_realloc};
    if (nghttp2_session_server_new3(&h2->session, callbacks, h2, options, &memory) !=
        0) {
        h2->session = NULL;
        return AT_ENOMEM;
    }
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, h2->limits.concurrent_streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, h2->limits.stream_window_bytes},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, h2->limits.header_bytes},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1}, /* RFC 8441 */
    };
    if (nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings,
                                sizeof settings / sizeof settings[0]) != 0 ||
        nghttp2_session_set_local_window_size(
            h2->session, NGHTTP2_FLAG_NONE, 0,
            (int32_t)h2->limits.connection_window_bytes) != 0) {
        return AT_ENOMEM;
    }
    return 0;
}

int at_h2_new(const at_h2_limits *limits, const at_h2_events *events, at_h2 **result)
{
    *result = NULL;
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *options = NULL;
    int code = AT_ENOMEM;
    at_h2 *h2 = at_calloc(1, sizeof *h2);
    if (h2 == NULL || nghttp2_session_callbacks_new(&callbacks) != 0 ||
        nghttp2_option_new(&options) != 0) {
        goto done;
    }
    h2->limits = *limits;
    h2->events = *events;
    h2->last_id = -1;
    at_h2_tick(h2);
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks,
                                                            on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_option_set_no_auto_window_update(options, 1);
    code = open_session(h2, callbacks, options);
done:
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(callbacks);
    if (code != 0) {
        at_h2_free(h2);
        return code;
    }
    *result = h2;
    return 0;
}

void at_h2_free(at_h2 *h2)
{
    if (h2 == NULL) {
        return;
    }
    while (h2->streams != NULL) {
        stream_close(h2->streams, NGHTTP2_CANCEL);
    }
    nghttp2_session_del(h2->session); /* calls back for no stream */
    at_free(h2);
}

/* ---- bytes --------------------------------------------------------------- */

int at_h2_input(at_h2 *h2, const char *data, size_t size)
{
    if (h2->failure != 0) {
        return h2->failure;
    }
    ssize_t taken = nghttp2_session_mem_recv(h2->session, (const uint8_t *)data, size);
    if (taken >= 0) {
        return 0; /* a broken protocol has queued its GOAWAY, and nothing more is read
                   */
    }
    if (h2->failure == 0) {
        h2->failure = taken == NGHTTP2_ERR_NOMEM     ? AT_ENOMEM
                      : taken == NGHTTP2_ERR_FLOODED ? AT_ELIMIT
                                                     : AT_EFORMAT;
    }
    if (h2->failure == AT_ELIMIT) {
        (void)nghttp2_session_terminate_session(h2->session, NGHTTP2_ENHANCE_YOUR_CALM);
    }
    return h2->failure;
}

int at_h2_output(at_h2 *h2, at_bytes *out, size_t size_max)
{
    if (h2->lacks_frame) {
        return AT_ENOMEM;
    }
    bool in_block = false; /* nothing may come between the frames of one block */
    while (out->size < size_max || in_block) {
        const uint8_t *data;
        ssize_t size = nghttp2_session_mem_send(h2->session, &data);
        if (size == 0) {
            break;
        }
        if (size < 0) {
            h2->failure = h2->failure != 0 ? h2->failure : AT_ENOMEM;
            return h2->failure;
        }
        int result = at_bytes_append(out, data, (size_t)size);
        if (result != 0) {
            h2->failure = result; /* what nghttp2 gave is lost */
            return result;
        }
        /* nghttp2 gives one frame at a time. */
        in_block = (data[3] == NGHTTP2_HEADERS || data[3] == NGHTTP2_CONTINUATION) &&
                   (data[4] & NGHTTP2_FLAG_END_HEADERS) == 0;
    }
    return 0;
}

bool at_h2_is_done(const at_h2 *h2)
{
    return nghttp2_session_want_read(h2->session) == 0 &&
           nghttp2_session_want_write(h2->session) == 0;
}

int32_t at_h2_last_stream(const at_h2 *h2)
{
    return h2->last_id > 0 ? h2->last_id : 0;
}

bool at_h2_head_is_sent(const at_h2_stream *stream)
{
    return ((const h2_stream *)(const void *)stream)->head_is_sent;
}

bool at_h2_is_sent(const at_h2_stream *stream)
{
    return ((const h2_stream *)(const void *)stream)->is_sent;
}

void at_h2_consume(at_h2 *h2, at_h2_stream *stream, size_t size_bytes)
{
    h2_stream *whole = (h2_stream *)(void *)stream;
    assert(size_bytes <= whole->unread_bytes);
    whole->unread_bytes -= size_bytes;
    h2_must(h2, nghttp2_session_consume(h2->session, stream->id, size_bytes));
}

void at_h2_shutdown(at_h2 *h2, bool is_final)
{
    if (!is_final) {
        h2_must(h2, nghttp2_submit_shutdown_notice(h2->session));
        return;
    }
    int32_t last_id = nghttp2_session_get_last_proc_stream_id(h2->session);
    h2_must(h2, nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE, last_id,
                                      NGHTTP2_NO_ERROR, NULL, 0));
}
