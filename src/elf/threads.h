/* What images get instead of the functions that start threads, whoever owns their
 * space: whether a thread is alive in an image must be known, and whether one will
 * return to it at its end. */
#ifndef AT_ELF_THREADS_H
#define AT_ELF_THREADS_H

#include "elf/space.h"

/* The replacement for an undefined symbol of the image, or NULL.
 * ctx: the loader of the space */
void *at_thread_replacement(const at_image *image, const char *symbol);

/* Run the destructors of the space's thread-local objects that wait for the end of the
 * calling thread, the last first. Returns whether none waits on any other thread.
 * ctx: detached; runs code of the images */
bool at_thread_exits_run(at_thread_count *threads);

#endif
