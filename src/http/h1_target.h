/* Request targets (RFC 9112 3.2): the four forms, and what each may hold. */
#ifndef AT_HTTP_H1_TARGET_H
#define AT_HTTP_H1_TARGET_H

#include "http/h1.h"

/* Read request->target, with request->method, into path, query and authority.
 * ctx:   any
 * gives: NULL, or a constant text that says what is wrong with it (status 400) */
const char *at_h1_read_target(at_h1_request *request);

#endif
