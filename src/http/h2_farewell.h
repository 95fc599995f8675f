/* The last frames of an HTTP/2 connection, said without its session: by another thread,
 * when the one that the session belongs to does not come back.
 *
 * They may follow any whole frame, and nothing may follow them. The header block of an
 * answer refers to HPACK's static table alone and begins by emptying the dynamic one,
 * which is allowed whatever size the client has set, so it is right whatever state the
 * session's encoder is in. Nothing is allocated.
 */
#ifndef AT_HTTP_H2_FAREWELL_H
#define AT_HTTP_H2_FAREWELL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"

enum {
    AT_H2_FAREWELL_BYTES = 16 << 10,
    AT_H2_FAREWELL_BLOCK_BYTES = 128,
};

typedef struct at_h2_farewell {
    size_t size;
    char data[AT_H2_FAREWELL_BYTES];
} at_h2_farewell;

/* Write the header block of "503 Service Unavailable" into `block`. A date or a
 * Retry-After that is too long is left out.
 * gives: its size */
size_t at_h2_farewell_block(char block[AT_H2_FAREWELL_BLOCK_BYTES], at_span date,
                            at_span retry_after);

/* Begin. `is_first`: the server has sent nothing yet, not even its SETTINGS. */
void at_h2_farewell_init(at_h2_farewell *farewell, bool is_first);

/* Answer a stream with a block, and no body. False: there is no room. */
bool at_h2_farewell_answer(at_h2_farewell *farewell, int32_t id, at_span block);

/* End a stream: broken off with INTERNAL_ERROR, or with NO_ERROR where the client has
 * the whole response and only its own request is not at an end (RFC 9113 8.1). False:
 * there is no room. */
bool at_h2_farewell_reset(at_h2_farewell *farewell, int32_t id, bool is_whole);

/* Add the GOAWAY. Streams above `last_id` were not worked on, and can be asked for
 * again.
 * gives: all that is to be sent; there has always been room for this */
at_span at_h2_farewell_end(at_h2_farewell *farewell, int32_t last_id);

#endif
