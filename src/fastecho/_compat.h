/* What differs between the platforms, and nothing else. */
#ifndef FASTECHO_COMPAT_H
#define FASTECHO_COMPAT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* POLLRDHUP */
#endif
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#endif

#ifndef MSG_NOSIGNAL /* macOS; CPython ignores SIGPIPE in any case */
#define MSG_NOSIGNAL 0
#endif
#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

#ifdef FASTECHO_DEBUG
#include <assert.h>
#define FE_BUILD "debug"
#define FE_ASSERT(condition) assert(condition)
#else
#ifdef CYTHON_TRACE
#define FE_BUILD "coverage"
#else
#define FE_BUILD "release"
#endif
#define FE_ASSERT(condition) ((void)0)
#endif

#define FE_SEND_FLAGS (MSG_NOSIGNAL | MSG_DONTWAIT)

/* The sum, which no other process gets too. */
#define FE_ADD(number, more) __atomic_add_fetch(number, more, __ATOMIC_RELAXED)

/* send(2) could take nothing now, but the connection is whole. */
static inline int fe_would_block(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ENOBUFS;
}

#if defined(SIOCOUTQ)
/* Whether a TCP socket is in CLOSE: reset by the client, or given up by the kernel. */
static inline int fe_is_closed(int fd)
{
    unsigned char state = 0; /* the first field of struct tcp_info */
    socklen_t length = sizeof state;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &length) == 0 && state == TCP_CLOSE;
}
#endif

/* Bytes that the peer has not acknowledged yet (a FIN counts as one); 0 where that cannot be known.
   SIOCOUTQ stays above 0 for ever on a socket in CLOSE, whose bytes will never be acknowledged: that is 0 too. */
static inline long fe_unacknowledged(int fd)
{
    int count = 0;
#if defined(SIOCOUTQ)
    if (ioctl(fd, SIOCOUTQ, &count) != 0 || (count > 0 && fe_is_closed(fd)))
        return 0;
#elif defined(SO_NWRITE)
    socklen_t length = sizeof count;
    if (getsockopt(fd, SOL_SOCKET, SO_NWRITE, &count, &length) != 0)
        return 0;
#endif
    return count;
}

/* Bytes that the kernel has and we have not read; 0 where that cannot be known. */
static inline long fe_readable(int fd)
{
    int count = 0;
    return ioctl(fd, FIONREAD, &count) == 0 ? count : 0;
}

/* What became of the client, as far as the kernel knows without a read: 0 it is there, 1 it has sent FIN, 2 an error
   waits to be told. */
static inline int fe_left(int fd)
{
    struct pollfd look = {fd, 0, 0};
#ifdef POLLRDHUP
    look.events = POLLRDHUP;
#endif
    if (poll(&look, 1, 0) <= 0)
        return 0;
    return look.revents & POLLERR ? 2 : 1;
}

/* 0 for a descriptor that is not open. */
static inline uint64_t fe_inode(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 ? (uint64_t)status.st_ino : 0;
}

/* Close with RST instead of FIN. */
static inline void fe_close_means_reset(int fd)
{
    struct linger now = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

/* End a connection with RST, and leave the descriptor open. A UNIX socket has no RST. */
static inline void fe_reset_now(int fd)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    if (connect(fd, &none, sizeof none) != 0)
        shutdown(fd, SHUT_RDWR);
}

/* Take 8 KiB at a time from the client: for what is discarded, but costs time to read. */
static inline void fe_receive_little(int fd)
{
    int size = 8192;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

/* Keep urgent bytes (MSG_OOB) in the stream; only an accepted UNIX socket has not inherited that. */
static inline void fe_keep_urgent_inline(int fd)
{
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
}

/* Seconds of the monotonic clock. */
static inline double fe_monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

/* What the calling thread has used since it began, and the monotonic time. */
struct fe_thread_usage {
    double wall, cpu;
    int64_t sleeps, preemptions; /* context switches: voluntary, involuntary */
};

static inline void fe_read_thread_usage(struct fe_thread_usage *usage)
{
    struct timespec cpu;
    struct rusage switches;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu); /* getrusage lags behind by up to a tick */
#ifdef RUSAGE_THREAD
    getrusage(RUSAGE_THREAD, &switches);
#else
    getrusage(RUSAGE_SELF, &switches);
#endif
    usage->wall = fe_monotonic();
    usage->cpu = cpu.tv_sec + cpu.tv_nsec * 1e-9;
    usage->sleeps = switches.ru_nvcsw;
    usage->preemptions = switches.ru_nivcsw;
}

/* Page-aligned zero pages, resident only once touched; NULL where there is no memory. */
static inline void *fe_map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
#ifdef MADV_NOHUGEPAGE
    madvise(memory, size, MADV_NOHUGEPAGE); /* one 64 B echo must not make 2 MiB resident */
#endif
    return memory;
}

#endif
