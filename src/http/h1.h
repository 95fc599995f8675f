/* HTTP/1.1 requests (RFC 9110, RFC 9112): bytes in, a request head or an error out.
 *
 * Sans-I/O: no socket, no clock, no allocation; spans point into the caller's buffer and
 * live as long as it does not move. Strict, because two servers that read one request
 * differently are a way to smuggle another past the first: every deviation that RFC 9112
 * lets a server refuse is refused, with the status to answer.
 */
#ifndef AT_HTTP_H1_H
#define AT_HTTP_H1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"

enum { AT_H1_HEADERS_MAX = 128 }; /* slots in a head; limits may say fewer */

/* Bounds on what a client may send; at_h1_limits_init gives the defaults. */
typedef struct at_h1_limits {
    size_t request_line_bytes; /* over: 414 */
    size_t head_bytes;         /* request line and all fields; over: 431 */
    size_t header_count;       /* over: 431 */
} at_h1_limits;

typedef struct at_h1_header {
    at_span name;  /* lower case (rewritten in the buffer) */
    at_span value; /* without the white space around it */
} at_h1_header;

typedef enum at_h1_framing {
    AT_H1_NO_BODY,
    AT_H1_LENGTH,
    AT_H1_CHUNKED,
} at_h1_framing;

typedef struct at_h1_request {
    at_span method;
    at_span target; /* as sent */
    at_span path;   /* origin form: before '?', still percent-encoded; "*" for OPTIONS *;
                       empty for CONNECT's authority form */
    at_span query;  /* behind '?', or empty */
    at_span authority; /* of an absolute-form or authority-form target, or empty */
    at_span host;      /* of the Host field, or empty */
    int version_minor; /* 0 or 1 */
    at_h1_framing framing;
    uint64_t content_length; /* for AT_H1_LENGTH */
    bool keep_alive;         /* may another request follow on this connection */
    bool expect_continue;    /* "Expect: 100-continue" from an HTTP/1.1 client */
    bool upgrade_websocket;  /* Connection: upgrade and Upgrade: websocket */
    bool upgrade_h2c;        /* Upgrade: h2c, with HTTP2-Settings */
    size_t header_count;
    at_h1_header headers[AT_H1_HEADERS_MAX];

    /* where at_h1_parse_head returned AT_EFORMAT or AT_ELIMIT */
    int error_status;       /* 400, 414, 417, 431, 501 or 505 */
    const char *error_text; /* constant, for the log and the answer's body */
} at_h1_request;

void at_h1_limits_init(at_h1_limits *limits);

/* Read one request head from data[0..size). Empty lines before it are skipped (RFC 9112
 * 2.2), one at most. `seen` is how many of the bytes an earlier call that returned
 * AT_EAGAIN was given already: what it scanned is not scanned again.
 * ctx:  any
 * gives: the size of the head in bytes, its empty line included
 * errs: AT_EAGAIN (more bytes are needed), AT_EFORMAT, AT_ELIMIT */
long at_h1_parse_head(at_h1_request *request, char *data, size_t size, size_t seen,
    const at_h1_limits *limits);

/* A body with Transfer-Encoding: chunked, read as it comes. Chunk extensions are read
 * over and bounded; trailer fields are read over, checked and bounded. */
typedef struct at_h1_chunked {
    uint64_t chunk_left; /* bytes of the present chunk not yet given out */
    uint32_t overhead;   /* bytes of size line or trailers so far, bounded */
    uint8_t state;
} at_h1_chunked;

void at_h1_chunked_init(at_h1_chunked *chunked);

/* Take the next piece of body from data[0..size): sets *used to how many bytes were
 * consumed and *piece to body bytes inside them (perhaps none). Call again with the rest
 * while it returns 1.
 * ctx:  any
 * gives: 1 (a piece, or framing was consumed), 0 (the body has ended)
 * errs: AT_EAGAIN (more bytes are needed), AT_EFORMAT, AT_ELIMIT */
int at_h1_chunked_next(at_h1_chunked *chunked, const char *data, size_t size,
    size_t *used, at_span *piece);

/* Is `name` a token, and `value` free of CR, LF and NUL: what a response may carry?
 * Applications' headers are checked with these, so that none can split a response.
 * ctx: any */
bool at_h1_is_token(at_span name);
bool at_h1_is_field_value(at_span value);

#endif
