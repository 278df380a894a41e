"""An HDR histogram in C: 1 .. 100e9 (nanoseconds: 1 us .. 100 s and finer), 3 significant digits.

The layout is that of HdrHistogram(1, 100_000_000_000, 3), so that the counts go over into its standard encoding one
by one. A value below 2,048 has a separate counter; above, each doubling of the value shares 1,024 counters.
"""

from libc.stdint cimport uint64_t

cdef extern from "bench/_poller.h" nogil:
    int fe_log2(uint64_t value)

cdef enum:
    HALF_BITS = 10
    COUNTERS = 28672        # 28 << HALF_BITS: up to 2 ** 38

cdef inline int index_of(uint64_t value) noexcept nogil:
    cdef int bucket = fe_log2(value | 2047) - HALF_BITS
    return (bucket << HALF_BITS) + <int>(value >> bucket)

cdef inline uint64_t lowest_of(int index) noexcept nogil:
    """The least value that the counter `index` counts."""
    cdef int bucket = (index >> HALF_BITS) - 1
    if bucket < 0:
        return <uint64_t>index
    return (<uint64_t>(index & 1023) + 1024) << bucket

cdef inline uint64_t highest_of(int index) noexcept nogil:
    """The greatest value that the counter `index` counts."""
    return lowest_of(index + 1) - 1

cdef class Histogram:
    cdef uint64_t *counts
    cdef uint64_t total, sum, least, most

    cdef inline void count(self, uint64_t value) noexcept nogil:
        if value > 100_000_000_000ull:
            value = 100_000_000_000ull
        self.counts[index_of(value)] += 1
        self.total += 1
        self.sum += value
        if value < self.least:
            self.least = value
        if value > self.most:
            self.most = value
