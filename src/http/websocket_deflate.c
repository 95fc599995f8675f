/* permessage-deflate; see websocket_deflate.h. */
#include "http/websocket_deflate.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "http/h1.h"
#include "http/h1_text.h"

enum { STEP_BYTES = 16384 };

struct at_ws_deflate {
    at_ws_deflate_options options; /* fixed after new */
    z_stream inflater;
    z_stream deflater;
    bool has_inflater;
    bool has_deflater;
};

void at_ws_deflate_options_init(at_ws_deflate_options *options)
{
    *options = (at_ws_deflate_options){
        .server_window_bits = 12,
        .client_window_bits = 12,
        .level = 6,
        .memory_level = 5,
    };
}

/* ---- negotiation --------------------------------------------------------- */

typedef struct offer {
    bool server_no_context_takeover;
    bool client_no_context_takeover;
    bool takes_client_bits; /* the client named client_max_window_bits */
    int client_bits;        /* 15 where it gave no number */
    int server_bits;        /* 0 where it did not ask */
} offer;

/* Take the next `;`-separated part of *rest, trimmed. False at the end. */
static bool next_part(at_span *rest, at_span *part)
{
    if (rest->data == NULL) {
        return false;
    }
    const char *stop = memchr(rest->data, ';', rest->size);
    size_t size = stop != NULL ? (size_t)(stop - rest->data) : rest->size;
    *part = at_h1_trim((at_span){rest->data, size});
    *rest =
        stop != NULL ? (at_span){stop + 1, rest->size - size - 1} : (at_span){NULL, 0};
    return true;
}

/* 8 to 15 without leading zero, bare or quoted; 0 where it is not. */
static int window_bits_of(at_span value)
{
    if (value.size >= 2 && value.data[0] == '"' && value.data[value.size - 1] == '"') {
        value = (at_span){value.data + 1, value.size - 2};
    }
    if (value.size == 1 && (value.data[0] == '8' || value.data[0] == '9')) {
        return value.data[0] - '0';
    }
    if (value.size == 2 && value.data[0] == '1' && value.data[1] >= '0' &&
        value.data[1] <= '5') {
        return 10 + value.data[1] - '0';
    }
    return 0;
}

static bool take_flag(bool *flag, bool has_value)
{
    if (*flag || has_value) {
        return false; /* given twice, or with a value (RFC 7692 7.1) */
    }
    *flag = true;
    return true;
}

static bool read_parameter(offer *wanted, at_span part)
{
    const char *equals = memchr(part.data, '=', part.size);
    size_t size = equals != NULL ? (size_t)(equals - part.data) : part.size;
    at_span name = at_h1_trim((at_span){part.data, size});
    at_span value = {NULL, 0};
    if (equals != NULL) {
        value = at_h1_trim((at_span){equals + 1, part.size - size - 1});
    }
    if (at_h1_equal(name, "server_no_context_takeover")) {
        return take_flag(&wanted->server_no_context_takeover, equals != NULL);
    }
    if (at_h1_equal(name, "client_no_context_takeover")) {
        return take_flag(&wanted->client_no_context_takeover, equals != NULL);
    }
    if (at_h1_equal(name, "server_max_window_bits")) {
        bool first = wanted->server_bits == 0;
        wanted->server_bits = window_bits_of(value);
        return first && wanted->server_bits != 0;
    }
    if (at_h1_equal(name, "client_max_window_bits")) {
        bool first = !wanted->takes_client_bits;
        wanted->takes_client_bits = true;
        wanted->client_bits = equals != NULL ? window_bits_of(value) : 15;
        return first && wanted->client_bits != 0;
    }
    return false;
}

/* Is this element of the list an offer that the server can keep to? zlib has no raw
 * deflate with a window of 8 bits, so such an offer is passed over. */
