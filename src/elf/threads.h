/* What images get instead of the functions that start threads and that register what is
 * to run at the exit, whoever owns their space. */
#ifndef AT_ELF_THREADS_H
#define AT_ELF_THREADS_H

#include "elf/space.h"

/* The replacement for an undefined symbol of the image, or NULL.
 * ctx: the loader of the space */
void *at_thread_replacement(const at_image *image, const char *symbol);

/* Run what code of the image gave to atexit(), the last first, and forget it.
 * ctx: detached; runs code of the image */
void at_image_run_exit_functions(at_image *image);

#endif
