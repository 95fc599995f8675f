/* Shared memory: an anonymous file in memory, mapped.
 *
 * The file has no name in any file system: the kernel frees it when the last mapping
 * and the last descriptor are gone, however their processes ended. It is sealed against
 * resizing, so no other process can make an access here fail.
 */
#ifndef AT_SYS_MEMFD_H
#define AT_SYS_MEMFD_H

#include <stddef.h>

#include "base/error.h"

/* Embedded by its user. */
typedef struct at_memfd {
    int descriptor;
    void *data; /* page-aligned, readable and writable, zeros at first */
    size_t size_bytes;
} at_memfd;

/* `size_bytes` (not 0) of new shared memory; `label` is seen in /proc/PID/fd and
 * /proc/PID/maps, cut to 200 bytes.
 * ctx:  any
 * owns: the caller ends it with at_memfd_close
 * errs: fault: AT_ENOMEM, AT_ESYSTEM */
int at_memfd_open(at_memfd *memory, const char *label, size_t size_bytes,
                  at_fault *fault);

/* The same for a descriptor that another process made with at_memfd_open().
 * ctx:  any
 * owns: takes the descriptor on success
 * errs: fault: AT_EINVALID where it is no sealed memory; AT_ENOMEM, AT_ESYSTEM */
int at_memfd_adopt(at_memfd *memory, int descriptor, at_fault *fault);

/* The descriptor stays the caller's. ctx: any */
void at_memfd_unmap(at_memfd *memory);

/* ctx: any */
void at_memfd_close(at_memfd *memory);

#endif
