/* What images get instead of the functions that start threads and register destructors,
 * whoever owns their space. */
#ifndef AT_ELF_THREADS_H
#define AT_ELF_THREADS_H

#include "elf/space.h"

/* The replacement for an undefined symbol of the image, or NULL.
 * ctx: the loader of the space */
void *at_thread_replacement(const at_image *image, const char *symbol);

#endif
