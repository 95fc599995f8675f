/* HTTP/2 against nghttp2 as the client, in memory: requests and responses, flow control
 * both ways, trailers, shutting down, and what is refused or made too much of. */
#include <nghttp2/nghttp2.h>
#include <string.h>

#include "base/error.h"
#include "check.h"
#include "http/h2.h"
#include "http/h2_farewell.h"

/* ---- the server's side: notes what comes --------------------------------- */

enum { STREAMS_MAX = 400 };

typedef struct seen_stream {
    at_h2_stream *stream; /* NULL once closed */
    char text[600];       /* the head, as lines */
    size_t body_size;
    size_t unconsumed;
    unsigned body_sum;
    bool body_ended;
    bool closed;
    uint32_t error;
    size_t unsent;
    unsigned sent_calls;
} seen_stream;

static at_h2 *server;
static at_h2_limits limits;
static seen_stream seen[STREAMS_MAX]; /* by (id - 1) / 2 */
static bool consume_at_once;
static int server_result; /* the first error of at_h2_input or at_h2_output */

static seen_stream *seen_of(at_h2_stream *stream)
{
    return &seen[(stream->id - 1) / 2];
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
    seen_stream *here = seen_of(stream);
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

static const at_h2_events events = {NULL,        on_request, on_body,
                                    on_body_end, on_sent,    on_close};

/* ---- the client ---------------------------------------------------------- */

typedef struct got_stream {
    char text[600]; /* fields as lines; a blank line ends each head */
    size_t body_size;
    unsigned body_sum;
    bool closed;
    uint32_t error;
    size_t to_send; /* of the request's body */
} got_stream;

static nghttp2_session *client;
static got_stream got[STREAMS_MAX];
static bool got_goaway;
static uint32_t goaway_error;
static int32_t goaway_last;

static got_stream *got_of(int32_t id)
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

static void start(void)
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

static void stop(void)
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

static bool client_to_server(void)
{
    bool moved = false;
    const uint8_t *data;
    for (ssize_t size; (size = nghttp2_session_mem_send(client, &data)) > 0;) {
        note_result(at_h2_input(server, (const char *)data, (size_t)size));
        moved = true;
    }
    return moved;
}

static bool server_to_client(void)
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

/* Carry bytes both ways until nobody has more to say. */
static void pump(void)
{
    bool moved = true;
    while (moved) {
        moved = client_to_server();
        moved |= server_to_client();
    }
}

typedef struct field {
    const char *name;
    const char *value;
} field;

/* Submit a request with a body of `body_size` bytes. Returns its stream. */
static int32_t request(const field *fields, size_t field_count, size_t body_size)
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

static int32_t get(const char *path)
{
    const field fields[] = {{":method", "GET"},
                            {":scheme", "https"},
                            {":authority", "a.b"},
                            {":path", path}};
    return request(fields, 4, 0);
}

static int32_t post(size_t body_size)
{
    const field fields[] = {{":method", "POST"},
                            {":scheme", "https"},
                            {":authority", "a.b"},
                            {":path", "/"}};
    return request(fields, 4, body_size);
}

static at_h2_response response_of(int status)
{
    return (at_h2_response){.status = status, .body_bytes = -1};
}

/* ---- tests --------------------------------------------------------------- */

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
    CHECK(here->sent_calls == 1 && at_h2_stream_count(server) == 0);
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

static void large_bodies(void)
{
    enum { SIZE = 3000000 };
    start();
    (void)post(SIZE);
    pump();
    CHECK(seen[0].body_size == SIZE && seen[0].body_ended);
    at_h2_response response = response_of(200);
    CHECK(at_h2_respond(server, seen[0].stream, &response, false) == 0);
    static char piece[10000];
    memset(piece, 'x', sizeof piece);
    unsigned sum = 0;
    size_t given = 0;
    while (given < SIZE) { /* a second piece only when the first is sent */
        long unsent = 0;
        while (unsent < 50000 && given < SIZE) {
            unsent = at_h2_send(server, seen[0].stream, (at_span){piece, sizeof piece},
                                given + sizeof piece == SIZE);
            CHECK(unsent > 0);
            given += sizeof piece;
        }
        pump();
        CHECK(seen[0].unsent == 0);
    }
    for (size_t i = 0; i < SIZE; i++) {
        sum = sum * 31 + 'x';
    }
    CHECK(got[0].body_size == SIZE && got[0].body_sum == sum && got[0].closed);
    stop();
}

static void unread_body_stops_the_client(void)
{
    start();
    consume_at_once = false;
    (void)post(2000000);
    pump();
    CHECK(seen[0].body_size == limits.stream_window_bytes && !seen[0].body_ended);
    while (seen[0].unconsumed != 0) {
        size_t size = seen[0].unconsumed;
        seen[0].unconsumed = 0;
        at_h2_consume(server, seen[0].stream, size);
        pump();
    }
    CHECK(seen[0].body_size == 2000000 && seen[0].body_ended);
    stop();
}

/* Bodies that nobody reads, of streams that are gone, do not use up the connection. */
static void window_of_closed_streams_comes_back(void)
{
    start();
    consume_at_once = false;
    for (int i = 0; i < 20; i++) {
        (void)post(300000);
        pump();
        CHECK(seen[i].body_size == limits.stream_window_bytes);
        at_h2_reset(server, seen[i].stream, 8);
        pump();
        CHECK(seen[i].closed && got[i].closed && got[i].error == 8);
    }
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

static void refused_requests(void)
{
    static const struct {
        int status; /* 0: nghttp2 refuses it with a reset */
        field fields[5];
    } cases[] = {
        {400,
         {{":method", "GET"},
          {":scheme", "https"},
          {":authority", "a.b"},
          {":path", "/a#b"}}},
        {400,
         {{":method", "GET"},
          {":scheme", "https"},
          {":authority", "a.b:x"},
          {":path", "/"}}},
        {400,
         {{":method", "GET"},
          {":scheme", "https"},
          {":authority", "a.b"},
          {":path", "/"},
          {"host", "c"}}},
        {0,
         {{":method", "GET"},
          {":scheme", "https"},
          {":authority", "a.b"},
          {":path", "*"}}},
        {0,
         {{":method", "GET"},
          {":scheme", "https"},
          {":authority", "a.b"},
          {":path", ""}}},
        {0,
         {{":method", "GET"},
          {":scheme", "https"},
          {":authority", "a.b"},
          {":path", "/"},
          {"connection", "close"}}},
        {0,
         {{":method", "GET"},
          {":scheme", "https"},
          {":authority", "a.b"},
          {":path", "/"},
          {"transfer-encoding", "chunked"}}},
        {0,
         {{":method", "POST"},
          {":scheme", "https"},
          {":authority", "a.b"},
          {":path", "/"},
          {"content-length", "1,1"}}},
    };
    start();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)request(cases[i].fields, cases[i].fields[4].name != NULL ? 5 : 4, 0);
        pump();
        char wanted[40] = "";
        if (cases[i].status != 0) {
            (void)snprintf(wanted, sizeof wanted, ":status=%d\ncontent-length=0\n\n",
                           cases[i].status);
        }
        if (seen[i].stream != NULL || strcmp(got[i].text, wanted) != 0) {
            (void)fprintf(stderr, "case %zu: %s", i, got[i].text);
        }
        CHECK(seen[i].stream == NULL && got[i].closed);
        CHECK(strcmp(got[i].text, wanted) == 0);
    }
    CHECK(server_result == 0 && !got_goaway);
    stop();
}

