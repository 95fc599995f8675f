/* What the files of HTTP/2 share; see h2.h. */
#ifndef AT_HTTP_H2_SESSION_H
#define AT_HTTP_H2_SESSION_H

#include <nghttp2/nghttp2.h>

#include "http/h2.h"

/* A field as it is kept while `text` still grows and moves: offsets into it. */
typedef struct h2_field {
    uint32_t name_at;
    uint32_t name_size;
    uint32_t value_at;
    uint32_t value_size;
} h2_field;

typedef enum h2_pseudo {
    H2_METHOD,
    H2_SCHEME,
    H2_PATH,
    H2_AUTHORITY,
    H2_PROTOCOL,
    H2_PSEUDO_COUNT,
} h2_pseudo;

typedef struct h2_stream {
    at_h2_stream handle; /* first: what the caller sees */
    at_h2 *h2;           /* fixed after new */
    struct h2_stream *next;
    struct h2_stream *previous;

    /* the request */
    at_bytes text;   /* names and values of all fields */
    at_bytes fields; /* h2_field, without pseudo fields and cookies */
    at_bytes cookie;
    at_h1_header *headers; /* made of fields when the head is complete */
    h2_field pseudo[H2_PSEUDO_COUNT];
    bool has_pseudo[H2_PSEUDO_COUNT];
    size_t field_count;
    size_t header_bytes;
    int refused_status;  /* answered here, without on_request; or 0 */
    size_t unread_bytes; /* of the request's body, whose window is not given back */
    bool is_told;        /* on_request was called, so on_close must be */
    bool head_is_read;   /* what comes now are trailers */

    /* the response */
    at_bytes body; /* what is unsent begins at sent_bytes */
    size_t sent_bytes;
    bool is_begun;
    bool is_ended;        /* by the caller: `body` is all that is left */
    nghttp2_nv *trailers; /* one block with their text; submitted behind the data */
    size_t trailer_count;
    bool is_waiting; /* the data provider was deferred */
    bool head_is_sent;
    bool is_sent;  /* with its END_STREAM */
    bool is_reset; /* by the caller */
    bool resets_when_sent;
} h2_stream;

/* Stream identifiers that a client has passed over. */
typedef struct h2_gap {
    int32_t first, last;
} h2_gap;

enum { H2_GAPS_MAX = 8 }; /* clients count 1, 3, 5: the first gap is odd already */

struct at_h2 {
    nghttp2_session *session;
    at_h2_limits limits;  /* fixed after new */
    at_h2_events events;  /* fixed after new */
    h2_stream *streams;   /* all that are open, in no order */
    uint32_t resets_left; /* until the next tick */
    uint32_t control_left;
    int32_t last_id;          /* the highest that a stream was opened with; -1 before */
    h2_gap gaps[H2_GAPS_MAX]; /* the latest, as a ring */
    unsigned gap_count;       /* ever */
    int failure;              /* AT_ELIMIT or AT_ENOMEM out of a callback, or 0 */
    bool lacks_frame; /* there was no memory for one that the client will wait for */
};

/* Take what nghttp2 said when a frame was submitted that nothing makes up for. The
 * connection ends at the next output, where there was no memory.
 * ctx: any */
static inline void h2_must(at_h2 *h2, int nghttp2_code)
{
    h2->lacks_frame = h2->lacks_frame || nghttp2_code == NGHTTP2_ERR_NOMEM;
}

/* Read the complete head of `stream` into *request.
 * ctx:   any
 * gives: 0, or a status to refuse it with
 * errs:  AT_ENOMEM */
int at_h2_read_request(h2_stream *stream, at_h2_request *request);

/* Keep one field of a head that comes.
 * ctx:   any
 * gives: 0
 * errs:  AT_ELIMIT (far too much), AT_ENOMEM */
int at_h2_keep_field(h2_stream *stream, at_span name, at_span value);

/* Submit a response without body, of the server's own making.
 * ctx: any */
int at_h2_refuse(at_h2 *h2, h2_stream *stream, int status);

#endif
