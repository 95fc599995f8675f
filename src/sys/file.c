/* Files; see file.h. */
#include "sys/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

/* Since Linux 6.3: without it, vm.memfd_noexec=1 gives a file that cannot be mapped
 * executable. Older kernels refuse the flag, and need none. */
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

bool at_file_identity_equal(const at_file_identity *a, const at_file_identity *b)
{
    return a->device == b->device && a->inode == b->inode &&
           a->size_bytes == b->size_bytes && a->modified_ns == b->modified_ns;
}

int at_file_open(const char *path, at_file_identity *identity, at_fault *fault)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        return at_fault_set_system(fault, errno, "cannot open %s", path);
    }
    struct stat status;
    if (fstat(descriptor, &status) != 0) {
        int result = at_fault_set_system(fault, errno, "cannot stat %s", path);
        (void)close(descriptor);
        return result;
    }
    if (!S_ISREG(status.st_mode)) {
        (void)close(descriptor);
        return at_fault_set(fault, AT_EINVALID, "%s is not a regular file", path);
    }
    *identity = (at_file_identity){
        .device = status.st_dev,
        .inode = status.st_ino,
        .size_bytes = (uint64_t)status.st_size,
        .modified_ns =
            status.st_mtim.tv_sec * INT64_C(1000000000) + status.st_mtim.tv_nsec,
    };
    return descriptor;
}

bool at_file_peek(const char *path, void *buffer, size_t size_bytes)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        return false;
    }
    ssize_t got = pread(descriptor, buffer, size_bytes, 0);
    (void)close(descriptor);
    return got >= 0 && (size_t)got == size_bytes;
}

int at_file_new_anonymous(const char *label, at_fault *fault)
{
    char name[200]; /* the kernel takes at most 249 bytes */
    (void)snprintf(name, sizeof name, "%s", label);
    int descriptor = memfd_create(name, MFD_CLOEXEC | MFD_EXEC);
    if (descriptor < 0 && errno == EINVAL) {
        descriptor = memfd_create(name, MFD_CLOEXEC);
    }
    if (descriptor < 0) {
        const int reason = errno;
        int result = at_fault_set_system(fault, reason, "memfd_create for %s", name);
        /* A filter of system calls (a container's) forbids it in either way. */
        return reason == ENOSYS ? AT_EPERMISSION : result;
    }
    return descriptor;
}

static void make_folders(const char *path)
{
    char folder[PATH_MAX];
    size_t size_bytes = strlen(path);
    if (size_bytes >= sizeof folder) {
        return;
    }
    memcpy(folder, path, size_bytes + 1);
    for (char *slash = strchr(folder + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(folder,
                    0700); /* what fails here makes open() fail, with a reason */
        *slash = '/';
    }
}

/* Can nobody else put another file in the place of `path`? In a folder of somebody
 * else's, or one that all may write, they can; not in one that is sticky, like /tmp. */
static bool folder_is_safe(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t size_bytes = slash != NULL ? (size_t)(slash - path) : 0;
    if (size_bytes == 0 || size_bytes >= sizeof folder) {
        return slash == path;
    }
    memcpy(folder, path, size_bytes);
    folder[size_bytes] = '\0';
    struct stat status;
    if (stat(folder, &status) != 0) {
        return false;
    }
    bool shared = (status.st_mode & (S_IWGRP | S_IWOTH)) != 0;
    bool sticky = (status.st_mode & S_ISVTX) != 0;
    return (status.st_uid == geteuid() || status.st_uid == 0) && (!shared || sticky);
}

int at_file_new(const char *path, at_fault *fault)
{
    const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
    int descriptor = open(path, flags, 0700);
    if (descriptor < 0 && errno == ENOENT) {
        make_folders(path);
        descriptor = open(path, flags, 0700);
    }
    if (descriptor < 0) {
        return at_fault_set_system(fault, errno, "cannot create %s", path);
    }
    if (!folder_is_safe(path)) {
        (void)unlink(path);
        (void)close(descriptor);
        return at_fault_set(fault, AT_EPERMISSION,
                            "%s would lie in a folder that others can write", path);
    }
    return descriptor;
}

int at_file_resize(int descriptor, uint64_t size_bytes, at_fault *fault)
{
    if (ftruncate(descriptor, (off_t)size_bytes) != 0) {
        return at_fault_set_system(fault, errno, "cannot make room for %llu bytes",
                                   (unsigned long long)size_bytes);
    }
    return 0;
}

int at_file_write_at(int descriptor, const void *data, size_t size_bytes,
                     uint64_t offset, at_fault *fault)
{
    const char *next = data;
    while (size_bytes != 0) {
        ssize_t written = pwrite(descriptor, next, size_bytes, (off_t)offset);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return at_fault_set_system(fault, written < 0 ? errno : ENOSPC,
                                       "cannot write a private copy");
        }
        next += written;
        offset += (uint64_t)written;
        size_bytes -= (size_t)written;
    }
    return 0;
}

long at_file_read_at(int descriptor, void *data, size_t size_bytes, uint64_t offset)
{
    size_t filled = 0;
    while (filled < size_bytes) {
        ssize_t got = pread(descriptor, (char *)data + filled, size_bytes - filled,
                            (off_t)(offset + filled));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -1;
        }
        if (got == 0) {
            break;
        }
        filled += (size_t)got;
    }
    return (long)filled;
}

int64_t at_file_size(int descriptor)
{
    struct stat status;
    return fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) ? status.st_size
                                                                      : -1;
}

int64_t at_file_position(int descriptor)
{
    return lseek(descriptor, 0, SEEK_CUR);
}

void at_file_punch(int descriptor, uint64_t offset, uint64_t size_bytes)
{
    (void)fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    (off_t)offset, (off_t)size_bytes);
}

void at_file_remove(const char *path)
{
    (void)unlink(path);
}

void at_file_close(int descriptor)
{
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
}

int at_file_absolute(const char *path, char **absolute)
{
    if (path[0] == '/') {
        *absolute = at_strdup(path);
        return *absolute != NULL ? 0 : AT_ENOMEM;
    }
    char folder[PATH_MAX];
    if (getcwd(folder, sizeof folder) == NULL) {
        return at_error_from_errno(errno);
    }
    size_t size_bytes = strlen(folder) + 1 + strlen(path) + 1;
    *absolute = at_alloc(size_bytes);
    if (*absolute == NULL) {
        return AT_ENOMEM;
    }
    (void)snprintf(*absolute, size_bytes, "%s/%s", folder, path);
    return 0;
}