static void large_heads(void)
{
    limits.header_bytes = 4000;
    start();
    static char value[3900];
    memset(value, 'v', sizeof value - 1);
    const field fields[] = {{":method", "POST"},
                            {":scheme", "https"},
                            {":authority", "a"},
                            {":path", "/"},
                            {"x", value}};
    (void)request(fields, 5, 100000); /* and its body goes nowhere */
    pump();
    CHECK(seen[0].stream == NULL && got[0].closed);
    CHECK(strcmp(got[0].text, ":status=431\ncontent-length=0\n\n") == 0);
    CHECK(server_result == 0);
    (void)get("/");
    pump();
    CHECK(seen[1].stream != NULL); /* the connection goes on */

    field many[30] = {
        {":method", "GET"}, {":scheme", "https"}, {":authority", "a"}, {":path", "/"}};
    for (size_t i = 4; i < 30; i++) {
        many[i] = (field){"x", value};
    }
    (void)request(many, 18, 0); /* the client itself sends no more than 64 KiB */
    pump();
    CHECK(server_result == AT_ELIMIT && got_goaway);
    CHECK(goaway_error == NGHTTP2_ENHANCE_YOUR_CALM);
    stop();
    at_h2_limits_init(&limits);
    limits.header_count = 10;
    start();
    (void)request(many, 4, 0);
    for (size_t i = 4; i < 30; i++) {
        many[i] = (field){"x", "y"};
    }
    (void)request(many, 30, 0);
    pump();
    CHECK(seen[0].stream != NULL && seen[1].stream == NULL);
    CHECK(strcmp(got[1].text, ":status=431\ncontent-length=0\n\n") == 0);
    stop();
    at_h2_limits_init(&limits);
}

