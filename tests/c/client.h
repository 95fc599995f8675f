/* A client on the loopback: a socket that blocks. */
#ifndef AT_TESTS_CLIENT_H
#define AT_TESTS_CLIENT_H

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "check.h"

static inline int dial_port(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(client >= 0);
    CHECK(connect(client, (struct sockaddr *)&to, sizeof to) == 0);
    return client;
}

/* The same, whose reads give up after a minute. */
static inline int dial_port_patiently(int port)
{
    struct timeval patience = {.tv_sec = 60};
    int client = dial_port(port);
    CHECK(setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    return client;
}

#endif
