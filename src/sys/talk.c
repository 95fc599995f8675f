/* Blocking talk between two processes; see talk.h. */
#include "sys/talk.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"

/* Room for one descriptor, aligned as the kernel wants it. */
typedef union rights {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
} rights;

static int why(void)
{
    /* As Linux tells it, a peer that closed with bytes that it had not read resets. */
    return errno == EPIPE || errno == ECONNRESET ? AT_ECLOSED
                                                 : at_error_from_errno(errno);
}

int at_talk_send(int socket, const void *data, size_t size_bytes)
{
    const char *next = data;
    while (size_bytes != 0) {
        ssize_t sent = send(socket, next, size_bytes, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) {
            return why();
        }
        if (sent > 0) {
            next += sent;
            size_bytes -= (size_t)sent;
        }
    }
    return 0;
}

long at_talk_receive(int socket, void *data, size_t size_bytes, int *descriptor)
{
    rights control;
    struct iovec part = {.iov_base = data, .iov_len = size_bytes};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    *descriptor = -1;
    ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (got < 0) {
        return why();
    }
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_level == SOL_SOCKET &&
        header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof *descriptor)) {
        memcpy(descriptor, CMSG_DATA(header), sizeof *descriptor);
    }
    return got;
}

void at_talk_drop(int descriptor)
{
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
}
