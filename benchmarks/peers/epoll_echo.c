/* The floor: an echo server with nothing in it but the system calls.
 *
 * One thread, level-triggered epoll, one buffer shared by all connections; a readable socket costs one recv and
 * one send. What a send could not take is kept in memory of its own, and that connection is not read until it has
 * gone. It ends a session at end of file or error; with --end-at-nul, also when a read ends in NUL.
 *
 * usage: epoll_echo PORT [--busy-poll US] [--end-at-nul]
 *
 * listens on 127.0.0.1, prints the port when ready. --busy-poll: after activity, ask epoll without sleeping for up
 * to US microseconds. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_SIZE = 64 * 1024, BATCH = 1024, BACKLOG = 4096 };

struct tail {
    size_t length, sent;
    int last;
    char bytes[];
};

static char buffer[BUFFER_SIZE];
static struct tail **tails; /* by descriptor; NULL unless bytes are due */
static int poller;
static int end_at_nul;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void watch(int fd, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poller, operation, fd, &event) < 0)
        fail("epoll_ctl");
}

static void end_session(int fd)
{
    free(tails[fd]);
    tails[fd] = NULL;
    close(fd);
}

static void keep(int fd, const char *bytes, size_t length, int last)
{
    struct tail *tail = malloc(sizeof *tail + length);
    if (!tail)
        fail("malloc");
    tail->length = length;
    tail->sent = 0;
    tail->last = last;
    memcpy(tail->bytes, bytes, length);
    tails[fd] = tail;
    watch(fd, EPOLL_CTL_MOD, EPOLLOUT);
}

static void flush(int fd)
{
    struct tail *tail = tails[fd];
    ssize_t sent = send(fd, tail->bytes + tail->sent, tail->length - tail->sent, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            end_session(fd);
        return;
    }
    tail->sent += (size_t)sent;
    if (tail->sent == tail->length && tail->last) {
        end_session(fd);
    } else if (tail->sent == tail->length) {
        free(tail);
        tails[fd] = NULL;
        watch(fd, EPOLL_CTL_MOD, EPOLLIN);
    }
}

static void echo(int fd)
{
    ssize_t received = recv(fd, buffer, BUFFER_SIZE, 0);
    if (__builtin_expect(received <= 0, 0)) {
        if (received == 0 || errno != EAGAIN)
            end_session(fd);
        return;
    }
    ssize_t sent = send(fd, buffer, (size_t)received, MSG_NOSIGNAL);
    int last = end_at_nul && buffer[received - 1] == '\0';
    if (__builtin_expect(sent == received, 1)) {
        if (last)
            end_session(fd);
        return;
    }
    if (sent < 0 && errno != EAGAIN) {
        end_session(fd);
        return;
    }
    if (sent < 0)
        sent = 0;
    keep(fd, buffer + sent, (size_t)(received - sent), last);
}

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        watch(fd, EPOLL_CTL_ADD, EPOLLIN);
}

static int listen_on(int port)
{
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (fd < 0)
        fail("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* Linux hands the option on to every accepted socket. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("bind");
    if (listen(fd, BACKLOG) < 0)
        fail("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        fail("getsockname");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int wait_spinning(struct epoll_event *events, long long spin_ns)
{
    long long until = now_ns() + spin_ns;
    do {
        int ready = epoll_wait(poller, events, BATCH, 0);
        if (ready != 0)
            return ready;
    } while (now_ns() < until);
    return epoll_wait(poller, events, BATCH, -1);
}

int main(int argc, char **argv)
{
    long long spin_ns = 0;
    int argument = 2;
    for (; argument < argc; argument++) {
        if (!strcmp(argv[argument], "--end-at-nul"))
            end_at_nul = 1;
        else if (!strcmp(argv[argument], "--busy-poll") && argument + 1 < argc)
            spin_ns = atoll(argv[++argument]) * 1000;
        else
            break;
    }
    if (argc < 2 || argument < argc) {
        fprintf(stderr, "usage: epoll_echo PORT [--busy-poll US] [--end-at-nul]\n");
        return 2;
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    tails = calloc(limit.rlim_cur, sizeof *tails);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (!tails || poller < 0)
        fail("start");
    int listener = listen_on(atoi(argv[1]));
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);

    static struct epoll_event events[BATCH];
    for (;;) {
        int ready = spin_ns ? wait_spinning(events, spin_ns) : epoll_wait(poller, events, BATCH, -1);
        if (ready < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                accept_all(fd);
            else if (tails[fd])
                flush(fd);
            else
                echo(fd);
        }
    }
}
