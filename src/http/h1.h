/* HTTP/1.1 requests (RFC 9110, RFC 9112): bytes in, a request head or an error out.
 *
 * Sans-I/O: no socket, no clock, no allocation; spans point into the caller's buffer
 * and live as long as it does not move. Strict, because two servers that read one
 * request differently are a way to smuggle another past the first: every deviation that
 * RFC 9112 lets a server refuse is refused, with the status to answer.
 *
 * A connection reads a head with at_h1_parse_head, then its body: `content_length`
 * bytes as they come, or through at_h1_chunked_next. After an error nothing that
 * follows on the connection can be trusted: answer `error_status` and close.
 */
#ifndef AT_HTTP_H1_H
#define AT_HTTP_H1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"

enum {
    AT_H1_HEADERS_MAX = 128, /* slots in a head; limits may say fewer */
    AT_H2_PREFACE_BYTES = 24,
};

/* Bounds on what a client may send; at_h1_limits_init gives the defaults. */
typedef struct at_h1_limits {
    size_t request_line_bytes; /* without its CRLF; over: 414 */
    size_t head_bytes;         /* request line and all fields; over: 431 */
    size_t header_count;       /* over: 431; above AT_H1_HEADERS_MAX counts as that */
} at_h1_limits;

typedef struct at_h1_header {
    at_span name;  /* lower case (rewritten in the buffer) */
    at_span value; /* without the white space around it */
} at_h1_header;

typedef enum at_h1_framing {
    AT_H1_NO_BODY, /* also where Content-Length is 0 */
    AT_H1_LENGTH,
    AT_H1_CHUNKED,
} at_h1_framing;

typedef struct at_h1_request {
    at_span method;
    at_span target; /* as sent */
    at_span path;   /* before '?', still percent-encoded; "/" where an absolute form has
                       none; "*" for OPTIONS *; empty for CONNECT's authority form */
    at_span query;  /* behind '?', or empty */
    at_span authority; /* of an absolute-form or authority-form target, or empty */
    at_span host;      /* of the Host field, or empty. An absolute form overrules the
                          field (RFC 9112 3.2.2), here and in `headers` */
    int version_minor; /* 0 or 1 */
    at_h1_framing framing;
    uint64_t content_length; /* for AT_H1_LENGTH; at most INT64_MAX */
    bool keep_alive;         /* may another request follow on this connection */
    bool expect_continue;    /* "Expect: 100-continue" from an HTTP/1.1 client, with a
                                body to follow */
    bool upgrade_websocket;  /* GET, Connection: upgrade and Upgrade: websocket */
    bool upgrade_h2c;        /* Upgrade: h2c, with one HTTP2-Settings, and no body */
    size_t header_count;
    at_h1_header headers[AT_H1_HEADERS_MAX]; /* those before header_count are set */

    /* where at_h1_parse_head returned AT_EFORMAT or AT_ELIMIT */
    int error_status;       /* 400, 414, 417, 431, 501 or 505 */
    const char *error_text; /* constant, for the log and the answer's body */
} at_h1_request;

void at_h1_limits_init(at_h1_limits *limits);

/* Read one request head from data[0..size). An empty line before it is skipped (RFC
 * 9112 2.2), one at most. `seen` is how many of the bytes an earlier call that returned
 * AT_EAGAIN was given already: what it scanned is not scanned again, so that a head
 * that comes byte by byte costs no more than its length. The answer does not depend on
 * how the bytes were cut. ctx:   any gives: the size of the head in bytes, its empty
 * line included; or 0: data begins with the AT_H2_PREFACE_BYTES of HTTP/2's preface,
 * nothing is consumed, and the connection goes on with http/h2.h errs:  AT_EAGAIN (more
 * bytes are needed), AT_EFORMAT, AT_ELIMIT */
long at_h1_parse_head(at_h1_request *request, char *data, size_t size, size_t seen,
                      const at_h1_limits *limits);

/* The first header of that name (lower case, terminated), or NULL.
 * ctx: any */
const at_h1_header *at_h1_find(const at_h1_request *request, const char *name);

/* A body with Transfer-Encoding: chunked, read as it comes. Chunk extensions are read
 * over and bounded; trailer fields are read over, checked and bounded. */
typedef struct at_h1_chunked {
    uint64_t chunk_left; /* bytes of the present chunk not yet given out */
    uint32_t overhead;   /* bytes of extensions and trailers so far, bounded */
    uint8_t state;
    uint8_t digit_count; /* of the size line being read */
    uint8_t name_size;   /* of the trailer's name being read, its first bytes in: */
    char name[17];
    int error_status;       /* where at_h1_chunked_next returned an error: 400 or 431 */
    const char *error_text; /* constant */
} at_h1_chunked;

void at_h1_chunked_init(at_h1_chunked *chunked);

/* Take the next piece of body from data[0..size): sets *used to how many bytes were
 * consumed (always; all of them with AT_EAGAIN) and *piece to body bytes inside them.
 * Call again with the rest while it returns 1.
 * ctx:   any
 * gives: 1 (*piece is not empty), 0 (the body has ended; what follows *used is the next
 *        request)
 * errs:  AT_EAGAIN (more bytes are needed), AT_EFORMAT, AT_ELIMIT */
int at_h1_chunked_next(at_h1_chunked *chunked, const char *data, size_t size,
                       size_t *used, at_span *piece);

/* Is `name` a token, and `value` free of CR, LF, NUL and other controls (the tab
 * may stay): what a response may carry? Applications' headers are checked with these,
 * so that none can split a response. ctx: any */
bool at_h1_is_token(at_span name);
bool at_h1_is_field_value(at_span value);

/* Is `text` the same as `lower` (lower case, terminated) but for the case of ASCII
 * letters?
 * ctx: any */
bool at_h1_equal(at_span text, const char *lower);

/* Is `token` (lower case, terminated) an element of a comma-separated field value?
 * ctx: any */
bool at_h1_has_token(at_span value, const char *token);

/* Undo percent-encoding into `decoded`, which has room for encoded.size bytes and may
 * be where `encoded` is. A '%' without two hexadecimal digits stays as it is, as in
 * urllib.parse.unquote_to_bytes. The bytes may hold NUL and need not be UTF-8.
 * ctx:   any
 * gives: how many bytes were written */
size_t at_h1_decode_path(at_span encoded, char *decoded);

#endif
