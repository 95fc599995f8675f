/* UTF-8, checked as it comes: a character may be cut anywhere between two calls. */
#ifndef AT_HTTP_UTF8_H
#define AT_HTTP_UTF8_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

/* Zeroed at the beginning of a text. */
typedef struct at_utf8 {
    uint8_t left; /* bytes that the present character still needs */
    uint8_t low;  /* the next of them lies between low and high */
    uint8_t high;
} at_utf8;

/* Go on with `text`. False as soon as no continuation could make it valid (RFC 3629: no
 * overlong forms, no surrogates, nothing above U+10FFFF).
 * ctx: any */
bool at_utf8_feed(at_utf8 *utf8, at_span text);

/* May the text end here?
 * ctx: any */
static inline bool at_utf8_is_complete(const at_utf8 *utf8)
{
    return utf8->left == 0;
}

#endif
