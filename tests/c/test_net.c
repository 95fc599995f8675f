/* The reactor with an application in C, through real sockets on the loopback. */
#include "net/reactor.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "client.h"
#include "observations.h"
#include "sys/clock.h"
#include "sys/thread.h"

/* An application: /hello answers at once; /echo with what was sent; /wait keeps the
 * exchange for the test to answer. */
typedef struct app {
    at_reactor *reactor;
    at_exchange *kept; /* a reference */
    at_bytes body;
    int requests, bodies, lost, forgotten, drains;
    bool drained;
} app;

static const char *why;
static const int64_t PATIENCE_NS = (int64_t)60 * 1000000000;

static void answer(at_exchange *exchange, const char *data, size_t size)
{
    at_span piece = {data, size};
    (void)at_exchange_respond(exchange, 200, NULL, 0, piece, false, &why);
}

static void echo(app *self, at_exchange *exchange)
{
    for (;;) {
        at_span piece;
        int more = at_exchange_body(exchange, &piece);
        if (more < 0) {
            return;
        }
        CHECK(at_bytes_append(&self->body, piece.data, piece.size) == 0);
        at_exchange_take_body(exchange, piece.size);
        if (more == 0) {
            answer(exchange, self->body.data, self->body.size);
            self->body.size = 0;
            return;
        }
        if (piece.size == 0) {
            at_exchange_want_body(exchange);
            return;
        }
    }
}

static void on_request(void *context, at_exchange *exchange, const at_h1_request *head)
{
    app *self = context;
    self->requests++;
    (void)at_exchange_ref(exchange);
    *at_exchange_connection_user(exchange) = self;
    if (at_h1_equal(head->path, "/hello")) {
        answer(exchange, "hello", 5);
    } else if (at_h1_equal(head->path, "/echo")) {
        echo(self, exchange);
    } else if (at_h1_equal(head->path, "/whole")) {
        at_span piece;
        if (at_exchange_body(exchange, &piece) == 0 && piece.size == 4) {
            if (at_exchange_respond(exchange, 200, NULL, 0, piece, false, &why) < 0) {
                at_exchange_abort(exchange);
            }
        } else {
            at_exchange_abort(exchange);
        }
    } else if (at_h1_equal(head->path, "/wait")) {
        CHECK(self->kept == NULL);
        self->kept = at_exchange_ref(exchange);
    }
    at_exchange_unref(exchange);
}

static void on_body(void *context, at_exchange *exchange)
{
    ((app *)context)->bodies++;
    (void)at_exchange_ref(exchange);
    echo(context, exchange);
    at_exchange_unref(exchange);
}

static void on_writable(void *context, at_exchange *exchange)
{
}

static void on_lost(void *context, at_exchange *exchange)
{
    ((app *)context)->lost++;
}

static void on_forget(void *context, void *connection_user)
{
    CHECK(connection_user == context);
    ((app *)context)->forgotten++;
}

static void on_drain(void *context)
{
    app *self = context;
    self->drains++;
    at_reactor_drain(self->reactor);
}

static void on_drained(void *context)
{
    ((app *)context)->drained = true;
}

static const at_hooks hooks = {on_request, on_body,  on_writable, on_lost,
                               on_forget,  on_drain, on_drained,  NULL};

typedef struct fixture {
    at_service *service;
    app app;
    int port;
} fixture;

/* `head_timeout_ns`: how long a head may take; 0: as long as it likes. */
static void set_up_timed(fixture *fixture, int64_t head_timeout_ns)
{
    *fixture = (struct fixture){0};
    at_service_limits limits;
    at_service_limits_init(&limits);
    limits.head_timeout_ns = head_timeout_ns;
    fixture->service = at_service_new(&limits);
    CHECK(fixture->service != NULL);
    CHECK(at_service_listen(fixture->service, "127.0.0.1", 0, 16, NULL) == 0);
    at_address address;
    CHECK(at_service_address(fixture->service, 0, &address));
    fixture->port = address.port;
    CHECK(at_reactor_open(&fixture->app.reactor, fixture->service, &hooks,
                          &fixture->app, 0, -1, NULL) == 0);
}

