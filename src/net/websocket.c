/* WebSocket exchanges; see websocket.h. */
#include "net/websocket.h"

#include <string.h>

#include "base/memory.h"
#include "http/websocket_deflate.h"
#include "net/connection.h"

enum {
    DEFLATE_FROM_BYTES = 64, /* smaller messages are not worth it */
    QUEUE_BYTES = 256 << 10, /* of messages, the one that goes above included */
    REASON_BYTES = 123,
};

typedef struct message {
    struct message *next;
    at_ws_opcode opcode;
    size_t size;
    char data[];
} message;

struct at_websocket {
    at_ws_reader reader;
    at_ws_deflate *deflate; /* NULL: not agreed on */
    char accept_key[AT_WS_ACCEPT_BYTES];
    bool has_key;     /* HTTP/1.1 asks for it, HTTP/2 does not */
    at_bytes agreed;  /* Sec-WebSocket-Extensions of the answer */
    message *first;   /* the queue */
    message **behind; /* its last link */
    unsigned queue_count;
    size_t queue_bytes;
    bool accepted;
    bool close_sent;
    bool close_received;
    bool over;
    bool pinging;
    uint16_t code; /* why it is over, or 0 */
    uint8_t reason_size;
    char reason[REASON_BYTES];
};

static const at_websocket_limits *limits_of(const at_exchange *exchange)
{
    return &at_reactor_limits(exchange->connection->reactor)->websocket;
}

/* ---- the handshake -------------------------------------------------------------- */

static int check_offer(at_websocket *websocket, const at_h1_request *request,
                       const char **text)
{
    const at_h1_header *version = at_h1_find(request, "sec-websocket-version");
    if (version == NULL || version->value.size != 2 ||
        memcmp(version->value.data, "13", 2) != 0) {
        *text = "this server speaks version 13 of WebSocket";
        return 426;
    }
    if (!request->upgrade_websocket) {
        return 0; /* of HTTP/2, which has no key */
    }
    const at_h1_header *key = at_h1_find(request, "sec-websocket-key");
    if (key == NULL || at_ws_accept_key(key->value, websocket->accept_key) < 0) {
        *text = "Sec-WebSocket-Key is missing or malformed";
        return 400;
    }
    websocket->has_key = true;
    return 0;
}

/* Returns 0 or AT_ENOMEM. */
static int agree(at_websocket *websocket, const at_h1_request *request)
{
    at_ws_deflate_options options;
    at_ws_deflate_options_init(&options);
    int found = 0;
    for (size_t i = 0; i < request->header_count && found == 0; i++) {
        const at_h1_header *header = &request->headers[i];
        if (at_h1_equal(header->name, "sec-websocket-extensions")) {
            found =
                at_ws_deflate_negotiate(header->value, &options, &websocket->agreed);
        }
    }
    if (found == 1) {
        found = at_ws_deflate_new(&options, &websocket->deflate);
    }
    return found < 0 ? AT_ENOMEM : 0;
}

int at_websocket_offer(at_exchange *exchange, const at_h1_request *request,
                       const char **text)
{
    const at_websocket_limits *limits = limits_of(exchange);
    at_websocket *websocket = at_calloc(1, sizeof *websocket);
    if (websocket == NULL) {
        *text = "out of memory";
        return 503;
    }
    websocket->behind = &websocket->first;
    exchange->websocket = websocket;
    int status = check_offer(websocket, request, text);
    if (status == 0 && limits->deflate && agree(websocket, request) < 0) {
        *text = "out of memory";
        status = 503;
    }
    at_ws_reader_init(&websocket->reader, limits->message_bytes, websocket->deflate);
    return status;
}

static void drop_queue(at_websocket *websocket)
{
    while (websocket->first != NULL) {
        message *gone = websocket->first;
        websocket->first = gone->next;
        at_free(gone);
    }
    websocket->behind = &websocket->first;
    websocket->queue_count = 0;
    websocket->queue_bytes = 0;
}

void at_websocket_free(at_websocket *websocket)
{
    if (websocket == NULL) {
        return;
    }
    drop_queue(websocket);
    at_ws_reader_fini(&websocket->reader);
    at_ws_deflate_free(websocket->deflate);
    at_bytes_fini(&websocket->agreed);
    at_free(websocket);
}

