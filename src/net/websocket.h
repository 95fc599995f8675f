/* A WebSocket as an exchange: the handshake that a request is, then messages both ways.
 *
 * An exchange whose request asks for one has `websocket` set. The layer above accepts
 * it, or answers with at_exchange_respond as any other request. Accepted, messages that
 * come are queued, up to bounds above which the connection is not read, and the `body`
 * hook (at_exchange_want_body) says that there is one; `writable` is as for a response.
 * Pings are answered, and sent, here. What it is carried by, a connection that was
 * upgraded or a stream of HTTP/2 (RFC 8441), is the exchange's business.
 *
 *   offered ──accept──▶ open ──close, either end──▶ over
 *      └──respond: denied         └── the connection's end ──▶ over (1006)
 */
#ifndef AT_NET_WEBSOCKET_H
#define AT_NET_WEBSOCKET_H

#include "http/websocket.h"
#include "net/exchange.h"

typedef struct at_websocket at_websocket;

enum { AT_WS_CODE_RESTART = 1012 /* the server goes away and comes again */ };

/* ctx: any, on the reactor's thread, as all of these */
bool at_websocket_is_accepted(const at_exchange *exchange);

/* Answer yes, with further headers (Sec-WebSocket-Protocol for one).
 * gives: 0
 * errs:  AT_ECLOSED, AT_EBUSY (answered before), AT_EINVALID (*why says what; nothing
 *        was sent), AT_ENOMEM */
int at_websocket_accept(at_exchange *exchange, const at_h1_header *headers,
                        size_t header_count, const char **why);

/* Send a message, AT_WS_TEXT (which must be UTF-8) or AT_WS_BINARY.
 * gives: 0, or 1 (too much waits for the client: `writable` will be called)
 * errs:  AT_ECLOSED (it is over), AT_ENOMEM */
int at_websocket_send(at_exchange *exchange, at_ws_opcode opcode, at_span message);

/* Begin the closing handshake; messages that were not taken are dropped.
 * errs: AT_ECLOSED, AT_EINVALID (no code to send, or the reason is not UTF-8),
 *       AT_ENOMEM */
int at_websocket_close(at_exchange *exchange, uint16_t code, at_span reason);

/* The next message, which stays until it is taken.
 * gives: 1
 * errs:  AT_EAGAIN, AT_ECLOSED (there will be no more: *code and *reason say why) */
int at_websocket_next(at_exchange *exchange, at_ws_opcode *opcode, at_span *message,
                      uint16_t *code, at_span *reason);
void at_websocket_take(at_exchange *exchange);

/* ---- for those who carry it --------------------------------------------------- */

/* Make a WebSocket of the exchange, whose request asks for one.
 * gives: 0, or the status to refuse it with, *text saying why */
int at_websocket_offer(at_exchange *exchange, const at_h1_request *request,
                       const char **text);
void at_websocket_free(at_websocket *websocket);

/* Take what came; it is unmasked in place. Gives how many bytes were used: fewer than
 * `size` while the layer above is behind, or where it is over. */
size_t at_websocket_input(at_exchange *exchange, char *data, size_t size);

/* May more come? */
bool at_websocket_wants_input(const at_exchange *exchange);

/* Nothing more will be read or sent: the carrier ends when its output has gone. */
bool at_websocket_is_over(const at_exchange *exchange);

/* A close frame went out, and none has come yet. */
bool at_websocket_is_closing(const at_exchange *exchange);

/* A ping waits for its pong. */
bool at_websocket_is_pinging(const at_exchange *exchange);

/* Nothing has come for the time of a ping: send one. False where one was sent before
 * and not answered, though the layer above is not to blame. */
bool at_websocket_ping(at_exchange *exchange);

/* The carrier is gone. */
void at_websocket_lost(at_exchange *exchange);

#endif
