/* Shared memory: an anonymous file in memory, mapped.
 *
 * The file has no name in any file system: the kernel frees it when the last mapping
 * and the last descriptor are gone, however their processes ended. It is sealed against
 * resizing, so no other process can make an access here fail.
 */
#ifndef AT_SYS_MEMFD_H
#define AT_SYS_MEMFD_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Embedded by its user. */
typedef struct at_memfd {
    int descriptor;
    void *data; /* page-aligned, readable and writable, zeros at first */
    size_t size_bytes;
    uint64_t identity[2]; /* the same for every mapping of one file, and no other's */
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

/* What `descriptor` is of, unmapped: `data` is NULL, until at_memfd_join().
 * ctx:  any
 * owns: the descriptor stays the caller's
 * errs: fault: AT_EINVALID where it is no sealed memory */
int at_memfd_look(at_memfd *memory, int descriptor, at_fault *fault);

/* Map what was looked at, with a descriptor of its own.
 * ctx:  any
 * owns: the caller ends it with at_memfd_close
 * errs: fault: AT_ENOMEM, AT_ESYSTEM */
int at_memfd_join(at_memfd *memory, at_fault *fault);

/* The descriptor stays the caller's. ctx: any */
void at_memfd_unmap(at_memfd *memory);

/* ctx: any */
void at_memfd_close(at_memfd *memory);

#endif
