/* A reactor whose owner comes back after its HTTP/2 connections were ended in its
 * stead: whoever ended them may still be at their streams. To be run under TSan as
 * well. */
#include <arpa/inet.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "check.h"
#include "client.h"
#include "net/reactor.h"
#include "sys/thread.h"

/* /wait is kept; /sync is answered; /burn, with a body that has come, keeps its thread
 * until the test lets it go, and then answers what was kept and reads the body. */
typedef struct owner {
    at_service *service;
    at_reactor *reactor;
    at_thread thread;
    atomic_bool opened, kept, burning, drained, stop;
    atomic_bool let_go; /* relaxed: it orders nothing that TSan should find */
    at_exchange *waiting;
    int answered; /* what came of it */
    int lost;
} owner;

static void burn(owner *self, at_exchange *exchange)
{
    atomic_store(&self->burning, true);
    while (!atomic_load_explicit(&self->let_go, memory_order_relaxed)) {
        (void)usleep(100);
    }
    const char *why = NULL;
    at_span piece = {"x", 1};
    self->answered =
        at_exchange_respond(self->waiting, 200, NULL, 0, piece, false, &why);
    at_exchange_unref(self->waiting);
    /* What has come can be read once, and no more than once. */
    CHECK(at_exchange_body(exchange, &piece) == 0 && piece.size == 4);
    at_exchange_take_body(exchange, 3);
    CHECK(at_exchange_body(exchange, &piece) == 0 && piece.size == 1);
    CHECK(piece.data[0] == 'd');
}

static void on_request(void *context, at_exchange *exchange, const at_h1_request *head)
{
    owner *self = context;
    (void)at_exchange_ref(exchange);
    if (at_h1_equal(head->path, "/wait")) {
        self->waiting = exchange;
        atomic_store(&self->kept, true);
        return;
    }
    if (at_h1_equal(head->path, "/sync")) {
        const char *why = NULL;
        at_span none = {NULL, 0};
        CHECK(at_exchange_respond(exchange, 204, NULL, 0, none, false, &why) == 0);
    } else {
        burn(self, exchange);
    }
    at_exchange_unref(exchange);
}

static void on_body(void *context, at_exchange *exchange)
{
}

static void on_writable(void *context, at_exchange *exchange)
{
}

static void on_lost(void *context, at_exchange *exchange)
{
    ((owner *)context)->lost++;
}

static void on_forget(void *context, void *connection_user)
{
}

static void on_drain(void *context)
{
    at_reactor_drain(((owner *)context)->reactor);
}

