/* What a library needs, and which of that gets a private copy.
 *
 * A library is looked at once for the process and stays until its end: its checked
 * file, what it needs, and whether it is private. Everything is private by default,
 * because plain C libraries keep registries in globals too, and an interpreter that is
 * closed leaves pointers into itself there. Shared are:
 *   - the system's own: libc's family, the loader, libstdc++, libgcc_s, libgomp;
 *   - libpython, and what the program itself is made of;
 *   - whatever defines malloc or operator new: memory must be freed where it was
 * allocated;
 *   - what owns the process or a device: UCX, MPI, the GPU's driver;
 *   - the user's own list (which wins over all of these), and what shared libraries
 * need.
 */
#ifndef AT_ELF_CLOSURE_H
#define AT_ELF_CLOSURE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/contexts.h"
#include "elf/file.h"
#include "elf/search.h"

typedef struct at_library at_library;

/* A DT_NEEDED of a library, in its order. */
typedef struct at_library_need {
    const char *name;
    at_library *library; /* NULL: found nowhere; the loader may still have it by name */
} at_library_need;

struct at_library {
    const at_elf_file *file;
    at_elf_dependent dependent; /* for the search: this, and who was first to need it */
    at_library_need *needs;
    size_t need_count;
    bool is_shared;
    /* All fixed after at_library_get returned the library for the first time. */

    void *handle;     /* of a shared library once opened; guarded: registry */
    bool is_opened;   /* guarded: registry */
    at_library *next; /* guarded: registry */
};

/* The library at `path` with all that it needs; as_extension says that it is private
 * whatever it defines (short of the user's list).
 * ctx:  detached; reads the disk
 * owns: the library stays the registry's, for the life of the process
 * errs: fault names the file: those of at_elf_file_open */
int at_library_get(const char *path, bool as_extension, at_library **library,
                   at_fault *fault) AT_DETACHED;

/* Open a shared library as the loader would, once for the process: its symbols must be
 * bound before a copy that needs it is loaded. One that cannot be opened is left to the
 * loader's own message.
 * ctx: detached; runs its constructors */
void *at_library_open_shared(at_library *library) AT_DETACHED;

/* Is a library of this file name (or DT_NEEDED) shared because the system's is? */
bool at_library_is_system(const char *name);

/* See at_image_set_policy. */
int at_library_set_policy(const char *private_names, const char *shared_names);

#endif
