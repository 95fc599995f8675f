/* The PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt): who a connection
 * really comes from, said by the load balancer in its first bytes.
 *
 * Only where the listener was told to expect it, since any client can write such a
 * line: then each connection must begin with one, and what does not is refused.
 */
#ifndef AT_HTTP_PROXY_H
#define AT_HTTP_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"

enum {
    AT_PROXY_HOST_BYTES = 46,  /* an IPv6 address as text, with its terminator */
    AT_PROXY_HEADER_MAX = 4096 /* over: AT_ELIMIT */
};

typedef struct at_proxy_header {
    int version;
    bool has_addresses; /* false: a health check, or a connection of an unknown kind; go
                           by the socket's own addresses */
    char source_host[AT_PROXY_HOST_BYTES]; /* terminated, in its usual form */
    char destination_host[AT_PROXY_HOST_BYTES];
    uint16_t source_port;
    uint16_t destination_port;
    at_span extensions;     /* of version 2, for at_proxy_next_extension; in `data` */
    const char *error_text; /* constant, with AT_EFORMAT and AT_ELIMIT */
} at_proxy_header;

/* Read the header at the beginning of data[0..size).
 * ctx:   any
 * gives: its size in bytes
 * errs:  AT_EAGAIN (more bytes are needed), AT_EFORMAT, AT_ELIMIT */
long at_proxy_parse(at_proxy_header *header, const char *data, size_t size);

/* Take the next type and value out of *extensions. False at the end; at_proxy_parse
 * made sure that they are well formed. ctx: any */
bool at_proxy_next_extension(at_span *extensions, uint8_t *type, at_span *value);

#endif
