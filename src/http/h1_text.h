/* What the files of this part share about the text of HTTP: characters and lists.
 * Every function here: ctx: any; spans point into what they were given. */
#ifndef AT_HTTP_H1_TEXT_H
#define AT_HTTP_H1_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"

extern const char at_h1_token_lower[256];

/* `byte` in lower case if a token may hold it, else 0. */
static inline char at_h1_lower(char byte)
{
    return at_h1_token_lower[(uint8_t)byte];
}

/* OWS: optional white space (RFC 9110 5.6.3). */
static inline bool at_h1_is_space(char byte)
{
    return byte == ' ' || byte == '\t';
}

/* 0 to 15, or -1. */
int at_h1_hex_digit(char digit);

/* `text` without the white space around it. */
at_span at_h1_trim(at_span text);

/* Take the next element of a comma-separated list out of *rest, trimmed; empty elements
 * are passed over (RFC 9110 5.6.1). False at the end. */
bool at_h1_next_element(at_span *rest, at_span *element);

/* May this stand in a Host field or in the authority of a target: uri-host [":" port]
 * of RFC 3986, without userinfo? `text` may be empty. */
bool at_h1_is_authority(at_span text);

#endif
