/* Connections that move: from a reactor that is busy to one that has time, and from one
 * that drains to one that goes on. Two reactors on two threads, real sockets. */
#include <arpa/inet.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "check.h"
#include "net/reactor.h"
#include "sys/clock.h"
#include "sys/thread.h"

/* /hello says whose reactor answers; /burn keeps its thread until the test lets it go,
 * /half between its answer's head and its body, /short for two milliseconds; /echo
 * answers with the size of the body. While /share runs, one other shares the batch. */
typedef struct side {
    at_service *service;
    at_reactor *reactor;
    at_thread thread;
    char name;
    atomic_bool opened, stop, burning, drained;
    atomic_bool *let_go;
    uint64_t body_bytes; /* of the one /echo */
    int forgotten;
    at_newcomer *shared; /* what /share gave */
    unsigned undone;     /* of the batch, when it did */
} side;

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

static const at_hooks hooks = {.request = on_request,
                               .body = on_body,
                               .writable = on_writable,
                               .lost = on_lost,
                               .forget = on_forget,
                               .drain = on_drain,
                               .drained = on_drained};

static void wait_for(atomic_bool *flag)
{
    while (!atomic_load(flag)) {
        (void)usleep(100);
    }
}

static void run_side(void *argument)
{
    side *self = argument;
    CHECK(at_reactor_open(&self->reactor, self->service, &hooks, self, NULL) == 0);
    atomic_store(&self->opened, true);
    while (!atomic_load(&self->stop)) {
        at_reactor_run(self->reactor, 20);
    }
}

typedef struct fixture {
    at_service *service;
    side sides[2];
    atomic_bool let_go;
    int port;
} fixture;

/* The first reactor runs; the second is there but its thread waits for start_second, so
 * that who gets the first connections is known. */
static void set_up(fixture *fixture)
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

static void start(fixture *fixture, int i)
{
    side *self = &fixture->sides[i];
    self->service = fixture->service;
    CHECK(at_thread_start(&self->thread, "side", run_side, self, NULL) == 0);
    wait_for(&self->opened);
}

static void tear_down(fixture *fixture)
{
    for (int i = 0; i < 2; i++) {
        atomic_store(&fixture->sides[i].stop, true);
        at_thread_join(&fixture->sides[i].thread);
        at_reactor_close(fixture->sides[i].reactor);
    }
    at_service_unref(fixture->service);
}