static void set_up(fixture *fixture)
{
    set_up_timed(fixture, 0);
}

static void tear_down(fixture *fixture)
{
    at_reactor_close(fixture->app.reactor);
    at_exchange_unref(fixture->app.kept);
    at_bytes_fini(&fixture->app.body);
    at_service_unref(fixture->service);
}

static int dial(const fixture *fixture)
{
    return dial_port(fixture->port);
}

static void say(int client, const char *text, size_t size)
{
    CHECK(send(client, text, size, MSG_NOSIGNAL) == (ssize_t)size);
}

/* Run the reactor until what came ends with `end` (NULL: until the connection ends).
 * Returns the bytes, terminated, which the next call overwrites. */
static const char *hear(fixture *fixture, int client, const char *end)
{
    static char heard[1 << 20];
    size_t size = 0;
    const int64_t end_ns = at_clock_ns() + PATIENCE_NS;
    while (at_clock_ns() < end_ns) {
        at_reactor_run(fixture->app.reactor, 1);
        ssize_t got = recv(client, heard + size, sizeof heard - 1 - size, MSG_DONTWAIT);
        size += got > 0 ? (size_t)got : 0;
        heard[size] = '\0';
        if (got == 0) {
            CHECK(end == NULL);
            return heard;
        }
        if (end != NULL && size >= strlen(end) &&
            strcmp(heard + size - strlen(end), end) == 0) {
            return heard;
        }
    }
    (void)fprintf(stderr, "heard only: %s\n", heard);
    CHECK(!"the answer never came");
    return NULL;
}

static int count(const char *text, const char *part)
{
    int found = 0;
    while ((text = strstr(text, part)) != NULL) {
        found++;
        text += strlen(part);
    }
    return found;
}

#define HELLO "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
#define WAIT "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"

static void pipeline(void)
{
    fixture fixture;
    set_up(&fixture);
    int client = dial(&fixture);
    for (int i = 0; i < 50; i++) {
        say(client, HELLO, strlen(HELLO));
    }
    size_t size = 0;
    char all[16384] = "";
    while (fixture.app.requests < 50 || count(all, "\r\n\r\nhello") < 50) {
        at_reactor_run(fixture.app.reactor, 1);
        ssize_t got = recv(client, all + size, sizeof all - 1 - size, MSG_DONTWAIT);
        size += got > 0 ? (size_t)got : 0;
        all[size] = '\0';
    }
    CHECK(count(all, "HTTP/1.1 200 OK") == 50);
    (void)close(client);
    tear_down(&fixture);
    CHECK(fixture.app.forgotten == 1);
    CHECK(fixture.app.lost == 0);
}

/* A chunked request cut in two at every place, with the next one behind it. */
static void chunks_cut_everywhere(void)
{
    static const char request[] =
        "POST /echo HTTP/1.1\r\nHost: x\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n4;e=1\r\ndefg\r\n0\r\nA: b\r\n\r\n" HELLO;
    fixture fixture;
    set_up(&fixture);
    int client = dial(&fixture);
    for (size_t cut = 1; cut < sizeof request - 1; cut++) {
        say(client, request, cut);
        at_reactor_run(fixture.app.reactor, 5);
        at_reactor_run(fixture.app.reactor, 0);
        say(client, request + cut, sizeof request - 1 - cut);
        const char *heard = hear(&fixture, client, "\r\n\r\nhello");
        CHECK(strstr(heard, "\r\n\r\nabcdefgHTTP/1.1 200") != NULL);
    }
    CHECK(fixture.app.requests == 2 * (int)(sizeof request - 2));
    (void)close(client);
    tear_down(&fixture);
}

