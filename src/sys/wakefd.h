/* A flag that poll() can see: how a wake reaches an event loop. */
#ifndef AT_SYS_WAKEFD_H
#define AT_SYS_WAKEFD_H

#include "base/error.h"

/* Open a flag that is not set: close-on-exec, never blocks. Returns its descriptor.
 * ctx:  any
 * owns: the caller closes it with at_wakefd_close
 * errs: as at_error_from_errno() */
int at_wakefd_open(at_fault *fault);

/* A second descriptor of the same flag.
 * ctx:  any
 * owns: the caller closes it with at_wakefd_close
 * errs: as at_error_from_errno() */
int at_wakefd_copy(int descriptor, at_fault *fault);

/* Set it: readable until cleared. Setting it twice is setting it once.
 * ctx: any */
void at_wakefd_set(int descriptor);

/* Clear it.
 * ctx: any */
void at_wakefd_clear(int descriptor);

/* ctx: any */
void at_wakefd_close(int descriptor);

#endif
