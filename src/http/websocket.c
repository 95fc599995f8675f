/* The WebSocket reader; see websocket.h. Writing is in websocket_write.c. */
#include "http/websocket.h"

#include <string.h>

#include "base/error.h"
#include "http/scan.h"
#include "http/websocket_deflate.h"

/* Where the reader stands. */
enum {
    IN_PREFIX,
    IN_PAYLOAD,
    IN_CONTROL,
    CLOSED,
    FAILED,
};

enum { FIN = 0x80, RSV1 = 0x40, RSV23 = 0x30, OPCODE = 0x0f, MASKED = 0x80 };

void at_ws_reader_init(at_ws_reader *reader, size_t message_bytes_max,
                       at_ws_deflate *deflate)
{
    memset(reader, 0, sizeof *reader);
    reader->message_bytes_max =
        message_bytes_max < SIZE_MAX / 4 ? message_bytes_max : SIZE_MAX / 4;
    reader->deflate = deflate;
    at_bytes_init(&reader->message);
}

void at_ws_reader_fini(at_ws_reader *reader)
{
    at_bytes_fini(&reader->message);
}

static int refuse(at_ws_reader *reader, uint16_t code, const char *text)
{
    reader->state = FAILED;
    reader->error_code = code;
    reader->error_text = text;
    return code == AT_WS_CODE_TOO_BIG ? AT_ELIMIT : AT_EFORMAT;
}

static int refuse_protocol(at_ws_reader *reader, const char *text)
{
    return refuse(reader, AT_WS_CODE_PROTOCOL_ERROR, text);
}

void at_ws_unmask(char *data, size_t size, const uint8_t mask[4], uint64_t offset)
{
    char pattern[AT_BLOCK_BYTES];
    for (size_t i = 0; i < sizeof pattern; i++) {
        pattern[i] = (char)mask[(offset + i) & 3];
    }
    at_block block = at_block_load(pattern);
    size_t at = 0;
    for (; size - at >= AT_BLOCK_BYTES; at += AT_BLOCK_BYTES) {
        at_block_store(data + at, at_block_xor(at_block_load(data + at), block));
    }
    for (; at < size; at++) {
        data[at] = (char)(data[at] ^ pattern[at & 15]);
    }
}

/* ---- the head of a frame ------------------------------------------------- */

/* How many bytes the frame's head has, as far as those that came tell. */
static size_t prefix_bytes(const at_ws_reader *reader)
{
    if (reader->prefix_size < 2) {
        return 2;
    }
    unsigned length = reader->prefix[1] & 0x7f;
    return length < 126 ? 6 : length == 126 ? 8 : 14;
}

/* Refuse what the first two bytes show. Returns 0 or an error. */
static int check_first_bytes(at_ws_reader *reader)
{
    uint8_t first = reader->prefix[0];
    unsigned opcode = first & OPCODE;
    bool is_control = opcode >= AT_WS_CLOSE;
    bool in_message = reader->message_opcode != AT_WS_CONTINUATION;
    if (opcode > AT_WS_PONG || (opcode > AT_WS_BINARY && opcode < AT_WS_CLOSE)) {
        return refuse_protocol(reader, "reserved opcode");
    }
    if ((first & RSV23) != 0) {
        return refuse_protocol(reader, "reserved bit set");
    }
    bool may_deflate =
        reader->deflate != NULL && (opcode == AT_WS_TEXT || opcode == AT_WS_BINARY);
    if ((first & RSV1) != 0 && !may_deflate) {
        return refuse_protocol(reader, "compressed bit where it may not be");
    }
    if ((reader->prefix[1] & MASKED) == 0) {
        return refuse_protocol(reader, "frame without mask");
    }
    if (is_control && (first & FIN) == 0) {
        return refuse_protocol(reader, "control frame in fragments");
    }
    if (is_control && (reader->prefix[1] & 0x7f) > AT_WS_CONTROL_BYTES_MAX) {
        return refuse_protocol(reader, "control frame too large");
    }
    if (!is_control && in_message != (opcode == AT_WS_CONTINUATION)) {
        return refuse_protocol(reader, in_message ? "message inside a message"
                                                  : "continuation of no message");
    }
    return 0;
}

