/* What a client meets when the server has no memory, through TLS and WebSocket: each
 * allocation fails once, the server's own and OpenSSL's beneath it. Whatever it is, the
 * client gets a whole answer, or the end; it waits for nothing, and takes no half of a
 * frame for a whole. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "client.h"
#include "net/reactor.h"
#include "net/tls.h"
#include "net/websocket.h"
#include "sys/clock.h"

static const int64_t PATIENCE_NS = (int64_t)60 * 1000000000;

/* ---- OpenSSL's memory ------------------------------------------------------------ */

static bool is_servers_turn; /* what the client allocates never fails */
static bool openssl_fails;

static void *openssl_alloc(size_t size_bytes, const char *file, int line)
{
    (void)file;
    (void)line;
    return is_servers_turn && openssl_fails ? at_alloc(size_bytes) : malloc(size_bytes);
}

static void *openssl_realloc(void *block, size_t size_bytes, const char *file, int line)
{
    (void)file;
    (void)line;
    return is_servers_turn && openssl_fails ? at_realloc(block, size_bytes)
                                            : realloc(block, size_bytes);
}

static void openssl_free(void *block, const char *file, int line)
{
    (void)file;
    (void)line;
    free(block);
}

/* ---- the server: hello, and a WebSocket that echoes ------------------------------ */

static at_service *service;
static at_reactor *reactor;
static int port;
static bool is_deflated; /* the scene's WebSocket */

static void echo(at_exchange *exchange)
{
    at_ws_opcode opcode;
    at_span message, reason;
    uint16_t code;
    int result;
    while ((result = at_websocket_next(exchange, &opcode, &message, &code, &reason)) ==
           1) {
        if (at_websocket_send(exchange, opcode, message) < 0) {
            /* A message that is lost is missing in what later ones refer to. */
            CHECK(!is_deflated ||
                  at_websocket_send(exchange, opcode, message) == AT_ECLOSED);
            /* As a server's layer above does when a send has failed. */
            (void)at_websocket_close(exchange, AT_WS_CODE_INTERNAL_ERROR,
                                     (at_span){NULL, 0});
            return;
        }
        at_websocket_take(exchange);
    }
    if (result == AT_EAGAIN) {
        at_exchange_want_body(exchange);
    }
}

static at_exchange *to_ping; /* not counted: the one that was accepted last */

/* What a layer above does that says nothing more once it has heard of an error: at "/p"
 * a body of known length in pieces, at "/t" one with trailers, at "/a" half of one. */
static int answer_in_pieces(at_exchange *exchange, char kind)
{
    static const at_h1_header length = {{"content-length", 14}, {"5", 1}};
    static const at_h1_header trailer = {{"x-sum", 5}, {"1", 1}};
    const char *why;
    int result = at_exchange_respond(exchange, 200, &length, kind == 'p',
                                     (at_span){"he", 2}, true, &why);
    if (result < 0) {
        return exchange->started ? 0 : result;
    }
    if (kind == 'a') {
        return AT_EAGAIN;
    }
    result = at_exchange_write(exchange, (at_span){"ll", 2}, true);
    if (result == 0) {
        result = at_exchange_write(exchange, (at_span){"o", 1}, kind == 't');
    }
    if (result == 0 && kind == 't') {
        result = at_exchange_write_trailers(exchange, &trailer, 1);
    }
    CHECK(exchange->complete == (result == 0));
    return 0;
}

static void on_request(void *context, at_exchange *exchange, const at_h1_request *head)
{
    (void)context;
    const char *why;
    int result;
    (void)at_exchange_ref(exchange);
    if (exchange->websocket != NULL) {
        result = at_websocket_accept(exchange, NULL, 0, &why);
        if (result == 0) {
            to_ping = exchange;
            echo(exchange);
        }
    } else if (head->path.size == 2) {
        result = answer_in_pieces(exchange, head->path.data[1]);
    } else {
        result = at_exchange_respond(exchange, 200, NULL, 0, (at_span){"hello", 5},
                                     false, &why);
    }
    if (result < 0) {
        at_exchange_abort(exchange);
    }
    at_exchange_unref(exchange);
}

static void on_body(void *context, at_exchange *exchange)
{
    (void)context;
    (void)at_exchange_ref(exchange);
    echo(exchange);
    at_exchange_unref(exchange);
}

