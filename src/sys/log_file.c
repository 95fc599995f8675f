/* Log files; see log_file.h. */
#include "sys/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/clock.h"

int at_log_file_open(const char *path, at_fault *fault)
{
    bool is_stdout = strcmp(path, "-") == 0;
    int descriptor = is_stdout
                         ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
                         : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    return descriptor >= 0 ? descriptor
                           : at_fault_set_system(fault, errno, "cannot open %s", path);
}

/* Is there room now? Returns 1, 0 (not within a second), or an error. */
static int await_room(int descriptor)
{
    struct pollfd wanted = {.fd = descriptor, .events = POLLOUT};
    int ready = poll(&wanted, 1, 1000);
    if (ready < 0) {
        return errno == EINTR ? 0 : at_error_from_errno(errno);
    }
    return ready;
}

int at_log_file_write(int descriptor, const char *data, size_t size_bytes,
                      const _Atomic int64_t *give_up_ns)
{
    struct stat status;
    bool is_file = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    while (size_bytes != 0) {
        if (!is_file) {
            int room = await_room(descriptor);
            if (room < 0) {
                return room;
            }
            if (room == 0) {
                if (at_clock_ns() >= atomic_load(give_up_ns)) {
                    return AT_ETIMEOUT;
                }
                continue;
            }
        }
        /* That much a pipe that has room takes without blocking. The file description
         * may be the terminal's of other programs: not ours to make non-blocking. */
        size_t part = is_file || size_bytes < PIPE_BUF ? size_bytes : PIPE_BUF;
        ssize_t written = write(descriptor, data, part);
        if (written < 0 && errno != EINTR && errno != EAGAIN) {
            return at_error_from_errno(errno);
        }
        if (written > 0) {
            data += written;
            size_bytes -= (size_t)written;
        }
    }
    return 0;
}
