/* Connections that move between two services with one socket, as of two processes. */
#include <arpa/inet.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "net/reactor.h"
#include "sides.h"

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

int main(void)
{
    RUN(next_request_at_an_idle_process);
    RUN(retired_process_gives_its_connections);
    return 0;
}