static void on_drained(void *context)
{
    atomic_store(&((owner *)context)->drained, true);
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

static void run(void *argument)
{
    owner *self = argument;
    CHECK(at_reactor_open(&self->reactor, self->service, &hooks, self, 0, -1, NULL) ==
          0);
    atomic_store(&self->opened, true);
    while (!atomic_load(&self->stop)) {
        at_reactor_run(self->reactor, 20);
    }
}

static int dial(const at_service *service)
{
    at_address address;
    CHECK(at_service_address(service, 0, &address));
    return dial_port_patiently(address.port);
}

/* The preface, SETTINGS, and HEADERS of stream 1: GET, or POST with DATA behind it. */
#define HELLO "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
#define WAIT "\0\0\x0c\1\5\0\0\0\1\x82\x86\x04\5/wait\x41\1x"
#define SYNC "\0\0\x0c\1\5\0\0\0\1\x82\x86\x04\5/sync\x41\1x"
#define BURN                                                                           \
    "\0\0\x0c\1\4\0\0\0\1\x83\x86\x04\5/burn\x41\1x"                                   \
    "\0\0\4\0\1\0\0\0\1abcd"

static void say(int client, const char *text, size_t size)
{
    CHECK(send(client, text, size, MSG_NOSIGNAL) == (ssize_t)size);
}

/* The kinds of frames that came until the connection was over, one letter each. */
static void hear_kinds(int client, char *kinds, size_t size_max)
{
    unsigned char text[4096];
    size_t size = 0, count = 0;
    ssize_t got;
    while ((got = recv(client, text + size, sizeof text - size, 0)) > 0) {
        size += (size_t)got;
        CHECK(size < sizeof text);
    }
    CHECK(got == 0);
    for (size_t at = 0; at < size; at += 9 + text[at + 1] * 256U + text[at + 2]) {
        CHECK(at + 9 <= size && count + 1 < size_max);
        kinds[count++] = (char)('0' + text[at + 3]);
    }
    kinds[count] = 0;
}

static void cut_and_answer(at_service *service, int thread, int answered)
{
    at_given_up result;
    CHECK(at_service_give_up(service, thread, 7, &result) == 0);
    do {
        CHECK(at_service_cut(service, thread, 7, &result) == 0);
        (void)usleep(100); /* the first time it was asked for a sign of life */
    } while (result.cut == 0);
    CHECK(result.cut == 2 && result.answered == answered);
}

static void cut(at_service *service, int thread)
{
    cut_and_answer(service, thread, 2);
}

/* A service whose one owner is burning for what clients[1] says, while clients[0]
 * waits. Gives the owner's thread. */
static int make_stuck_by(owner *owner, int clients[2], const char *text, size_t size)
{
    memset(owner, 0, sizeof *owner);
    at_service_limits limits;
    at_service_limits_init(&limits);
    limits.farewell_timeout_ns = INT64_C(60) * 1000000000;
    owner->service = at_service_new(&limits);
    CHECK(owner->service != NULL);
    CHECK(at_service_listen(owner->service, "127.0.0.1", 0, 64, NULL) == 0);
    CHECK(at_thread_start(&owner->thread, "owner", run, owner, NULL) == 0);
    wait_for(&owner->opened);
    clients[0] = dial(owner->service);
    clients[1] = dial(owner->service);
    say(clients[0], HELLO WAIT, sizeof HELLO WAIT - 1);
    wait_for(&owner->kept);
    say(clients[1], text, size);
    wait_for(&owner->burning);
    at_reactor_stats stats;
    CHECK(at_service_stats(owner->service, 0, &stats));
    return stats.thread;
}

static int make_stuck(owner *owner, int clients[2])
{
    return make_stuck_by(owner, clients, HELLO BURN, sizeof HELLO BURN - 1);
}

static void end_stuck(owner *owner)
{
    wait_for(&owner->drained);
    CHECK(owner->answered == AT_ECLOSED);
    CHECK(owner->lost == 2);
    atomic_store(&owner->stop, true);
    at_thread_join(&owner->thread);
    at_reactor_close(owner->reactor);
    at_service_unref(owner->service);
}

static void owner_comes_back_after_the_farewell(void)
{
    owner owner;
    int clients[2];
    int thread = make_stuck(&owner, clients);
    cut(owner.service, thread);
    atomic_store_explicit(&owner.let_go, true, memory_order_relaxed);
    for (int i = 0; i < 2; i++) { /* the answer is the farewell's alone */
        char kinds[16];
        hear_kinds(clients[i], kinds, sizeof kinds);
        size_t size = strlen(kinds);
        CHECK(size >= 2 && strcmp(kinds + size - 2, "17") == 0);
        CHECK(strchr(kinds, '1') == kinds + size - 2);
        (void)close(clients[i]);
    }
    end_stuck(&owner);
}

/* An answer of which nothing has gone, since it came in the same read, is another. */
static void an_answer_that_has_not_gone_is_replaced(void)
{
    owner owner;
    int clients[2];
    char text[] = HELLO SYNC BURN;
    size_t burn = sizeof HELLO SYNC - 1;
    text[burn + 8] = text[burn + 9 + 12 + 8] = 3; /* the stream of HEADERS and DATA */
    int thread = make_stuck_by(&owner, clients, text, sizeof text - 1);
    cut_and_answer(owner.service, thread, 3);
    atomic_store_explicit(&owner.let_go, true, memory_order_relaxed);
    char kinds[16];
    hear_kinds(clients[1], kinds, sizeof kinds);
    size_t size = strlen(kinds);
    CHECK(size >= 3 && strcmp(kinds + size - 3, "117") == 0);
    CHECK(strchr(kinds, '1') == kinds + size - 3);
    (void)close(clients[0]);
    (void)close(clients[1]);
    end_stuck(&owner);
}

/* ---- clients who have not read -------------------------------------------------- */

/* The server's descriptors of a connection: how many there are, and the first. */
static int find_server_side(int client, int *first)
{
    struct sockaddr_in own, peer;
    socklen_t size = sizeof own;
    CHECK(getsockname(client, (struct sockaddr *)&own, &size) == 0);
    int count = 0;
    for (int descriptor = 0; descriptor < 1024; descriptor++) {
        size = sizeof peer;
        if (descriptor != client &&
            getpeername(descriptor, (struct sockaddr *)&peer, &size) == 0 &&
            peer.sin_family == AF_INET && peer.sin_port == own.sin_port) {
            *first = count++ == 0 ? descriptor : *first;
        }
    }
    return count;
}

/* Send the client `most` bytes, or as many as its sockets take. */
static size_t fill(int client, size_t most)
{
    int server = -1;
    CHECK(find_server_side(client, &server) == 1);
    int small = 16 << 10;
    CHECK(setsockopt(server, SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
    char filling[1024];
    memset(filling, 'z', sizeof filling);
    size_t size = 0;
    ssize_t got;
    do {
        size_t left = most - size < sizeof filling ? most - size : sizeof filling;
        got = left != 0 ? send(server, filling, left, MSG_NOSIGNAL) : 0;
        size += got > 0 ? (size_t)got : 0;
    } while (got > 0);
    return size;
}

typedef struct cutter {
    at_service *service;
    int thread;
    at_thread own;
    atomic_bool done;
} cutter;

static void run_cutter(void *argument)
{
    cutter *self = argument;
    cut(self->service, self->thread);
    atomic_store(&self->done, true);
}

/* Read to the end: the farewell stands whole behind what filled the sockets. */
static void hear_whole(int client, size_t filled)
{
    size_t size = 0, capacity = filled + 4096;
    char *text = malloc(capacity);
    CHECK(text != NULL);
    ssize_t got;
    while ((got = recv(client, text + size, capacity - size, 0)) > 0) {
        size += (size_t)got;
    }
    CHECK(got == 0);
    char *last = text + size;
    while (last != text && last[-1] != 'z') {
        last--;
    }
    CHECK(last != text);
    size_t at = (size_t)(last - text);
    char kinds[16] = "";
    while (at < size) {
        CHECK(at + 9 <= size && strlen(kinds) + 1 < sizeof kinds);
        kinds[strlen(kinds)] = (char)('0' + text[at + 3]);
        at += 9 + (unsigned char)text[at + 1] * 256U + (unsigned char)text[at + 2];
    }
    CHECK(at == size);
    CHECK(strcmp(kinds, "17") == 0 || strcmp(kinds, "417") == 0);
    free(text);
}

/* Sockets that are full, or have room for the first bytes of the farewell alone. */
static void the_farewell_is_whole(void)
{
    owner owner;
    int clients[2];
    int thread = make_stuck(&owner, clients);
    cutter cutter = {.service = owner.service, .thread = thread};
    size_t filled[2];
    filled[1] = fill(clients[1], SIZE_MAX);
    filled[0] = fill(clients[0], filled[1] - 7);
    CHECK(at_thread_start(&cutter.own, "cutter", run_cutter, &cutter, NULL) == 0);
    /* What is not taken at once is kept, with a descriptor of its own. */
    int first;
    while (!atomic_load(&cutter.done) && find_server_side(clients[1], &first) == 1) {
        (void)usleep(100);
    }
    for (int i = 0; i < 2; i++) {
        hear_whole(clients[i], filled[i]);
        (void)close(clients[i]);
    }
    at_thread_join(&cutter.own);
    atomic_store_explicit(&owner.let_go, true, memory_order_relaxed);
    end_stuck(&owner);
}

int main(void)
{
    RUN(owner_comes_back_after_the_farewell);
    RUN(an_answer_that_has_not_gone_is_replaced);
    RUN(the_farewell_is_whole);
    return 0;
}
