"""The counters of one process: C integers that only it writes, in memory that its supervisor reads."""

cimport cython
from libc.stdint cimport uint64_t


cdef struct Block:
    # One field a line; COUNTERS in _counters.pyx names them in the same order.
    uint64_t accepted
    uint64_t bytes_in
    uint64_t bytes_out
    uint64_t bytes_discarded
    uint64_t reads
    uint64_t pauses
    uint64_t yields
    uint64_t tails_copied
    uint64_t linger_timeouts
    uint64_t end_eof
    uint64_t end_terminator
    uint64_t end_reset
    uint64_t end_idle
    uint64_t end_write_timeout
    uint64_t end_drain
    uint64_t end_drain_timeout
    uint64_t end_error
    uint64_t end_refused
    uint64_t end_fault
    # Gauges: they fall again, and end with their process.
    uint64_t active
    uint64_t waiting
    uint64_t buffers_total
    uint64_t buffers_in_use
    # Not counters.
    uint64_t heartbeat
    uint64_t pid
    uint64_t padding[7]         # to 256 bytes, so that no two processes write to one cache line


cdef struct Header:
    uint64_t accept_paused
    uint64_t tickets              # connections numbered so far, over all processes
    uint64_t padding[30]          # a cache line of its own, and the blocks aligned


@cython.final
cdef class SharedCounters:
    cdef object memory
    cdef Header* header
    cdef Block* blocks          # [0] is the base: what processes that are gone have left
    cdef readonly int slots

    cdef uint64_t total_active(self) noexcept nogil


@cython.final
cdef class Counters:
    cdef readonly SharedCounters shared
    cdef Block* block
