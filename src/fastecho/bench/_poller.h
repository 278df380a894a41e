/* What the load engine needs of the platform: readiness, a clock, an address, a socket.
 *
 * Linux: epoll, edge-triggered for both directions, so that a connection costs one epoll_ctl in its life. Elsewhere
 * poll(2): the same contract, and a caller that reads until a short read is right on both.
 */
#ifndef FASTECHO_BENCH_POLLER_H
#define FASTECHO_BENCH_POLLER_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

#define FE_READABLE 1
#define FE_WRITABLE 2
#define FE_ENDING 4 /* the server's FIN is queued behind the bytes: no event will come for it again */

static inline uint64_t fe_clock(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static inline uint64_t fe_now(void) { return fe_clock(CLOCK_MONOTONIC); }
static inline uint64_t fe_thread_cpu(void) { return fe_clock(CLOCK_THREAD_CPUTIME_ID); }
static inline int fe_log2(uint64_t value) { return 63 - __builtin_clzll(value); }

/* The phase is written by one thread and read by others. */
static inline int fe_load(const int *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline void fe_store(int *word, int value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }


/* The length of the address written to `to`, or 0: `host` is numeric, or a path when `family` is AF_UNIX. */
static inline int fe_address(int family, const char *host, int port, struct sockaddr_storage *to) {
    memset(to, 0, sizeof *to);
    to->ss_family = (sa_family_t)family;
    if (family == AF_UNIX) {
        struct sockaddr_un *un = (struct sockaddr_un *)to;
        if (strlen(host) >= sizeof un->sun_path)
            return 0;
        strcpy(un->sun_path, host);
#ifdef __linux__
        if (host[0] == '@') { /* an abstract name: a NUL before it, and as long as the address says */
            un->sun_path[0] = 0;
            return (int)(un->sun_path - (char *)un) + (int)strlen(host);
        }
#endif
        return sizeof *un;
    }
    if (family == AF_INET6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
        in6->sin6_port = htons((uint16_t)port);
        return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1 ? (int)sizeof *in6 : 0;
    }
    struct sockaddr_in *in4 = (struct sockaddr_in *)to;
    in4->sin_port = htons((uint16_t)port);
    return inet_pton(AF_INET, host, &in4->sin_addr) == 1 ? (int)sizeof *in4 : 0;
}

/* A non-blocking socket, bound to `source` if it has a length, whose connection to `to` is under way; -1 and errno. */
static inline int fe_connect(const struct sockaddr_storage *to, int to_len,
                             const struct sockaddr_storage *source, int source_len) {
    int one = 1, error, fd = socket(to->ss_family, SOCK_STREAM, 0);
    if (fd < 0)
        return -1;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        goto fail;
    if (to->ss_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
#ifdef SO_NOSIGPIPE
    setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &one, sizeof one);
#endif
    if (source_len) {
#ifdef IP_BIND_ADDRESS_NO_PORT
        /* The port is chosen by connect, which knows the destination and may share it between destinations. */
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
#endif
        if (bind(fd, (const struct sockaddr *)source, (socklen_t)source_len) < 0)
            goto fail;
    }
    if (connect(fd, (const struct sockaddr *)to, (socklen_t)to_len) < 0 && errno != EINPROGRESS)
        goto fail;
    return fd;
fail:
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

static inline int fe_socket_error(int fd) {
    int error = 0;
    socklen_t size = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? errno : error;
}

/* FASTECHO_POLL builds the other one on Linux too, for its tests. */
#if defined(__linux__) && !defined(FASTECHO_POLL)

#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define FE_EVENTS 256

/* All zero is a closed poller, here and below: an engine whose arguments are refused is closed without having opened it. */
typedef struct {
    int fd, opened;
    struct epoll_event events[FE_EVENTS];
} fe_poller;

static inline int fe_poller_open(fe_poller *p, int connections) {
    (void)connections;
    prctl(PR_SET_TIMERSLACK, 1ul); /* an open loop sends on time, not within the default 50 us of it */
    p->fd = epoll_create1(EPOLL_CLOEXEC);
    p->opened = p->fd >= 0;
    return p->opened ? 0 : -1;
}
static inline void fe_poller_close(fe_poller *p) {
    if (p->opened)
        close(p->fd);
    p->opened = 0;
}
static inline int fe_poller_add(fe_poller *p, int fd, int index) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.u32 = (uint32_t)index}};
    return epoll_ctl(p->fd, EPOLL_CTL_ADD, fd, &event);
}
static inline void fe_poller_want(fe_poller *p, int index, int flags) { (void)p, (void)index, (void)flags; }
static inline void fe_poller_forget(fe_poller *p, int index) { (void)p, (void)index; } /* close(2) does */

static inline int fe_poller_wait(fe_poller *p, uint64_t timeout_ns) {
#ifdef SYS_epoll_pwait2
    if (timeout_ns > 0 && timeout_ns < 20000000u) {
        struct timespec t = {.tv_sec = 0, .tv_nsec = (long)timeout_ns};
        long n = syscall(SYS_epoll_pwait2, p->fd, p->events, FE_EVENTS, &t, NULL, 0);
        if (n >= 0 || errno != ENOSYS)
            return (int)n;
    }
#endif
    return epoll_wait(p->fd, p->events, FE_EVENTS, (int)((timeout_ns + 999999u) / 1000000u));
}
static inline int fe_poller_event(fe_poller *p, int i, int *index) {
    uint32_t events = p->events[i].events;
    *index = (int)p->events[i].data.u32;
    return (events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? FE_READABLE : 0) | (events & EPOLLOUT ? FE_WRITABLE : 0) |
           (events & (EPOLLRDHUP | EPOLLHUP) ? FE_ENDING : 0);
}

#else

#include <poll.h>

typedef struct {
    struct pollfd *fds;
    int *ready;
    int connections;
} fe_poller;

static inline int fe_poller_open(fe_poller *p, int connections) {
    p->connections = connections;
    p->fds = calloc((size_t)connections, sizeof *p->fds);
    p->ready = calloc((size_t)connections, sizeof *p->ready);
    for (int i = 0; p->fds && i < connections; i++)
        p->fds[i].fd = -1;
    return p->fds && p->ready ? 0 : -1;
}
static inline void fe_poller_close(fe_poller *p) {
    free(p->fds);
    free(p->ready);
    p->fds = NULL;
    p->ready = NULL;
}
static inline int fe_poller_add(fe_poller *p, int fd, int index) {
    p->fds[index].fd = fd;
    p->fds[index].events = POLLIN | POLLOUT;
    return 0;
}
static inline void fe_poller_want(fe_poller *p, int index, int flags) {
    p->fds[index].events = (short)(POLLIN | (flags & FE_WRITABLE ? POLLOUT : 0));
}
static inline void fe_poller_forget(fe_poller *p, int index) { p->fds[index].fd = -1; }
static inline int fe_poller_wait(fe_poller *p, uint64_t timeout_ns) {
    int n = 0;
    if (poll(p->fds, (nfds_t)p->connections, (int)((timeout_ns + 999999u) / 1000000u)) <= 0)
        return 0;
    for (int i = 0; i < p->connections; i++)
        if (p->fds[i].fd >= 0 && p->fds[i].revents)
            p->ready[n++] = i;
    return n;
}
static inline int fe_poller_event(fe_poller *p, int i, int *index) {
    short events = p->fds[*index = p->ready[i]].revents;
    return (events & ~POLLOUT ? FE_READABLE : 0) | (events & POLLOUT ? FE_WRITABLE : 0);
}

#endif
#endif
