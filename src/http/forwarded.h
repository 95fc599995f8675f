/* Who a request comes from, as the proxies in front say: Forwarded (RFC 7239) and
 * X-Forwarded-For, -Proto and -Host; and which addresses are believed.
 *
 * Each proxy appends the address that it saw. So the list is read from its end: a
 * trusted proxy is passed over, and the first address that is not one is the client,
 * whatever the client itself wrote in front. Anything that cannot be read ends the
 * walk.
 */
#ifndef AT_HTTP_FORWARDED_H
#define AT_HTTP_FORWARDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"
#include "http/h1.h"

enum { AT_TRUST_NETWORKS_MAX = 64, AT_FORWARDED_ELEMENTS_MAX = 32 };

/* Trusted addresses; one for a server, fixed after parse. */
typedef struct at_trust {
    bool everyone; /* "*" */
    bool unix_sockets;
    size_t network_count;
    struct {
        uint8_t address[16]; /* IPv4 as ::ffff:a.b.c.d */
        uint8_t prefix_bits;
    } networks[AT_TRUST_NETWORKS_MAX];
} at_trust;

/* Read a list such as "127.0.0.1, 10.0.0.0/8, ::1, unix" or "*".
 * ctx:  any
 * errs: AT_EFORMAT, AT_ELIMIT */
int at_trust_parse(at_trust *trust, at_span list);

/* Is this address trusted: IPv4 or IPv6 as text, or empty for a Unix socket?
 * ctx: any */
bool at_trust_has(const at_trust *trust, at_span address);

/* Spans point into the headers; those of which nothing was said are empty. */
typedef struct at_forwarded {
    at_span client; /* address as text, without brackets and port */
    uint16_t port;  /* 0 where it was not given */
    at_span scheme; /* as the proxy next to the client wrote it: "http" or "https" in
                       any case, or "ws" or "wss" */
    at_span host;   /* a valid Host */
} at_forwarded;

/* Read the headers of a request that came from `peer`. Forwarded goes before the X-
 * ones. ctx:   any gives: 1, or 0 (the peer is not trusted, or nothing was said) with
 * *result empty */
int at_forwarded_read(const at_trust *trust, at_span peer, const at_h1_header *headers,
                      size_t header_count, at_forwarded *result);

#endif
