/* Originals that the whole process sees: whoever opened one with RTLD_GLOBAL (ctypes,
 * sys.setdlopenflags, torch for what it needs) has put its symbols before those of
 * every library that is opened later, so the loader binds an image to the original. */
#ifndef AT_ELF_ORIGINALS_H
#define AT_ELF_ORIGINALS_H

#include <stdbool.h>

#include "elf/space.h"

/* Does the process see symbols of the original of this image? ctx: any, while the image
 * is loaded */
bool at_original_is_global(const at_image *image);

/* Where the libraries of `handle` (dlopen) have the symbol, if the loader prefers the
 * original of that very definition; NULL otherwise. ctx: any */
void *at_original_bypassed(void *handle, const char *symbol);

#endif
