/* Inside elf/: one load of a library with its closure into a space. */
#ifndef AT_ELF_LOAD_H
#define AT_ELF_LOAD_H

#include "elf/space.h"

/* `binding` is RTLD_NOW or RTLD_LAZY.
 * ctx:  the loader of the space, detached
 * owns: the space owns the image
 * errs: those of at_image_load */
int at_load(at_image_space *space, at_library *library, int binding, at_image **image,
            at_fault *fault) AT_DETACHED;

/* The image of this library in the space, or NULL. ctx: the loader of the space */
at_image *at_space_find(at_image_space *space, const at_library *library);

/* The image of the space whose library goes by this name (DT_SONAME), or NULL.
 * ctx: the loader of the space */
at_image *at_space_find_name(at_image_space *space, const char *name);

/* Run the destructors of an image, if its constructors ran. ctx: detached */
void at_image_destruct(at_image *image);

/* Unload it, unless it was never loaded, and free it. It is in no list any more.
 * ctx: detached */
void at_image_free(at_image *image);

/* Put an image into the list of its space and of all. ctx: the loader of the space */
void at_space_add(at_image_space *space, at_image *image);

/* Another image was made. ctx: any */
void at_stats_count(size_t copied_bytes, size_t shared_bytes);

#endif
