/* A server's side of HTTP/2, and nghttp2 as its client, in memory: each notes what
 * comes of the other. One pair at a time: start() makes it, stop() ends it. */
#ifndef AT_TESTS_H2_PAIR_H
#define AT_TESTS_H2_PAIR_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/h2.h"

enum { STREAMS_MAX = 400 };

/* Made of `limits`; main() sets them to their defaults first. */
void start(void);
void stop(void);

/* Carry bytes one way. Returns whether there were any. */
bool client_to_server(void);
bool server_to_client(void);

/* Carry bytes both ways until nobody has more to say. */
void pump(void);

/* ---- the server ------------------------------------------------------------------ */

typedef struct seen_stream {
    at_h2_stream *stream; /* NULL once closed */
    char text[600];       /* the head, as lines */
    size_t body_size;
    size_t unconsumed;
    unsigned body_sum;
    bool body_ended;
    bool closed;
    uint32_t error;
    size_t unsent;
    unsigned sent_calls;
} seen_stream;

extern at_h2 *server;
extern const at_h2_events events; /* what it is made with */
extern at_h2_limits limits;
extern seen_stream seen[STREAMS_MAX]; /* by (id - 1) / 2 */
extern bool consume_at_once;          /* the body's window; true after start() */
extern int server_result; /* the first error of at_h2_input or at_h2_output */

seen_stream *seen_of(int32_t id);

/* How many requests the server was told of and not yet told the end of. */
int open_streams(void);

at_h2_response response_of(int status);

/* ---- the client ------------------------------------------------------------------ */

typedef struct got_stream {
    char text[600]; /* fields as lines; a blank line ends each head */
    size_t body_size;
    unsigned body_sum;
    bool closed;
    uint32_t error;
    size_t to_send; /* of the request's body */
} got_stream;

extern nghttp2_session *client;
extern got_stream got[STREAMS_MAX]; /* by (id - 1) / 2 */
extern bool got_goaway;
extern uint32_t goaway_error;
extern int32_t goaway_last;

got_stream *got_of(int32_t id);

typedef struct field {
    const char *name;
    const char *value;
} field;

/* Submit a request with a body of `body_size` bytes. Returns its stream. */
int32_t request(const field *fields, size_t field_count, size_t body_size);
int32_t get(const char *path);
int32_t post(size_t body_size);

#endif
