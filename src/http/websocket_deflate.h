/* permessage-deflate (RFC 7692): negotiation, and the two zlib streams of a connection.
 */
#ifndef AT_HTTP_WEBSOCKET_DEFLATE_H
#define AT_HTTP_WEBSOCKET_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/span.h"
#include "http/websocket.h"

typedef struct at_ws_deflate_options {
    int server_window_bits; /* 9 to 15: at most this for what the server sends */
    int client_window_bits; /* 8 to 15: asked of the client, where it lets itself be */
    int level;              /* 1 to 9, as zlib's */
    int memory_level;       /* 1 to 9, as zlib's */
    bool server_no_context_takeover; /* forget after each message: less memory, worse */
    bool client_no_context_takeover; /* compression */
} at_ws_deflate_options;

/* Small windows: 4 KiB of history and about 20 KiB a connection for the sending side,
 * where zlib's own defaults would take 256 KiB. */
void at_ws_deflate_options_init(at_ws_deflate_options *options);

/* Look for an acceptable offer of permessage-deflate in `offers`, the value of
 * Sec-WebSocket-Extensions. On 1 `options` holds what was agreed on and the extension's
 * line for the response is appended to `answer`.
 * ctx:   any
 * gives: 1, or 0 (no acceptable offer: go on without)
 * errs:  AT_ENOMEM */
int at_ws_deflate_negotiate(at_span offers, at_ws_deflate_options *options,
                            at_bytes *answer);

/* ctx:  any
 * owns: the caller frees it
 * errs: AT_ENOMEM, AT_EINVALID */
int at_ws_deflate_new(const at_ws_deflate_options *options, at_ws_deflate **deflate);
void at_ws_deflate_free(at_ws_deflate *deflate);

/* Inflate a piece of a message and append it to `out`, whose size must stay at most
 * `size_max`. Call with `is_end` for the last piece.
 * ctx:  one thread at a time
 * errs: AT_ELIMIT, AT_EFORMAT, AT_ENOMEM; the stream is of no use then */
int at_ws_inflate(at_ws_deflate *deflate, at_span piece, bool is_end, at_bytes *out,
                  size_t size_max);

/* Append the deflated message to `out`.
 * ctx:  one thread at a time
 * errs: AT_ENOMEM; the stream is of no use then */
int at_ws_deflate_message(at_ws_deflate *deflate, at_span message, at_bytes *out);

#endif
