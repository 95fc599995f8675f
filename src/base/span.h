/* A borrowed run of bytes: who made it says how long it stays valid. */
#ifndef AT_BASE_SPAN_H
#define AT_BASE_SPAN_H

#include <stddef.h>

typedef struct at_span {
    const char *data;
    size_t size;
} at_span;

#endif
