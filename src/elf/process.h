/* What an image is told of the process: where it would leave a pointer into itself
 * behind, or ask for what cannot be taken away again, it gets something else. */
#ifndef AT_ELF_PROCESS_H
#define AT_ELF_PROCESS_H

#include "elf/space.h"

/* The replacement for an undefined symbol of an image, or NULL. ctx: any */
void *at_process_replacement(const char *symbol);

/* Run what code of the image gave to atexit(), the last first, and forget it.
 * ctx: detached; runs code of the image */
void at_image_run_exit_functions(at_image *image);

/* Does the system call code of these images (linked by `next`) at a signal? ctx: any */
bool at_process_has_handler_in(const at_image *images);

#endif
