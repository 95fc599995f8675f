/* See h2_pair.h. */
#include "h2_pair.h"

#include <string.h>

#include "check.h"

/* ---- the server ---------------------------------------------------------- */

at_h2 *server;
at_h2_limits limits;
seen_stream seen[STREAMS_MAX];
bool consume_at_once;
int server_result;

seen_stream *seen_of(int32_t id)
{
    return &seen[(id - 1) / 2];
}

int open_streams(void)
{
    int count = 0;
    for (int i = 0; i < STREAMS_MAX; i++) {
        count += seen[i].stream != NULL;
    }
    return count;
}

static size_t add_line(char *text, size_t used, at_span name, at_span value)
{
    CHECK(used + name.size + value.size + 3 < sizeof seen[0].text);
    return used + (size_t)sprintf(text + used, "%.*s=%.*s\n", (int)name.size, name.data,
                                  (int)value.size, value.size != 0 ? value.data : "");
}

static void on_request(void *context, at_h2_stream *stream,
                       const at_h2_request *request)
{
    seen_stream *here = seen_of(stream->id);
    CHECK(stream->owner == NULL);
    here->stream = stream;
    stream->owner = here;
    size_t used = add_line(here->text, 0, request->method, request->path);
    used = add_line(here->text, used, (at_span){"?", 1}, request->query);
    if (request->protocol.size != 0) {
        used = add_line(here->text, used, (at_span){"protocol", 8}, request->protocol);
    }
    for (size_t i = 0; i < request->header_count && i < 8; i++) {
        at_h1_header header = request->headers[i];
        if (header.value.size < 40) {
            used = add_line(here->text, used, header.name, header.value);
        }
    }
}

static void on_body(void *context, at_h2_stream *stream, at_span piece)
{
    seen_stream *here = stream->owner;
    for (size_t i = 0; i < piece.size; i++) {
        here->body_sum = here->body_sum * 31 + (uint8_t)piece.data[i];
    }
    here->body_size += piece.size;
    if (consume_at_once) {
        at_h2_consume(server, stream, piece.size);
    } else {
        here->unconsumed += piece.size;
    }
}

static void on_body_end(void *context, at_h2_stream *stream)
{
    seen_stream *here = stream->owner;
    CHECK(!here->body_ended);
    here->body_ended = true;
}

static void on_sent(void *context, at_h2_stream *stream, size_t unsent_bytes)
{
    seen_stream *here = stream->owner;
    here->unsent = unsent_bytes;
    here->sent_calls++;
}

static void on_close(void *context, at_h2_stream *stream, uint32_t error)
{
    seen_stream *here = stream->owner;
    CHECK(!here->closed);
    here->closed = true;
    here->error = error;
    here->stream = NULL;
}

const at_h2_events events = {NULL, on_request, on_body, on_body_end, on_sent, on_close};

/* ---- the client ---------------------------------------------------------- */

nghttp2_session *client;
got_stream got[STREAMS_MAX];
bool got_goaway;
uint32_t goaway_error;
int32_t goaway_last;

got_stream *got_of(int32_t id)
{
    return &got[(id - 1) / 2];
}

static int client_header(nghttp2_session *session, const nghttp2_frame *frame,
                         const uint8_t *name, size_t name_size, const uint8_t *value,
                         size_t value_size, uint8_t flags, void *context)
{
    char *text = got_of(frame->hd.stream_id)->text;
    (void)add_line(text, strlen(text), (at_span){(const char *)name, name_size},
                   (at_span){(const char *)value, value_size});
    return 0;
}

static int client_frame(nghttp2_session *session, const nghttp2_frame *frame,
                        void *context)
{
    if (frame->hd.type == NGHTTP2_HEADERS) {
        (void)strcat(got_of(frame->hd.stream_id)->text, "\n");
    } else if (frame->hd.type == NGHTTP2_GOAWAY) {
        got_goaway = true;
        goaway_error = frame->goaway.error_code;
        goaway_last = frame->goaway.last_stream_id;
    }
    return 0;
}

