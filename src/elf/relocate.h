/* The references of a loaded image, pointed where they must go.
 *
 * Four kinds differ from what the loader bound: the hooks (image.h), what is bound to
 * the original of a private library (originals.h), what elf/
 * replaces itself (threads.h, process.h, holdings.h, keys.h), and STB_GNU_UNIQUE
 * symbols. Those are C++'s inline statics: one a process, says the loader. A copy has
 * them weak instead, and here they become one a space: the first image of the space
 * that defines the name has it, unless a shared library that the space uses does. */
#ifndef AT_ELF_RELOCATE_H
#define AT_ELF_RELOCATE_H

#include "elf/space.h"

/* Before any code of the image runs; the image's needs have been through it. `scope` is
 * a handle in whose libraries symbols are looked for before the process's, where
 * originals.h says that this matters, else NULL.
 * ctx:  the loader of the space
 * errs: AT_ENOMEM, AT_ESYSTEM (a page could not be made writable) */
int at_relocate(at_image_space *space, at_image *image, void *scope);

/* The image goes away before anybody used it: what it defined is to be found again. */
void at_unique_table_forget(at_unique_table *table, const at_image *image);

void at_unique_table_fini(at_unique_table *table);

#endif