static void rapid_reset(void)
{
    start();
    pump();
    int resets = 0;
    for (int i = 0; i < 300 && server_result == 0; i++) {
        int32_t id = get("/");
        (void)client_to_server();
        CHECK(nghttp2_submit_rst_stream(client, 0, id, NGHTTP2_CANCEL) == 0);
        pump();
        resets++;
        if (resets == 90) {
            at_h2_tick(server); /* a second later the budget is whole again */
        }
    }
    CHECK(server_result == AT_ELIMIT && resets == 90 + 101);
    CHECK(got_goaway && goaway_error == NGHTTP2_ENHANCE_YOUR_CALM);
    CHECK(at_h2_stream_count(server) == 0);
    stop();
}

/* Streams that are answered may end as often as they like. */
static void finished_streams_cost_nothing(void)
{
    start();
    for (int i = 0; i < 300; i++) {
        (void)get("/");
        pump();
        at_h2_response response = response_of(200);
        CHECK(at_h2_respond(server, seen[i].stream, &response, true) == 0);
        pump();
        CHECK(seen[i].closed && seen[i].error == 0);
    }
    CHECK(server_result == 0);
    stop();
}

/* Send one raw frame `count` times. Returns the first error. */
static int flood(const char *frame, size_t size, int count)
{
    int result = 0;
    for (int i = 0; i < count && result == 0; i++) {
        result = at_h2_input(server, frame, size);
        at_bytes out;
        at_bytes_init(&out);
        int output = at_h2_output(server, &out, 1 << 20);
        result = result == 0 ? output : result;
        at_bytes_fini(&out);
    }
    return result;
}

static void floods(void)
{
    static const char ping[] = "\0\0\x08\x06\0\0\0\0\0"
                               "01234567";
    start();
    pump();
    CHECK(flood(ping, 17, 900) == 0);
    at_h2_tick(server);
    CHECK(flood(ping, 17, 1002) == AT_ELIMIT);
    stop();
    start();
    pump();
    CHECK(flood("\0\0\0\x04\0\0\0\0\0", 9, 1002) == AT_ELIMIT); /* SETTINGS */
    stop();
    start();
    (void)post(10);
    got[0].to_send = SIZE_MAX; /* never ends by itself */
    (void)client_to_server();
    CHECK(flood("\0\0\0\0\0\0\0\0\1", 9, 1002) == AT_ELIMIT); /* empty DATA */
    stop();
}

/* GET / of the stream with this identifier, as a raw frame. */
static void raw_get(char id)
{
    char frame[] = "\0\0\6\1\5\0\0\0\0\x82\x87\x84\x41\1a";
    frame[8] = id;
    CHECK(at_h2_input(server, frame, sizeof frame - 1) == 0);
}

/* The error of the GOAWAY in the server's output, or -1. The client does
 * not know of raw frames, so it is left out. */
