/* Bytes that nobody can guess. */
#ifndef AT_SYS_ENTROPY_H
#define AT_SYS_ENTROPY_H

#include <stddef.h>

#include "base/error.h"

/* Fill `size_bytes` (at most 256) at `data`.
 * ctx:  any
 * errs: fault: AT_ESYSTEM */
int at_entropy_fill(void *data, size_t size_bytes, at_fault *fault);

#endif