static bool read_offer(at_span element, offer *wanted)
{
    *wanted = (offer){.client_bits = 15};
    at_span part;
    if (!next_part(&element, &part) || !at_h1_equal(part, "permessage-deflate")) {
        return false;
    }
    while (next_part(&element, &part)) {
        if (!read_parameter(wanted, part)) {
            return false;
        }
    }
    return wanted->server_bits != 8;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

static int accept_offer(const offer *wanted, at_ws_deflate_options *options,
                        at_bytes *answer)
{
    options->server_no_context_takeover |= wanted->server_no_context_takeover;
    options->client_no_context_takeover |= wanted->client_no_context_takeover;
    if (wanted->server_bits != 0) {
        options->server_window_bits =
            least(options->server_window_bits, wanted->server_bits);
    }
    options->client_window_bits =
        wanted->takes_client_bits
            ? least(options->client_window_bits, wanted->client_bits)
            : 15; /* it may use all of it */
    char line[200];
    char server_bits[40] = "";
    char client_bits[40] = "";
    if (wanted->server_bits != 0) { /* only an asked server names its window */
        (void)snprintf(server_bits, sizeof server_bits, "; server_max_window_bits=%d",
                       options->server_window_bits);
    }
    if (wanted->takes_client_bits && options->client_window_bits < 15) {
        (void)snprintf(client_bits, sizeof client_bits, "; client_max_window_bits=%d",
                       options->client_window_bits);
    }
    int size = snprintf(
        line, sizeof line, "permessage-deflate%s%s%s%s",
        options->server_no_context_takeover ? "; server_no_context_takeover" : "",
        options->client_no_context_takeover ? "; client_no_context_takeover" : "",
        server_bits, client_bits);
    return at_bytes_append(answer, line, (size_t)size);
}

int at_ws_deflate_negotiate(at_span offers, at_ws_deflate_options *options,
                            at_bytes *answer)
{
    at_span element;
    while (at_h1_next_element(&offers, &element)) {
        offer wanted;
        if (read_offer(element, &wanted)) {
            int result = accept_offer(&wanted, options, answer);
            return result < 0 ? result : 1;
        }
    }
    return 0;
}

/* ---- the streams --------------------------------------------------------- */

static voidpf stream_alloc(voidpf unused, uInt count, uInt size_bytes)
{
    (void)unused;
    return at_calloc(count, size_bytes);
}

static void stream_free(voidpf unused, voidpf block)
{
    (void)unused;
    at_free(block);
}

int at_ws_deflate_new(const at_ws_deflate_options *options, at_ws_deflate **result)
{
    *result = NULL;
    at_ws_deflate *deflate = at_calloc(1, sizeof *deflate);
    if (deflate == NULL) {
        return AT_ENOMEM;
    }
    deflate->options = *options;
    deflate->inflater.zalloc = deflate->deflater.zalloc = stream_alloc;
    deflate->inflater.zfree = deflate->deflater.zfree = stream_free;
    int status = inflateInit2(&deflate->inflater, -options->client_window_bits);
    if (status == Z_OK) {
        deflate->has_inflater = true;
        status = deflateInit2(&deflate->deflater, options->level, Z_DEFLATED,
                              -options->server_window_bits, options->memory_level,
                              Z_DEFAULT_STRATEGY);
    }
    if (status != Z_OK) {
        at_ws_deflate_free(deflate);
        return status == Z_MEM_ERROR ? AT_ENOMEM : AT_EINVALID;
    }
    deflate->has_deflater = true;
    *result = deflate;
    return 0;
}

void at_ws_deflate_free(at_ws_deflate *deflate)
{
    if (deflate == NULL) {
        return;
    }
    if (deflate->has_inflater) {
        (void)inflateEnd(&deflate->inflater);
    }
    if (deflate->has_deflater) {
        (void)deflateEnd(&deflate->deflater);
    }
    at_free(deflate);
}

/* Run the inflater over what it was given, until it wants more. One byte above the
 * bound is room enough to notice that it is passed. */
static int inflate_some(z_stream *stream, at_bytes *out, size_t size_max)
{
    for (;;) {
        size_t room = size_max - out->size + 1;
        room = room < STEP_BYTES ? room : STEP_BYTES;
        int result = at_bytes_reserve(out, room);
        if (result != 0) {
            return result;
        }
        stream->next_out = (Bytef *)out->data + out->size;
        stream->avail_out = (uInt)room;
        int status = inflate(stream, Z_SYNC_FLUSH);
        out->size += room - stream->avail_out;
        if (out->size > size_max) {
            return AT_ELIMIT;
        }
        if (status == Z_STREAM_END) { /* BFINAL: a new stream may follow (7.2.3.4) */
            status = inflateReset(stream);
            if (status == Z_OK && stream->avail_in == 0) {
                return 0;
            }
        }
        if (status == Z_BUF_ERROR ||
            (status == Z_OK && stream->avail_in == 0 && stream->avail_out != 0)) {
            return 0;
        }
        if (status != Z_OK) {
            return status == Z_MEM_ERROR ? AT_ENOMEM : AT_EFORMAT;
        }
    }
}

int at_ws_inflate(at_ws_deflate *deflate, at_span piece, bool is_end, at_bytes *out,
                  size_t size_max)
{
    static const Bytef tail[4] = {0x00, 0x00, 0xff, 0xff}; /* cut by the sender */
    z_stream *stream = &deflate->inflater;
    int result = 0;
    while (piece.size != 0 && result == 0) {
        uInt here = piece.size < UINT32_MAX ? (uInt)piece.size : UINT32_MAX;
        stream->next_in = (Bytef *)(uintptr_t)piece.data;
        stream->avail_in = here;
        result = inflate_some(stream, out, size_max);
        piece = (at_span){piece.data + here, piece.size - here};
    }
    if (is_end && result == 0) {
        stream->next_in = (Bytef *)(uintptr_t)tail;
        stream->avail_in = sizeof tail;
        result = inflate_some(stream, out, size_max);
        if (result == 0 && (stream->data_type & 128) == 0) {
            return AT_EFORMAT; /* the message ended inside a block */
        }
        if (result == 0 && deflate->options.client_no_context_takeover) {
            result = inflateReset(stream) == Z_OK ? 0 : AT_EFORMAT;
        }
    }
    return result;
}

/* zlib's function, whose name the parameters here hide. */
static int deflate_stream(z_stream *stream, int flush)
{
    return deflate(stream, flush);
}

int at_ws_deflate_message(at_ws_deflate *deflate, at_span message, at_bytes *out)
{
    z_stream *stream = &deflate->deflater;
    size_t before = out->size;
    if (message.size == 0) {
        return at_bytes_append(out, "", 1); /* 7.2.3.6: zlib flushes nothing twice */
    }
    do {
        uInt here = message.size < UINT32_MAX ? (uInt)message.size : UINT32_MAX;
        stream->next_in = (Bytef *)(uintptr_t)message.data;
        stream->avail_in = here;
        do {
            int result = at_bytes_reserve(out, here / 2 + 64);
            if (result != 0) {
                out->size = before;
                return result;
            }
            size_t room = out->capacity - out->size;
            stream->next_out = (Bytef *)out->data + out->size;
            stream->avail_out = room < UINT32_MAX ? (uInt)room : UINT32_MAX;
            uInt given = stream->avail_out;
            (void)deflate_stream(stream, Z_SYNC_FLUSH);
            out->size += given - stream->avail_out;
        } while (stream->avail_out == 0);
        message = (at_span){message.data + here, message.size - here};
    } while (message.size != 0);
    out->size -= 4; /* 00 00 ff ff, which the receiver puts back (7.2.1) */
    if (deflate->options.server_no_context_takeover) {
        (void)deflateReset(stream);
    }
    return 0;
}
