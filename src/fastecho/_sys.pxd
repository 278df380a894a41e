"""Declarations of libc and of the platform: what _compat.h gives, under the names that the code uses."""

from libc.stdint cimport int64_t, uint64_t


cdef extern from "_compat.h" nogil:
    const char* FE_BUILD
    int FE_SEND_FLAGS
    void FE_ASSERT(bint condition)
    uint64_t FE_ADD(uint64_t* number, uint64_t more)
    bint fe_would_block(int error)
    long fe_unacknowledged(int fd)
    long fe_readable(int fd)
    uint64_t fe_inode(int fd)
    int fe_left(int fd)
    void fe_close_means_reset(int fd)
    void fe_reset_now(int fd)
    void fe_keep_urgent_inline(int fd)
    void fe_receive_little(int fd)
    void* fe_map(size_t size)
    double fe_monotonic()
    ctypedef struct ThreadUsage "struct fe_thread_usage":
        double wall
        double cpu
        int64_t sleeps
        int64_t preemptions
    void fe_read_thread_usage(ThreadUsage* usage)


cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int fd, const void* data, size_t size, int flags)
    int shutdown(int fd, int how)
    int SHUT_WR


cdef extern from "<sys/mman.h>" nogil:
    int munmap(void* address, size_t size)


cdef extern from "<unistd.h>" nogil:
    int getpagesize()
