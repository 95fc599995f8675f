/* HTTP/1.1 responses: what an application wants to say in, the bytes of a head out.
 *
 * Here is decided how a body ends (RFC 9112 6), so that nothing else has to know about
 * HEAD, 204, 304 or HTTP/1.0, and that no header of an application can split a response
 * or contradict its framing: Transfer-Encoding and Connection are the server's own, a
 * Content-Length is checked. No clock: the caller hands the date in.
 */
#ifndef AT_HTTP_H1_RESPONSE_H
#define AT_HTTP_H1_RESPONSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/span.h"
#include "http/h1.h"

enum {
    AT_HTTP_DATE_BYTES = 29,     /* "Sun, 06 Nov 1994 08:49:37 GMT" */
    AT_H1_CHUNK_PREFIX_MAX = 18, /* sixteen digits and CRLF */
};

/* Write the date of `unix_seconds` (0 to the year 9999) as RFC 9110 5.6.7 wants it.
 * ctx: any */
void at_http_date(char date[AT_HTTP_DATE_BYTES], int64_t unix_seconds);

/* How the body behind a head ends. */
typedef enum at_h1_body_end {
    AT_H1_END_NONE,   /* there is none; whatever the application sends is dropped */
    AT_H1_END_LENGTH, /* after `length_bytes` */
    AT_H1_END_CHUNK,  /* with the last chunk */
    AT_H1_END_CLOSE,  /* with the connection (HTTP/1.0) */
} at_h1_body_end;

typedef struct at_h1_response {
    int status;                  /* 200 to 999, or 101 */
    const at_h1_header *headers; /* names in any case */
    size_t header_count;
    int64_t body_bytes; /* the whole body's size where it is known, else -1 */
    at_span date;       /* for a Date field unless the application sent one; or empty */
    at_span server;  /* for a Server field unless the application sent one; or empty */
    bool is_head;    /* answers HEAD: the head of a GET, without body */
    bool is_http_10; /* answers HTTP/1.0: no chunks, and keep-alive is said aloud */
    bool keep_alive; /* the server would go on with the connection */
    bool upgrade;    /* status 101: Connection: Upgrade; the Upgrade field is among
                        `headers` */

    /* set by at_h1_write_head */
    at_h1_body_end body_end;
    uint64_t length_bytes;  /* for AT_H1_END_LENGTH */
    bool will_close;        /* the head said so, or the body's end needs it */
    const char *error_text; /* constant, for AT_EINVALID */
} at_h1_response;

/* Append the head to `out` and decide how the body ends.
 * ctx:  any
 * errs: AT_EINVALID (a header name or value that may not be sent, a wrong status, a
 *       Content-Length that is malformed, repeated or not body_bytes), AT_ENOMEM; then
 *       nothing was appended */
int at_h1_write_head(at_bytes *out, at_h1_response *response);

/* Append an interim response: 100 without headers, 103 with its Link fields.
 * ctx:  any
 * errs: AT_EINVALID (also for 101, which is final here), AT_ENOMEM; nothing appended */
int at_h1_write_interim(at_bytes *out, int status, const at_h1_header *headers,
                        size_t header_count);

/* Write what stands before a chunk of `size_bytes` (not 0); CRLF must follow the chunk.
 * ctx:   any
 * gives: how many bytes were written */
size_t at_h1_chunk_prefix(char prefix[AT_H1_CHUNK_PREFIX_MAX], uint64_t size_bytes);

/* Append the last chunk and trailers (perhaps none): the end of a chunked body.
 * ctx:  any
 * errs: AT_EINVALID (also for a field that frames or routes), AT_ENOMEM */
int at_h1_write_last_chunk(at_bytes *out, const at_h1_header *trailers,
                           size_t trailer_count);

#endif
