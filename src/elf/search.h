/* Where the loader would find a library: the search of ld.so(8), done by hand.
 *
 * Done here because the loader cannot be asked: a private copy lies somewhere else than
 * its original, so that $ORIGIN is not what it was, and asking would load the library.
 * Not followed: glibc-hwcaps subfolders (a variant of the same library for newer
 * processors), $LIB and $PLATFORM.
 */
#ifndef AT_ELF_SEARCH_H
#define AT_ELF_SEARCH_H

#include "elf/file.h"

/* Who needs or opens a library, and who brought that one in, and so on. DT_RPATH counts
 * for all that a library brings in, not only for what it names itself: auditwheel sets
 * it on the extension alone, and the libraries beside the wheel find each other by it.
 */
typedef struct at_elf_dependent {
    const at_elf_file *file;
    const struct at_elf_dependent *loader; /* NULL: the first of its kind */
} at_elf_dependent;

/* Find `name` for `dependent` (NULL: nobody knows who needs it): a path if there is a
 * '/' in it; else along the DT_RPATH of the dependent and of those that brought it in
 * (not if the dependent has DT_RUNPATH; one of theirs hides their own DT_RPATH only),
 * LD_LIBRARY_PATH, DT_RUNPATH, the cache of ldconfig, and the default folders.
 * ctx:  any, but reads the disk
 * owns: the caller frees *path with at_free
 * errs: AT_ENOTFOUND, AT_ENOMEM */
int at_elf_search(const at_elf_dependent *dependent, const char *name, char **path);

#endif