static int last_error_of_server(void)
{
    at_bytes out;
    at_bytes_init(&out);
    CHECK(at_h2_output(server, &out, 1 << 20) == 0);
    int error = -1;
    const uint8_t *frame = (const uint8_t *)out.data;
    const uint8_t *end = out.size != 0 ? frame + out.size : frame;
    while (out.size != 0 && frame != end) {
        size_t size = 9 + ((size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2]);
        CHECK(size <= (size_t)(end - frame));
        error = frame[3] == NGHTTP2_GOAWAY ? frame[16] : error;
        frame += size;
    }
    at_bytes_fini(&out);
    return error;
}

/* A stream that is closed is not opened again, and one passed over never (RFC 9113,
 * 5.1.1). */
static void identifiers_only_grow(void)
{
    start();
    pump();
    raw_get(1);
    raw_get(5);
    CHECK(seen[0].stream != NULL && seen[2].stream != NULL);
    CHECK(last_error_of_server() == -1);
    raw_get(3);
    CHECK(seen[1].stream == NULL && last_error_of_server() == NGHTTP2_PROTOCOL_ERROR);
    stop();
    start();
    pump();
    raw_get(1);
    at_h2_response response = response_of(204);
    CHECK(at_h2_respond(server, seen[0].stream, &response, true) == 0);
    CHECK(last_error_of_server() == -1 && seen[0].closed);
    raw_get(1);
    CHECK(last_error_of_server() == NGHTTP2_STREAM_CLOSED);
    stop();
}

static void continuation_flood(void)
{
    start();
    pump();
    /* ":method: GET" and no END_HEADERS, then empty CONTINUATIONs without end */
    CHECK(at_h2_input(server, "\0\0\1\1\1\0\0\0\1\x82", 10) == 0);
    bool ended = false;
    for (int i = 0; i < 1000 && !ended; i++) {
        ended = at_h2_input(server, "\0\0\0\x09\0\0\0\0\1", 9) != 0;
        (void)server_to_client();
        ended |= at_h2_is_done(server);
    }
    CHECK(ended);
    stop();
}

static void shutting_down(void)
{
    start();
    (void)get("/");
    pump();
    at_h2_shutdown(server, false);
    (void)get("/late"); /* on its way before the notice arrives */
    pump();
    CHECK(got_goaway && goaway_error == 0 && goaway_last == INT32_MAX);
    CHECK(seen[1].stream != NULL);
    at_h2_shutdown(server, true);
    pump();
    CHECK(goaway_last == 3 && !at_h2_is_done(server));
    at_h2_response response = response_of(200);
    CHECK(at_h2_respond(server, seen[0].stream, &response, true) == 0);
    CHECK(at_h2_respond(server, seen[1].stream, &response, true) == 0);
    pump();
    CHECK(got[0].closed && got[1].closed && at_h2_is_done(server));
    stop();
}

static void not_http2(void)
{
    start();
    CHECK(at_h2_input(server, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27) == AT_EFORMAT);
    stop();
    start();
    (void)get("/");
    pump();
    CHECK(at_h2_input(server, "\0\0\1\x06\0\0\0\0\0x", 10) == 0); /* a short PING */
    pump();
    CHECK(got_goaway && goaway_error == NGHTTP2_FRAME_SIZE_ERROR);
    CHECK(at_h2_is_done(server));
    stop();
    CHECK(seen[0].closed); /* told by at_h2_free at the latest */
}

