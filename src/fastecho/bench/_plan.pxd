"""What an engine is to do, and the memory to do it in.

The payload of a connection is one endless stream: a table of pseudo-random bytes, walked round and round from a place
of the connection's own. Its length is a prime number of cache lines, so bytes lost, doubled, swapped or taken from
another connection put everything after them out of step, and the comparison with the table sees it; and a message of
whole lines begins on one, as it would in any client (unaligned, the kernel's copy takes up to a quarter longer).
"""

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "bench/_poller.h" nogil:
    struct sockaddr_storage:
        pass
    int fe_address(int family, const char *host, int port, sockaddr_storage *to)

cdef enum:
    PERIOD = 64 * 1021                      # of the table: whole cache lines, and a prime number of them

cdef struct Message:
    uint64_t when                           # sent, or due to be sent
    uint32_t size

cdef struct Connection:
    int fd, state
    bint blocked, queued                    # the kernel takes no more; stands in the ring of free ones
    uint32_t inflight, head                 # messages under way, the oldest one's place in its ring
    uint32_t due                            # bytes missing of the oldest
    uint32_t tx_at, rx_at                   # places in the table
    uint64_t unsent, received
    uint64_t last                           # when it last showed life
    uint64_t retry                          # when to open it again; 0: nothing to be done again

cdef class Plan:
    cdef:
        sockaddr_storage address
        sockaddr_storage *sources
        int address_len, source_len, source_count
        int connection_count, depth, size_count, index
        uint32_t *sizes
        unsigned char *table
        unsigned char *inbox
        uint32_t chunk                      # of one read or write
        uint64_t timeout, random
        double gap, due                     # open loop: nanoseconds between messages; when the next is due
        bint open_loop, poisson, churn, verify
        Connection *connections
        Message *messages                   # a ring of `depth` for each connection
        int *free_ring                      # open loop: the connections that may take a message more

    cdef void next_arrival(self) noexcept nogil
