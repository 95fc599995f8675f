/* Files below one folder; see beneath.h. */
#include "sys/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_beneath(int folder, const char *path)
{
    /* Nonblocking, so that opening a FIFO waits for nobody. */
    struct open_how how = {
        .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    long result;
    do {
        result = syscall(SYS_openat2, folder, path, &how, sizeof how);
    } while (result < 0 && (errno == EINTR || errno == EAGAIN));
    return (int)result;
}

int at_beneath_folder(const char *path, at_fault *fault)
{
    int folder = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    if (folder < 0) {
        return at_fault_set_system(fault, errno, "cannot open the folder %s", path);
    }
    int probe = open_beneath(folder, ".");
    if (probe < 0) {
        int reason = errno;
        (void)close(folder);
        return reason == ENOSYS
                   ? at_fault_set(fault, AT_EUNSUPPORTED,
                                  "this kernel has no openat2 (Linux 5.6)")
                   : at_fault_set_system(fault, reason, "cannot open files below %s",
                                         path);
    }
    (void)close(probe);
    return folder;
}

int at_beneath_open(int folder, const char *path, at_beneath_file *file)
{
    int descriptor = open_beneath(folder, path[0] != '\0' ? path : ".");
    if (descriptor < 0) {
        return errno == EMFILE || errno == ENFILE ? AT_ELIMIT : AT_ENOTFOUND;
    }
    struct stat found;
    if (fstat(descriptor, &found) < 0 ||
        (!S_ISREG(found.st_mode) && !S_ISDIR(found.st_mode))) {
        (void)close(descriptor);
        return AT_ENOTFOUND;
    }
    *file = (at_beneath_file){
        .descriptor = descriptor,
        .is_folder = S_ISDIR(found.st_mode),
        .inode = (uint64_t)found.st_ino,
        .size_bytes = (uint64_t)found.st_size,
        .modified_ns =
            (int64_t)found.st_mtim.tv_sec * 1000000000 + found.st_mtim.tv_nsec,
    };
    return 0;
}

long at_beneath_read(int descriptor, void *data, size_t size_bytes, uint64_t offset)
{
    ssize_t got;
    do {
        got = pread(descriptor, data, size_bytes, (off_t)offset);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? AT_ESYSTEM : got;
}
