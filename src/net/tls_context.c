/* Certificates and rules; see tls.h. */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/memory.h"
#include "net/tls_internal.h"
#include "sys/stream.h"

/* ---- the BIO --------------------------------------------------------------------- */

static int descriptor_of(BIO *bio)
{
    return ((const at_tls *)BIO_get_data(bio))->descriptor;
}

/* Gives how much, which is all, or -1. */
static int write_to_sink(at_tls *tls, const char *data, size_t size)
{
    if (size > tls->sink_room) {
        return -1;
    }
    memcpy(tls->sink, data, size);
    tls->sink += size;
    tls->sink_room -= size;
    return (int)size;
}

static int bio_read(BIO *bio, char *data, int size)
{
    BIO_clear_retry_flags(bio);
    long got = at_socket_receive(descriptor_of(bio), data, (size_t)size);
    if (got == AT_EAGAIN) {
        BIO_set_retry_read(bio);
    }
    return got >= 0 ? (int)got : -1;
}

static int bio_write(BIO *bio, const char *data, int size)
{
    at_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (tls->sink != NULL) {
        return write_to_sink(tls, data, (size_t)size);
    }
    long taken = at_socket_send(descriptor_of(bio), &(at_span){data, (size_t)size}, 1);
    if (taken == AT_EAGAIN) {
        BIO_set_retry_write(bio);
    }
    return taken >= 0 ? (int)taken : -1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *make_bio_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "atoll socket");
    if (method != NULL) {
        (void)BIO_meth_set_read(method, bio_read);
        (void)BIO_meth_set_write(method, bio_write);
        (void)BIO_meth_set_ctrl(method, bio_control);
    }
    return method;
}

/* ---- callbacks of a handshake ---------------------------------------------------- */

/* The certificate for the host that the client names; the first where none fits. */
static int choose_certificate(SSL *ssl, int *alert, void *argument)
{
    at_tls_context *context = argument;
    const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    for (size_t i = 0; host != NULL && i < context->count; i++) {
        X509 *certificate = SSL_CTX_get0_certificate(context->each[i]);
        if (X509_check_host(certificate, host, 0, 0, NULL) == 1) {
            (void)SSL_set_SSL_CTX(ssl, context->each[i]);
            break;
        }
    }
    return SSL_TLSEXT_ERR_OK;
}

static int choose_protocol(SSL *ssl, const unsigned char **chosen,
                           unsigned char *chosen_size, const unsigned char *offers,
                           unsigned size, void *argument)
{
    static const unsigned char known[] = "\x02h2\x08http/1.1";
    at_tls_context *context = argument;
    unsigned skip = context->h2 ? 0 : 3;
    unsigned char *found;
    if (SSL_select_next_proto(&found, chosen_size, known + skip,
                              (unsigned)sizeof known - 1 - skip, offers,
                              size) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301 3.2 */
    }
    *chosen = found;
    return SSL_TLSEXT_ERR_OK;
}

/* ---- making one ------------------------------------------------------------------ */

/* Fill the fault with a sentence and OpenSSL's own reason. */
static int refuse(at_fault *fault, const char *what, const char *path)
{
    /* The first says what went wrong, the last what was tried. */
    unsigned long error = ERR_peek_error();
    const char *reason = error != 0 ? ERR_reason_error_string(error) : NULL;
    if (error != 0 && ERR_SYSTEM_ERROR(error)) {
        reason = strerror(ERR_GET_REASON(error));
    } else if (ERR_GET_LIB(error) == ERR_LIB_PEM &&
               ERR_GET_REASON(error) == PEM_R_NO_START_LINE) {
        reason = "there is none in PEM format in it";
    } else if (ERR_GET_LIB(error) == ERR_LIB_X509 &&
               ERR_GET_REASON(error) == X509_R_KEY_VALUES_MISMATCH) {
        reason = "it belongs to another certificate";
    }
    int result = at_fault_set(fault, AT_EINVALID, "%s %s: %s", what, path,
                              reason != NULL ? reason : "not usable");
    ERR_clear_error();
    return result;
}

static int password_of(char *buffer, int size, int is_write, void *password)
{
    size_t length = password != NULL ? strlen(password) : 0;
    if (length > (size_t)size) {
        return 0;
    }
    if (length != 0) {
        memcpy(buffer, password, length);
    }
    return (int)length;
}

static void set_rules(at_tls_context *context, SSL_CTX *ctx)
{
    (void)SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    (void)SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                       SSL_OP_IGNORE_UNEXPECTED_EOF);
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                    SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ctx, 1); /* a record's head and body in one system call */
    /* Sessions are the clients' to keep, as tickets: no table, no lock. */
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_num_tickets(ctx, 1);
    (void)SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"atoll", 5);
    (void)SSL_CTX_set_tlsext_servername_callback(ctx, choose_certificate);
    (void)SSL_CTX_set_tlsext_servername_arg(ctx, context);
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, context);
}

