/* What the two files of HTTP/2 on a connection share; see h2.h. */
#ifndef AT_NET_H2_INTERNAL_H
#define AT_NET_H2_INTERNAL_H

#include "net/h2.h"

/* Send what the session has, unless it is at work just now. */
void at_h2_pump(at_connection *connection);

void at_h2_tell_body(at_exchange *exchange, at_reactor *reactor);

/* Work off what came for a WebSocket. */
void at_h2_websocket_input(at_exchange *exchange);

#endif
