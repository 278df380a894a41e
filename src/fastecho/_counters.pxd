"""The counters of one process: C integers that only it writes, in memory that its supervisor reads."""

cimport cython
from libc.stdint cimport uint64_t


cpdef enum End:
    # Why a session ended. The only list of the causes: `CAUSES` has their names, `WorkerCounters.ended` their counts.
    END_NONE
    END_EOF
    END_TERMINATOR
    END_RESET
    END_IDLE
    END_WRITE_TIMEOUT
    END_DRAIN
    END_DRAIN_TIMEOUT
    END_ERROR
    END_REFUSED
    END_FAULT


cpdef enum Outcome:
    # What became of a datagram. The only list of the outcomes: `OUTCOMES` has their names, `WorkerCounters.datagrams`
    # their counts.
    DATAGRAM_ECHOED
    DATAGRAM_TRUNCATED
    DATAGRAM_REFUSED_PORT
    DATAGRAM_REFUSED_ADDRESS
    DATAGRAM_REFUSED_ECHO
    DATAGRAM_RATE_LIMITED
    DATAGRAM_DROPPED
    DATAGRAM_SEND_ERROR
    DATAGRAM_RECEIVE_ERROR


cdef struct WorkerCounters:
    uint64_t accepted
    uint64_t bytes_in
    uint64_t bytes_out
    uint64_t bytes_discarded
    uint64_t reads
    uint64_t pauses
    uint64_t yields
    uint64_t tails_copied
    uint64_t linger_timeouts
    uint64_t ended[END_FAULT + 1]       # by End
    uint64_t datagrams[DATAGRAM_RECEIVE_ERROR + 1]      # by Outcome
    # Gauges: they fall again, and end with their process.
    uint64_t active
    uint64_t pending
    uint64_t write_paused
    uint64_t buffers_total
    uint64_t buffers_in_use
    # Not counters.
    uint64_t heartbeat
    uint64_t pid
    uint64_t padding[12]                # to 384 bytes, so that no two processes write to one cache line


cdef struct Header:
    uint64_t next_connection_number     # over all processes
    uint64_t padding[47]                # a separate cache line, and the counters aligned


@cython.final
cdef class SharedCounters:
    cdef object memory
    cdef Header* header
    cdef WorkerCounters* workers
    cdef readonly int size


@cython.final
cdef class Counters:
    cdef readonly SharedCounters shared
    cdef WorkerCounters* fields