static int set_verify(SSL_CTX *ctx, const at_tls_options *options, at_fault *fault)
{
    if (options->ca_path != NULL) {
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(options->ca_path);
        if (names == NULL ||
            SSL_CTX_load_verify_locations(ctx, options->ca_path, NULL) != 1) {
            sk_X509_NAME_pop_free(names, X509_NAME_free);
            return refuse(fault, "cannot use the certificates of", options->ca_path);
        }
        SSL_CTX_set_client_CA_list(ctx, names);
    } else if (options->verify != AT_TLS_VERIFY_NONE) {
        return at_fault_set(fault, AT_EINVALID,
                            "to ask clients for certificates needs a file of those who "
                            "sign them");
    }
    static const int modes[] = {
        [AT_TLS_VERIFY_NONE] = SSL_VERIFY_NONE,
        [AT_TLS_VERIFY_OPTIONAL] = SSL_VERIFY_PEER,
        [AT_TLS_VERIFY_REQUIRED] = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
    };
    SSL_CTX_set_verify(ctx, modes[options->verify], NULL);
    return 0;
}

static int load_certificate(SSL_CTX *ctx, const at_tls_options *options, size_t index,
                            at_fault *fault)
{
    const char *certificate = options->certificate_paths[index];
    const char *key =
        options->key_paths[index] != NULL ? options->key_paths[index] : certificate;
    SSL_CTX_set_default_passwd_cb(ctx, password_of);
    SSL_CTX_set_default_passwd_cb_userdata(ctx, (void *)options->password);
    int result = 0;
    if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1) {
        result = refuse(fault, "cannot use the certificate", certificate);
    } else if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
               SSL_CTX_check_private_key(ctx) != 1) {
        result = refuse(fault, "cannot use the private key", key);
    }
    SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL); /* it may go now */
    return result;
}

static int add_certificate(at_tls_context *context, const at_tls_options *options,
                           at_fault *fault)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (ctx == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory for TLS");
    }
    context->each[context->count++] = ctx;
    set_rules(context, ctx);
    if (options->ciphers != NULL &&
        SSL_CTX_set_cipher_list(ctx, options->ciphers) != 1) {
        return refuse(fault, "no ciphers in", options->ciphers);
    }
    int result = set_verify(ctx, options, fault);
    return result == 0 ? load_certificate(ctx, options, context->count - 1, fault)
                       : result;
}

static void keep_ticket_keys(at_tls_context *context, at_tls_context *before)
{
    unsigned char keys[256];
    long size = SSL_CTX_get_tlsext_ticket_keys(before->each[0], NULL, 0);
    if (size > 0 && (size_t)size <= sizeof keys &&
        SSL_CTX_get_tlsext_ticket_keys(before->each[0], keys, size) == 1) {
        (void)SSL_CTX_set_tlsext_ticket_keys(context->each[0], keys, size);
    }
    OPENSSL_cleanse(keys, sizeof keys);
}

static void context_free(at_shared *thing)
{
    at_tls_context *context = (at_tls_context *)thing;
    for (size_t i = 0; i < context->count; i++) {
        SSL_CTX_free(context->each[i]);
    }
    BIO_meth_free(context->bio_method);
    at_free(context);
}

static const at_shared_kind context_kind = {"TLS context", context_free};

int at_tls_context_new(at_tls_context **out, const at_tls_options *options,
                       at_tls_context *before, at_fault *fault)
{
    if (options->certificate_count == 0) {
        return at_fault_set(fault, AT_EINVALID, "TLS needs a certificate");
    }
    at_tls_context *context = at_calloc(1, sizeof *context);
    if (context == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory for TLS");
    }
    at_shared_init(&context->shared, &context_kind);
    context->h2 = options->h2;
    context->bio_method = make_bio_method();
    int result = context->bio_method != NULL
                     ? 0
                     : at_fault_set(fault, AT_ENOMEM, "out of memory for TLS");
    while (result == 0 && context->count < options->certificate_count) {
        result = add_certificate(context, options, fault);
    }
    if (result < 0) {
        at_tls_context_unref(context);
        return result;
    }
    if (before != NULL) {
        keep_ticket_keys(context, before);
    }
    *out = context;
    return 0;
}

at_tls_context *at_tls_context_ref(at_tls_context *context)
{
    return (at_tls_context *)at_shared_ref(&context->shared);
}

void at_tls_context_unref(at_tls_context *context)
{
    at_shared_unref(context != NULL ? &context->shared : NULL);
}
