/* What an HTTP/2 client may send behind its preface: whatever the frames, requests are
 * well formed, every stream that was told is closed once, and no body is larger than
 * its window. Each request is answered, so that the way out is walked too. */
#include "fuzz.h"

#include <stdbool.h>

#include "base/error.h"
#include "http/h2.h"

enum { WINDOW_BYTES = 65535 };

static at_h2 *h2;
static long open_count;
static size_t unread_bytes;

static void on_request(void *context, at_h2_stream *stream,
                       const at_h2_request *request)
{
    open_count++;
    HOLDS(at_h1_is_token(request->method));
    HOLDS(request->header_count <= 22);
    for (size_t i = 0; i < request->header_count; i++) {
        HOLDS(at_h1_is_token(request->headers[i].name));
        HOLDS(at_h1_is_field_value(request->headers[i].value));
        HOLDS(!at_h1_equal(request->headers[i].name, "host") || i == 0);
    }
    at_h2_response response = {.status = 200, .body_bytes = -1};
    bool is_end = request->path.size % 3 == 0;
    HOLDS(at_h2_respond(h2, stream, &response, is_end) == 0);
    if (!is_end) {
        HOLDS(at_h2_send(h2, stream, request->target, request->path.size % 3 == 1) >=
              0);
    }
}

static void on_body(void *context, at_h2_stream *stream, at_span piece)
{
    unread_bytes += piece.size;
    HOLDS(unread_bytes <= WINDOW_BYTES);
    if (piece.size % 2 == 0) {
        at_h2_consume(h2, stream, piece.size);
        unread_bytes -= piece.size;
    }
}

static void on_body_end(void *context, at_h2_stream *stream)
{
    (void)at_h2_send(h2, stream, (at_span){"end", 3}, true);
}

static void on_sent(void *context, at_h2_stream *stream, size_t unsent_bytes)
{
}

static void on_close(void *context, at_h2_stream *stream, uint32_t error)
{
    open_count--;
    unread_bytes = 0; /* loose: some may belong to others */
}

static const at_h2_events events = {NULL,        on_request, on_body,
                                    on_body_end, on_sent,    on_close};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    at_h2_limits limits;
    at_h2_limits_init(&limits);
    limits.header_bytes = 2000;
    limits.header_count = 20;
    limits.control_per_tick = 50;
    limits.stream_window_bytes = limits.connection_window_bytes = WINDOW_BYTES;
    unread_bytes = 0;
    HOLDS(at_h2_new(&limits, &events, &h2) == 0);
    char *copy = exact_copy(data, size);
    at_bytes out;
    at_bytes_init(&out);
    int result = at_h2_input(h2, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    HOLDS(result == 0);
    result = at_h2_input(h2, copy, size);
    HOLDS(result == 0 || result == AT_EFORMAT || result == AT_ELIMIT);
    (void)at_h2_output(h2, &out, 1 << 20);
    HOLDS(out.size != 0); /* at least the settings, or why not */
    free(copy);
    at_bytes_fini(&out);
    at_h2_free(h2);
    HOLDS(open_count == 0);
    return 0;
}
