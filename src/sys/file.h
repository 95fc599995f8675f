/* Files: open, tell apart, write, and make one that can be mapped executable. */
#ifndef AT_SYS_FILE_H
#define AT_SYS_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Two opens with equal identities saw the same content, short of a write in between
 * that keeps the time of change. */
typedef struct at_file_identity {
    uint64_t device;
    uint64_t inode;
    uint64_t size_bytes;
    int64_t modified_ns;
} at_file_identity;

bool at_file_identity_equal(const at_file_identity *a, const at_file_identity *b);

/* Open the regular file at `path` for reading, close-on-exec.
 * owns: the caller closes the descriptor that is returned
 * errs: fault names the path: AT_ENOTFOUND, AT_EPERMISSION, AT_ESYSTEM, AT_EINVALID
 * (not a regular file) */
int at_file_open(const char *path, at_file_identity *identity, at_fault *fault);

/* The first `size_bytes` of the file, for a look at what it is; false if it cannot be
 * read or is shorter. */
bool at_file_peek(const char *path, void *buffer, size_t size_bytes);

/* A new anonymous file in memory, close-on-exec, that may be mapped executable.
 * owns: the caller closes it
 * errs: fault: AT_EPERMISSION where vm.memfd_noexec or a filter of system calls
 *       forbids it, AT_ESYSTEM */
int at_file_new_anonymous(const char *label, at_fault *fault);

/* A new file at `path` (mode 0700), which must not exist; folders are made as needed.
 * Nobody else can put another in its place.
 * owns: the caller closes the descriptor and removes the file
 * errs: fault names the path; AT_EPERMISSION where others can write the folder */
int at_file_new(const char *path, at_fault *fault);

/* errs: fault */
int at_file_resize(int descriptor, uint64_t size_bytes, at_fault *fault);
int at_file_write_at(int descriptor, const void *data, size_t size_bytes,
                     uint64_t offset, at_fault *fault);

/* Fill `data` from the file.
 * gives: bytes read, fewer only at its end; errs: -1 */
long at_file_read_at(int descriptor, void *data, size_t size_bytes, uint64_t offset);

/* Of a regular file, or -1. */
int64_t at_file_size(int descriptor);
int64_t at_file_position(int descriptor);

/* Give the pages of a run back to the system; they read as zeros. Best effort: a file
 * system that cannot do it keeps them. */
void at_file_punch(int descriptor, uint64_t offset, uint64_t size_bytes);

/* Best effort. */
void at_file_remove(const char *path);

/* Negative descriptors are ignored. */
void at_file_close(int descriptor);

/* `path` made absolute with the working folder, without resolving links.
 * owns: the caller frees *absolute with at_free
 * errs: AT_ENOMEM, AT_ESYSTEM */
int at_file_absolute(const char *path, char **absolute);

#endif
