/* The private copy of a library, as a file that the loader takes for another library.
 *
 * A copy holds only the pages that the loader reads before pages.c maps the others from
 * the original, and a tail: one more segment, behind all of the original's, with new
 * program headers and new strings. So no name in the copy has to fit where another was.
 * The dynamic table stays where debuggers compare it with the original's, because there
 * is always room for it (what is dropped makes some), unless the images of a space that
 * are global make it longer: then it is in the tail, too. It differs in this:
 *   - DT_SONAME is the copy's own path, which no other library ever had: the loader
 * would otherwise give the copy to whoever asks for the original's name;
 *   - DT_NEEDED (and the version needs) name copies by their paths, system libraries
 *     first, or a bundled library's symbols could win over the system's;
 *   - DT_INIT*, DT_FINI* are gone: image.c runs the constructors when the image is
 * ready;
 *   - DT_RPATH and DT_RUNPATH are gone: everything needed is open already;
 *   - DF_1_NODELETE and DF_1_INITFIRST are cleared.
 * STB_GNU_UNIQUE symbols become weak (relocate.h says why).
 *
 * The string table of the copy begins where the original's does and ends with the tail:
 * offsets into it are 64 bits wide in the dynamic table.
 */
#ifndef AT_ELF_REWRITE_H
#define AT_ELF_REWRITE_H

#include <stdbool.h>
#include <stddef.h>

#include "elf/file.h"

typedef enum at_copy_place {
    AT_COPY_IN_MEMORY, /* an anonymous file: no disk, no folder that could be noexec */
    AT_COPY_IN_CACHE,  /* a file in a cache folder: ATOLL_CACHE_DIR,
                        * XDG_CACHE_HOME/atoll,
                        * ~/.cache/atoll, or /tmp/atoll-UID */
} at_copy_place;

typedef struct at_copy {
    char *path; /* for dlopen; never used before in this process */
    int descriptor;
    at_copy_place place;
    size_t bytes_written;
} at_copy;

/* A DT_NEEDED of the copy. */
typedef struct at_copy_need {
    const char *old_name; /* in the original, or NULL: it had none */
    const char *new_name;
    int rank; /* lower comes first */
} at_copy_need;

/* An empty copy with its path.
 * owns: the caller ends it with at_copy_close
 * errs: fault: AT_EPERMISSION, AT_ESYSTEM, AT_ENOMEM */
int at_copy_open(const at_elf_file *file, at_copy_place place, at_copy *copy,
                 at_fault *fault);

/* Fill it. `needs` is sorted by rank on return.
 * errs: fault: AT_ESYSTEM (no space), AT_ENOMEM */
int at_copy_write(at_copy *copy, const at_elf_file *file, at_copy_need *needs,
                  size_t need_count, at_fault *fault);

/* Close it and remove its file; what is mapped of it stays. */
void at_copy_close(at_copy *copy);

#endif
