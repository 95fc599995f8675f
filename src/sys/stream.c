/* Stream sockets; see stream.h. */
#include "sys/stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum { PIECES_MAX = 8 };

static void describe(const struct sockaddr_storage *raw, at_address *address)
{
    address->host[0] = '\0';
    address->port = -1;
    if (raw->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)raw;
        (void)inet_ntop(AF_INET, &v4->sin_addr, address->host, sizeof address->host);
        address->port = ntohs(v4->sin_port);
    } else if (raw->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)raw;
        (void)inet_ntop(AF_INET6, &v6->sin6_addr, address->host, sizeof address->host);
        address->port = ntohs(v6->sin6_port);
    } else if (raw->ss_family == AF_UNIX) {
        const struct sockaddr_un *local = (const struct sockaddr_un *)raw;
        (void)snprintf(address->host, sizeof address->host, "%.*s",
                       (int)sizeof address->host - 1, local->sun_path);
    }
}

/* Open one listener at `at`. Returns the descriptor, or -1 with errno. */
static int listen_at(const struct addrinfo *at, int port, int backlog)
{
    int descriptor = socket(
        at->ai_family, at->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, at->ai_protocol);
    if (descriptor < 0) {
        return -1;
    }
    struct sockaddr_storage address = {0};
    memcpy(&address, at->ai_addr, at->ai_addrlen);
    int one = 1;
    (void)setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    /* Accepted sockets inherit it: no system call for each connection. */
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (at->ai_family == AF_INET6) {
        (void)setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
        ((struct sockaddr_in6 *)&address)->sin6_port = htons((uint16_t)port);
    } else {
        ((struct sockaddr_in *)&address)->sin_port = htons((uint16_t)port);
    }
    if (bind(descriptor, (struct sockaddr *)&address, at->ai_addrlen) < 0 ||
        listen(descriptor, backlog) < 0) {
        int reason = errno;
        (void)close(descriptor);
        errno = reason;
        return -1;
    }
    return descriptor;
}

int at_socket_listen(const char *host, int port, int backlog, int *descriptors,
                     int most, at_fault *fault)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_ADDRCONFIG,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int answer = getaddrinfo(host[0] != '\0' ? host : NULL, "0", &hints, &found);
    if (answer == EAI_ADDRFAMILY || answer == EAI_NONAME) {
        /* AI_ADDRCONFIG hides loopback names where no other interface is up. */
        hints.ai_flags = AI_PASSIVE;
        answer = getaddrinfo(host[0] != '\0' ? host : NULL, "0", &hints, &found);
    }
    if (answer != 0) {
        return at_fault_set(fault, AT_ENOTFOUND, "cannot listen on %s: %s", host,
                            gai_strerror(answer));
    }
    int count = 0;
    int reason = 0;
    for (struct addrinfo *at = found; at != NULL && count < most; at = at->ai_next) {
        int descriptor = listen_at(at, port, backlog);
        if (descriptor < 0) {
            reason = errno;
            /* A machine without IPv6 still names it in its hosts file. */
            if (reason == EAFNOSUPPORT || reason == EADDRNOTAVAIL) {
                continue;
            }
            break;
        }
        descriptors[count++] = descriptor;
        reason = 0;
        if (port == 0) {
            at_address chosen;
            at_socket_name(descriptor, &chosen);
            port = chosen.port;
        }
    }
    freeaddrinfo(found);
    if (count == 0 ||
        (reason != 0 && reason != EAFNOSUPPORT && reason != EADDRNOTAVAIL)) {
        while (count > 0) {
            at_socket_close(descriptors[--count]);
        }
        return at_fault_set_system(fault, reason, "cannot listen on %s port %d", host,
                                   port);
    }
    return count;
}

/* A socket on which nobody listens any more. The connection would be refused by any
 * file, and no other is ours to remove. */
static bool is_deserted(const struct sockaddr_un *address)
{
    struct stat facts;
    if (lstat(address->sun_path, &facts) < 0 || !S_ISSOCK(facts.st_mode)) {
        return false;
    }
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe < 0) {
        return false;
    }
    bool refused =
        connect(probe, (const struct sockaddr *)address, sizeof *address) < 0 &&
        errno == ECONNREFUSED;
    (void)close(probe);
    return refused;
}

int at_socket_listen_unix(const char *path, int backlog, at_fault *fault)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        return at_fault_set(fault, AT_EINVALID, "the path of a socket is too long: %s",
                            path);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0) {
        return at_fault_set_system(fault, errno, "cannot open a Unix socket");
    }
    int result = bind(descriptor, (struct sockaddr *)&address, sizeof address);
    if (result < 0 && errno == EADDRINUSE && is_deserted(&address)) {
        (void)unlink(path);
        result = bind(descriptor, (struct sockaddr *)&address, sizeof address);
    }
    if (result < 0 || chmod(path, 0666) < 0 || listen(descriptor, backlog) < 0) {
        int reason = errno;
        (void)close(descriptor);
        return at_fault_set_system(fault, reason, "cannot listen on %s", path);
    }
    return descriptor;
}