static void on_exchange(void *context, at_exchange *exchange)
{
    (void)context;
    (void)exchange;
}

static void on_forget(void *context, void *connection_user)
{
    (void)context;
    (void)connection_user;
}

static void on_own(void *context)
{
    (void)context;
}

static const at_hooks hooks = {.request = on_request,
                               .body = on_body,
                               .writable = on_exchange,
                               .lost = on_exchange,
                               .forget = on_forget,
                               .drain = on_own,
                               .drained = on_own};

static void run_server(void)
{
    is_servers_turn = true;
    at_reactor_run(reactor, 1);
    is_servers_turn = false;
    CHECK(ERR_peek_error() == 0); /* the queue is this thread's, and Python's ssl's */
}

/* ---- certificates ---------------------------------------------------------------- */

static void write_certificate(const char *path)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    CHECK(key != NULL && certificate != NULL);
    CHECK(X509_set_version(certificate, 2) == 1);
    CHECK(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1);
    CHECK(X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) != NULL);
    CHECK(X509_gmtime_adj(X509_getm_notAfter(certificate), 3600) != NULL);
    X509_NAME *name = X509_get_subject_name(certificate);
    CHECK(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                     (const unsigned char *)"localhost", -1, -1,
                                     0) == 1);
    CHECK(X509_set_issuer_name(certificate, name) == 1);
    CHECK(X509_set_pubkey(certificate, key) == 1);
    CHECK(X509_sign(certificate, key, EVP_sha256()) != 0);
    FILE *file = fopen(path, "we");
    CHECK(file != NULL);
    CHECK(PEM_write_X509(file, certificate) == 1);
    CHECK(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1);
    CHECK(fclose(file) == 0);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static at_tls_context *make_context(void)
{
    char path[] = "/tmp/atoll-test-XXXXXX";
    int file = mkstemp(path);
    CHECK(file >= 0);
    (void)close(file);
    write_certificate(path);
    at_tls_options options = {
        .certificate_paths = {path}, .certificate_count = 1, .h2 = true};
    at_tls_context *context;
    CHECK(at_tls_context_new(&context, &options, NULL, NULL) == 0);
    (void)unlink(path);
    return context;
}

/* ---- the client ------------------------------------------------------------------ */

typedef struct scene {
    at_span says; /* at once */
    at_span then; /* when the judge says 2 */
    /* How much of an answer is there: 0 none that is whole, -1 one that says that there
     * is none, 1 the one that is wanted, 2 half of that. Ends the program where it is
     * no answer. */
    int (*judge)(const char *heard, size_t size);
    const char *protocol; /* for ALPN, with its length in front; NULL: no TLS */
} scene;

static SSL_CTX *client_context;

static int dial(void)
{
    int client = dial_port(port);
    CHECK(fcntl(client, F_SETFL, O_NONBLOCK) == 0);
    return client;
}

static SSL *make_client_tls(const scene *scene, int client)
{
    SSL *ssl = SSL_new(client_context);
    CHECK(ssl != NULL && SSL_set_fd(ssl, client) == 1);
    CHECK(SSL_set_alpn_protos(ssl, (const unsigned char *)scene->protocol,
                              (unsigned)strlen(scene->protocol)) == 0);
    SSL_set_connect_state(ssl);
    return ssl;
}

/* gives: bytes, 0 for not yet, -1 for the end */
static long hear(SSL *ssl, int client, char *data, size_t size)
{
    if (ssl == NULL) {
        ssize_t got = recv(client, data, size, MSG_DONTWAIT);
        return got > 0 ? got : got < 0 && errno == EAGAIN ? 0 : -1;
    }
    int got = SSL_read(ssl, data, (int)size);
    int kind = got > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl, got);
    ERR_clear_error();
    return got > 0 ? got : kind == SSL_ERROR_WANT_READ ? 0 : -1;
}

/* gives: whether it has been said; the server may have gone */
static bool say(SSL *ssl, int client, at_span text)
{
    if (ssl == NULL) {
        return send(client, text.data, text.size, MSG_NOSIGNAL) == (ssize_t)text.size;
    }
    bool said = SSL_do_handshake(ssl) == 1 &&
                SSL_write(ssl, text.data, (int)text.size) == (int)text.size;
    ERR_clear_error();
    return said;
}

