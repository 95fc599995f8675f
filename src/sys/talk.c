/* Blocking talk between two processes; see talk.h. */
#include "sys/talk.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"

/* Room for one descriptor, aligned as the kernel wants it. The kernel is told of
 * CMSG_LEN: what CMSG_SPACE adds to align the next header is room for another one. */
typedef union rights {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
} rights;

static int why(const char *what, at_fault *fault)
{
    int reason = errno;
    int code = at_fault_set_system(fault, reason, "%s", what);
    /* As Linux tells it, a peer that closed with bytes that it had not read resets. */
    return reason == EPIPE || reason == ECONNRESET ? AT_ECLOSED : code;
}

int at_talk_send(int socket, const void *data, size_t size_bytes, at_fault *fault)
{
    const char *next = data;
    while (size_bytes != 0) {
        ssize_t sent = send(socket, next, size_bytes, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) {
            return why("send", fault);
        }
        if (sent > 0) {
            next += sent;
            size_bytes -= (size_t)sent;
        }
    }
    return 0;
}

/* The descriptor of a message, or -1; AT_EFORMAT and none where it brought more. */
static int one_descriptor(struct msghdr *message)
{
    int found = -1, count = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t size_bytes = header->cmsg_len - CMSG_LEN(0);
        for (size_t at = 0; at + sizeof found <= size_bytes; at += sizeof found) {
            at_talk_drop(found);
            memcpy(&found, CMSG_DATA(header) + at, sizeof found);
            count++;
        }
    }
    if (count > 1 || (count == 1 && (message->msg_flags & MSG_CTRUNC) != 0)) {
        at_talk_drop(found);
        return AT_EFORMAT;
    }
    return found;
}

long at_talk_receive(int socket, void *data, size_t size_bytes, int *descriptor,
                     at_fault *fault)
{
    rights control;
    struct iovec part = {.iov_base = data, .iov_len = size_bytes};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_LEN(sizeof *descriptor)};
    *descriptor = -1;
    ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (got < 0) {
        return why("receive", fault);
    }
    int came = one_descriptor(&message);
    if (came == AT_EFORMAT) {
        return at_fault_set(fault, AT_EFORMAT, "more than one descriptor came");
    }
    if (came < 0 && (message.msg_flags & MSG_CTRUNC) != 0) {
        return at_fault_set_system(fault, EMFILE,
                                   "a descriptor came, and there is no "
                                   "room for it");
    }
    *descriptor = came;
    return got;
}

void at_talk_drop(int descriptor)
{
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
}
