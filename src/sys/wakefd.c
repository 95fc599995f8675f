/* Flags that poll() can see; see wakefd.h. */
#include "sys/wakefd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

int at_wakefd_open(at_fault *fault)
{
    int descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (descriptor < 0) {
        return at_fault_set_system(fault, errno, "opening an eventfd");
    }
    return descriptor;
}

int at_wakefd_copy(int descriptor, at_fault *fault)
{
    int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) {
        return at_fault_set_system(fault, errno, "copying an eventfd");
    }
    return copy;
}

void at_wakefd_set(int descriptor)
{
    uint64_t one = 1;
    ssize_t written;
    do {
        written = write(descriptor, &one, sizeof one);
    } while (written < 0 && errno == EINTR);
    /* EAGAIN: the counter is at its end, and so the flag is set. */
}

void at_wakefd_clear(int descriptor)
{
    uint64_t count;
    ssize_t got;
    do {
        got = read(descriptor, &count, sizeof count);
    } while (got < 0 && errno == EINTR);
    /* EAGAIN: it was clear. */
}

void at_wakefd_close(int descriptor)
{
    (void)close(descriptor);
}