static void too_many_streams(void)
{
    limits.concurrent_streams = 5;
    start();
    pump();
    for (int i = 0; i < 8; i++) {
        (void)get("/");
    }
    pump();
    CHECK(at_h2_stream_count(server) == 5);
    at_h2_response response = response_of(200);
    CHECK(at_h2_respond(server, seen[0].stream, &response, true) == 0);
    pump(); /* the client had kept the others back */
    CHECK(at_h2_stream_count(server) == 5 && seen[5].stream != NULL);
    stop();
    at_h2_limits_init(&limits);
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

/* What is said in the session's stead fits what the session said, whatever the state of
 * its encoder. */
static void farewell(void)
{
    start();
    int32_t begun = get("/begun"), waiting = get("/waiting");
    pump();
    at_h1_header header = {{"x-kept", 6}, {"in the dynamic table", 20}};
    at_h2_response response = response_of(200);
    response.headers = &header;
    response.header_count = 1;
    CHECK(at_h2_respond(server, seen_of(&(at_h2_stream){.id = begun})->stream,
                        &response, false) == 0);
    pump();
    /* The encoder owes the client a smaller table. */
    nghttp2_settings_entry smaller = {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 0};
    CHECK(nghttp2_submit_settings(client, 0, &smaller, 1) == 0);
    pump();
    CHECK(at_h2_last_stream(server) == waiting);
    char block[AT_H2_FAREWELL_BLOCK_BYTES];
    at_span date = {"Sun, 06 Nov 1994 08:49:37 GMT", 29};
    size_t size = at_h2_farewell_block(block, date, (at_span){"7", 1});
    at_h2_farewell words;
    at_h2_farewell_init(&words, false);
    CHECK(at_h2_farewell_reset(&words, begun, false));
    CHECK(at_h2_farewell_answer(&words, waiting, (at_span){block, size}));
    at_span text = at_h2_farewell_end(&words, waiting);
    CHECK(nghttp2_session_mem_recv(client, (const uint8_t *)text.data, text.size) ==
          (ssize_t)text.size);
    CHECK(got_of(begun)->closed && got_of(begun)->error == NGHTTP2_INTERNAL_ERROR);
    CHECK(got_of(waiting)->closed && got_of(waiting)->error == 0);
    CHECK(strcmp(got_of(waiting)->text, ":status=503\n"
                                        "date=Sun, 06 Nov 1994 08:49:37 GMT\n"
                                        "retry-after=7\n\n") == 0);
    CHECK(got_goaway && goaway_last == waiting);
    stop();
}

/* To a client that has not even the server's SETTINGS, and to one with more streams
 * than there is room for. */
static void farewell_first(void)
{
    start();
    int32_t id = get("/");
    (void)client_to_server();
    char block[AT_H2_FAREWELL_BLOCK_BYTES];
    size_t size = at_h2_farewell_block(block, (at_span){NULL, 0}, (at_span){"1", 1});
    at_h2_farewell words;
    at_h2_farewell_init(&words, true);
    CHECK(at_h2_farewell_answer(&words, id, (at_span){block, size}));
    int32_t other = id + 2;
    while (at_h2_farewell_answer(&words, other, (at_span){block, size})) {
        other += 2;
    }
    while (at_h2_farewell_reset(&words, other, false)) {
        other += 2;
    }
    at_span text = at_h2_farewell_end(&words, id);
    CHECK(text.size <= AT_H2_FAREWELL_BYTES);
    CHECK(text.data[text.size - 17 + 3] == 7); /* the GOAWAY had room */
    /* As far as the client's own stream: of the others it knows nothing. */
    CHECK(nghttp2_session_mem_recv(client, (const uint8_t *)text.data, 9 + 9 + size) ==
          (ssize_t)(9 + 9 + size));
    CHECK(got_of(id)->closed && got_of(id)->error == 0);
    CHECK(strcmp(got_of(id)->text, ":status=503\nretry-after=1\n\n") == 0);
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

int main(void)
{
    at_h2_limits_init(&limits);
    RUN(request_and_response);
    RUN(input_byte_by_byte);
    RUN(response_without_body);
    RUN(large_bodies);
    RUN(unread_body_stops_the_client);
    RUN(window_of_closed_streams_comes_back);
    RUN(trailers_and_hints);
    RUN(refused_responses);
    RUN(websocket_by_extended_connect);
    RUN(refused_requests);
    RUN(large_heads);
    RUN(rapid_reset);
    RUN(identifiers_only_grow);
    RUN(finished_streams_cost_nothing);
    RUN(floods);
    RUN(continuation_flood);
    RUN(shutting_down);
    RUN(farewell);
    RUN(farewell_first);
    RUN(whole_blocks);
    RUN(not_http2);
    RUN(too_many_streams);
    RUN_FAILING(out_of_memory);
    return 0;
}