bool at_websocket_is_accepted(const at_exchange *exchange)
{
    return exchange->websocket != NULL && exchange->websocket->accepted;
}

/* Fields that are the handshake's own. */
static bool is_reserved(at_span name)
{
    static const char *const names[] = {
        "connection",
        "content-length",
        "sec-websocket-accept",
        "sec-websocket-version",
        "sec-websocket-extensions",
        "transfer-encoding",
        "upgrade",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (at_h1_equal(name, names[i])) {
            return true;
        }
    }
    return false;
}

int at_websocket_accept(at_exchange *exchange, const at_h1_header *headers,
                        size_t header_count, const char **why)
{
    enum { OWN = 3 };
    at_websocket *websocket = exchange->websocket;
    if (exchange->started) {
        return AT_EBUSY;
    }
    if (exchange->connection == NULL) {
        return AT_ECLOSED;
    }
    for (size_t i = 0; i < header_count; i++) {
        if (is_reserved(headers[i].name)) {
            *why = "a header that is the handshake's own";
            return AT_EINVALID;
        }
    }
    at_h1_header *all = at_calloc(header_count + OWN, sizeof *all);
    if (all == NULL) {
        return AT_ENOMEM;
    }
    size_t count = 0;
    if (websocket->has_key) {
        all[count++] = (at_h1_header){{"upgrade", 7}, {"websocket", 9}};
        all[count++] = (at_h1_header){{"sec-websocket-accept", 20},
                                      {websocket->accept_key, AT_WS_ACCEPT_BYTES}};
    }
    if (websocket->agreed.size != 0) {
        all[count++] = (at_h1_header){{"sec-websocket-extensions", 24},
                                      {websocket->agreed.data, websocket->agreed.size}};
    }
    if (header_count != 0) {
        memcpy(all + count, headers, header_count * sizeof *all);
    }
    /* The carrier may work off what has come already before it returns. */
    websocket->accepted = true;
    int result = at_exchange_switch_protocol(exchange, all, count + header_count, why);
    if (result < 0) {
        websocket->accepted = false;
    }
    at_free(all);
    return result;
}

/* ---- the end --------------------------------------------------------------------- */

static void tell(at_exchange *exchange, at_reactor *reactor)
{
    if (exchange->wants_body) {
        exchange->wants_body = false;
        at_reactor_hooks(reactor)->body(at_reactor_context(reactor), exchange);
    }
    if (exchange->wants_writable && exchange->complete) {
        exchange->wants_writable = false;
        at_reactor_hooks(reactor)->writable(at_reactor_context(reactor), exchange);
    }
}

static void set_reason(at_websocket *websocket, uint16_t code, at_span reason)
{
    if (websocket->code != 0) {
        return;
    }
    websocket->code = code;
    size_t size = reason.size < REASON_BYTES ? reason.size : REASON_BYTES;
    if (size != 0) {
        memcpy(websocket->reason, reason.data, size);
    }
    websocket->reason_size = (uint8_t)size;
}

/* Send a close frame. Returns 0 or an error. */
static int send_close(at_exchange *exchange, uint16_t code, at_span reason)
{
    at_bytes frame = {NULL, 0, 0};
    int result = at_ws_write_close(&frame, code, reason);
    if (result == 0) {
        exchange->websocket->close_sent = true;
        result = at_exchange_emit(exchange, &(at_span){frame.data, frame.size}, 1);
    }
    at_bytes_fini(&frame);
    return result;
}

int at_websocket_close(at_exchange *exchange, uint16_t code, at_span reason)
{
    at_websocket *websocket = exchange->websocket;
    if (exchange->connection == NULL || websocket->over || websocket->close_sent ||
        !websocket->accepted) {
        return AT_ECLOSED;
    }
    at_reactor *reactor = exchange->connection->reactor;
    (void)at_exchange_ref(exchange);
    int result = send_close(exchange, code, reason);
    if (result == 0 || result == AT_ECLOSED) {
        set_reason(websocket, code, reason);
        exchange->complete = true;
        drop_queue(websocket);
        if (exchange->connection != NULL) {
            at_exchange_resume(
                exchange); /* the client's close frame, behind the rest */
        }
        tell(exchange, reactor);
    }
    at_exchange_unref(exchange);
    return result;
}

