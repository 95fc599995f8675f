/* Descriptors in messages (SCM_RIGHTS); see passage.h. */
#include "sys/passage.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sys/stream.h"

/* Room for one descriptor, aligned as the kernel wants it. */
typedef union rights {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
} rights;

int at_passage_adopt(int descriptor, at_fault *fault)
{
    int type = 0;
    socklen_t size = sizeof type;
    if (getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
        type != SOCK_SEQPACKET) {
        return at_fault_set(fault, AT_EINVALID, "descriptor %d is no end of a passage",
                            descriptor);
    }
    return at_socket_copy_unblocked(descriptor, fault);
}

/* The kernel says that there is room once three quarters of it are free; for one more
 * message there may be some before. So the end of the wait is no answer, but the send
 * after it is. */
static void wait_for_room(int passage, int timeout_ms)
{
    struct pollfd room = {.fd = passage, .events = POLLOUT};
    (void)poll(&room, 1, timeout_ms);
}

int at_passage_send(int passage, int descriptor, const void *note, size_t note_bytes,
                    int timeout_ms)
{
    rights control = {0};
    struct iovec part = {.iov_base = (void *)note, .iov_len = note_bytes};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof descriptor);
    memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    bool waited = timeout_ms == 0;
    while (sendmsg(passage, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        if (errno == EINTR) {
            continue;
        }
        /* ETOOMANYREFS: more descriptors are under way than this user may open. */
        bool full = errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS;
        if (!full || waited) {
            return full ? AT_EAGAIN : at_error_from_errno(errno);
        }
        wait_for_room(passage, timeout_ms);
        waited = true;
    }
    return 0;
}

int at_passage_receive(int passage, void *note, size_t note_bytes)
{
    rights control = {0};
    struct iovec part = {.iov_base = note, .iov_len = note_bytes};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t got;
    do {
        got = recvmsg(passage, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        return AT_EAGAIN;
    }
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header == NULL || header->cmsg_type != SCM_RIGHTS ||
        header->cmsg_len != CMSG_LEN(sizeof(int))) {
        return AT_EINVALID;
    }
    int descriptor;
    memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
    if ((size_t)got != note_bytes || message.msg_flags & MSG_TRUNC) {
        (void)close(descriptor);
        return AT_EINVALID;
    }
    return descriptor;
}
