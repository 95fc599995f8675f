/* WebSocket, the server's side (RFC 6455): bytes in, messages out, and the other way.
 *
 * Sans-I/O. The reader takes whatever bytes came, puts fragments together and gives
 * whole messages and control frames; what it refuses it refuses at the first byte that
 * shows it, with the code to close with. Text is checked as it comes. With
 * permessage-deflate (websocket_deflate.h) messages are inflated under the same bound
 * on their size, so that a small frame cannot become a large message.
 */
#ifndef AT_HTTP_WEBSOCKET_H
#define AT_HTTP_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/span.h"
#include "http/utf8.h"

enum {
    AT_WS_ACCEPT_BYTES = 28,
    AT_WS_CONTROL_BYTES_MAX = 125,
    AT_WS_PREFIX_BYTES_MAX = 10,
};

typedef enum at_ws_opcode {
    AT_WS_CONTINUATION = 0,
    AT_WS_TEXT = 1,
    AT_WS_BINARY = 2,
    AT_WS_CLOSE = 8,
    AT_WS_PING = 9,
    AT_WS_PONG = 10,
} at_ws_opcode;

/* Close codes (RFC 6455 7.4.1) that the protocol itself uses. */
enum {
    AT_WS_CODE_NORMAL = 1000,
    AT_WS_CODE_GOING_AWAY = 1001,
    AT_WS_CODE_PROTOCOL_ERROR = 1002,
    AT_WS_CODE_NONE = 1005, /* the close frame had none; never sent */
    AT_WS_CODE_LOST = 1006, /* the connection ended without a close; never sent */
    AT_WS_CODE_INVALID_TEXT = 1007,
    AT_WS_CODE_TOO_BIG = 1009,
    AT_WS_CODE_INTERNAL_ERROR = 1011,
};

/* Answer to `key`, the value of Sec-WebSocket-Key.
 * ctx:  any
 * errs: AT_EFORMAT (not sixteen bytes in base64), AT_ENOMEM */
int at_ws_accept_key(at_span key, char accept[AT_WS_ACCEPT_BYTES]);

typedef struct at_ws_deflate at_ws_deflate;

/* What came. Spans live until the next at_ws_read of the reader, or its fini. */
typedef struct at_ws_event {
    at_ws_opcode opcode; /* AT_WS_TEXT or AT_WS_BINARY with a whole message; AT_WS_PING,
                            AT_WS_PONG; AT_WS_CLOSE, after which nothing is read */
    at_span data;        /* the message, the ping's payload, the reason for closing */
    uint16_t close_code; /* of AT_WS_CLOSE: AT_WS_CODE_NONE where the frame had none */
} at_ws_event;

typedef struct at_ws_reader {
    size_t message_bytes_max; /* fixed after init; inflated size counts */
    at_ws_deflate *deflate;   /* fixed after init; or NULL */
    at_bytes message;         /* what of the present message has come */
    at_utf8 utf8;             /* over `message`, where it is text */
    uint64_t frame_left;      /* bytes of the present frame still to come */
    uint64_t frame_at;        /* bytes of it that have come, for the mask */
    uint8_t prefix[14];       /* the frame's head as it comes */
    uint8_t prefix_size;
    uint8_t mask[4];
    uint8_t state;
    uint8_t frame_opcode;
    uint8_t message_opcode; /* AT_WS_CONTINUATION between messages */
    bool frame_is_last;
    bool message_is_deflated;
    bool message_is_given; /* the last event was `message`: drop it */
    uint8_t control_size;
    char control[AT_WS_CONTROL_BYTES_MAX];

    /* where at_ws_read returned AT_EFORMAT or AT_ELIMIT */
    uint16_t error_code;    /* 1002, 1007 or 1009 */
    const char *error_text; /* constant */
} at_ws_reader;

/* ctx:  any
 * owns: borrows `deflate` (or NULL), which must outlive the reader */
void at_ws_reader_init(at_ws_reader *reader, size_t message_bytes_max,
                       at_ws_deflate *deflate);
void at_ws_reader_fini(at_ws_reader *reader);

/* Read from data[0..size), whose bytes are unmasked in place; sets *used to how many
 * were consumed: all of them with AT_EAGAIN. Call again with the rest while it
 * returns 1. ctx:   any gives: 1 (*event is set) errs:  AT_EAGAIN (more bytes are
 * needed), AT_EFORMAT, AT_ELIMIT (send a close frame with error_code and end),
 * AT_ECLOSED (a close frame has come before), AT_ENOMEM (end the connection: the
 * message is lost) */
int at_ws_read(at_ws_reader *reader, char *data, size_t size, size_t *used,
               at_ws_event *event);

/* Write the head of a frame that carries `size_bytes` and ends its message.
 * ctx:   any
 * gives: how many bytes were written */
size_t at_ws_prefix(char prefix[AT_WS_PREFIX_BYTES_MAX], at_ws_opcode opcode,
                    bool is_deflated, uint64_t size_bytes);

/* Append a whole message in one frame, deflated where `deflate` is not NULL, or a ping
 * or pong of at most AT_WS_CONTROL_BYTES_MAX, which never is. ctx:  any errs:
 * AT_EINVALID (control frame too large), AT_ENOMEM; then nothing was appended */
int at_ws_write_message(at_bytes *out, at_ws_deflate *deflate, at_ws_opcode opcode,
                        at_span payload);

/* Append a close frame; a code that must not be sent (AT_WS_CODE_NONE) makes it empty.
 * A reason of more than 123 bytes is cut between two characters. ctx:  any errs:
 * AT_EINVALID (no such code, or the reason is not UTF-8), AT_ENOMEM */
int at_ws_write_close(at_bytes *out, uint16_t code, at_span reason);

/* Xor data[0..size) with the mask, of which data[0] meets byte `offset` (mod 4).
 * ctx: any */
void at_ws_unmask(char *data, size_t size, const uint8_t mask[4], uint64_t offset);

#endif
