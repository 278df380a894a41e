"""The load engine: one Engine a thread, `connections` sockets, no Python object on the way of a message.

Phases, written by the thread that measures, read by the engine between two waits:

    CONNECT ─► WARM_UP ─► MEASURE ─► DRAIN ─► (returns; the connections stay open until close())
    opens      sends      counts     sends nothing new, but what was due before; waits for replies
      └───────────┴──────────┴────────┴──► STOP: returns at once

A connection:

    CLOSED ─open()─► CONNECTING ─writable─► OPEN ─(reply complete, churn)─► CLOSED
       ▲                  │                   │
       └──── fail(kind): counted, closed, opened again by sweep() after 100 ms ────┘

The payload of a connection is one endless stream: a table of pseudo-random bytes, walked round and round from a place
of the connection's own. Its length is a prime number of cache lines, so bytes lost, doubled, swapped or taken from
another connection put everything after them out of step, and the comparison with the table sees it; and a message of
whole lines begins on one, as it would in any client (unaligned, the kernel's copy takes up to a quarter longer).
"""

from libc.stdint cimport uint32_t, uint64_t

from fastecho.bench._hdr cimport Histogram

cdef extern from "bench/_poller.h" nogil:
    int FE_READABLE, FE_WRITABLE, MSG_NOSIGNAL
    struct sockaddr_storage:
        pass
    ctypedef struct fe_poller:
        pass
    uint64_t fe_now()
    uint64_t fe_thread_cpu()
    int fe_load(const int *word)
    void fe_store(int *word, int value)
    int fe_again(int error)
    int fe_address(int family, const char *host, int port, sockaddr_storage *to)
    int fe_connect(const sockaddr_storage *to, int to_len, const sockaddr_storage *source, int source_len)
    int fe_socket_error(int fd)
    void fe_poller_init(fe_poller *p)
    int fe_poller_open(fe_poller *p, int connections)
    void fe_poller_close(fe_poller *p)
    int fe_poller_add(fe_poller *p, int fd, int index)
    void fe_poller_want(fe_poller *p, int index, int flags)
    void fe_poller_forget(fe_poller *p, int index)
    int fe_poller_wait(fe_poller *p, uint64_t timeout_ns)
    int fe_poller_event(fe_poller *p, int i, int *index)

cdef enum Phase:
    CONNECT, WARM_UP, MEASURE, DRAIN, STOP

cdef enum State:
    CLOSED, CONNECTING, OPEN

cdef enum Kind:
    E_CONNECT, E_RESET, E_SHORT, E_CORRUPT, E_EXCESS, E_TIMEOUT, KINDS

cdef struct Fault:                      # the first of its kind
    int seen, connection, error, expected, got
    uint64_t offset

cdef struct Message:
    uint64_t when                       # sent, or due to be sent
    uint32_t size

cdef struct Connection:
    int fd, state
    bint blocked, queued                # the kernel takes no more; stands in the ring of free ones
    uint32_t inflight, head             # messages under way, the oldest one's place in its ring
    uint32_t due                        # bytes missing of the oldest
    uint32_t tx_at, rx_at               # places in the table
    uint64_t unsent, received
    uint64_t last                       # when it last showed life
    uint64_t retry                      # when to open it again; 0: never opened yet

cdef class Engine:
    cdef:
        # what to do
        sockaddr_storage address
        sockaddr_storage *sources
        int address_len, source_len, source_count, source_next
        int connection_count, depth, size_count, size_next, index
        uint32_t *sizes
        unsigned char *table
        unsigned char *inbox
        uint32_t chunk
        uint64_t timeout, random
        double gap, due                 # open loop: nanoseconds between arrivals, and when the next is due
        bint open_loop, poisson, churn, verify
        # where it stands
        fe_poller poller
        Connection *connections
        Message *messages
        int *free_ring
        int free_head, free_count, next_open, pending, opened
        uint64_t now, inflight
        int phase, seen
        uint64_t from_time, to_time
        # what came of it
        readonly Histogram histogram
        uint64_t echo_count, byte_count, total_echoes, overdue_count
        uint64_t cpu_from, cpu_to
        uint64_t error_counts[KINDS]
        Fault faults[KINDS]

    cdef void loop(self) noexcept nogil
    cdef void enter(self, int phase) noexcept nogil
    cdef void handle(self, int i, int flags) noexcept nogil
    cdef void receive(self, int i) noexcept nogil
    cdef void complete(self, Connection *c, int i) noexcept nogil
    cdef void flush(self, int i) noexcept nogil
    cdef void queue(self, int i, uint64_t when) noexcept nogil
    cdef void begin(self, int i) noexcept nogil
    cdef uint64_t pump(self) noexcept nogil
    cdef void next_arrival(self) noexcept nogil
    cdef void give_back(self, int i) noexcept nogil
    cdef void open(self, int i, uint64_t when) noexcept nogil
    cdef void open_more(self) noexcept nogil
    cdef void sweep(self) noexcept nogil
    cdef void drop(self, int i) noexcept nogil
    cdef void established(self, Connection *c) noexcept nogil
    cdef void drop_all(self) noexcept nogil
    cdef void fault(self, int i, int kind, int error, int expected, int got) noexcept nogil
    cdef void fail(self, int i, int kind, int error) noexcept nogil
