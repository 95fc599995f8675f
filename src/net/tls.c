/* One connection's TLS; see tls.h. */
#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <string.h>

#include "base/memory.h"
#include "net/tls_internal.h"

enum {
    RECORD_BYTES = 16 << 10,
    OVERHEAD_BYTES = 256, /* of a record, whatever the cipher: RFC 8446 5.2 */
};

at_tls *at_tls_new(at_tls_context *context, int descriptor)
{
    at_tls *tls = at_calloc(1, sizeof *tls);
    SSL *ssl = SSL_new(context->each[0]);
    BIO *bio = BIO_new(context->bio_method);
    if (tls == NULL || ssl == NULL || bio == NULL) {
        BIO_free(bio);
        SSL_free(ssl);
        at_free(tls);
        ERR_clear_error();
        return NULL;
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_accept_state(ssl);
    tls->ssl = ssl;
    tls->descriptor = descriptor;
    tls->context = at_tls_context_ref(context);
    return tls;
}

void at_tls_free(at_tls *tls)
{
    if (tls != NULL) {
        SSL_free(tls->ssl);
        at_tls_context_unref(tls->context);
        at_free(tls);
    }
}

/* ---- the handshake --------------------------------------------------------------- */

int at_tls_handshake(at_tls *tls, const char **text)
{
    ERR_clear_error();
    int done = SSL_do_handshake(tls->ssl);
    if (done == 1) {
        return 0;
    }
    int kind = SSL_get_error(tls->ssl, done);
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) {
        return AT_EAGAIN;
    }
    tls->failed = true;
    unsigned long error = ERR_peek_error();
    int reason = ERR_GET_REASON(error);
    const char *words = error != 0 ? ERR_reason_error_string(error) : NULL;
    ERR_clear_error();
    if (kind != SSL_ERROR_SSL || reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        return AT_ECLOSED;
    }
    if (reason == SSL_R_HTTP_REQUEST || reason == SSL_R_HTTPS_PROXY_REQUEST) {
        return AT_EUNSUPPORTED;
    }
    *text = words != NULL ? words : "TLS failed";
    return AT_EFORMAT;
}

bool at_tls_is_h2(const at_tls *tls)
{
    const unsigned char *name;
    unsigned size;
    SSL_get0_alpn_selected(tls->ssl, &name, &size);
    return size == 2 && memcmp(name, "h2", 2) == 0;
}

/* ---- bytes ----------------------------------------------------------------------- */

long at_tls_receive(at_tls *tls, void *data, size_t size)
{
    size_t filled = 0;
    ERR_clear_error();
    while (filled < size && !tls->ended && !tls->failed) {
        size_t got = 0;
        if (SSL_read_ex(tls->ssl, (char *)data + filled, size - filled, &got) == 1) {
            filled += got;
            continue;
        }
        int kind = SSL_get_error(tls->ssl, 0);
        if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) {
            break;
        }
        tls->ended = kind == SSL_ERROR_ZERO_RETURN;
        tls->failed = !tls->ended;
        ERR_clear_error();
    }
    if (filled != 0) {
        return (long)filled;
    }
    return tls->ended ? 0 : tls->failed ? AT_ECLOSED : AT_EAGAIN;
}

bool at_tls_has_ended(const at_tls *tls)
{
    return tls->ended || tls->failed;
}

/* Copy what fits of pieces[0..count), but for the first `skip` bytes, into `record`;
 * or, where the piece that is next fills a record alone, show it as it is. */
static at_span next_record(const at_span *pieces, int count, size_t skip,
                           char record[RECORD_BYTES])
{
    size_t size = 0;
    for (int i = 0; i < count && size < RECORD_BYTES; i++) {
        if (skip >= pieces[i].size) {
            skip -= pieces[i].size;
            continue;
        }
        size_t left = pieces[i].size - skip;
        if (size == 0 && (left >= RECORD_BYTES || i == count - 1)) {
            return (at_span){pieces[i].data + skip, left};
        }
        size_t part = left < RECORD_BYTES - size ? left : RECORD_BYTES - size;
        memcpy(record + size, pieces[i].data + skip, part);
        size += part;
        skip = 0;
    }
    return (at_span){record, size};
}

