/* What comes before a connection's first request: the PROXY header, the handshake of
 * TLS; see connection.h. */
#include <string.h>

#include "http/proxy.h"
#include "net/connection.h"
#include "net/h2.h"

/* An address as at_trust_has wants it. */
static at_span trusted_form(const at_address *address)
{
    return (at_span){address->host, address->port < 0 ? 0 : strlen(address->host)};
}

static void set_address(at_address *address, const char *host, int port)
{
    memcpy(address->host, host, strlen(host) + 1);
    address->port = port;
}

/* The PROXY header says who the client is. It is looked at in the socket, so that what
 * is behind it, a TLS handshake perhaps, stays there. False while it is not whole, or
 * when the connection is refused. */
static bool take_proxy_header(at_connection *connection)
{
    at_reactor *reactor = connection->reactor;
    char *scratch = at_reactor_scratch(reactor);
    long size = at_socket_peek(connection->descriptor, scratch, AT_PROXY_HEADER_MAX);
    if (size == AT_EAGAIN) {
        return false;
    }
    if (size <= 0) {
        at_connection_close(connection, false);
        return false;
    }
    if (!at_trust_has(&at_reactor_limits(reactor)->forwarded,
                      trusted_form(&connection->peer))) {
        at_reactor_complain(reactor, "PROXY from an address that is not trusted",
                            connection->peer.host);
        at_connection_close(connection, false);
        return false;
    }
    at_proxy_header header;
    long used = at_proxy_parse(&header, scratch, (size_t)size);
    if (used == AT_EAGAIN) {
        return false;
    }
    if (used < 0) {
        at_reactor_complain(reactor, "a PROXY header was refused", header.error_text);
        at_connection_close(connection, false);
        return false;
    }
    (void)at_socket_receive(connection->descriptor, scratch, (size_t)used);
    if (header.has_addresses) {
        set_address(&connection->peer, header.source_host, header.source_port);
        set_address(&connection->local, header.destination_host,
                    header.destination_port);
        connection->local_known = true;
    }
    connection->phase = connection->tls != NULL ? AT_PHASE_HANDSHAKE : AT_PHASE_IDLE;
    connection->readable = true;
    return true;
}

/* False while the handshake is not done, or when it has failed. */
static bool shake_hands(at_connection *connection)
{
    const char *text = "";
    int result = at_tls_handshake(connection->tls, &text);
    switch (result) {
    case 0:
        connection->phase = AT_PHASE_IDLE;
        if (at_tls_is_h2(connection->tls)) {
            at_h2_start(connection);
        }
        connection->readable = true; /* OpenSSL may have read more than it used */
        return true;
    case AT_EAGAIN:
        return false;
    case AT_EUNSUPPORTED:
        /* Answer in the language that it speaks. What it sent is in OpenSSL's buffer,
         * and goes with it. */
        at_tls_free(connection->tls);
        connection->tls = NULL;
        connection->phase = AT_PHASE_HEAD;
        at_h1_refuse(connection, 400, "this port speaks HTTPS");
        return false;
    case AT_ECLOSED:
        break;
    default:
        at_reactor_complain(connection->reactor, "a TLS handshake failed", text);
        break;
    }
    at_connection_close(connection, false);
    return false;
}

bool at_connection_begin(at_connection *connection)
{
    return (connection->phase != AT_PHASE_PROXY || take_proxy_header(connection)) &&
           (connection->phase != AT_PHASE_HANDSHAKE || shake_hands(connection));
}
