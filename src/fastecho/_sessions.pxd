"""The sessions of one loop: the registry, the limit on connections, and the clock that their time-outs run on."""

from libc.stdint cimport int64_t, uint64_t

from ._buffer cimport Buffer, BufferPool, Terminator
from ._counters cimport Counters, End, WorkerCounters
from ._scan cimport Pattern


cdef struct SessionContext:
    # The fields of the registry that a session uses for each message, through one C pointer.
    Buffer** reading                # of the pool
    const Pattern* pattern
    WorkerCounters* counters
    double now                      # as of the last sweep
    Py_ssize_t buffer_size
    unsigned int max_full_reads     # in one wake-up, before a session yields to the others
    bint direct                     # send(2) at once; else through the transport


cdef struct Progress:
    # What the time-outs of a session are measured from. Times are those of sweeps.
    double progress_at              # when last nothing was unacknowledged, or the client had acknowledged something
    double acknowledged_at          # after our FIN: since when nothing is unacknowledged; 0: something is
    int64_t acknowledged            # bytes that the client had acknowledged at the last sweep
    double active_at                # the last byte in


cdef class SessionBase:
    """What a registry knows of a session. (A C base before the asyncio class: a session has no __dict__.)"""
    cdef SessionRegistry registry
    cdef void* next
    cdef void* previous
    cdef object source              # what it counts for in `per_source`, or None
    cdef Progress progress          # its last field, and what follows in EchoSession, are used for each message

    cdef int sweep(self, double now) except -1
    cdef int abort(self) except -1


cdef class PythonSession(SessionBase):
    """A session written in Python, which drives a socket by itself; for what need not be fast."""
    cdef bint registered


cdef class SessionRegistry:
    cdef SessionContext context
    cdef readonly object config
    cdef readonly object loop
    cdef readonly BufferPool pool
    cdef object get_buffer          # of the pool: one bound method for all sessions
    cdef readonly Counters counters
    cdef Terminator terminator
    cdef object log                 # the debug method of the session logger, or None
    # time-outs in seconds, 0 is off
    cdef public double interval     # between two sweeps
    cdef double idle_timeout
    cdef double write_timeout
    cdef double linger_timeout
    cdef double drain_grace
    cdef public double draining_since   # time of the SweepTimer when draining began; 0: not draining
    cdef readonly bint tls
    cdef readonly bint pinned
    cdef public bint over_unix      # whether a connection may be one over a UNIX socket
    cdef public bint closed         # new connections are refused
    # the sessions, linked through themselves
    cdef void* first
    cdef readonly Py_ssize_t count
    # the limit
    cdef public Py_ssize_t limit    # connections, handshakes included; 0: none
    cdef readonly Py_ssize_t pending    # accepted, connection_made still to come
    cdef public object source_of    # the source of a client's address; None: sources are not limited
    cdef dict per_source            # sessions of each source
    cdef bint was_at_capacity       # as of the last call of on_capacity
    cdef public object on_capacity  # called with True when the limit is reached, with False when it no longer is
    cdef public object on_empty     # called when the last session has ended
    cdef int64_t unended            # debug builds: what `accepted` was ahead of the ends before the first session

    cdef int add(self, SessionBase session) except -1
    cdef int remove(self, SessionBase session) except -1
    cdef bint is_at_capacity(self) noexcept
    cdef bint admit(self, SessionBase session, object address) except -1
    cdef void set_pending(self, Py_ssize_t pending) noexcept
    cdef bint remember_unended(self) noexcept
    cdef int64_t count_unended(self) noexcept
    cdef str unreturned(self)
    cdef int sweep_or_abort_each(self, double now, bint abort) except -1
    cdef bint write_timed_out(self, Progress* progress, double now, Py_ssize_t unacknowledged, int64_t acknowledged) noexcept
    cdef bint linger_timed_out(self, Progress* progress, double now, Py_ssize_t unacknowledged) noexcept
    cdef End idle_or_drain_end(self, Progress* progress, double now, Py_ssize_t unacknowledged) noexcept