long at_tls_send(at_tls *tls, const at_span *pieces, int count)
{
    char record[RECORD_BYTES];
    size_t sent = 0;
    if (tls->failed) {
        return AT_ECLOSED;
    }
    ERR_clear_error();
    for (;;) {
        at_span next = next_record(pieces, count, sent, record);
        if (next.size == 0) {
            return (long)sent;
        }
        size_t written = 0;
        if (SSL_write_ex(tls->ssl, next.data, next.size, &written) == 1) {
            sent += written;
            continue;
        }
        int kind = SSL_get_error(tls->ssl, 0);
        if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) {
            return sent != 0 ? (long)sent : AT_EAGAIN;
        }
        tls->failed = true;
        ERR_clear_error();
        return AT_ECLOSED;
    }
}

void at_tls_shut_write(at_tls *tls)
{
    if (!tls->failed && SSL_is_init_finished(tls->ssl)) {
        ERR_clear_error();
        (void)SSL_shutdown(tls->ssl);
        ERR_clear_error();
    }
}

long at_tls_write_last(at_tls *tls, const at_span *pieces, int count, char *to,
                       size_t room)
{
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        total += pieces[i].size;
    }
    /* Asked before a record is numbered: the client would miss one that is dropped. */
    if (tls->failed || total + (total / RECORD_BYTES + 2) * OVERHEAD_BYTES > room) {
        return tls->failed ? AT_ECLOSED : AT_ELIMIT;
    }
    tls->sink = to;
    tls->sink_room = room;
    long sent = at_tls_send(tls, pieces, count);
    at_tls_shut_write(tls);
    tls->failed = true;
    tls->sink = NULL;
    return sent == (long)total ? (long)(room - tls->sink_room) : AT_ECLOSED;
}

/* ---- what is known --------------------------------------------------------------- */

int at_tls_version(const at_tls *tls)
{
    return SSL_version(tls->ssl);
}

int at_tls_cipher(const at_tls *tls)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);
    return cipher != NULL ? SSL_CIPHER_get_protocol_id(cipher) : 0;
}

/* Append what `bio` has and free it. */
static int drain(BIO *bio, bool good, at_bytes *out)
{
    char *data = NULL;
    long size = bio != NULL ? BIO_get_mem_data(bio, &data) : 0;
    int result =
        good && size > 0 ? at_bytes_append(out, data, (size_t)size) : AT_ENOMEM;
    BIO_free(bio);
    ERR_clear_error();
    return result == 0 ? 1 : result;
}

static int append_pem(X509 *certificate, at_bytes *pem)
{
    if (certificate == NULL) {
        return 0;
    }
    BIO *bio = BIO_new(BIO_s_mem());
    return drain(bio, bio != NULL && PEM_write_bio_X509(bio, certificate) == 1, pem);
}

int at_tls_server_certificate(const at_tls *tls, at_bytes *pem)
{
    return append_pem(SSL_get_certificate(tls->ssl), pem);
}

int at_tls_client_certificate(const at_tls *tls, int index, at_bytes *pem)
{
    if (index == 0) {
        return append_pem(SSL_get0_peer_certificate(tls->ssl), pem);
    }
    STACK_OF(X509) *others = SSL_get_peer_cert_chain(tls->ssl);
    return append_pem(
        index <= sk_X509_num(others) ? sk_X509_value(others, index - 1) : NULL, pem);
}

int at_tls_client_name(const at_tls *tls, at_bytes *name)
{
    X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
    if (certificate == NULL) {
        return 0;
    }
    BIO *bio = BIO_new(BIO_s_mem());
    return drain(bio,
                 bio != NULL &&
                     X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0,
                                        XN_FLAG_RFC2253) >= 0,
                 name);
}