/* What has come with the head is there at once: nobody has to wait for it. */
static void body_with_the_head(void)
{
    static const char *const requests[] = {
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
        "Expect: 100-continue\r\n\r\nbody",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
    };
    fixture fixture;
    set_up(&fixture);
    int client = dial(&fixture);
    for (int i = 0; i < 3; i++) {
        say(client, requests[i], strlen(requests[i]));
        const char *heard = hear(&fixture, client, "\r\n\r\nbody");
        CHECK(count(heard, "HTTP/1.1") == 1);
    }
    CHECK(fixture.app.requests == 3);
    CHECK(fixture.app.bodies == 0);
    /* One that is broken is refused before anybody hears of it. */
    static const char broken[] = "POST /echo HTTP/1.1\r\nHost: x\r\n"
                                 "Transfer-Encoding: chunked\r\n\r\nz\r\n";
    say(client, broken, strlen(broken));
    CHECK(strstr(hear(&fixture, client, "\n"), "HTTP/1.1 400") != NULL);
    CHECK(fixture.app.requests == 3);
    CHECK(fixture.app.lost == 0);
    (void)close(client);
    tear_down(&fixture);
}

static void answered_later(void)
{
    fixture fixture;
    set_up(&fixture);
    int client = dial(&fixture);
    say(client, WAIT HELLO, strlen(WAIT HELLO));
    while (fixture.app.kept == NULL) {
        at_reactor_run(fixture.app.reactor, 1);
    }
    CHECK(fixture.app.requests == 1);
    answer(fixture.app.kept, "waited", 6);
    CHECK(fixture.app.kept->complete);
    const char *heard = hear(&fixture, client, "hello");
    CHECK(strstr(heard, "\r\n\r\nwaitedHTTP/1.1 200") != NULL);
    (void)close(client);
    tear_down(&fixture);
}

static void client_goes_away(void)
{
    fixture fixture;
    set_up(&fixture);
    int client = dial(&fixture);
    say(client, WAIT, strlen(WAIT));
    while (fixture.app.kept == NULL) {
        at_reactor_run(fixture.app.reactor, 1);
    }
    (void)close(client);
    while (fixture.app.lost == 0) {
        at_reactor_run(fixture.app.reactor, 1);
    }
    at_span piece = {"x", 1};
    (void)at_exchange_respond(fixture.app.kept, 200, NULL, 0, piece, true, &why);
    while (fixture.app.kept->connection != NULL) {
        (void)at_exchange_write(fixture.app.kept, piece, true);
        at_reactor_run(fixture.app.reactor, 1);
    }
    CHECK(at_exchange_write(fixture.app.kept, piece, true) == AT_ECLOSED);
    CHECK(fixture.app.lost == 1);
    tear_down(&fixture);
}

static void closed_with_a_request_running(void)
{
    fixture fixture;
    set_up(&fixture);
    int client = dial(&fixture);
    say(client, WAIT, strlen(WAIT));
    while (fixture.app.kept == NULL) {
        at_reactor_run(fixture.app.reactor, 1);
    }
    at_reactor_abort(fixture.app.reactor);
    CHECK(fixture.app.lost == 1);
    CHECK(fixture.app.kept->connection == NULL);
    CHECK(at_exchange_peer(fixture.app.kept) == NULL);
    (void)close(client);
    tear_down(&fixture);
}

static void drain(void)
{
    fixture fixture;
    set_up(&fixture);
    int idle = dial(&fixture);
    int busy = dial(&fixture);
    say(idle, HELLO, strlen(HELLO));
    (void)hear(&fixture, idle, "hello");
    say(busy, WAIT, strlen(WAIT));
    while (fixture.app.kept == NULL) {
        at_reactor_run(fixture.app.reactor, 1);
    }
    at_service_drain(fixture.service);
    CHECK(*hear(&fixture, idle, NULL) == '\0');
    CHECK(fixture.app.drains == 1);
    CHECK(!fixture.app.drained);
    answer(fixture.app.kept, "last", 4);
    const char *heard = hear(&fixture, busy, NULL);
    CHECK(strstr(heard, "onnection: close\r\n") != NULL);
    CHECK(strstr(heard, "\r\n\r\nlast") != NULL);
    (void)close(idle);
    (void)close(busy);
    while (!fixture.app.drained) {
        at_reactor_run(fixture.app.reactor, 1);
    }
    tear_down(&fixture);
}