static int dial(const fixture *fixture)
{
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)fixture->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 60};
    CHECK(client >= 0);
    CHECK(setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    CHECK(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
    return client;
}

static void say(int client, const char *text)
{
    CHECK(send(client, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

/* The next answer's body, which is one letter; 0 when the connection is over. */
static char hear(int client)
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

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static char ask(int client, const char *request)
{
    say(client, request);
    return hear(client);
}

/* Connections that are all at the first side. */
static void dial_first(fixture *fixture, int *clients, int count)
{
    start(fixture, 0);
    for (int i = 0; i < count; i++) {
        clients[i] = dial(fixture);
        CHECK(ask(clients[i], GET("/hello")) == 'a');
    }
    start(fixture, 1);
}

/* The side that burns; the machine being busy too, that can be either. */
static int burner(fixture *fixture)
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

static void next_request_at_an_idle_reactor(void)
{
    fixture fixture;
    set_up(&fixture);
    int clients[6];
    dial_first(&fixture, clients, 6);
    say(clients[0], GET("/burn"));
    int busy = burner(&fixture), other = 1 - busy;
    char name = fixture.sides[busy].name, other_name = fixture.sides[other].name;
    for (int i = 1; i < 6; i++) {
        CHECK(ask(clients[i], GET("/hello")) == other_name);
    }
    CHECK(atomic_load(&fixture.sides[busy].burning));
    at_reactor_stats stats;
    CHECK(at_service_stats(fixture.service, busy, &stats));
    CHECK(stats.connections == 1);
    CHECK(at_service_stats(fixture.service, other, &stats));
    CHECK(stats.connections == 5);
    atomic_store(&fixture.let_go, true);
    CHECK(hear(clients[0]) == name);
    for (int i = 0; i < 6; i++) {
        CHECK(ask(clients[i], GET("/hello")) != 0);
        (void)close(clients[i]);
    }
    tear_down(&fixture);
    CHECK(fixture.sides[0].forgotten + fixture.sides[1].forgotten >= 6);
}

/* Run the one reactor until it has had so many requests. */
static void run_until(fixture *fixture, uint64_t requests)
{
    at_reactor_stats stats;
    do {
        at_reactor_run(fixture->sides[0].reactor, 20);
        CHECK(at_service_stats(fixture->service, 0, &stats));
    } while (stats.tally.words[AT_COUNT_REQUESTS] < requests);
}

/* Of a batch that goes on, half of what is not begun is another's. */
static void batch_is_shared_evenly(void)
{
    enum { MANY = 6 };
    fixture fixture;
    set_up(&fixture);
    side *self = &fixture.sides[0];
    CHECK(at_reactor_open(&self->reactor, fixture.service, &hooks, self, NULL) == 0);
    int clients[MANY];
    for (int i = 0; i < MANY; i++) {
        clients[i] = dial(&fixture);
        say(clients[i], GET("/hello"));
    }
    run_until(&fixture, MANY);
    for (int i = 0; i < MANY; i++) {
        CHECK(hear(clients[i]) == 'a');
    }
    say(clients[0], GET("/share"));
    for (int i = 1; i < MANY; i++) {
        say(clients[i], GET("/hello"));
    }
    run_until(&fixture, MANY + 1);
    unsigned taken = 0, left = 0;
    for (at_newcomer *next; self->shared != NULL; self->shared = next) {
        next = self->shared->next;
        CHECK(self->shared->moved);
        at_newcomer_close(self->shared);
        taken++;
    }
    run_until(&fixture, MANY + MANY - taken);
    CHECK(taken == self->undone / 2);
    for (int i = 0; i < MANY; i++) {
        char byte;
        if (recv(clients[i], &byte, 1, MSG_PEEK) == 1) {
            CHECK(hear(clients[i]) == 'a');
        } else {
            left++; /* it was closed, with a request in it */
        }
        (void)close(clients[i]);
    }
    CHECK(left == taken);
    at_reactor_close(self->reactor);
    at_service_unref(fixture.service);
    CHECK(self->forgotten == MANY);
}

static void new_connection_at_an_idle_reactor(void)
{
    fixture fixture;
    set_up(&fixture);
    int clients[2];
    dial_first(&fixture, clients, 1);
    say(clients[0], GET("/burn"));
    int busy = burner(&fixture), other = 1 - busy;
    char name = fixture.sides[busy].name, other_name = fixture.sides[other].name;
    for (int i = 0; i < 4; i++) {
        clients[1] = dial(&fixture);
        CHECK(ask(clients[1], GET("/hello")) == other_name);
        (void)close(clients[1]);
    }
    atomic_store(&fixture.let_go, true);
    CHECK(hear(clients[0]) == name);
    (void)close(clients[0]);
    tear_down(&fixture);
}

/* What comes for a request that has begun is the owner's, whoever hears of it. */
static void running_requests_stay(void)
{
    fixture fixture;
    set_up(&fixture);
    int clients[3];
    dial_first(&fixture, clients, 3);
    say(clients[1], "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc");
    CHECK(ask(clients[2], GET("/hello")) != 0); /* so the first half was read */
    say(clients[0], GET("/burn"));
    int busy = burner(&fixture), other = 1 - busy;
    char name = fixture.sides[busy].name, other_name = fixture.sides[other].name;
    say(clients[1], "def" GET("/hello"));
    CHECK(ask(clients[2], GET("/hello")) == other_name);
    atomic_store(&fixture.let_go, true);
    CHECK(hear(clients[0]) == name);
    CHECK(hear(clients[1]) != 0);
    CHECK(hear(clients[1]) != 0);
    for (int i = 0; i < 3; i++) {
        (void)close(clients[i]);
    }
    tear_down(&fixture);
    CHECK(fixture.sides[0].body_bytes + fixture.sides[1].body_bytes == 6);
}

static void drained_reactor_gives_its_connections(void)
{
    fixture fixture;
    set_up(&fixture);
    int clients[5];
    dial_first(&fixture, clients, 5);
    say(clients[0], GET("/burn"));
    int busy = burner(&fixture), other = 1 - busy;
    char name = fixture.sides[busy].name, other_name = fixture.sides[other].name;
    CHECK(at_service_drain_one(fixture.service, busy));
    atomic_store(&fixture.let_go, true);
    CHECK(hear(clients[0]) == name);
    wait_for(&fixture.sides[busy].drained);
    for (int i = 0; i < 5; i++) {
        CHECK(ask(clients[i], GET("/hello")) == other_name);
    }
    at_service_drain(fixture.service);
    for (int i = 0; i < 5; i++) {
        CHECK(hear(clients[i]) == 0);
        (void)close(clients[i]);
    }
    wait_for(&fixture.sides[other].drained);
    tear_down(&fixture);
}

/* Clients on threads of their own, with requests that are now and then slow: each gets
 * all of its answers. */
enum { CLIENTS = 8, REQUESTS = 60 };

typedef struct client {
    at_thread thread;
    const fixture *fixture;
    int answers;
    unsigned seed;
} client;

static void run_client(void *argument)
{
    client *self = argument;
    int number = dial(self->fixture);
    for (int i = 0; i < REQUESTS; i++) {
        self->seed = self->seed * 1103515245 + 12345;
        bool slow = (self->seed >> 16) % 8 == 0;
        if ((self->seed >> 20) % 16 == 0) {
            (void)close(number);
            number = dial(self->fixture);
        }
        CHECK(ask(number, slow ? GET("/short") : GET("/hello")) != 0);
        self->answers++;
    }
    (void)close(number);
}

static void many_clients(void)
{
    fixture fixture;
    set_up(&fixture);
    start(&fixture, 0);
    start(&fixture, 1);
    static client clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (client){.fixture = &fixture, .seed = (unsigned)i + 1};
        CHECK(at_thread_start(&clients[i].thread, "client", run_client, &clients[i],
                              NULL) == 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        at_thread_join(&clients[i].thread);
        CHECK(clients[i].answers == REQUESTS);
    }
    tear_down(&fixture);
}

/* ---- two services, as of two processes --------------------------------------------
 */

static void join_passage(at_service *service, const int ends[2])
{
    CHECK(at_service_join_passage(service, ends[0], ends[1], NULL) == 0);
}

/* The second side gets a service of its own with the same socket, which the caller lets
 * go of. */
static at_service *set_up_apart(fixture *fixture)
{
    set_up(fixture);
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    at_service_limits limits;
    at_service_limits_init(&limits);
    at_service *apart = at_service_new(&limits);
    int listeners[AT_LISTENERS_MAX];
    CHECK(at_service_listeners(fixture->service, listeners) == 1);
    CHECK(at_service_adopt(apart, listeners[0], NULL) == 0);
    join_passage(fixture->service, ends);
    join_passage(apart, ends);
    (void)close(ends[0]);
    (void)close(ends[1]);
    return apart;
}

static void start_apart(fixture *fixture, at_service *apart)
{
    at_service *first = fixture->service;
    fixture->service = apart;
    start(fixture, 1);
    fixture->service = first;
}

static void next_request_at_an_idle_process(void)
{
    fixture fixture;
    at_service *apart = set_up_apart(&fixture);
    int clients[6];
    start(&fixture, 0);
    for (int i = 0; i < 6; i++) {
        clients[i] = dial(&fixture);
        CHECK(ask(clients[i], GET("/hello")) == 'a');
    }
    start_apart(&fixture, apart);
    say(clients[0], GET("/burn"));
    int busy = burner(&fixture), other = 1 - busy;
    for (int i = 1; i < 6; i++) {
        CHECK(ask(clients[i], GET("/hello")) == fixture.sides[other].name);
    }
    CHECK(atomic_load(&fixture.sides[busy].burning));
    atomic_store(&fixture.let_go, true);
    CHECK(hear(clients[0]) == fixture.sides[busy].name);
    for (int i = 0; i < 6; i++) {
        CHECK(ask(clients[i], GET("/hello")) != 0);
        (void)close(clients[i]);
    }
    tear_down(&fixture);
    at_service_unref(apart);
}

static void retired_process_gives_its_connections(void)
{
    enum { MANY = 400 }; /* more than a passage has room for at once */
    fixture fixture;
    at_service *apart = set_up_apart(&fixture);
    static int clients[MANY];
    start(&fixture, 0);
    for (int i = 0; i < MANY; i++) {
        clients[i] = dial(&fixture);
        CHECK(ask(clients[i], GET("/hello")) == 'a');
    }
    start_apart(&fixture, apart);
    at_service_retire(fixture.service);
    wait_for(&fixture.sides[0].drained);
    for (int i = 0; i < MANY; i++) {
        CHECK(ask(clients[i], GET("/hello")) == 'b');
    }
    at_service_drain(apart);
    for (int i = 0; i < MANY; i++) {
        CHECK(hear(clients[i]) == 0);
        (void)close(clients[i]);
    }
    wait_for(&fixture.sides[1].drained);
    tear_down(&fixture);
    at_service_unref(apart);
}

/* ---- a worker that is stuck ------------------------------------------------------
 */

static int thread_of(fixture *fixture, int side)
{
    at_reactor_stats stats;
    CHECK(at_service_stats(fixture->service, side, &stats));
    return stats.thread;
}

static int64_t silence(fixture *fixture, int side)
{
    at_probe probe;
    CHECK(at_service_probe(fixture->service, side, &probe));
    CHECK(probe.thread == thread_of(fixture, side));
    return probe.silent_ns;
}

/* Everything up to the end of the connection. */
static void hear_all(int client, char *text, size_t size)
{
    size_t at = 0;
    ssize_t got;
    while ((got = recv(client, text + at, size - 1 - at, 0)) > 0) {
        at += (size_t)got;
    }
    CHECK(got == 0);
    text[at] = '\0';
}

/* One answer, 503, and the end. */
static void hear_503(int client)
{
    char text[1024];
    hear_all(client, text, sizeof text);
    CHECK(strncmp(text, "HTTP/1.1 503 ", 13) == 0);
    CHECK(strstr(text, "retry-after: 7\r\n") != NULL);
    CHECK(strstr(text, "\r\n\r\n") == text + strlen(text) - 4);
}

static void busy_is_silent_and_idle_is_not(void)
{
    fixture fixture;
    set_up(&fixture);
    int clients[2];
    dial_first(&fixture, clients, 2);
    say(clients[0], GET("/burn"));
    int busy = burner(&fixture), other = 1 - busy;
    CHECK(silence(&fixture, busy) == 0); /* the first question */
    CHECK(silence(&fixture, busy) > 0);
    (void)silence(&fixture, other);
    while (silence(&fixture, other) > 0) { /* it answers, in its own time */
        (void)usleep(100);
    }
    CHECK(silence(&fixture, busy) > 0);
    atomic_store(&fixture.let_go, true);
    CHECK(hear(clients[0]) != 0);
    while (silence(&fixture, busy) > 0) {
        (void)usleep(100);
    }
    for (int i = 0; i < 2; i++) {
        (void)close(clients[i]);
    }
    tear_down(&fixture);
}

static void stuck_reactor_is_given_up(void)
{
    fixture fixture;
    set_up(&fixture);
    int clients[4];
    dial_first(&fixture, clients, 4);
    say(clients[1], "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc");
    say(clients[0], GET("/burn"));
    int busy = burner(&fixture), other = 1 - busy;
    char other_name = fixture.sides[other].name;
    at_given_up result;
    CHECK(at_service_give_up(fixture.service, -1, 7, &result) == AT_EINVALID);
    int thread = thread_of(&fixture, busy);
    CHECK(at_service_give_up(fixture.service, thread, 7, &result) == 0);
    hear_503(clients[0]);
    for (int i = 2; i < 4; i++) { /* they never notice */
        CHECK(ask(clients[i], GET("/hello")) == other_name);
    }
    CHECK(result.answered == 1 || result.answered == 2);
    CHECK(at_service_give_up(fixture.service, thread, 7, &result) == AT_EINVALID);
    CHECK(atomic_load(&fixture.sides[busy].burning));
    /* The owner comes back and finds nothing to do but to end. */
    atomic_store(&fixture.let_go, true);
    wait_for(&fixture.sides[busy].drained);
    for (int i = 2; i < 4; i++) {
        CHECK(ask(clients[i], GET("/hello")) == other_name);
    }
    for (int i = 0; i < 4; i++) {
        (void)close(clients[i]);
    }
    tear_down(&fixture);
}

/* Of an owner that was woken by being given up: what it has in hand it answers. */
static void given_up_owner_comes_back(void)
{
    fixture fixture;
    set_up(&fixture);
    int clients[1];
    dial_first(&fixture, clients, 1);
    say(clients[0], GET("/half"));
    int busy = burner(&fixture), thread = thread_of(&fixture, busy);
    at_given_up result;
    CHECK(at_service_give_up(fixture.service, thread, 7, &result) == 0);
    CHECK(result.answered == 0 && result.moved == 0);
    atomic_store(&fixture.let_go, true);
    CHECK(hear(clients[0]) == fixture.sides[busy].name);
    wait_for(&fixture.sides[busy].drained);
    CHECK(at_service_cut(fixture.service, thread, 7, &result) == 0);
    CHECK(result.answered == 0 && result.cut == 0);
    (void)close(clients[0]);
    tear_down(&fixture);
}

static void given_up_owner_stays_away(void)
{
    fixture fixture;
    set_up(&fixture);
    int clients[1];
    dial_first(&fixture, clients, 1);
    say(clients[0], GET("/half"));
    int busy = burner(&fixture), thread = thread_of(&fixture, busy);
    at_given_up result;
    CHECK(at_service_cut(fixture.service, thread, 7, &result) == 0);
    CHECK(result.cut == 0); /* it was not given up yet */
    CHECK(at_service_give_up(fixture.service, thread, 7, &result) == 0);
    for (;;) {
        CHECK(at_service_cut(fixture.service, thread, 7, &result) == 0);
        CHECK(result.answered == 0);
        if (result.cut == 1) {
            break;
        }
        (void)usleep(100); /* the first time it was asked for a sign of life */
    }
    char text[1024];
    hear_all(clients[0], text, sizeof text);
    CHECK(strstr(text, "503") == NULL); /* its answer had begun */
    atomic_store(&fixture.let_go, true);
    wait_for(&fixture.sides[busy].drained);
    (void)close(clients[0]);
    tear_down(&fixture);
}

static void closed_reactor_gives_what_rests(void)
{
    fixture fixture;
    set_up(&fixture);
    int clients[3];
    dial_first(&fixture, clients, 3);
    atomic_store(&fixture.sides[0].stop, true);
    at_thread_join(&fixture.sides[0].thread);
    at_reactor_close(fixture.sides[0].reactor);
    for (int i = 0; i < 3; i++) {
        CHECK(ask(clients[i], GET("/hello")) == 'b');
        (void)close(clients[i]);
    }
    atomic_store(&fixture.sides[1].stop, true);
    at_thread_join(&fixture.sides[1].thread);
    at_reactor_close(fixture.sides[1].reactor);
    at_service_unref(fixture.service);
}

int main(void)
{
    RUN(busy_is_silent_and_idle_is_not);
    RUN(stuck_reactor_is_given_up);
    RUN(given_up_owner_comes_back);
    RUN(given_up_owner_stays_away);
    RUN(closed_reactor_gives_what_rests);
    RUN(next_request_at_an_idle_reactor);
    RUN(batch_is_shared_evenly);
    RUN(new_connection_at_an_idle_reactor);
    RUN(running_requests_stay);
    RUN(drained_reactor_gives_its_connections);
    RUN(next_request_at_an_idle_process);
    RUN(retired_process_gives_its_connections);
    RUN(many_clients);
    return 0;
}