static int read_length(at_ws_reader *reader)
{
    const uint8_t *prefix = reader->prefix;
    uint64_t length = prefix[1] & 0x7f;
    size_t count = length < 126 ? 0 : length == 126 ? 2 : 8;
    uint64_t least = count == 2 ? 126 : 65536;
    if (count != 0) {
        length = 0;
        for (size_t i = 0; i < count; i++) {
            length = length << 8 | prefix[2 + i];
        }
        if (length < least || length > INT64_MAX) {
            return refuse_protocol(reader, "length not in its shortest form");
        }
    }
    memcpy(reader->mask, prefix + 2 + count, 4);
    reader->frame_left = length;
    reader->frame_at = 0;
    return 0;
}

/* The head is complete: prepare for the payload. Returns 0 or an error. */
static int begin_frame(at_ws_reader *reader)
{
    int result = read_length(reader);
    if (result != 0) {
        return result;
    }
    uint8_t first = reader->prefix[0];
    reader->prefix_size = 0;
    reader->frame_opcode = first & OPCODE;
    reader->frame_is_last = (first & FIN) != 0;
    if (reader->frame_opcode >= AT_WS_CLOSE) {
        reader->control_size = 0;
        reader->state = IN_CONTROL;
        return 0;
    }
    if (reader->frame_opcode != AT_WS_CONTINUATION) {
        reader->message_opcode = reader->frame_opcode;
        reader->message_is_deflated = (first & RSV1) != 0;
        reader->utf8 = (at_utf8){0};
    }
    reader->state = IN_PAYLOAD;
    size_t room = reader->message_bytes_max - reader->message.size;
    if (!reader->message_is_deflated && reader->frame_left > room) {
        return refuse(reader, AT_WS_CODE_TOO_BIG, "message too big");
    }
    return 0;
}

/* Take bytes of the frame's head. Returns 0 or an error. */
static int take_prefix(at_ws_reader *reader, const char *data, size_t size, size_t *at)
{
    while (*at < size && reader->state == IN_PREFIX) {
        reader->prefix[reader->prefix_size++] = (uint8_t)data[(*at)++];
        if (reader->prefix_size == 2) {
            int result = check_first_bytes(reader);
            if (result != 0) {
                return result;
            }
        }
        if (reader->prefix_size >= 2 && reader->prefix_size == prefix_bytes(reader)) {
            int result = begin_frame(reader);
            if (result != 0) {
                return result;
            }
        }
    }
    return 0;
}

/* ---- messages ------------------------------------------------------------ */

static int check_text(at_ws_reader *reader, size_t from, bool is_end)
{
    if (reader->message_opcode != AT_WS_TEXT) {
        return 0;
    }
    at_span added = {NULL, reader->message.size - from};
    if (added.size != 0) {
        added.data = reader->message.data + from;
    }
    if (!at_utf8_feed(&reader->utf8, added) ||
        (is_end && !at_utf8_is_complete(&reader->utf8))) {
        return refuse(reader, AT_WS_CODE_INVALID_TEXT, "text that is not UTF-8");
    }
    return 0;
}

static int add_to_message(at_ws_reader *reader, at_span piece, bool is_end)
{
    size_t before = reader->message.size;
    int result;
    if (!reader->message_is_deflated) {
        result = at_bytes_append(&reader->message, piece.data, piece.size);
    } else {
        result = at_ws_inflate(reader->deflate, piece, is_end, &reader->message,
                               reader->message_bytes_max);
    }
    switch (result) {
    case 0:
        return check_text(reader, before, is_end);
    case AT_ELIMIT:
        return refuse(reader, AT_WS_CODE_TOO_BIG, "message too big");
    case AT_EFORMAT:
        return refuse(reader, AT_WS_CODE_INVALID_TEXT, "invalid compressed data");
    default:
        reader->state = FAILED;
        reader->error_code = AT_WS_CODE_INTERNAL_ERROR;
        reader->error_text = "out of memory";
        return result;
    }
}

/* Take bytes of a data frame.
 * gives: 1 (the message is complete), 0; errs: as at_ws_read */