/* It drains, and its owner gets stuck before it has looked at its connections. */
static void given_up_as_it_begins_to_drain(void)
{
    fixture fixture;
    set_up(&fixture);
    int idle = dial(&fixture);
    int busy = dial(&fixture);
    say(idle, HELLO, strlen(HELLO));
    (void)hear(&fixture, idle, "hello");
    say(busy, WAIT, strlen(WAIT));
    while (fixture.app.kept == NULL) {
        at_reactor_run(fixture.app.reactor, 1);
    }
    at_reactor_drain(fixture.app.reactor);
    at_given_up result;
    CHECK(at_service_give_up(fixture.service, at_thread_number(), 7, &result) == 0);
    CHECK(result.answered == 1 && result.moved == 1);
    const char *heard = hear(&fixture, busy, NULL);
    CHECK(strncmp(heard, "HTTP/1.1 503 ", 13) == 0);
    CHECK(fixture.app.lost == 1);
    (void)close(idle);
    (void)close(busy);
    tear_down(&fixture);
}

static void slow_head(void)
{
    fixture fixture;
    set_up_timed(&fixture, 50000000);
    int client = dial(&fixture);
    say(client, "GET /", 5);
    const char *heard = hear(&fixture, client, NULL);
    CHECK(strncmp(heard, "HTTP/1.1 408 ", 13) == 0);
    (void)close(client);
    tear_down(&fixture);
}

static void shared_between_two_reactors(void)
{
    fixture fixture;
    set_up(&fixture);
    app second = {0};
    CHECK(at_reactor_open(&second.reactor, fixture.service, &hooks, &second, 0, -1,
                          NULL) == 0);
    int clients[8];
    for (int i = 0; i < 8; i++) {
        clients[i] = dial(&fixture);
    }
    at_reactor_stats first_stats, second_stats;
    do {
        /* Only the first accepts, and gives half to the second; what the second leaves
         * lying there the balancer may take back. */
        at_reactor_run(fixture.app.reactor, 1);
        CHECK(at_service_stats(fixture.service, 0, &first_stats));
        CHECK(at_service_stats(fixture.service, 1, &second_stats));
    } while (first_stats.connections + second_stats.connections < 8);
    CHECK(first_stats.connections + second_stats.connections == 8);
    for (int i = 0; i < 8; i++) {
        say(clients[i], HELLO, strlen(HELLO));
    }
    while (fixture.app.requests + second.requests < 8) {
        at_reactor_run(fixture.app.reactor, 1);
        at_reactor_run(second.reactor, 1);
    }
    /* Who serves what is the balancer's: one that waits here may be served there. */
    CHECK(fixture.app.requests + second.requests == 8);
    at_reactor_close(second.reactor);
    for (int i = 0; i < 8; i++) {
        (void)close(clients[i]);
    }
    tear_down(&fixture);
}

