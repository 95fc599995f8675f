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

/* Find `name` for `dependent`, which needs or opens it (NULL: nobody knows who): a path
 * if there is a '/' in it; else along DT_RPATH (unless there is DT_RUNPATH),
 * LD_LIBRARY_PATH, DT_RUNPATH, the cache of ldconfig, and the default folders.
 * ctx:  any, but reads the disk
 * owns: the caller frees *path with at_free
 * errs: AT_ENOTFOUND, AT_ENOMEM */
int at_elf_search(const at_elf_file *dependent, const char *name, char **path);

#endif
