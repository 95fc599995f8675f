/* What stands before the application: paths of the server's own, and reasons to answer
 * 503 at once (too many requests at a time, too long a wait). */
#ifndef AT_NET_FRONT_H
#define AT_NET_FRONT_H

#include "net/exchange.h"

/* Is the layer above to have the request? Otherwise it was answered. */
bool at_front_pass(at_exchange *exchange, const at_h1_request *request);

#endif
