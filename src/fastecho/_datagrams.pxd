"""UDP: one datagram in, the same datagram out, in batches.

    readable ─► recvmmsg(2), up to 64 ─► which of them are answered ─► sendmmsg(2) of those, from the same memory
                                              │
                                              └─► the rest is counted by its reason (`Outcome`)

Answers must not start a loop between two servers that answer each other (CVE-2024-2169). A forged source is enough for
that, so a datagram is refused if it comes from a port of a service (below 1024, or one of our own), from no single
host, or from a server like this one: answers leave with a hop limit of 255, which no common system uses for what its
programs send (64, Windows 128), and what arrives with more than 128 is refused. `RateTable` limits what is left.

Everything about one datagram runs without the interpreter lock, and allocates nothing.
"""

cimport cython
from libc.stdint cimport uint16_t, uint64_t

from ._buffer cimport Memory
from ._counters cimport Outcome, WorkerCounters


cdef extern from "_datagrams.h" nogil:
    cdef union fe_address:
        pass
    cdef union fe_control:
        pass

    cdef struct iovec:
        void* iov_base
        size_t iov_len

    cdef struct msghdr:
        void* msg_name
        unsigned int msg_namelen
        iovec* msg_iov
        size_t msg_iovlen
        void* msg_control
        size_t msg_controllen
        int msg_flags

    cdef struct fe_messages:
        msghdr msg_hdr
        unsigned int msg_len

    cdef struct fe_arrival:
        int hops
        bint group
        bint known

    int MSG_TRUNC
    int fe_receive(int fd, fe_messages* messages, unsigned int count)
    int fe_send(int fd, fe_messages* messages, unsigned int count)
    int fe_datagram_options(int fd, int family, bint any, int hops)
    void fe_read_arrival(msghdr* message, fe_arrival* arrival)
    void fe_reply_from(msghdr* message, int family, const fe_arrival* arrival)
    uint64_t fe_source_network(const fe_address* source)
    bint fe_source_is_host(const fe_address* source)
    bint fe_source_is_loopback(const fe_address* source)
    uint16_t fe_source_port(const fe_address* source)


cdef enum:
    BATCH = 64
    BATCHES = 4                 # of one socket in a turn of the loop; then it is the turn of others
    LARGEST = 65535             # bytes: no datagram is larger
    STAGGER = 192               # bytes: 64 buffers at the same offset of a page would share a few sets of the cache
    SETS = 1024
    WAYS = 4
    ANSWER_HOPS = 255
    CLIENT_HOPS = 128           # the most that a client's system starts with


cdef struct Allowance:
    uint64_t network
    uint64_t full_at            # ns: when the network may send a whole burst again


@cython.final
cdef class RateTable:
    # The allowance of each network that has sent lately: a set of four by a keyed hash, the one whose allowance is
    # full, or fullest, gives way. A full allowance is worth no memory: forgetting it changes nothing.
    cdef Allowance allowances[SETS * WAYS]
    cdef uint64_t key
    cdef uint64_t interval      # ns between two datagrams
    cdef uint64_t burst         # ns: one second's datagrams

    cdef bint allows(self, uint64_t network, uint64_t now) noexcept nogil


cdef struct Endpoint:
    int fd
    int family
    bint any                    # bound to all addresses


@cython.final
cdef class DatagramEcho:
    cdef object loop
    cdef list sockets
    cdef Endpoint* endpoints
    cdef object counted         # keeps the counters' memory
    cdef WorkerCounters* counters
    cdef RateTable rates        # None: no limit
    cdef Memory memory
    cdef Py_ssize_t size        # bytes of a buffer
    cdef uint64_t now           # ns, of this batch
    cdef unsigned char refused_ports[8192]         # a bit for each
    # Each slot of a batch has its buffer, source and control messages for good; answers refer to those of their slot.
    cdef fe_address sources[BATCH]
    cdef fe_control asked[BATCH]
    cdef fe_control replied[BATCH]
    cdef iovec buffers[BATCH]
    cdef iovec payloads[BATCH]
    cdef fe_messages received[BATCH]
    cdef fe_messages answers[BATCH]

    cdef int prepare(self, sock, Endpoint* endpoint) except -1
    cdef void refuse_port(self, Py_ssize_t port) noexcept
    cdef bint serve(self, Endpoint* endpoint, int batches) noexcept nogil
    cdef int receive(self, Endpoint* endpoint) noexcept nogil
    cdef int select(self, Endpoint* endpoint, int count) noexcept nogil
    cdef Outcome judge(self, int slot, const fe_arrival* arrival) noexcept nogil
    cdef void send(self, Endpoint* endpoint, int count) noexcept nogil
