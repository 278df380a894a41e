/* What differs between the platforms, and nothing else. */
#ifndef FASTECHO_COMPAT_H
#define FASTECHO_COMPAT_H

#include <errno.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/sockios.h>
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

/* Between the store of our own count and the loads of the other workers': see SharedCounters.total_active. */
#define FE_FENCE() __atomic_thread_fence(__ATOMIC_SEQ_CST)

/* The sum, which no other process gets too. */
#define FE_ADD(number, more) __atomic_add_fetch(number, more, __ATOMIC_RELAXED)

/* send(2) could take nothing now, but the connection is whole. */
static inline int fe_would_block(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ENOBUFS;
}

/* Bytes that the peer's side has not acknowledged yet (a FIN counts as one); 0 where that cannot be known. */
static inline long fe_unacknowledged(int fd)
{
    int count = 0;
#if defined(SIOCOUTQ)
    if (ioctl(fd, SIOCOUTQ, &count) != 0)
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

/* Close with RST instead of FIN. */
static inline void fe_close_means_reset(int fd)
{
    struct linger now = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

/* Seconds of the monotonic clock. */
static inline double fe_monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
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
