"""The load engine for UDP: one DatagramEngine a thread, `connections` sockets, no Python object on the way of a datagram.

The phases are those of `_load.Engine`. Each socket is connected, and keeps `depth` datagrams in flight. A datagram is

    sequence (8 bytes) | tag (8 bytes) | bytes of the payload table, from a place that follows from the sequence

The tag follows from the sequence, the socket and the seed, so a datagram that is not of this socket, or whose sequence was
altered, is recognised. Each socket remembers its last datagrams in a ring, by sequence:

    FREE ─► IN_FLIGHT ─► DONE          it came back: another one of the same sequence is a duplicate
                 └─────► LOST ─► DONE  nothing for `timeout`; if it still comes, it was reordered and not lost

A datagram is reordered if one with a later sequence has come back before it. In an open loop one schedule is shared by all
sockets of the engine: what is due goes to the next socket that has fewer than `depth` in flight, and waits if none has.
"""

from libc.stdint cimport uint32_t, uint64_t

from ._hdr cimport Histogram
from ._load cimport fe_poller

cdef extern from "_datagrams.h" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    cdef struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    cdef struct fe_messages:
        msghdr msg_hdr
        unsigned int msg_len
    int fe_receive(int fd, fe_messages *messages, unsigned int count)
    int fe_send(int fd, fe_messages *messages, unsigned int count)

cdef enum:
    BATCH = 64
    HEADER = 16                             # bytes of sequence and tag
    BUFFER = 65536
    SHOWN = 48

cdef enum:                                  # the state of a datagram
    FREE, IN_FLIGHT, DONE, LOST

cdef enum:                                  # by DATAGRAM_KINDS
    K_CONNECT, K_RESET, K_LOST, K_DUPLICATED, K_REORDERED, K_ALTERED, KINDS

cdef struct Slot:
    uint64_t sequence
    uint64_t sent, due                      # the same in a closed loop
    int state

cdef struct Header:
    uint64_t sequence, tag

cdef struct Sock:
    int fd
    uint64_t next, oldest, highest          # sequences: to send, the first that may be in flight, the latest that came
    uint32_t inflight

cdef struct Fault:                          # the first of its kind
    int connection, error
    uint64_t sequence
    unsigned char got[SHOWN]
    unsigned char expected[SHOWN]
    int got_size, expected_size

cdef class DatagramEngine:
    cdef:
        # the load, copied from the arguments
        int socket_count, depth, size_count, index
        uint32_t *sizes
        unsigned char *table
        uint64_t timeout, random, seed, ring
        double gap                          # open loop: nanoseconds between two datagrams
        bint open_loop, poisson, verify
        Sock *socks
        Slot *slots                         # a ring for each socket
        # its state
        fe_poller poller
        int phase, seen, turn
        double due                          # open loop: when the next datagram is due
        uint64_t now, inflight, from_time, to_time
        bint finished                       # open loop: all that was due was sent, or given up
        # one batch, in or out
        unsigned char *inbox
        Header headers[BATCH]
        iovec pieces[2 * BATCH]
        iovec boxes[BATCH]
        fe_messages outgoing[BATCH]
        fe_messages incoming[BATCH]
        uint64_t dues[BATCH]
        # what came of it
        readonly Histogram histogram
        uint64_t echo_count, byte_count, total_echoes, overdue_count
        uint64_t cpu_from, cpu_to
        uint64_t error_counts[KINDS]
        Fault faults[KINDS]

    cdef void loop(self) noexcept nogil
    cdef void enter(self, int phase) noexcept nogil
    cdef void handle(self, int i) noexcept nogil
    cdef void check(self, int i, unsigned char *data, uint32_t size) noexcept nogil
    cdef void complete(self, int i, Slot *slot, uint32_t size) noexcept nogil
    cdef void refill(self, int i) noexcept nogil
    cdef int send(self, int i, int count) noexcept nogil
    cdef uint64_t pump(self) noexcept nogil
    cdef int free_socket(self) noexcept nogil
    cdef void sweep(self) noexcept nogil
    cdef double draw_gap(self) noexcept nogil
    cdef void end_schedule(self) noexcept nogil
    cdef Slot *slot_of(self, int i, uint64_t sequence) noexcept nogil
    cdef uint64_t tag_of(self, int i, uint64_t sequence) noexcept nogil
    cdef uint32_t size_of(self, uint64_t sequence) noexcept nogil
    cdef uint32_t place_of(self, int i, uint64_t sequence) noexcept nogil
    cdef void fail(self, int i, int kind, uint64_t sequence, int error) noexcept nogil
    cdef void lose(self, int i, Slot *slot) noexcept nogil
