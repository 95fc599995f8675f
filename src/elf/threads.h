/* What images get instead of the functions that start threads, whoever owns their
 * space: whether a thread is alive in an image must be known. */
#ifndef AT_ELF_THREADS_H
#define AT_ELF_THREADS_H

#include "elf/space.h"

/* The replacement for an undefined symbol of the image, or NULL.
 * ctx: the loader of the space */
void *at_thread_replacement(const at_image *image, const char *symbol);

#endif
