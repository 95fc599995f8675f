/* Connections that move: from a reactor that is busy to one that has time, and from one
 * that drains to one that goes on. */
#include <arpa/inet.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "net/reactor.h"
#include "sides.h"
#include "sys/thread.h"

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
    CHECK(at_reactor_open(&self->reactor, fixture.service, &side_hooks, self, 0, -1,
                          NULL) == 0);
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
    CHECK(at_service_drain_thread(fixture.service, fixture.sides[busy].thread_number));
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

int main(void)
{
    RUN(next_request_at_an_idle_reactor);
    RUN(batch_is_shared_evenly);
    RUN(new_connection_at_an_idle_reactor);
    RUN(running_requests_stay);
    RUN(drained_reactor_gives_its_connections);
    RUN(many_clients);
    return 0;
}