/* Whoever answers, it is counted; and what a reactor counted outlives it. */
static void accounts(void)
{
    fixture fixture;
    set_up(&fixture);
    at_reactor_set_worker(fixture.app.reactor, 3, -1);
    int client = dial(&fixture);
    say(client, HELLO, strlen(HELLO));
    say(client, WAIT, strlen(WAIT));
    while (fixture.app.kept == NULL) {
        at_reactor_run(fixture.app.reactor, 10);
    }
    at_worker_stats stats;
    CHECK(!at_service_worker(fixture.service, 0, 0, &stats));
    CHECK(at_service_worker(fixture.service, 0, 3, &stats));
    CHECK(stats.running == 1 && stats.connections == 1 && stats.open);
    int rude = dial(&fixture);
    const char *bare = "GET / HTTP/1.1\nHost: x\r\n\r\n";
    say(rude, bare, strlen(bare));
    (void)close(client);
    while (fixture.app.lost == 0 || stats.tally.words[AT_COUNT_CLASS + 3] == 0) {
        at_reactor_run(fixture.app.reactor, 10);
        CHECK(at_service_worker(fixture.service, 0, 3, &stats));
    }
    (void)close(rude);
    at_reactor_close(fixture.app.reactor);
    fixture.app.reactor = NULL;
    CHECK(at_service_worker(fixture.service, 0, 3, &stats));
    CHECK(stats.reactors == 0 && stats.running == 0);
    const uint64_t *words = stats.tally.words;
    CHECK(words[AT_COUNT_ACCEPTED] == 2);
    CHECK(words[AT_COUNT_REQUESTS] == 2);
    CHECK(words[AT_COUNT_LOST] == 1);
    CHECK(words[AT_COUNT_CLASS + 1] == 1 && words[AT_COUNT_CLASS + 3] == 1);
    CHECK(words[AT_COUNT_RECEIVED] == strlen(HELLO) + strlen(WAIT) + strlen(bare));
    CHECK(words[AT_COUNT_SENT] > 0);
    CHECK(observations(&stats.tally, AT_HISTOGRAM_LATENCY) == 1);
    CHECK(observations(&stats.tally, AT_HISTOGRAM_QUEUE) == 2);
    tear_down(&fixture);
}

/* ---- HTTP/2 ---------------------------------------------------------------------- */

static fixture lasting; /* what lives longer than one try */

/* The preface with SETTINGS, and "POST /whole" with its body, in one piece. */
#define POST_H2                                                                        \
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"                                                 \
    "\0\0\0\4\0\0\0\0\0"                                                               \
    "\0\0\xd\1\4\0\0\0\1\x83\x86\4\6/whole\1\1x"                                       \
    "\0\0\4\0\1\0\0\0\1body"

/* The answer, or the end of the stream or of the connection: whatever there is no
 * memory for, no client waits for ever. */
static int h2_without_memory(void)
{
    char heard[4096];
    size_t size = 0;
    bool answered = false, ended = false;
    int client = dial(&lasting);
    const int64_t end_ns = at_clock_ns() + PATIENCE_NS;
    say(client, POST_H2, sizeof POST_H2 - 1);
    while (!answered && !ended && at_clock_ns() < end_ns) {
        at_reactor_run(lasting.app.reactor, 1);
        ssize_t got = recv(client, heard + size, sizeof heard - size, MSG_DONTWAIT);
        size += got > 0 ? (size_t)got : 0;
        ended = got == 0 || (got < 0 && errno != EAGAIN);
        for (size_t at = 0; at + 9 <= size;) {
            const unsigned char *head = (const unsigned char *)heard + at;
            ended = ended || head[3] == 3 || head[3] == 7; /* RST_STREAM, GOAWAY */
            answered = answered || (head[3] == 0 && head[2] == 4);
            at += 9 + ((size_t)head[1] << 8 | head[2]);
        }
    }
    CHECK(answered || ended);
    (void)close(client);
    while (at_reactor_load(lasting.app.reactor) != 0) {
        at_reactor_run(lasting.app.reactor, 1);
    }
    return answered ? 0 : AT_ENOMEM;
}

/* Some can do without: that one try is answered says nothing of the next. The last try
 * is the one that asks for no more than there is. */
static void h2_failing(void)
{
    int without = 0;
    long asked, left = 0;
    do {
        (void)at_memory_fail_after(left);
        without += h2_without_memory() < 0;
        asked = at_memory_fail_after(-1);
    } while (asked > left++);
    CHECK(without > 5);
    CHECK(h2_without_memory() == 0);
}

int main(void)
{
    RUN(pipeline);
    RUN(chunks_cut_everywhere);
    RUN(body_with_the_head);
    RUN(answered_later);
    RUN(client_goes_away);
    RUN(closed_with_a_request_running);
    RUN(drain);
    RUN(given_up_as_it_begins_to_drain);
    RUN(slow_head);
    RUN(shared_between_two_reactors);
    RUN(accounts);
    set_up(&lasting);
    RUN(h2_failing);
    tear_down(&lasting);
    return 0;
}