int at_socket_copy_unblocked(int descriptor, at_fault *fault)
{
    int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) {
        return at_fault_set_system(fault, errno, "cannot copy descriptor %d",
                                   descriptor);
    }
    (void)fcntl(copy, F_SETFL, fcntl(copy, F_GETFL) | O_NONBLOCK);
    return copy;
}

int at_socket_adopt(int descriptor, at_fault *fault)
{
    int listening = 0;
    int type = 0;
    socklen_t size = sizeof listening;
    socklen_t type_size = sizeof type;
    if (getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0 ||
        getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &type_size) < 0 ||
        !listening || type != SOCK_STREAM) {
        return at_fault_set(fault, AT_EINVALID,
                            "descriptor %d is not a listening stream socket",
                            descriptor);
    }
    int copy = at_socket_copy_unblocked(descriptor, fault);
    if (copy < 0) {
        return copy;
    }
    int one = 1;
    (void)setsockopt(copy, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return copy;
}

int at_socket_accept(int listener, at_address *peer)
{
    struct sockaddr_storage raw;
    for (;;) {
        socklen_t size = sizeof raw;
        /* Of a Unix socket without a name only the family is written. */
        raw.ss_family = AF_UNSPEC;
        ((struct sockaddr_un *)&raw)->sun_path[0] = '\0';
        int descriptor = accept4(listener, (struct sockaddr *)&raw, &size,
                                 SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor >= 0) {
            describe(&raw, peer);
            return descriptor;
        }
        switch (errno) {
        case EINTR:
        case ECONNABORTED: /* that one gave up while it waited */
        case EPROTO:
            continue;
        case EMFILE:
        case ENFILE:
            return AT_ELIMIT;
        case ENOBUFS:
        case ENOMEM:
            return AT_ENOMEM;
        default:
            return AT_EAGAIN;
        }
    }
}

void at_socket_name(int descriptor, at_address *address)
{
    struct sockaddr_storage raw = {0};
    socklen_t size = sizeof raw;
    (void)getsockname(descriptor, (struct sockaddr *)&raw, &size);
    describe(&raw, address);
}

long at_socket_receive(int descriptor, void *data, size_t size_bytes)
{
    ssize_t got;
    do {
        got = recv(descriptor, data, size_bytes, 0);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? at_error_from_errno(errno) : got;
}

long at_socket_peek(int descriptor, void *data, size_t size_bytes)
{
    ssize_t got;
    do {
        got = recv(descriptor, data, size_bytes, MSG_PEEK);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? at_error_from_errno(errno) : got;
}

long at_socket_send(int descriptor, const at_span *pieces, int count)
{
    ssize_t taken;
    if (count == 1) {
        do {
            taken = send(descriptor, pieces->data, pieces->size, MSG_NOSIGNAL);
        } while (taken < 0 && errno == EINTR);
        return taken < 0 ? at_error_from_errno(errno) : taken;
    }
    struct iovec parts[PIECES_MAX];
    for (int i = 0; i < count; i++) {
        parts[i].iov_base = (void *)pieces[i].data;
        parts[i].iov_len = pieces[i].size;
    }
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
    do {
        taken = sendmsg(descriptor, &message, MSG_NOSIGNAL);
    } while (taken < 0 && errno == EINTR);
    return taken < 0 ? at_error_from_errno(errno) : taken;
}

long at_socket_send_file(int descriptor, int file, uint64_t offset, size_t size_bytes)
{
    off_t at = (off_t)offset;
    ssize_t taken;
    do {
        taken = sendfile(descriptor, file, &at, size_bytes);
    } while (taken < 0 && errno == EINTR);
    if (taken < 0 && (errno == EINVAL || errno == ENOSYS)) {
        return 0;
    }
    return taken < 0 ? at_error_from_errno(errno) : taken;
}

int at_socket_copy(int descriptor)
{
    int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
    return copy < 0 ? at_error_from_errno(errno) : copy;
}

void at_socket_shut(int descriptor)
{
    (void)shutdown(descriptor, SHUT_RDWR);
}

int64_t at_socket_age_ns(int descriptor)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) < 0 ||
        size < offsetof(struct tcp_info, tcpi_last_data_recv) +
                   sizeof info.tcpi_last_data_recv) {
        return -1;
    }
    return (int64_t)info.tcpi_last_data_recv * 1000000;
}

void at_socket_shut_write(int descriptor)
{
    (void)shutdown(descriptor, SHUT_WR);
}

void at_socket_reset_on_close(int descriptor)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

void at_socket_close(int descriptor)
{
    (void)close(descriptor);
}