/* One client. gives: whether it has had what it wanted */
static bool play(const scene *scene)
{
    char heard[16384];
    size_t size = 0;
    int client = dial();
    SSL *ssl = scene->protocol != NULL ? make_client_tls(scene, client) : NULL;
    const int64_t end_ns = at_clock_ns() + PATIENCE_NS;
    bool said = false, said_then = false, ended = false;
    int judged = 0;
    while ((judged == 0 || judged == 2) && !ended && at_clock_ns() < end_ns) {
        said = said || say(ssl, client, scene->says);
        said_then = said_then || (judged == 2 && say(ssl, client, scene->then));
        run_server();
        long got = hear(ssl, client, heard + size, sizeof heard - 1 - size);
        size += got > 0 ? (size_t)got : 0;
        ended = got < 0;
        heard[size] = '\0';
        judged = scene->judge(heard, size);
    }
    CHECK(judged == 1 || judged == -1 || ended); /* or it waits for ever */
    SSL_free(ssl);
    (void)close(client);
    while (at_reactor_load(reactor) != 0) {
        run_server();
    }
    return judged == 1;
}

enum { LONG_BYTES = 5000 };

/* ---- what may be said and heard -------------------------------------------------- */

/* The frame at `at`, if it is whole. gives: where the next begins, or 0 */
static size_t next_frame(const char *heard, size_t size, size_t at, at_span *payload)
{
    const unsigned char *head = (const unsigned char *)heard + at;
    if (at + 4 > size) {
        return 0;
    }
    size_t prefix = head[1] < 126 ? 2 : 4;
    CHECK(head[1] < 127); /* not masked, and not that long */
    *payload = (at_span){heard + at + prefix,
                         prefix == 2 ? head[1] : (size_t)head[2] << 8 | head[3]};
    at += prefix + payload->size;
    return at <= size ? at : 0;
}

/* The message of both lengths that there is here, or what it is deflated to. */
static void check_echo(unsigned first, at_span payload)
{
    CHECK(first == 0x81 || first == 0xc1);
    if (first == 0x81 && payload.size == 5) {
        CHECK(memcmp(payload.data, "hello", 5) == 0);
    } else if (first == 0x81) {
        CHECK(payload.size == LONG_BYTES);
        for (size_t i = 0; i < payload.size; i++) {
            CHECK(payload.data[i] == 'a');
        }
    }
}

/* Frames of a WebSocket behind `at`: the echo, the pong and the close, or a close that
 * says what went wrong. */
static int judge_frames(const char *heard, size_t size, size_t at)
{
    bool echoed = false, ponged = false;
    at_span payload;
    size_t next;
    while ((next = next_frame(heard, size, at, &payload)) != 0) {
        unsigned first = (unsigned char)heard[at];
        switch (first & 15) {
        case AT_WS_TEXT:
            check_echo(first, payload);
            echoed = true;
            break;
        case AT_WS_PONG:
            CHECK(first == 0x8a && payload.size == 4);
            ponged = true;
            break;
        default:
            CHECK(first == 0x88 && payload.size != 1);
            return echoed && ponged && payload.size != 0 &&
                           memcmp(payload.data, "\x03\xe8", 2) == 0
                       ? 1
                       : -1;
        }
        at = next;
    }
    return echoed && ponged ? 2 : 0;
}

static int judge_hello(const char *heard, size_t size)
{
    (void)size;
    const char *body = strstr(heard, "\r\n\r\n");
    if (body == NULL) {
        return 0;
    }
    return strcmp(body + 4, "hello") == 0      ? 1
           : strncmp(heard + 9, "200", 3) != 0 ? -1
                                               : 0;
}

static int judge_websocket(const char *heard, size_t size)
{
    const char *frames = strstr(heard, "\r\n\r\n");
    if (frames == NULL) {
        return 0;
    }
    return strncmp(heard + 9, "101", 3) == 0
               ? judge_frames(heard, size, (size_t)(frames + 4 - heard))
               : -1;
}

