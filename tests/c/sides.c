/* See sides.h. */
#include "sides.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "check.h"
#include "client.h"
#include "net/reactor.h"
#include "sys/clock.h"
#include "sys/thread.h"

static const char *why;

static void say_name(side *self, at_exchange *exchange)
{
    at_span piece = {&self->name, 1};
    (void)at_exchange_respond(exchange, 200, NULL, 0, piece, false, &why);
}

static void burn(side *self)
{
    atomic_store(&self->burning, true);
    while (!atomic_load(self->let_go)) {
        (void)usleep(100);
    }
    atomic_store(&self->burning, false);
}

static void say_name_in_halves(side *self, at_exchange *exchange)
{
    at_h1_header length = {.name = {"content-length", 14}, .value = {"1", 1}};
    at_span nothing = {NULL, 0}, name = {&self->name, 1};
    (void)at_exchange_ref(exchange);
    CHECK(at_exchange_respond(exchange, 200, &length, 1, nothing, true, &why) == 0);
    burn(self);
    (void)at_exchange_write(exchange, name, false);
    at_exchange_unref(exchange);
}

static void take_body(side *self, at_exchange *exchange)
{
    for (;;) {
        at_span piece;
        int more = at_exchange_body(exchange, &piece);
        if (more < 0) {
            return;
        }
        self->body_bytes += piece.size;
        at_exchange_take_body(exchange, piece.size);
        if (more == 0) {
            say_name(self, exchange);
            return;
        }
        if (piece.size == 0) {
            at_exchange_want_body(exchange);
            return;
        }
    }
}

static void take_share(void *argument)
{
    side *self = argument;
    at_newcomer *spare[8];
    int count = 0;
    while (count < 8) {
        spare[count] = at_alloc(sizeof **spare);
        CHECK(spare[count] != NULL);
        count++;
    }
    at_reactor_look look;
    at_reactor_observe(self->reactor, &look);
    self->undone = look.undone;
    self->shared = at_reactor_take_share(self->reactor, 1, spare, &count);
    while (count > 0) {
        at_free(spare[--count]);
    }
}

static void share(side *self)
{
    at_thread other;
    CHECK(at_thread_start(&other, "other", take_share, self, NULL) == 0);
    at_thread_join(&other);
}

static void on_request(void *context, at_exchange *exchange, const at_h1_request *head)
{
    side *self = context;
    *at_exchange_connection_user(exchange) = self;
    if (at_h1_equal(head->path, "/burn")) {
        burn(self);
    } else if (at_h1_equal(head->path, "/share")) {
        share(self);
    } else if (at_h1_equal(head->path, "/half")) {
        say_name_in_halves(self, exchange);
        return;
    } else if (at_h1_equal(head->path, "/short")) {
        int64_t end = at_clock_ns() + 2000000;
        while (at_clock_ns() < end) {
        }
    } else if (at_h1_equal(head->path, "/echo")) {
        (void)at_exchange_ref(exchange);
        take_body(self, exchange);
        at_exchange_unref(exchange);
        return;
    }
    say_name(self, exchange);
}

static void on_body(void *context, at_exchange *exchange)
{
    (void)at_exchange_ref(exchange);
    take_body(context, exchange);
    at_exchange_unref(exchange);
}

static void on_writable(void *context, at_exchange *exchange)
{
}

static void on_lost(void *context, at_exchange *exchange)
{
}

static void on_forget(void *context, void *connection_user)
{
    CHECK(connection_user == context);
    ((side *)context)->forgotten++;
}

static void on_drain(void *context)
{
    at_reactor_drain(((side *)context)->reactor);
}

static void on_drained(void *context)
{
    atomic_store(&((side *)context)->drained, true);
}

const at_hooks side_hooks = {.request = on_request,
                             .body = on_body,
                             .writable = on_writable,
                             .lost = on_lost,
                             .forget = on_forget,
                             .drain = on_drain,
                             .drained = on_drained};

void wait_for(atomic_bool *flag)
{
    while (!atomic_load(flag)) {
        (void)usleep(100);
    }
}

void run_side(void *argument)
{
    side *self = argument;
    CHECK(at_reactor_open(&self->reactor, self->service, &side_hooks, self, 0, -1,
                          NULL) == 0);
    self->thread_number = at_thread_number();
    atomic_store(&self->opened, true);
    while (!atomic_load(&self->stop)) {
        at_reactor_run(self->reactor, 20);
    }
}

void set_up(fixture *fixture)
{
    memset(fixture, 0, sizeof *fixture);
    at_service_limits limits;
    at_service_limits_init(&limits);
    fixture->service = at_service_new(&limits);
    CHECK(fixture->service != NULL);
    CHECK(at_service_listen(fixture->service, "127.0.0.1", 0, 64, NULL) == 0);
    at_address address;
    CHECK(at_service_address(fixture->service, 0, &address));
    fixture->port = address.port;
    for (int i = 0; i < 2; i++) {
        fixture->sides[i].name = (char)('a' + i);
        fixture->sides[i].let_go = &fixture->let_go;
    }
}

void start(fixture *fixture, int i)
{
    side *self = &fixture->sides[i];
    self->service = fixture->service;
    CHECK(at_thread_start(&self->thread, "side", run_side, self, NULL) == 0);
    wait_for(&self->opened);
}

void tear_down(fixture *fixture)
{
    for (int i = 0; i < 2; i++) {
        atomic_store(&fixture->sides[i].stop, true);
        at_thread_join(&fixture->sides[i].thread);
        at_reactor_close(fixture->sides[i].reactor);
    }
    at_service_unref(fixture->service);
}

int dial(const fixture *fixture)
{
    return dial_port_patiently(fixture->port);
}

void say(int client, const char *text)
{
    CHECK(send(client, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

char hear(int client)
{
    char text[1024];
    size_t size = 0;
    for (;;) {
        /* A byte at a time: the next answer must stay in the socket. */
        ssize_t got = recv(client, text + size, 1, 0);
        if (got == 0) {
            CHECK(size == 0);
            return 0;
        }
        CHECK(got == 1);
        size++;
        CHECK(size < sizeof text);
        if (size > 5 && memcmp(text + size - 5, "\r\n\r\n", 4) == 0) {
            return text[size - 1];
        }
    }
}

char ask(int client, const char *request)
{
    say(client, request);
    return hear(client);
}

void dial_first(fixture *fixture, int *clients, int count)
{
    start(fixture, 0);
    for (int i = 0; i < count; i++) {
        clients[i] = dial(fixture);
        CHECK(ask(clients[i], GET("/hello")) == 'a');
    }
    start(fixture, 1);
}

int burner(fixture *fixture)
{
    for (;;) {
        for (int i = 0; i < 2; i++) {
            if (atomic_load(&fixture->sides[i].burning)) {
                return i;
            }
        }
        (void)usleep(100);
    }
}
