/* The limit for a server on epoll: one thread, one recv() and one send() for a request,
 * a canned answer, and no more parsing than looking for the end of the head.
 *
 *     cc -O3 -D_GNU_SOURCE -o hello bench/c/hello.c && ./hello PORT
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, HEAD = 16384 };

static const char ANSWER[] = "HTTP/1.1 200 OK\r\n"
                             "content-type: text/plain\r\n"
                             "content-length: 13\r\n"
                             "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
                             "\r\n"
                             "Hello, world!";

static void watch(int epoll, int descriptor)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) < 0) {
        perror("epoll_ctl");
        exit(1);
    }
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((unsigned short)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (listener < 0 ||
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 1024) < 0) {
        perror("listen");
        exit(1);
    }
    return listener;
}

/* Answer what has come; a head in two pieces is beyond this server. */
static void answer(int client)
{
    char head[HEAD];
    ssize_t size = recv(client, head, sizeof head, 0);
    if (size <= 0 || memmem(head, (size_t)size, "\r\n\r\n", 4) == NULL ||
        send(client, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL) < 0) {
        close(client);
    }
}

int main(int count, char **words)
{
    if (count != 2) {
        fprintf(stderr, "usage: hello PORT\n");
        return 2;
    }
    int listener = listen_on(atoi(words[1]));
    int epoll = epoll_create1(0);
    watch(epoll, listener);
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int descriptor = events[i].data.fd;
            if (descriptor != listener) {
                answer(descriptor);
                continue;
            }
            int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            int on = 1;
            if (client >= 0) {
                (void)setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                watch(epoll, client);
            }
        }
    }
}