static int take_payload(at_ws_reader *reader, char *data, size_t size, size_t *at,
                        at_ws_event *event)
{
    size_t here = size - *at;
    here = here < reader->frame_left ? here : (size_t)reader->frame_left;
    at_span piece = {data + *at, here};
    at_ws_unmask(data + *at, here, reader->mask, reader->frame_at);
    *at += here;
    reader->frame_at += here;
    reader->frame_left -= here;
    bool frame_ends = reader->frame_left == 0;
    bool message_ends = frame_ends && reader->frame_is_last;
    int result = add_to_message(reader, piece, message_ends);
    if (result != 0) {
        return result;
    }
    if (frame_ends) {
        reader->state = IN_PREFIX;
    }
    if (!message_ends) {
        return 0;
    }
    *event = (at_ws_event){
        .opcode = (at_ws_opcode)reader->message_opcode,
        .data = {reader->message.data, reader->message.size},
    };
    reader->message_opcode = AT_WS_CONTINUATION;
    reader->message_is_given = true;
    return 1;
}

/* ---- control frames ------------------------------------------------------ */

/* May this code stand in a close frame (RFC 6455 7.4, and the registry after it)? */
static bool is_close_code(unsigned code)
{
    return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 &&
            code != 1006) ||
           (code >= 3000 && code <= 4999);
}

static int read_close(at_ws_reader *reader, at_ws_event *event)
{
    event->close_code = AT_WS_CODE_NONE;
    if (reader->control_size != 0) {
        if (reader->control_size == 1) {
            return refuse_protocol(reader, "close frame of one byte");
        }
        unsigned code =
            (unsigned)(uint8_t)reader->control[0] << 8 | (uint8_t)reader->control[1];
        if (!is_close_code(code)) {
            return refuse_protocol(reader, "invalid close code");
        }
        at_utf8 utf8 = {0};
        event->close_code = (uint16_t)code;
        event->data = (at_span){reader->control + 2, reader->control_size - 2u};
        if (!at_utf8_feed(&utf8, event->data) || !at_utf8_is_complete(&utf8)) {
            return refuse(reader, AT_WS_CODE_INVALID_TEXT,
                          "reason for closing that is not UTF-8");
        }
    }
    reader->state = CLOSED;
    return 1;
}

/* Take bytes of a control frame. Returns as take_payload. */
static int take_control(at_ws_reader *reader, char *data, size_t size, size_t *at,
                        at_ws_event *event)
{
    size_t here = size - *at;
    here = here < reader->frame_left ? here : (size_t)reader->frame_left;
    memcpy(reader->control + reader->control_size, data + *at, here);
    *at += here;
    reader->control_size = (uint8_t)(reader->control_size + here);
    reader->frame_left -= here;
    if (reader->frame_left != 0) {
        return 0;
    }
    at_ws_unmask(reader->control, reader->control_size, reader->mask, 0);
    reader->state = IN_PREFIX;
    *event = (at_ws_event){
        .opcode = (at_ws_opcode)reader->frame_opcode,
        .data = {reader->control, reader->control_size},
    };
    if (reader->frame_opcode != AT_WS_CLOSE) {
        return 1;
    }
    event->data.size = 0;
    return read_close(reader, event);
}

/* Drop the message that was given out with the last event. A block that one large
 * message made is not kept for the small ones that follow. */
static void drop_given_message(at_ws_reader *reader)
{
    enum { KEPT_BYTES = 65536 };
    reader->message_is_given = false;
    reader->message.size = 0;
    if (reader->message.capacity > KEPT_BYTES) {
        at_bytes_fini(&reader->message);
    }
}

int at_ws_read(at_ws_reader *reader, char *data, size_t size, size_t *used,
               at_ws_event *event)
{
    size_t at = 0;
    int result = 0;
    if (reader->message_is_given) {
        drop_given_message(reader);
    }
    if (reader->state >= CLOSED) {
        *used = 0;
        return reader->state == CLOSED ? AT_ECLOSED : AT_EFORMAT;
    }
    /* An empty payload needs no more bytes to be complete. */
    while (result == 0 &&
           (at < size || (reader->state != IN_PREFIX && reader->frame_left == 0))) {
        if (reader->state == IN_PREFIX) {
            result = take_prefix(reader, data, size, &at);
        } else if (reader->state == IN_PAYLOAD) {
            result = take_payload(reader, data, size, &at, event);
        } else {
            result = take_control(reader, data, size, &at, event);
        }
    }
    *used = at;
    return result == 0 ? AT_EAGAIN : result;
}
