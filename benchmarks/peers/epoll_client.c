/* The least load generator that is honest: N connections, one message in flight on each, one epoll loop.
 *
 *     epoll_client HOST PORT CONNECTIONS SIZE SECONDS [check]
 *
 * It prints `echoes seconds cpu_seconds`. With `check` it compares every byte and times every echo into a table of
 * counters, which is what any load generator must do that says its figures mean something; without, it only moves
 * bytes. `fastecho bench` is held to 1.15 x the CPU that this takes for an echo.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int fd;
    size_t received, unsent;
    uint64_t sent_at;
} connection;

static uint64_t clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t latencies[64];

static void push(int poller, connection *c, const char *message, size_t size) {
    ssize_t n = send(c->fd, message + (size - c->unsent), c->unsent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN)
        die("send");
    size_t before = c->unsent;
    c->unsent -= n > 0 ? (size_t)n : 0;
    if (c->unsent || before != size) {
        struct epoll_event event = {.events = c->unsent ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
    }
}

int main(int argc, char **argv) {
    if (argc < 6) {
        fprintf(stderr, "usage: epoll_client HOST PORT CONNECTIONS SIZE SECONDS [check]\n");
        return 2;
    }
    int count = atoi(argv[3]), check = argc > 6 && strcmp(argv[6], "check") == 0;
    size_t size = (size_t)atol(argv[4]);
    uint64_t run = (uint64_t)(atof(argv[5]) * 1e9);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    if (inet_pton(AF_INET, argv[1], &to.sin_addr) != 1 || count < 1 || size < 1)
        return 2;

    char *message = malloc(size), *inbox = malloc(size + 64);
    connection *connections = calloc((size_t)count, sizeof *connections);
    for (size_t i = 0; i < size; i++)
        message[i] = (char)(1 + rand() % 255);
    int poller = epoll_create1(0), one = 1;
    for (int i = 0; i < count; i++) {
        connection *c = &connections[i];
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0)
            die("connect");
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
    }

    uint64_t start = clock_ns(CLOCK_MONOTONIC), cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID), echoes = 0, now = start;
    for (int i = 0; i < count; i++) {
        connections[i].unsent = size;
        connections[i].sent_at = start;
        push(poller, &connections[i], message, size);
    }
    struct epoll_event events[256];
    while (now - start < run) {
        int n = epoll_wait(poller, events, 256, 100);
        if (!check)
            now = clock_ns(CLOCK_MONOTONIC);
        for (int k = 0; k < n; k++) {
            connection *c = events[k].data.ptr;
            if (events[k].events & EPOLLOUT && c->unsent)
                push(poller, c, message, size);
            if (!(events[k].events & EPOLLIN))
                continue;
            ssize_t got = recv(c->fd, inbox, size + 64, MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN)
                continue;
            if (got <= 0 || c->received + (size_t)got > size) {
                fprintf(stderr, "a wrong echo\n");
                return 1;
            }
            if (check && memcmp(inbox, message + c->received, (size_t)got) != 0) {
                fprintf(stderr, "a wrong byte\n");
                return 1;
            }
            c->received += (size_t)got;
            if (c->received < size)
                continue;
            echoes++;
            if (check) {
                now = clock_ns(CLOCK_MONOTONIC);
                latencies[63 - __builtin_clzll((now - c->sent_at) | 1)]++;
                c->sent_at = now;
            }
            c->received = 0;
            c->unsent = size;
            push(poller, c, message, size);
        }
    }
    printf("%llu %.6f %.6f\n", (unsigned long long)echoes, (double)(clock_ns(CLOCK_MONOTONIC) - start) / 1e9,
           (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu) / 1e9);
    return 0;
}
