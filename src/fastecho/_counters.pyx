"""Counters in shared memory: each process writes its own block, anybody may read them all.

Nothing here locks. A block has one writer, 64-bit loads and stores do not tear on the platforms we build for, and a
process killed in the middle of anything leaves numbers that are still true.
"""

import mmap
import time

cimport cython

from libc.string cimport memset

from ._sys cimport FE_ADD, FE_FENCE

COUNTERS = (
    "accepted", "bytes_in", "bytes_out", "bytes_discarded", "reads", "pauses", "yields", "tails_copied",
    "linger_timeouts", "end_eof", "end_terminator", "end_reset", "end_idle", "end_write_timeout", "end_drain",
    "end_drain_timeout", "end_error", "end_refused", "end_fault",
    "active", "waiting", "buffers_total", "buffers_in_use",
)
GAUGES = ("active", "waiting", "buffers_total", "buffers_in_use")

cdef enum:
    MONOTONIC = 19              # the fields before the first gauge
    FIELDS = 23

if len(COUNTERS) != FIELDS or len(COUNTERS) - len(GAUGES) != MONOTONIC or sizeof(Block) != 256:
    raise ImportError("COUNTERS and the Block of _counters.pxd have come apart")


def monotonic_ms():
    return time.monotonic_ns() // 1_000_000


cdef dict as_dict(const Block* block):
    cdef const uint64_t* fields = <const uint64_t*>block
    return {COUNTERS[i]: fields[i] for i in range(FIELDS)}


@cython.final
cdef class SharedCounters:
    def __cinit__(self, int slots):
        cdef unsigned char[::1] view
        if slots < 1:
            raise ValueError(f"slots={slots}: must be at least 1")
        self.slots = slots
        self.memory = mmap.mmap(-1, sizeof(Header) + (slots + 1) * sizeof(Block))   # MAP_SHARED, kept over fork
        view = self.memory
        self.header = <Header*>&view[0]
        self.blocks = <Block*>(&view[0] + sizeof(Header))

    def slot(self, int index):
        cdef Counters counters
        if not 0 <= index < self.slots:
            raise IndexError(f"slot {index}: there are {self.slots}")
        counters = Counters.__new__(Counters)
        counters.shared = self
        counters.block = &self.blocks[index + 1]
        return counters

    def retire(self, int index):
        cdef Counters counters = self.slot(index)
        cdef uint64_t* base = <uint64_t*>&self.blocks[0]
        cdef uint64_t* gone = <uint64_t*>counters.block
        for i in range(MONOTONIC):
            base[i] += gone[i]
        memset(gone, 0, sizeof(Block))

    def totals(self):
        cdef Block sums
        cdef uint64_t* total = <uint64_t*>&sums
        cdef const uint64_t* fields
        cdef int slot, i
        memset(&sums, 0, sizeof(Block))
        for slot in range(self.slots + 1):
            fields = <const uint64_t*>&self.blocks[slot]
            for i in range(FIELDS):
                total[i] += fields[i]
        return as_dict(&sums)

    def active(self):
        return self.total_active()

    cdef uint64_t total_active(self) noexcept nogil:
        """All sessions of all processes. Whoever has just counted himself in sees everybody who did so before: two
        workers that take the last place at once both see one too many, never both see room."""
        cdef uint64_t total = 0
        cdef int slot
        FE_FENCE()
        for slot in range(1, self.slots + 1):
            total += self.blocks[slot].active
        return total

    def ticket(self):
        return FE_ADD(&self.header.tickets, 1)

    @property
    def accept_paused(self):
        return self.header.accept_paused != 0

    @accept_paused.setter
    def accept_paused(self, bint paused):
        self.header.accept_paused = paused
        FE_FENCE()


@cython.final
cdef class Counters:
    def beat(self):
        self.block.heartbeat = monotonic_ms()

    @property
    def heartbeat(self):
        return self.block.heartbeat

    @property
    def pid(self):
        return self.block.pid

    @pid.setter
    def pid(self, uint64_t pid):
        self.block.pid = pid

    def snapshot(self):
        return as_dict(self.block)
