/* Private images: a copy of a shared library for one interpreter.
 *
 * An extension that keeps state in C globals refuses a second interpreter. An image is
 * the same file loaded once more, with its own writable data, its own copies of the
 * libraries it needs (closure.h says which), and its references to a few symbols
 * pointed at replacements that know the interpreter (the hooks). The text is shared:
 * read-only pages of every copy are mapped from the original file.
 *
 * A space is all images of one interpreter: one image a library, found again by the
 * (device, inode) of its file. Analysis of a file is done once for the process.
 *
 * Nothing here knows Python: interp/ says which symbols are hooked and to what.
 */
#ifndef AT_ELF_IMAGE_H
#define AT_ELF_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/contexts.h"
#include "base/error.h"

typedef struct at_image at_image;
typedef struct at_image_space at_image_space;

/* What the images of a space are given by their owner; copied by at_image_space_new. */
typedef struct at_image_hooks {
    /* What a reference to `symbol` must be pointed at, or NULL to leave it as the
     * loader bound it. Asked for each undefined symbol of an image before any code of
     * it runs. Not asked for what elf/ replaces itself:
     * pthread_create, thrd_create and std::thread's start (threads.h), mmap and
     * pthread_key_create with their likes (holdings.h), __cxa_atexit (destructors of
     * statics never run: the interpreter that they belong to is gone by then; functions
     * given to atexit() run with the library's own destructors), getenv and putenv
     * (process.h). ctx: any; must not call back into elf/ */
    void *(*replacement)(void *context, const char *symbol);
    void *context;
} at_image_hooks;

/* What becomes of the images of a space whose interpreter is gone. */
typedef enum at_image_fate {
    AT_IMAGE_KEEP,  /* a thread may still stand in them: leave everything mapped */
    AT_IMAGE_UNMAP, /* no thread runs their code */
} at_image_fate;

typedef struct at_image_stats {
    size_t loaded_count;
    size_t unmapped_count;
    size_t bytes_copied; /* written to private copies */
    size_t bytes_shared; /* mapped over from original files */
} at_image_stats;

/* A space for the images of interpreter `interpreter_id`.
 * ctx:  any
 * owns: the caller ends it with at_image_space_end
 * errs: AT_ENOMEM */
int at_image_space_new(int64_t interpreter_id, const at_image_hooks *hooks,
                       at_image_space **space);

/* The image of the extension module file at `path`, loaded now unless it is there, with
 * its closure; constructors have run when this returns. Of `flags`, those of dlopen,
 * RTLD_LAZY counts, and RTLD_GLOBAL: later images of the space see its symbols then.
 * ctx:  detached; takes the loader's lock and runs the constructors of the image
 * owns: the space owns the image
 * errs: fault says which file and why: AT_ENOTFOUND, AT_EFORMAT, AT_EUNSUPPORTED
 * (static TLS used up), AT_ESYSTEM, AT_ENOMEM */
int at_image_load(at_image_space *space, const char *path, int flags, at_image **image,
                  at_fault *fault) AT_DETACHED;

/* What dlopen(name, flags) called by code of this space must return: the image where
 * policy says that the library is private, the process's own handle else; NULL with
 * dlerror() set on failure. `name` is a file or a path, or NULL for the program.
 * `caller` is an address in the calling code (the return address of a thunk), whose
 * RUNPATH and $ORIGIN count in the search; NULL where nobody knows.
 * ctx: detached, or attached (a hook is called with whatever its caller holds) */
void *at_image_dlopen(at_image_space *space, const char *name, int flags,
                      const void *caller);

/* Address of `symbol` in this very image, or NULL.
 * ctx: any */
void *at_image_symbol(at_image *image, const char *symbol);

/* Does `address` lie in an image of the space? ctx: any, while nothing is loaded */
bool at_image_space_holds(const at_image_space *space, const void *address);

/* Is a thread alive that code of the space started, with pthread_create, thrd_create or
 * std::thread? Libraries may end theirs in their destructors: at_image_space_end asks
 * again after those. ctx: any */
bool at_image_space_has_threads(const at_image_space *space);

/* The path of the library in whose image `address` lies, the original's, which lives as
 * long as the process, and *place, where in the library; NULL where it lies in no image
 * of a space. ctx: any */
const char *at_image_library_at(const void *address, uintptr_t *place);

/* The process keeps a pointer to `address` for good: where that lies in an image, the
 * space of it is not unmapped when it ends. Returns whether it does. ctx: any */
bool at_image_pin(const void *address);

/* The same for what functions chain up in: `address` may be another space's. `space` is
 * pinned if it has an image of the same library. Returns whether. ctx: any; not while
 * the space loads */
bool at_image_space_pin_library_of(at_image_space *space, const void *address);

/* End the space; its interpreter is gone and `fate` becomes of the images.
 * AT_IMAGE_KEEP does, whatever `fate` says, where code of them may be called again: a
 * thread that they started still lives when their destructors have run, a thread-local
 * object of theirs waits for the end of another thread, they handle a signal, or they
 * are pinned. Thread-local objects of the calling thread are destroyed now. With the
 * images goes what their code holds of the process (holdings.h, keys.h). Returns
 * whether no code of the images can run any more, so that what the hooks lead to may
 * go. The library's own destructors (DT_FINI, DT_FINI_ARRAY) and what it gave to
 * atexit() run for UNMAP, never for KEEP and never at the exit of the process. ctx:
 * detached; no code of the space is below on the stack owns: frees the space */
bool at_image_space_end(at_image_space *space, at_image_fate fate) AT_DETACHED;

/* Libraries that must be private, or shared, against the policy: base names without the
 * version ("libfoo.so"), ':' between them; NULL for none. Before the first load.
 * ctx: main
 * errs: AT_ENOMEM, AT_EBUSY (something is loaded already) */
int at_image_set_policy(const char *private_names, const char *shared_names);

/* ctx: any */
at_image_stats at_image_get_stats(void);

#endif
