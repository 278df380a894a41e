"""The load engine: one Engine a thread, `connections` sockets, no Python object on the way of a message.

Phases, written by the thread that measures, read by the engine between two waits:

    CONNECT ─► WARM_UP ─► MEASURE ─► DRAIN ─► (returns; the connections stay open until close())
    opens      sends      counts     sends nothing new, but what was due before; waits for replies
      └───────────┴──────────┴────────┴──► STOP: returns at once

A connection:

    CLOSED ─open()─► CONNECTING ─writable─► OPEN ─(reply complete, churn)─► CLOSED
       ▲                  │                   │
       └──── fail(kind): counted, closed, opened again by sweep() after 100 ms ────┘
"""

from libc.stdint cimport uint64_t

from ._hdr cimport Histogram

from ._plan cimport Connection, Plan, sockaddr_storage

cdef extern from "bench/_poller.h" nogil:
    int FE_READABLE, FE_WRITABLE, MSG_NOSIGNAL
    ctypedef struct fe_poller:
        pass
    uint64_t fe_now()
    uint64_t fe_thread_cpu()
    int fe_load(const int *word)
    void fe_store(int *word, int value)
    int fe_again(int error)
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
    int connection, error, expected, got
    uint64_t offset

cdef class Engine(Plan):
    cdef:
        fe_poller poller
        int free_head, free_count, next_open, pending, opened, size_next, source_next
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
    cdef void give_back(self, int i) noexcept nogil
    cdef bint open(self, int i, uint64_t when) noexcept nogil
    cdef void open_more(self) noexcept nogil
    cdef void sweep(self) noexcept nogil
    cdef void drop(self, int i) noexcept nogil
    cdef void established(self, Connection *c) noexcept nogil
    cdef void drop_all(self) noexcept nogil
    cdef void fail(self, int i, int kind, int error, int got) noexcept nogil
