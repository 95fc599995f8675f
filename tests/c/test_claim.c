/* While its owner works on a connection nobody else can take it, whatever the layer
 * above does in between. One reactor, run by the test itself. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "client.h"
#include "net/connection.h"
#include "net/reactor.h"

enum { PIECE_BYTES = 64 << 10 };

static at_exchange *first; /* whose response waits for the client to read */
static int requests, ends;
static unsigned claim; /* of the connection, when its second request came */

static void on_request(void *context, at_exchange *exchange, const at_h1_request *head)
{
    static char zeros[PIECE_BYTES];
    const char *why = NULL;
    at_span piece = {zeros, sizeof zeros};
    if (++requests == 1) {
        first = at_exchange_ref(exchange);
        int result = at_exchange_respond(exchange, 200, NULL, 0, piece, true, &why);
        while (result == 0) {
            result = at_exchange_write(exchange, piece, true);
        }
        CHECK(result == 1);
        return;
    }
    claim = atomic_load(&exchange->connection->claim);
    CHECK(at_exchange_respond(exchange, 200, NULL, 0, piece, false, &why) >= 0);
}

/* All that was said has gone. */
static void on_writable(void *context, at_exchange *exchange)
{
    ends++;
    CHECK(at_exchange_write(exchange, (at_span){NULL, 0}, false) >= 0);
}

static void on_exchange(void *context, at_exchange *exchange)
{
}

static void on_forget(void *context, void *connection_user)
{
}

static void on_drain(void *context)
{
}

static const at_hooks hooks = {.request = on_request,
                               .body = on_exchange,
                               .writable = on_writable,
                               .lost = on_exchange,
                               .forget = on_forget,
                               .drain = on_drain,
                               .drained = on_drain};

static int dial(const at_service *service)
{
    at_address address;
    CHECK(at_service_address(service, 0, &address));
    return dial_port(address.port);
}

static void ask(int client)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    CHECK(send(client, text, sizeof text - 1, MSG_NOSIGNAL) == sizeof text - 1);
}

/* Read what there is. */
static void read_on(int client)
{
    static char text[1 << 20];
    while (recv(client, text, sizeof text, MSG_DONTWAIT) > 0) {
    }
    CHECK(errno == EAGAIN);
}

static void request_behind_a_slow_response(void)
{
    at_service_limits limits;
    at_service_limits_init(&limits);
    at_service *service = at_service_new(&limits);
    CHECK(service != NULL);
    CHECK(at_service_listen(service, "127.0.0.1", 0, 64, NULL) == 0);
    at_reactor *reactor;
    CHECK(at_reactor_open(&reactor, service, &hooks, NULL, 0, -1, NULL) == 0);
    int client = dial(service);
    ask(client);
    while (requests == 0) {
        at_reactor_run(reactor, 20);
    }
    /* The event that says that there is room again brings the next request as well. */
    read_on(client);
    ask(client);
    while (requests == 1) {
        at_reactor_run(reactor, 20);
        read_on(client);
    }
    CHECK(ends == 1);
    CHECK(claim == AT_CLAIM_ASKED);
    at_exchange_unref(first);
    (void)close(client);
    at_reactor_close(reactor);
    at_service_unref(service);
}

int main(void)
{
    RUN(request_behind_a_slow_response);
    return 0;
}
