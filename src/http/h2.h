/* HTTP/2, the server's side of a connection (RFC 9113), over nghttp2.
 *
 * Sans-I/O: what the socket brought goes into at_h2_input, what it shall carry comes
 * out of at_h2_output; in between, requests arrive through callbacks and responses are
 * submitted, a head first and then a body as it comes. nghttp2 keeps the protocol; kept
 * here is what a request may look like (the same rules as for HTTP/1.1, so that an
 * application meets one kind of request), and what a client may cost: header bytes,
 * unread body, and frames that make work without asking for anything.
 *
 * A connection speaks HTTP/2 from its first byte, be it by ALPN or by prior knowledge;
 * the Upgrade from HTTP/1.1, which RFC 9113 gave up, is not offered.
 *
 * There is no clock: at_h2_tick, which the connection calls about once a second, gives
 * back the budgets for resets and control frames. One thread at a time. Callbacks run
 * inside at_h2_input and at_h2_output and may call everything here but those two and
 * at_h2_free.
 */
#ifndef AT_HTTP_H2_H
#define AT_HTTP_H2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/span.h"
#include "http/h1.h"

typedef struct at_h2 at_h2;

typedef struct at_h2_limits {
    uint32_t concurrent_streams;
    uint32_t header_bytes;        /* of a request, each field with 32 more; over: 431 */
    uint32_t header_count;        /* over: 431 */
    uint32_t stream_window_bytes; /* body that may lie unread, for each stream */
    uint32_t connection_window_bytes; /* and for all of them */
    uint32_t resets_per_tick;         /* streams that end before their response does */
    uint32_t control_per_tick;        /* PING, SETTINGS, PRIORITY, empty DATA */
} at_h2_limits;

void at_h2_limits_init(at_h2_limits *limits);

/* The stream of one request. From on_request to on_close. */
typedef struct at_h2_stream {
    int32_t id;
    void *owner; /* the caller's, NULL at first */
} at_h2_stream;

/* A request; spans live as long as the stream. Names are lower case, Cookie fields are
 * one (RFC 9113 8.2.3), and Host, from :authority, is the first. */
typedef struct at_h2_request {
    at_span method;
    at_span scheme;
    at_span target; /* :path */
    at_span path;   /* still percent-encoded; as in at_h1_request */
    at_span query;
    at_span authority;
    at_span protocol; /* "websocket" with an extended CONNECT (RFC 8441), or empty */
    const at_h1_header *headers;
    size_t header_count;
    bool has_body;
    bool has_content_length;
    uint64_t content_length;
} at_h2_request;

typedef struct at_h2_events {
    void *context;
    /* A head is complete. */
    void (*on_request)(void *context, at_h2_stream *stream,
                       const at_h2_request *request);
    /* Body bytes, valid during the call: give their window back with at_h2_consume. */
    void (*on_body)(void *context, at_h2_stream *stream, at_span piece);
    /* The request is complete. Also called where it has no body. */
    void (*on_body_end)(void *context, at_h2_stream *stream);
    /* Of the response's body, `unsent_bytes` are left to send: less than before. */
    void (*on_sent)(void *context, at_h2_stream *stream, size_t unsent_bytes);
    /* The stream ends; it is freed when this returns. `error` is 0 or RFC 9113's.
     * Called for each stream that on_request was, also by at_h2_free. */
    void (*on_close)(void *context, at_h2_stream *stream, uint32_t error);
} at_h2_events;

/* A connection whose first bytes, the preface, are yet to be handed in.
 * ctx:  any
 * owns: the caller frees it
 * errs: AT_ENOMEM */
int at_h2_new(const at_h2_limits *limits, const at_h2_events *events, at_h2 **h2);
void at_h2_free(at_h2 *h2);

/* Take all of data[0..size). A client that breaks the protocol is told by a GOAWAY in
 * the output, behind which at_h2_is_done. errs: AT_EFORMAT (this is not HTTP/2 at all),
 * AT_ELIMIT (the client made too much work), AT_ENOMEM; then send what at_h2_output
 * still gives, and close */
int at_h2_input(at_h2 *h2, const char *data, size_t size);

/* Append to `out` what is to be sent, in whole frames and header blocks, until it has
 * `size_max` bytes or somewhat more.
 * errs: as at_h2_input */
int at_h2_output(at_h2 *h2, at_bytes *out, size_t size_max);

/* May the connection be closed, since nothing more will be sent or read? */
bool at_h2_is_done(const at_h2 *h2);

/* The highest stream that the client has opened, 0 before the first. */
int32_t at_h2_last_stream(const at_h2 *h2);

/* Has the response's head come out of at_h2_output? Until then another may be sent. */
bool at_h2_head_is_sent(const at_h2_stream *stream);

/* Has the last frame of the response, that with its END_STREAM, come out of
 * at_h2_output? */
bool at_h2_is_sent(const at_h2_stream *stream);

void at_h2_tick(at_h2 *h2);

/* Body bytes have been used: the client may send as many more. */
void at_h2_consume(at_h2 *h2, at_h2_stream *stream, size_t size_bytes);

typedef struct at_h2_response {
    int status;                  /* 200 to 999 */
    const at_h1_header *headers; /* names in any case; Connection and its like are left
                                    out */
    size_t header_count;
    at_span date;   /* unless the application sent one; or empty */
    at_span server; /* unless the application sent one; or empty */
    int64_t
        body_bytes; /* for a Content-Length unless the application sent one; or -1 */
} at_h2_response;

/* Begin the response; `is_end` says that no body follows (as for HEAD, 204 and 304).
 * errs: AT_EINVALID (a wrong status or header), AT_EBUSY (it was begun already),
 *       AT_ENOMEM */
int at_h2_respond(at_h2 *h2, at_h2_stream *stream, const at_h2_response *response,
                  bool is_end);

/* An interim response (103 with Link fields, or 100) before the final one.
 * errs: AT_EINVALID, AT_EBUSY, AT_ENOMEM */
int at_h2_respond_interim(at_h2 *h2, at_h2_stream *stream, int status,
                          const at_h1_header *headers, size_t header_count);

/* Add a copy of `data` to the body; with `is_end` it is complete. Nothing is refused
 * for its size: whoever wants bounds waits for on_sent.
 * gives: how many bytes are unsent now
 * errs:  AT_ECLOSED (not begun, or ended), AT_ENOMEM; then nothing of it is added */
long at_h2_send(at_h2 *h2, at_h2_stream *stream, at_span data, bool is_end);
long at_h2_send_pieces(at_h2 *h2, at_h2_stream *stream, const at_span *pieces,
                       int count, bool is_end);

/* End the body with trailer fields.
 * errs: AT_EINVALID, AT_ECLOSED, AT_ENOMEM */
int at_h2_send_trailers(at_h2 *h2, at_h2_stream *stream, const at_h1_header *trailers,
                        size_t trailer_count);

/* End the stream at once. `error` is RFC 9113's: 2 internal error, 8 cancel; 0 after a
 * whole response says, once that is sent, that the rest of the request is not wanted.
 * on_close follows, and nothing else. */
void at_h2_reset(at_h2 *h2, at_h2_stream *stream, uint32_t error);

/* Take no new requests. First without `is_final`: the client is told, but what is on
 * its way is still served; a round trip later with it. Open streams go on to their
 * ends. */
void at_h2_shutdown(at_h2 *h2, bool is_final);

#endif