/* Put what DATA of stream 1 there is together. gives: 0, or -1 where it was ended */
static int join_data(const char *heard, size_t size, char *data, size_t *data_size,
                     bool *was_reset)
{
    bool ended = false;
    *was_reset = false;
    *data_size = 0;
    for (size_t at = 0; at + 9 <= size;) {
        const unsigned char *head = (const unsigned char *)heard + at;
        size_t length = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        if (at + 9 + length > size) {
            break;
        }
        if (head[3] == 0) {
            memcpy(data + *data_size, heard + at + 9, length);
            *data_size += length;
        }
        bool is_end = head[3] <= 1 && (head[4] & 1) != 0; /* END_STREAM */
        *was_reset = *was_reset || (!ended && (head[3] == 3 || head[3] == 7));
        ended = ended || is_end || *was_reset; /* RST_STREAM, GOAWAY */
        at += 9 + length;
    }
    return ended ? -1 : 0;
}

static int judge_hello_h2(const char *heard, size_t size)
{
    char data[16384];
    size_t data_size;
    bool was_reset;
    int end = join_data(heard, size, data, &data_size, &was_reset);
    return end < 0 && data_size == 5 && memcmp(data, "hello", 5) == 0 ? 1 : end;
}

/* The half that is all there is, and that it is half. */
static int judge_half_h2(const char *heard, size_t size)
{
    char data[16384];
    size_t data_size;
    bool was_reset;
    int end = join_data(heard, size, data, &data_size, &was_reset);
    CHECK(end == 0 || was_reset || data_size == 0); /* or a refusal */
    return end == 0 ? 0 : 1;
}

static int judge_websocket_h2(const char *heard, size_t size)
{
    char data[16384];
    size_t data_size;
    bool was_reset;
    int end = join_data(heard, size, data, &data_size, &was_reset);
    int judged = judge_frames(data, data_size, 0);
    size_t at = 0, next;
    at_span payload;
    while (end < 0 && (next = next_frame(data, data_size, at, &payload)) != 0) {
        at = next;
    }
    CHECK(end == 0 || was_reset || at == data_size); /* half a frame is no end */
    return judged == 1 || end == 0 ? judged : -1;
}

#define HTTP_1 "\x08http/1.1"
#define GET "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
#define UPGRADE                                                                        \
    "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"       \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
#define DEFLATE "Sec-WebSocket-Extensions: permessage-deflate\r\n"
/* Text in two frames with a ping between them; and a close. The mask is 0. */
#define FRAMES                                                                         \
    "\x01\x82\0\0\0\0he"                                                               \
    "\x89\x84\0\0\0\0ping"                                                             \
    "\x80\x83\0\0\0\0llo"
#define A_10 "aaaaaaaaaa"
#define A_100 A_10 A_10 A_10 A_10 A_10 A_10 A_10 A_10 A_10 A_10
#define A_1000 A_100 A_100 A_100 A_100 A_100 A_100 A_100 A_100 A_100 A_100
#define LONG_FRAMES                                                                    \
    "\x81\xfe\x13\x88\0\0\0\0" A_1000 A_1000 A_1000 A_1000 A_1000 "\x89\x84\0\0\0\0pi" \
    "ng"
#define CLOSE "\x88\x82\0\0\0\0\x03\xe8"
#define PREFACE                                                                        \
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"                                                 \
    "\0\0\0\4\0\0\0\0\0"
#define GET_H2 PREFACE "\0\0\6\1\5\0\0\0\1\x82\x87\x84\x41\1x"
#define GET_H2_OF(PATH) PREFACE "\0\0\x09\1\5\0\0\0\1\x82\x87\x44\2" PATH "\x41\1x"
/* CONNECT with :protocol, and the frames above as its DATA. */
#define CONNECT_H2                                                                     \
    PREFACE "\0\0\x3d\1\4\0\0\0\1\2\7CONNECT"                                          \
            "\0\x09:protocol\x09websocket\x87\x84\x41\1x"                              \
            "\0\x15sec-websocket-version\x02\x31\x33"                                  \
            "\0\x13\x9a\0\0\0\0\0\1" LONG_FRAMES
#define CLOSE_H2 "\0\0\x08\0\0\0\0\0\1" CLOSE

