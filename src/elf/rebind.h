/* A library that the process has loaded, bound to another function than it was.
 *
 * For the few of main's own libraries that must meet a function of atoll's; images are
 * bound when they are loaded (image.h). */
#ifndef AT_ELF_REBIND_H
#define AT_ELF_REBIND_H

#include "base/error.h"

/* Have what the library at `path` calls `symbol` be `function` from now on, for as long
 * as it is loaded.
 * ctx:  any, but reads the disk; one thread at a time for a library
 * errs: the number of places that were changed, or AT_ENOTFOUND when the library is not
 * loaded, or what at_elf_file_open says; fault */
int at_rebind(const char *path, const char *symbol, void *function, at_fault *fault);

#endif
