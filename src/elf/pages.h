/* Pages of a loaded image: which of them it shares with its original. */
#ifndef AT_ELF_PAGES_H
#define AT_ELF_PAGES_H

#include <stddef.h>
#include <stdint.h>

#include "elf/file.h"

/* Map the pages of a loaded copy from its original wherever they are the same, and give
 * the copy's own pages, in `copy_descriptor`, back to the system. No code of the image
 * may run yet. *shared_bytes is set in any case.
 * errs: AT_EBUSY (the original has changed since it was looked at), AT_ESYSTEM and
 * others (not enough mappings): the image cannot be used then */
int at_pages_share(const at_elf_file *file, uintptr_t base, int copy_descriptor,
                   size_t *shared_bytes);

#endif
