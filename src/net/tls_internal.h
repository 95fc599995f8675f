/* What the two files of TLS share; see tls.h. */
#ifndef AT_NET_TLS_INTERNAL_H
#define AT_NET_TLS_INTERNAL_H

#include <openssl/ssl.h>

#include "base/shared.h"
#include "net/tls.h"

struct at_tls {
    SSL *ssl;
    int descriptor;          /* the caller's */
    at_tls_context *context; /* a reference */
    char *sink;              /* where records go instead of the socket; or NULL */
    size_t sink_room;        /* bytes left there */
    bool ended;              /* the client sends no more */
    bool failed;             /* nothing may be sent or received any more */
};

struct at_tls_context {
    at_shared shared;
    BIO_METHOD *bio_method;                 /* fixed after new, as all here */
    SSL_CTX *each[AT_TLS_CERTIFICATES_MAX]; /* one for each certificate */
    size_t count;
    bool h2;
};

#endif