static void every_allocation(const char *name, const scene *scene, int without_least)
{
    int without = 0;
    long asked, left = 0;
    do {
        (void)at_memory_fail_after(left);
        without += !play(scene);
        asked = at_memory_fail_after(-1);
    } while (asked > left++);
    CHECK(play(scene));
    CHECK(without >= without_least);
    (void)printf("ok %s: %ld allocations, %d without an answer\n", name, left, without);
}

#define SPAN(TEXT)                                                                     \
    {                                                                                  \
        TEXT, sizeof(TEXT) - 1                                                         \
    }
#define WEBSOCKET(FIELDS, FRAMES, PROTOCOL)                                            \
    &(scene)                                                                           \
    {                                                                                  \
        SPAN(UPGRADE FIELDS "\r\n" FRAMES), SPAN(CLOSE), judge_websocket, PROTOCOL     \
    }

static void websocket_allocations(void)
{
    every_allocation("websocket", WEBSOCKET("", FRAMES, NULL), 2);
    is_deflated = true;
    every_allocation("websocket, deflated", WEBSOCKET(DEFLATE, LONG_FRAMES, NULL), 4);
    is_deflated = false;
    every_allocation(
        "websocket in a stream",
        &(scene){SPAN(CONNECT_H2), SPAN(CLOSE_H2), judge_websocket_h2, NULL}, 8);
}

static void h2_allocations(void)
{
    every_allocation("h2, in pieces",
                     &(scene){SPAN(GET_H2_OF("/p")), {NULL, 0}, judge_hello_h2, NULL},
                     8);
    every_allocation("h2, with trailers",
                     &(scene){SPAN(GET_H2_OF("/t")), {NULL, 0}, judge_hello_h2, NULL},
                     8);
    every_allocation("h2, broken off",
                     &(scene){SPAN(GET_H2_OF("/a")), {NULL, 0}, judge_half_h2, NULL},
                     0);
}

/* A ping, of whose exchange nobody above holds a reference, to a client that is gone.
 */
static void ping_to_nobody(void)
{
    at_span upgrade = SPAN(UPGRADE "\r\n");
    struct linger at_once = {.l_onoff = 1};
    int client = dial();
    CHECK(say(NULL, client, upgrade));
    to_ping = NULL;
    while (to_ping == NULL) {
        run_server();
    }
    CHECK(setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
    (void)close(client);
    CHECK(at_websocket_ping(to_ping));
    while (at_reactor_load(reactor) != 0) {
        run_server();
    }
    (void)printf("ok ping to nobody\n");
}

static void tls_allocations(void)
{
    every_allocation("tls", &(scene){SPAN(GET), {NULL, 0}, judge_hello, HTTP_1}, 3);
    every_allocation("tls, h2",
                     &(scene){SPAN(GET_H2), {NULL, 0}, judge_hello_h2, "\2h2"}, 8);
    every_allocation("tls, websocket", WEBSOCKET("", FRAMES, HTTP_1), 4);
}

int main(void)
{
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR); /* of the client's TLS */
    CHECK(CRYPTO_set_mem_functions(openssl_alloc, openssl_realloc, openssl_free) == 1);
    at_service_limits limits;
    at_service_limits_init(&limits);
    /* What a clock ends would have made its client wait. */
    limits.head_timeout_ns = limits.body_timeout_ns = limits.idle_timeout_ns = 0;
    limits.write_timeout_ns = limits.handshake_timeout_ns = 0;
    limits.websocket.ping_interval_ns = limits.websocket.close_timeout_ns = 0;
    service = at_service_new(&limits);
    CHECK(service != NULL);
    CHECK(at_service_listen(service, "127.0.0.1", 0, 16, NULL) == 0);
    at_address address;
    CHECK(at_service_address(service, 0, &address));
    port = address.port;
    CHECK(at_reactor_open(&reactor, service, &hooks, NULL, 0, -1, NULL) == 0);
    h2_allocations();
    websocket_allocations();
    ping_to_nobody();
    at_tls_context *context = make_context();
    at_service_set_tls(service, context);
    at_tls_context_unref(context);
    client_context = SSL_CTX_new(TLS_client_method());
    CHECK(client_context != NULL);
    tls_allocations();
    openssl_fails = true;
    every_allocation("openssl", WEBSOCKET("", FRAMES, HTTP_1), 400);
    SSL_CTX_free(client_context);
    at_reactor_close(reactor);
    at_service_unref(service);
    return 0;
}
