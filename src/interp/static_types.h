/* CPython's own types, which all interpreters share, and what images wrote into them.
 *
 * A library may put a function of its own into a slot of such a type and call the one
 * that it found there: PySide6 does that with the attributes of modules. Nothing takes
 * it back, and the next library may have the pointer by then. So every interpreter
 * calls it from there on, and the image that it lies in must stay. */
#ifndef AT_INTERP_STATIC_TYPES_H
#define AT_INTERP_STATIC_TYPES_H

#include "elf/image.h"

/* Pin the space if a slot of one of CPython's static types leads into a library that it
 * has an image of: two interpreters' functions call each other, and the slot names the
 * last of them only. No code of the space may run any more, or it could change another.
 * ctx: any */
void at_static_types_pin(at_image_space *space);

#endif
