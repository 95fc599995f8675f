/* What the two files of HTTP/2 on a connection share; see h2.h. */
#ifndef AT_NET_H2_INTERNAL_H
#define AT_NET_H2_INTERNAL_H

#include "net/h2.h"

/* Send what the session has, unless it is at work just now. */
void at_h2_pump(at_connection *connection);

/* End the stream before the layer above has said that its response is whole: with
 * `error`, unless the client has all of it in the head, as with HEAD, 204 and 304. What
 * is missing then is at most the end of the request, which is no error (RFC 9113 8.1).
 */
void at_h2_break_off(at_exchange *exchange, uint32_t error);

/* Work off what came for a WebSocket. */
void at_h2_websocket_input(at_exchange *exchange);

#endif
