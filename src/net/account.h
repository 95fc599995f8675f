/* What is noted of each request: its counts and times, whoever answers it.
 *
 * An exchange is begun when its head has been read, admitted when it comes to the
 * application, and ended once: when its response is complete, or its client is gone.
 * All of it on the thread of the connection's reactor.
 */
#ifndef AT_NET_ACCOUNT_H
#define AT_NET_ACCOUNT_H

#include "net/connection.h"

/* A request has come. */
void at_account_begin(at_exchange *exchange, const at_h1_request *request);

/* A response begins with those headers. */
void at_account_response(at_exchange *exchange, const at_h1_header *headers,
                         size_t header_count);

/* The response is complete, or there will be none. A second call does nothing; nor does
 * one for an exchange whose connection has gone, which has ended with it. */
void at_account_end(at_exchange *exchange);

/* An answer of our own to what was no request: bytes that are refused. */
void at_account_refused(at_connection *connection, int status);

#endif
