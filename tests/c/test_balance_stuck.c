/* What becomes of connections whose worker is stuck. */
#include <arpa/inet.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "net/reactor.h"
#include "sides.h"
#include "sys/thread.h"

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
    return 0;
}
