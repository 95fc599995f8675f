/* Files below one folder: nothing outside of it can be named, whatever the path says.
 *
 * The kernel resolves the path (openat2 with RESOLVE_BENEATH, Linux 5.6): no "..", no
 * absolute path and no symbolic link leads out, and no race does either.
 */
#ifndef AT_SYS_BENEATH_H
#define AT_SYS_BENEATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct at_beneath_file {
    int descriptor;
    bool is_folder; /* else a regular file */
    uint64_t inode;
    uint64_t size_bytes;
    int64_t modified_ns; /* since 1970 */
} at_beneath_file;

/* Open the folder at `path`, for at_beneath_open.
 * ctx:  any
 * owns: the caller closes the descriptor that is returned with at_file_close
 * errs: fault: as at_error_from_errno(); AT_EUNSUPPORTED on a kernel without openat2 */
int at_beneath_folder(const char *path, at_fault *fault);

/* Open the regular file or folder at `path` (terminated, relative; "" for the folder
 * itself).
 * ctx:  any
 * owns: the caller closes file->descriptor with at_file_close
 * errs: AT_ENOTFOUND for everything that cannot be had, AT_ELIMIT without descriptors
 */
int at_beneath_open(int folder, const char *path, at_beneath_file *file);

/* Read up to `size_bytes` at `offset`.
 * ctx:   any
 * gives: how many; 0 at the end of the file
 * errs:  AT_ESYSTEM */
long at_beneath_read(int descriptor, void *data, size_t size_bytes, uint64_t offset);

#endif
