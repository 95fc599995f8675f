/* TLS by OpenSSL, the server's side: TLS 1.2 and 1.3, on a socket that never blocks.
 *
 * A context holds certificates and rules, and is shared by all workers; a connection
 * takes the service's present one, so that a new certificate is used from the next
 * handshake on and disturbs nobody. Bytes are decrypted straight into the buffer that
 * the parser reads and encrypted straight from the response's pieces, through a BIO of
 * our own: OpenSSL's would raise SIGPIPE.
 *
 * OpenSSL's queue of errors belongs to the thread, which Python's ssl uses too: it is
 * left empty by every function here.
 */
#ifndef AT_NET_TLS_H
#define AT_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/contexts.h"
#include "base/error.h"
#include "base/span.h"

typedef struct at_tls_context at_tls_context;
typedef struct at_tls at_tls;

typedef enum at_tls_verify {
    AT_TLS_VERIFY_NONE,
    AT_TLS_VERIFY_OPTIONAL, /* a client's certificate must be good if it has one */
    AT_TLS_VERIFY_REQUIRED,
} at_tls_verify;

enum { AT_TLS_CERTIFICATES_MAX = 64 };

typedef struct at_tls_options {
    const char *certificate_paths[AT_TLS_CERTIFICATES_MAX]; /* PEM, with the chain */
    const char
        *key_paths[AT_TLS_CERTIFICATES_MAX]; /* NULL: in the certificate's file */
    size_t certificate_count; /* the first is for clients that name no host */
    const char *password;     /* of the keys, or NULL */
    const char *ca_path;      /* who signs clients' certificates, or NULL */
    at_tls_verify verify;
    const char *ciphers; /* of TLS 1.2, in OpenSSL's notation, or NULL */
    bool h2;             /* offer HTTP/2 */
} at_tls_options;

/* Read the files and make a context of them. Where `before` is not NULL, its tickets
 * stay good.
 * ctx:  detached
 * owns: one reference, the caller's
 * errs: AT_EINVALID, AT_ENOMEM; the fault names the file */
int at_tls_context_new(at_tls_context **context, const at_tls_options *options,
                       at_tls_context *before, at_fault *fault) AT_DETACHED;

/* References may be taken and dropped by any thread. */
at_tls_context *at_tls_context_ref(at_tls_context *context);
void at_tls_context_unref(at_tls_context *context);

/* A connection's side of it, on `descriptor`, which stays the caller's. NULL without
 * memory. ctx: any; one thread at a time, as all below */
at_tls *at_tls_new(at_tls_context *context, int descriptor);
void at_tls_free(at_tls *tls);

/* Go on with the handshake.
 * gives: 0: it is done
 * errs:  AT_EAGAIN; AT_ECLOSED (the client went); AT_EUNSUPPORTED (the client speaks
 *        plain HTTP); AT_EFORMAT: *text says what is wrong */
int at_tls_handshake(at_tls *tls, const char **text);

/* Did the handshake agree on HTTP/2? */
bool at_tls_is_h2(const at_tls *tls);

/* As at_socket_receive: fewer bytes than asked for mean that the socket is empty, or,
 * with at_tls_has_ended, that the next call tells the end. */
long at_tls_receive(at_tls *tls, void *data, size_t size_bytes);
bool at_tls_has_ended(const at_tls *tls);

/* As at_socket_send. Pieces that were not taken must come again, in the same order. */
long at_tls_send(at_tls *tls, const at_span *pieces, int count);

/* Tell the client that no more will be sent, if that can be done at once. */
void at_tls_shut_write(at_tls *tls);

/* Write to `to`, instead of sending it, what a client is told as the last: the pieces,
 * and that no more will be sent. Only where no piece is left to come again. Nothing can
 * be sent or received any more.
 * gives: the size
 * errs:  AT_ELIMIT (more than `room`; then nothing has changed), AT_ECLOSED */
long at_tls_write_last(at_tls *tls, const at_span *pieces, int count, char *to,
                       size_t room);

/* What ASGI's tls extension tells: version (0x0304) and cipher suite as they are on the
 * wire; certificates as PEM and the client's name as RFC 4514, appended.
 * gives: 1, or 0 where there is none; errs: AT_ENOMEM */
int at_tls_version(const at_tls *tls);
int at_tls_cipher(const at_tls *tls);
int at_tls_server_certificate(const at_tls *tls, at_bytes *pem);
int at_tls_client_certificate(const at_tls *tls, int index, at_bytes *pem);
int at_tls_client_name(const at_tls *tls, at_bytes *name);

#endif
