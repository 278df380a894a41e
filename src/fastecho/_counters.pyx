"""Counters in shared memory: each process writes its own, any process may read them all.

Nothing here locks. A set of counters has one writer, 64-bit loads and stores do not tear on the platforms we build for,
and a process that is killed at any point leaves numbers that are still true.
"""

import mmap

cimport cython

from libc.string cimport memset

from ._sys cimport FE_ADD, fe_monotonic

CAUSES = tuple([name.removeprefix("END_").lower() for name in End.__members__])
OUTCOMES = tuple([name.removeprefix("DATAGRAM_").lower() for name in Outcome.__members__])

cdef enum:
    LINE = 384                  # bytes: a multiple of every cache line

if sizeof(WorkerCounters) != LINE or sizeof(Header) != LINE:
    raise ImportError("the counters of two processes share a cache line: mend `padding` in _counters.pxd")


def monotonic_ms():
    return <long long>(fe_monotonic() * 1000)


cdef dict as_dict(WorkerCounters counters):
    cdef dict fields = counters         # by name, since Cython knows the struct
    ended = fields.pop("ended")
    datagrams = fields.pop("datagrams")
    for name in ("heartbeat", "pid", "padding"):
        del fields[name]
    fields["ends"] = {CAUSES[i]: ended[i] for i in range(1, len(CAUSES))}
    fields["datagrams"] = {OUTCOMES[i]: datagrams[i] for i in range(len(OUTCOMES))}
    return fields


@cython.final
cdef class SharedCounters:
    def __cinit__(self, int size):
        cdef unsigned char[::1] view
        if size < 1:
            raise ValueError(f"size={size}: must be at least 1")
        self.size = size
        self.memory = mmap.mmap(-1, sizeof(Header) + size * sizeof(WorkerCounters))  # MAP_SHARED, kept over fork
        view = self.memory
        self.header = <Header*>&view[0]
        self.workers = <WorkerCounters*>(&view[0] + sizeof(Header))

    def counters_of(self, int index):
        cdef Counters counters
        if not 0 <= index < self.size:
            raise IndexError(f"counters {index}: there are {self.size}")
        counters = Counters.__new__(Counters)
        counters.shared = self
        counters.fields = &self.workers[index]
        return counters

    def retire(self, int index):
        cdef Counters counters = self.counters_of(index)
        cdef WorkerCounters* ended = counters.fields
        # Nothing else is moved or cleared: a process that reads meanwhile must never see a sum that is too high, or a lower
        # one than before.
        ended.active = ended.pending = ended.write_paused = ended.buffers_total = ended.buffers_in_use = 0
        ended.heartbeat = ended.pid = 0

    def totals(self):
        cdef WorkerCounters sums
        memset(&sums, 0, sizeof(WorkerCounters))
        for i in range(self.size):
            add_up(&sums, &self.workers[i])
        return as_dict(sums)

    def next_connection_number(self):
        return FE_ADD(&self.header.next_connection_number, 1)


cdef void add_up(WorkerCounters* sums, const WorkerCounters* more) noexcept nogil:
    cdef uint64_t* into = <uint64_t*>sums
    cdef const uint64_t* fields = <const uint64_t*>more
    cdef size_t i
    for i in range(sizeof(WorkerCounters) // sizeof(uint64_t)):
        into[i] += fields[i]


@cython.final
cdef class Counters:
    def beat(self):
        self.fields.heartbeat = monotonic_ms()

    @property
    def heartbeat(self):
        return self.fields.heartbeat

    @property
    def pid(self):
        return self.fields.pid

    @pid.setter
    def pid(self, uint64_t pid):
        self.fields.pid = pid

    def snapshot(self):
        return as_dict(self.fields[0])
