/* Talk between processes: bytes and one descriptor, and all that is not that. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "check.h"
#include "sys/talk.h"

enum { MANY = 64 };

static int open_count(void)
{
    int count = 0;
    for (int number = 0; number < 1024; number++) {
        count += fcntl(number, F_GETFD) >= 0;
    }
    return count;
}

/* Send a byte with `count` descriptors of the null device, which are closed here. */
static void send_descriptors(int socket, int count)
{
    int numbers[MANY];
    for (int i = 0; i < count; i++) {
        numbers[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        CHECK(numbers[i] >= 0);
    }
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(MANY * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = "x", .iov_len = 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_SPACE((size_t)count * sizeof(int))};
    memset(&control, 0, sizeof control);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    memcpy(CMSG_DATA(&control.header), numbers, (size_t)count * sizeof(int));
    CHECK(sendmsg(socket, &message, 0) == 1);
    for (int i = 0; i < count; i++) {
        CHECK(close(numbers[i]) == 0);
    }
}

static void pair_open(int ends[2])
{
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
}

static void pair_close(const int ends[2])
{
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
}

static void bytes_alone(void)
{
    int ends[2], descriptor = 7;
    char data[8];
    at_fault fault;
    pair_open(ends);
    CHECK(at_talk_send(ends[0], "atoll", 5, &fault) == 0);
    CHECK(at_talk_receive(ends[1], data, sizeof data, &descriptor, &fault) == 5);
    CHECK(memcmp(data, "atoll", 5) == 0 && descriptor == -1);
    pair_close(ends);
}

static void one_descriptor_comes(void)
{
    int ends[2], descriptor;
    char data[8];
    at_fault fault;
    pair_open(ends);
    int before = open_count();
    send_descriptors(ends[0], 1);
    CHECK(at_talk_receive(ends[1], data, sizeof data, &descriptor, &fault) == 1);
    CHECK(descriptor >= 0 && (fcntl(descriptor, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(open_count() == before + 1);
    at_talk_drop(descriptor);
    CHECK(open_count() == before);
    pair_close(ends);
}

/* Does the kernel say that descriptors did not fit? qemu's user mode does not. */
static bool truncation_is_told(void)
{
    int ends[2];
    pair_open(ends);
    send_descriptors(ends[0], 2);
    char byte;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct cmsghdr head; /* no room behind it */
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &head,
                             .msg_controllen = sizeof head};
    CHECK(recvmsg(ends[1], &message, 0) == 1);
    pair_close(ends);
    return (message.msg_flags & MSG_CTRUNC) != 0;
}

static void more_descriptors_are_an_error(void)
{
    static const int counts[] = {2, 3, MANY};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        int ends[2], descriptor = 7;
        char data[8];
        at_fault fault;
        pair_open(ends);
        int before = open_count();
        send_descriptors(ends[0], counts[i]);
        CHECK(at_talk_receive(ends[1], data, sizeof data, &descriptor, &fault) ==
              AT_EFORMAT);
        CHECK(descriptor == -1 && fault.code == AT_EFORMAT && fault.text[0] != '\0');
        CHECK(open_count() == before);
        pair_close(ends);
    }
}

static void no_room_for_a_descriptor(void)
{
    int ends[2], descriptor = 7;
    char data[8];
    at_fault fault;
    struct rlimit limit;
    pair_open(ends);
    send_descriptors(ends[0], 1);
    int before = open_count();
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    struct rlimit none = {.rlim_cur = 0, .rlim_max = limit.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    long got = at_talk_receive(ends[1], data, sizeof data, &descriptor, &fault);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(got == AT_ESYSTEM && fault.system_error == EMFILE && descriptor == -1);
    CHECK(open_count() == before);
    pair_close(ends);
}

static void ends_and_errors(void)
{
    int ends[2], descriptor;
    char data[8];
    at_fault fault;
    pair_open(ends);
    CHECK(close(ends[0]) == 0);
    CHECK(at_talk_receive(ends[1], data, sizeof data, &descriptor, &fault) == 0);
    CHECK(at_talk_send(ends[1], "x", 1, &fault) == AT_ECLOSED);
    CHECK(close(ends[1]) == 0);
    CHECK(at_talk_send(ends[1], "x", 1, &fault) == AT_ESYSTEM);
    CHECK(fault.system_error == EBADF);
    CHECK(at_talk_receive(ends[1], data, sizeof data, &descriptor, &fault) ==
          AT_ESYSTEM);
    CHECK(fault.system_error == EBADF);
    pair_open(ends);
    CHECK(at_talk_send(ends[1], "x", 1, &fault) == 0);
    CHECK(close(ends[0]) == 0); /* with a byte that it has not read */
    CHECK(at_talk_receive(ends[1], data, sizeof data, &descriptor, &fault) ==
          AT_ECLOSED);
    CHECK(close(ends[1]) == 0);
}

int main(void)
{
    RUN(bytes_alone);
    RUN(one_descriptor_comes);
    if (truncation_is_told()) {
        RUN(more_descriptors_are_an_error);
        RUN(no_room_for_a_descriptor);
    }
    RUN(ends_and_errors);
    return 0;
}
