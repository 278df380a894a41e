"""The load engine: one Engine a thread, `connections` sockets, no Python object on the way of a message.

Phases, written by the thread that measures, read by the engine between two waits:

    CONNECT ─► WARM_UP ─► MEASURE ─► DRAIN ─► (returns; the connections stay open until close())
    opens      sends      counts     sends nothing new, but what was due before; waits for replies
      └───────────┴──────────┴────────┴──► STOP: returns at once

A connection:

    CLOSED ─open()─► CONNECTING ─writable─► OPEN ─(reply complete; churn: end_cycle())─► CLOSED
       ▲                  │                   │
       └──── fail(kind): counted, closed, opened again by sweep() after 100 ms ────┘

With churn, each connection carries one message. Who closes first, after the complete reply:

    the client (no terminator):  end_cycle() closes with FIN.
    the server (terminator):     the message ends in the terminator; the connection waits for the server's EOF, then
                                 end_cycle() closes with RST, so that the server's port is not left in TIME_WAIT.

While it waits for EOF, `inflight` is 1 and `expected` is 0 (`awaits_eof`): DRAIN and the time-out wait for EOF as for a
reply, and any byte is excess.

The payload of a connection is one endless stream: a table of pseudo-random bytes, read round and round from an offset that
differs by connection. The length of the table is a prime number of cache lines, so bytes that are lost, doubled, swapped or
taken from another connection put everything after them out of step, and the comparison with the table finds it. A message of
whole lines begins on one, as it would in any client (unaligned, the kernel's copy takes up to a quarter longer).

Which messages count for latency: `is_timed` in _load.pyx. In an open loop each connection has its schedule: its messages are due at its share of the rate, independent of the other
connections. A heap holds the connections that can send, ordered by when their next message is due. A connection that cannot
send (its messages in flight are as many as `depth`, or it is closed) leaves the heap and keeps its schedule: what falls due
meanwhile is sent when it can be sent, and its latency counts from when it was due.
"""

from libc.stdint cimport uint32_t, uint64_t

from ._hdr cimport Histogram

cdef extern from "bench/_poller.h" nogil:
    struct sockaddr_storage:
        pass
    int fe_address(int family, const char *host, int port, sockaddr_storage *to)
    int FE_READABLE, FE_WRITABLE, FE_ENDING, MSG_NOSIGNAL
    ctypedef struct fe_poller:
        pass
    uint64_t fe_now()
    uint64_t fe_thread_cpu()
    int fe_load(const int *word)
    void fe_store(int *word, int value)
    int fe_connect(const sockaddr_storage *to, int to_len, const sockaddr_storage *source, int source_len)
    int fe_socket_error(int fd)
    int fe_poller_open(fe_poller *p, int connections)
    void fe_poller_close(fe_poller *p)
    int fe_poller_add(fe_poller *p, int fd, int index)
    void fe_poller_want(fe_poller *p, int index, int flags)
    void fe_poller_forget(fe_poller *p, int index)
    int fe_poller_wait(fe_poller *p, uint64_t timeout_ns)
    int fe_poller_event(fe_poller *p, int i, int *index)

cdef extern from "bench/_proxy_header.h" nogil:
    enum: FE_PROXY_HEADER_MAX
    int fe_proxy_header(int fd, int version, char *to)

cpdef enum Phase:
    CONNECT
    WARM_UP
    MEASURE
    DRAIN
    STOP

cdef enum:
    PERIOD = 65344                          # of the table: 1021 cache lines of 64, a prime number of them

cdef struct Message:
    uint64_t when                           # sent, or due to be sent
    uint32_t size

cdef struct Connection:
    int fd, state
    bint blocked, scheduled                 # the kernel accepts no more; is in the heap
    uint32_t inflight, head                 # messages in flight, index of the oldest in its ring
    uint32_t missing                        # missing bytes of the oldest
    uint32_t tx_at, rx_at                   # offsets in the table
    uint64_t unsent, expected, received     # bytes to send, to receive, received
    uint64_t last                           # when bytes were last received
    uint64_t retry                          # when to open it again; 0: not again
    double next                             # open loop: when its next message is due

cdef enum State:
    CLOSED, CONNECTING, OPEN

cdef enum Kind:
    E_CONNECT, E_RESET, E_SHORT, E_CORRUPT, E_EXCESS, E_TIMEOUT, KINDS

cdef enum:
    SHOWN = 48

cdef struct Fault:                      # the first of its kind
    int connection, error
    bint awaited_eof
    uint64_t offset
    unsigned char got[SHOWN]            # the bytes that came, and those that should have come in their place
    unsigned char expected[SHOWN]
    int got_size, expected_size

cdef class Engine:
    cdef:
        # the load, copied from the arguments
        sockaddr_storage address
        sockaddr_storage *sources
        int address_len, source_len, source_count
        int connection_count, depth, size_count, index
        uint32_t *sizes
        unsigned char *table
        unsigned char *inbox
        unsigned char *outbox               # a part of a message with its terminator in place
        unsigned char *terminator
        uint32_t terminator_size            # 0: the client closes first
        uint32_t chunk                      # of one read or write
        uint64_t timeout, random
        double gap                          # open loop: nanoseconds between the messages of one connection
        bint open_loop, poisson, churn, verify, count_all
        int proxy_protocol                  # version of the header with which a connection begins; 0: none
        Connection *connections
        Message *messages                   # a ring of `depth` for each connection
        int *heap                           # open loop: the connections that can send, by when they are due
        int heap_size
        # its state
        fe_poller poller
        int unfinished, next_open, pending, opened, size_next, source_next
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
    cdef void receive(self, int i, int ending) noexcept nogil
    cdef void complete(self, Connection *c, int i) noexcept nogil
    cdef void await_eof(self, Connection *c) noexcept nogil
    cdef bint awaits_eof(self, Connection *c) noexcept nogil
    cdef void end_cycle(self, int i) noexcept nogil
    cdef const unsigned char *part(self, uint32_t at, uint64_t left, size_t size) noexcept nogil
    cdef const unsigned char *with_terminator(self, uint32_t at, uint64_t left, size_t size) noexcept nogil
    cdef void flush(self, int i) noexcept nogil
    cdef void queue(self, int i, uint64_t when) noexcept nogil
    cdef void begin(self, int i) noexcept nogil
    cdef uint64_t pump(self) noexcept nogil
    cdef void send_due(self, int i) noexcept nogil
    cdef void give_up_due(self) noexcept nogil
    cdef bint is_free(self, Connection *c) noexcept nogil
    cdef bint open(self, int i, uint64_t when) noexcept nogil
    cdef void open_more(self) noexcept nogil
    cdef void sweep(self) noexcept nogil
    cdef void drop(self, int i) noexcept nogil
    cdef void established(self, Connection *c) noexcept nogil
    cdef void send_proxy_header(self, Connection *c) noexcept nogil
    cdef void drop_all(self) noexcept nogil
    cdef void fail(self, int i, int kind, int error) noexcept nogil
    cdef void fail_with_bytes(self, int i, int kind, size_t place, size_t expected, size_t size) noexcept nogil
    cdef double draw_gap(self) noexcept nogil
    cdef void skip_to(self, Connection *c, double when) noexcept nogil
    cdef void schedule(self, int i) noexcept nogil
    cdef int take_first(self) noexcept nogil
