/* Files that lines are appended to: opened again while somebody moves them away, and
 * never in the way of an end. */
#ifndef AT_SYS_LOG_FILE_H
#define AT_SYS_LOG_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/contexts.h"
#include "base/error.h"

/* Open the file at `path` to append to it, mode 0644; "-" is standard output.
 * ctx:  any
 * owns: the caller closes the descriptor with at_file_close
 * errs: as at_error_from_errno() */
int at_log_file_open(const char *path, at_fault *fault);

/* Write all of `data`. A pipe that nobody reads is waited for until `*give_up_ns`, a
 * moment of at_clock_ns() that another thread may set; it is looked at each second.
 * ctx:  detached
 * errs: AT_ETIMEOUT; as at_error_from_errno(). Part of it may be written. */
int at_log_file_write(int descriptor, const char *data, size_t size_bytes,
                      const _Atomic int64_t *give_up_ns) AT_DETACHED;

#endif