static int client_data(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                       const uint8_t *data, size_t size, void *context)
{
    got_stream *here = got_of(stream_id);
    for (size_t i = 0; i < size; i++) {
        here->body_sum = here->body_sum * 31 + data[i];
    }
    here->body_size += size;
    return 0;
}

static int client_close(nghttp2_session *session, int32_t stream_id, uint32_t error,
                        void *context)
{
    got_of(stream_id)->closed = true;
    got_of(stream_id)->error = error;
    return 0;
}

static ssize_t client_body(nghttp2_session *session, int32_t stream_id, uint8_t *buffer,
                           size_t size_max, uint32_t *flags,
                           nghttp2_data_source *source, void *context)
{
    got_stream *here = got_of(stream_id);
    size_t size = here->to_send < size_max ? here->to_send : size_max;
    memset(buffer, 'b', size);
    here->to_send -= size;
    if (here->to_send == 0) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)size;
}

void start(void)
{
    memset(seen, 0, sizeof seen);
    memset(got, 0, sizeof got);
    got_goaway = false;
    server_result = 0;
    consume_at_once = true;
    CHECK(at_h2_new(&limits, &events, &server) == 0);
    nghttp2_session_callbacks *callbacks;
    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, client_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, client_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, client_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, client_close);
    CHECK(nghttp2_session_client_new(&client, callbacks, NULL) == 0);
    nghttp2_session_callbacks_del(callbacks);
    CHECK(nghttp2_submit_settings(client, 0, NULL, 0) == 0);
}

void stop(void)
{
    at_h2_free(server);
    nghttp2_session_del(client);
}

static void note_result(int result)
{
    if (server_result == 0) {
        server_result = result;
    }
}

bool client_to_server(void)
{
    bool moved = false;
    const uint8_t *data;
    for (ssize_t size; (size = nghttp2_session_mem_send(client, &data)) > 0;) {
        note_result(at_h2_input(server, (const char *)data, (size_t)size));
        moved = true;
    }
    return moved;
}

bool server_to_client(void)
{
    at_bytes out;
    at_bytes_init(&out);
    note_result(at_h2_output(server, &out, 20000));
    bool moved = out.size != 0;
    if (moved) {
        ssize_t taken =
            nghttp2_session_mem_recv(client, (const uint8_t *)out.data, out.size);
        CHECK(taken == (ssize_t)out.size || got_goaway || server_result != 0);
    }
    at_bytes_fini(&out);
    return moved;
}

void pump(void)
{
    bool moved = true;
    while (moved) {
        moved = client_to_server();
        moved |= server_to_client();
    }
}

int32_t request(const field *fields, size_t field_count, size_t body_size)
{
    nghttp2_nv values[40];
    for (size_t i = 0; i < field_count; i++) {
        values[i] = (nghttp2_nv){
            .name = (uint8_t *)(uintptr_t)fields[i].name,
            .value = (uint8_t *)(uintptr_t)fields[i].value,
            .namelen = strlen(fields[i].name),
            .valuelen = strlen(fields[i].value),
        };
    }
    nghttp2_data_provider provider = {.read_callback = client_body};
    int32_t id = nghttp2_submit_request(client, NULL, values, field_count,
                                        body_size != 0 ? &provider : NULL, NULL);
    CHECK(id > 0);
    got_of(id)->to_send = body_size;
    return id;
}

int32_t get(const char *path)
{
    const field fields[] = {{":method", "GET"},
                            {":scheme", "https"},
                            {":authority", "a.b"},
                            {":path", path}};
    return request(fields, 4, 0);
}

int32_t post(size_t body_size)
{
    const field fields[] = {{":method", "POST"},
                            {":scheme", "https"},
                            {":authority", "a.b"},
                            {":path", "/"}};
    return request(fields, 4, body_size);
}

at_h2_response response_of(int status)
{
    return (at_h2_response){.status = status, .body_bytes = -1};
}
