/* Two reactors on two threads, with an application in C and clients on real sockets. */
#ifndef AT_TESTS_SIDES_H
#define AT_TESTS_SIDES_H

#include <stdatomic.h>

#include "net/reactor.h"
#include "sys/thread.h"

/* /hello says whose reactor answers; /burn keeps its thread until the test lets it go,
 * /half between its answer's head and its body, /short for two milliseconds; /echo
 * answers with the size of the body. While /share runs, one other shares the batch. */
typedef struct side {
    at_service *service;
    at_reactor *reactor;
    at_thread thread;
    int thread_number; /* by which the service knows it */
    char name;
    atomic_bool opened, stop, burning, drained;
    atomic_bool *let_go;
    uint64_t body_bytes; /* of the one /echo */
    int forgotten;
    at_newcomer *shared; /* what /share gave */
    unsigned undone;     /* of the batch, when it did */
} side;

typedef struct fixture {
    at_service *service;
    side sides[2];
    atomic_bool let_go;
    int port;
} fixture;

extern const at_hooks side_hooks;

void wait_for(atomic_bool *flag);

/* The first reactor runs; the second is there but its thread waits for start, so that
 * who gets the first connections is known. */
void set_up(fixture *fixture);

/* Run a side: its reactor on a thread of its own (run_side). */
void start(fixture *fixture, int i);
void run_side(void *side);
void tear_down(fixture *fixture);

/* ---- clients --------------------------------------------------------------------- */

int dial(const fixture *fixture);
void say(int client, const char *text);

/* The next answer's body, which is one letter; 0 when the connection is over. */
char hear(int client);

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

char ask(int client, const char *request);

/* Connections that are all at the first side; then the second runs, too. */
void dial_first(fixture *fixture, int *clients, int count);

/* The side that burns; the machine being busy too, that can be either. */
int burner(fixture *fixture);

#endif
