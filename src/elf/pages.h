/* Pages of a loaded image: which of them it shares with its original, and what is saved
 * of the others to make the image new again. */
#ifndef AT_ELF_PAGES_H
#define AT_ELF_PAGES_H

#include <stddef.h>
#include <stdint.h>

#include "elf/file.h"

/* The writable pages as they were before the first constructor, where they differ from
 * the file. RELRO pages are not in it: nothing writes there but relocate.c. */
typedef struct at_snapshot {
    uintptr_t *addresses; /* of pages */
    char *content;        /* a page for each */
    size_t count;
    bool is_taken;
} at_snapshot;

/* Map the pages of a loaded copy from its original wherever they are the same, and give
 * the copy's own pages, in `copy_descriptor`, back to the system. No code of the image
 * may run yet. *shared_bytes is set in any case.
 * errs: AT_EBUSY (the original has changed since it was looked at), AT_ESYSTEM and
 * others (not enough mappings): the image cannot be used then */
int at_pages_share(const at_elf_file *file, uintptr_t base, int copy_descriptor,
                   size_t *shared_bytes);

/* errs: AT_ENOMEM */
int at_snapshot_take(at_snapshot *snapshot, const at_elf_file *file, uintptr_t base);

/* Make all writable memory what it was when the snapshot was taken. No code of the
 * image may run. errs: AT_ESYSTEM */
int at_snapshot_restore(const at_snapshot *snapshot, const at_elf_file *file,
                        uintptr_t base);

void at_snapshot_fini(at_snapshot *snapshot);

#endif
