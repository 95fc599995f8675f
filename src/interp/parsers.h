/* CPython's list of argument parsers, cleaned of what lies in images.
 *
 * A function made with Argument Clinic has a static _PyArg_Parser. The first call with
 * it puts it on a list of the process, which CPython walks once: when main ends. An
 * image that is unmapped by then leaves a hole in the list, and the process dies at its
 * exit.
 */
#ifndef AT_INTERP_PARSERS_H
#define AT_INTERP_PARSERS_H

#include "elf/image.h"

/* Take the parsers in images of `space` off the list. No code of the space may run any
 * more, or it could put on another.
 * ctx: any */
void at_parsers_forget(const at_image_space *space);

#endif