void at_websocket_lost(at_exchange *exchange)
{
    at_websocket *websocket = exchange->websocket;
    websocket->over = true;
    set_reason(websocket, AT_WS_CODE_LOST, (at_span){NULL, 0});
}

bool at_websocket_is_over(const at_exchange *exchange)
{
    return exchange->websocket->over;
}

bool at_websocket_is_closing(const at_exchange *exchange)
{
    return exchange->websocket->close_sent && !exchange->websocket->over;
}

/* The client closes: answer, and that was it. */
static void take_close(at_exchange *exchange, const at_ws_event *event)
{
    at_websocket *websocket = exchange->websocket;
    websocket->close_received = true;
    if (!websocket->close_sent) {
        (void)send_close(exchange, event->close_code, (at_span){NULL, 0});
    }
    set_reason(websocket, event->close_code, event->data);
    websocket->over = true;
    exchange->complete = true;
}

/* What came cannot be gone on from. */
static void fail(at_exchange *exchange, uint16_t code, const char *text)
{
    at_websocket *websocket = exchange->websocket;
    at_span reason = {text, strlen(text)};
    if (!websocket->close_sent) {
        (void)send_close(exchange, code, reason);
    }
    set_reason(websocket, code, reason);
    websocket->over = true;
    exchange->complete = true;
}

/* ---- messages that come ---------------------------------------------------------- */

static bool has_room(const at_exchange *exchange)
{
    const at_websocket *websocket = exchange->websocket;
    return websocket->queue_count < limits_of(exchange)->queue_count &&
           websocket->queue_bytes < QUEUE_BYTES;
}

bool at_websocket_wants_input(const at_exchange *exchange)
{
    return !exchange->websocket->over && has_room(exchange) &&
           at_exchange_waiting(exchange) <= AT_OUT_HIGH_BYTES;
}

static int enqueue(at_websocket *websocket, const at_ws_event *event)
{
    if (websocket->close_sent) {
        return 0; /* nobody will read it */
    }
    message *made = at_alloc(sizeof *made + event->data.size);
    if (made == NULL) {
        return AT_ENOMEM;
    }
    made->next = NULL;
    made->opcode = event->opcode;
    made->size = event->data.size;
    if (event->data.size != 0) {
        memcpy(made->data, event->data.data, event->data.size);
    }
    *websocket->behind = made;
    websocket->behind = &made->next;
    websocket->queue_count++;
    websocket->queue_bytes += made->size;
    return 0;
}

static int pong(at_exchange *exchange, at_span payload)
{
    if (exchange->websocket->close_sent) {
        return 0;
    }
    at_bytes frame = {NULL, 0, 0};
    int result = at_ws_write_message(&frame, NULL, AT_WS_PONG, payload);
    if (result == 0) {
        result = at_exchange_emit(exchange, &(at_span){frame.data, frame.size}, 1);
    }
    at_bytes_fini(&frame);
    return result;
}

/* Returns 0 or an error. */
static int take_event(at_exchange *exchange, const at_ws_event *event)
{
    switch (event->opcode) {
    case AT_WS_TEXT:
    case AT_WS_BINARY:
        return enqueue(exchange->websocket, event);
    case AT_WS_PING:
        return pong(exchange, event->data);
    case AT_WS_CLOSE:
        take_close(exchange, event);
        return 0;
    default:
        return 0;
    }
}

size_t at_websocket_input(at_exchange *exchange, char *data, size_t size)
{
    at_websocket *websocket = exchange->websocket;
    at_reactor *reactor = exchange->connection->reactor;
    size_t at = 0;
    char none[1] = {0};
    if (size != 0) {
        websocket->pinging = false; /* it lives */
    } else {
        data = none; /* there may be no buffer, to which an offset could be added */
    }
    (void)at_exchange_ref(exchange);
    while (exchange->connection != NULL && at_websocket_wants_input(exchange)) {
        size_t used = 0;
        at_ws_event event;
        int result =
            at_ws_read(&websocket->reader, data + at, size - at, &used, &event);
        at += used;
        if (result == AT_EAGAIN) {
            break;
        }
        if (result == 1) {
            result = take_event(exchange, &event);
        } else if (result == AT_EFORMAT || result == AT_ELIMIT) {
            fail(exchange, websocket->reader.error_code, websocket->reader.error_text);
            result = 0;
        }
        if (result < 0 && result != AT_ECLOSED) {
            fail(exchange, AT_WS_CODE_INTERNAL_ERROR, "out of memory");
        }
    }
    if (websocket->first != NULL || websocket->over) {
        tell(exchange, reactor);
    }
    at_exchange_unref(exchange);
    return at;
}

int at_websocket_next(at_exchange *exchange, at_ws_opcode *opcode, at_span *found,
                      uint16_t *code, at_span *reason)
{
    at_websocket *websocket = exchange->websocket;
    const message *first = websocket->first;
    if (first != NULL) {
        *opcode = first->opcode;
        *found = (at_span){first->data, first->size};
        return 1;
    }
    if (websocket->over || websocket->close_sent || exchange->connection == NULL) {
        *code = websocket->code != 0 ? websocket->code : AT_WS_CODE_LOST;
        *reason = (at_span){websocket->reason, websocket->reason_size};
        return AT_ECLOSED;
    }
    return AT_EAGAIN;
}

void at_websocket_take(at_exchange *exchange)
{
    at_websocket *websocket = exchange->websocket;
    message *first = websocket->first;
    if (first == NULL) {
        return;
    }
    websocket->first = first->next;
    if (websocket->first == NULL) {
        websocket->behind = &websocket->first;
    }
    websocket->queue_count--;
    websocket->queue_bytes -= first->size;
    at_free(first);
    if (exchange->connection != NULL && !websocket->over) {
        at_exchange_resume(exchange);
    }
}

/* ---- messages that go ------------------------------------------------------------ */

int at_websocket_send(at_exchange *exchange, at_ws_opcode opcode, at_span payload)
{
    at_websocket *websocket = exchange->websocket;
    if (exchange->connection == NULL || websocket->over || websocket->close_sent) {
        return AT_ECLOSED;
    }
    exchange->sent_bytes += payload.size;
    int result;
    bool is_deflated = false;
    if (websocket->deflate != NULL && payload.size >= DEFLATE_FROM_BYTES) {
        is_deflated = true;
        at_bytes frame = {NULL, 0, 0};
        result = at_ws_write_message(&frame, websocket->deflate, opcode, payload);
        if (result == 0) {
            result = at_exchange_emit(exchange, &(at_span){frame.data, frame.size}, 1);
        }
        at_bytes_fini(&frame);
    } else {
        char prefix[AT_WS_PREFIX_BYTES_MAX];
        size_t size = at_ws_prefix(prefix, opcode, false, payload.size);
        at_span pieces[] = {{prefix, size}, payload};
        result = at_exchange_emit(exchange, pieces, 2);
    }
    if (result < 0) {
        if (is_deflated) {
            /* The next would refer to what the client has not had. */
            (void)at_websocket_close(exchange, AT_WS_CODE_INTERNAL_ERROR,
                                     (at_span){"out of memory", 13});
        }
        return result;
    }
    if (at_exchange_waiting(exchange) > AT_OUT_HIGH_BYTES) {
        exchange->wants_writable = true;
        return 1;
    }
    return 0;
}

bool at_websocket_is_pinging(const at_exchange *exchange)
{
    return exchange->websocket->pinging;
}

bool at_websocket_ping(at_exchange *exchange)
{
    at_websocket *websocket = exchange->websocket;
    if (!at_websocket_wants_input(exchange)) {
        return true; /* the pong may lie unread */
    }
    if (websocket->pinging) {
        return false;
    }
    at_bytes frame = {NULL, 0, 0};
    (void)at_exchange_ref(exchange); /* which a connection that fails lets go of */
    websocket->pinging =
        at_ws_write_message(&frame, NULL, AT_WS_PING, (at_span){"atoll", 5}) == 0 &&
        at_exchange_emit(exchange, &(at_span){frame.data, frame.size}, 1) == 0;
    at_exchange_unref(exchange);
    at_bytes_fini(&frame);
    return true;
}
