"""The histogram that the load engine fills; see the .pxd for its layout."""

from libc.math cimport ceil
from libc.stdint cimport UINT64_MAX
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

HIGHEST = 100_000_000_000


cdef class Histogram:
    def __cinit__(self):
        self.counts = <uint64_t *>calloc(COUNTERS, sizeof(uint64_t))
        if self.counts == NULL:
            raise MemoryError
        self.least = UINT64_MAX

    def __dealloc__(self):
        free(self.counts)

    def __len__(self):
        return self.total

    def record(self, uint64_t value, uint64_t times=1):
        if value > 100_000_000_000ull:
            value = 100_000_000_000ull
        self.counts[index_of(value)] += times
        self.total += times
        self.sum += value * times
        self.least = min(self.least, value)
        self.most = max(self.most, value)

    def add(self, Histogram other not None):
        cdef int i
        with nogil:
            for i in range(COUNTERS):
                self.counts[i] += other.counts[i]
        self.total += other.total
        self.sum += other.sum
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)

    def since(self, Histogram earlier not None):
        """What was counted after `earlier`, an older state of this one, which is brought up to date."""
        cdef Histogram fresh = Histogram.__new__(Histogram)
        cdef int i, first = -1, last = 0
        cdef uint64_t n
        with nogil:
            for i in range(COUNTERS):
                n = self.counts[i] - earlier.counts[i]
                if n:
                    fresh.counts[i] = n
                    fresh.total += n
                    last = i
                    if first < 0:
                        first = i
            memcpy(earlier.counts, self.counts, COUNTERS * sizeof(uint64_t))
        fresh.sum = self.sum - earlier.sum
        if fresh.total:
            fresh.least = lowest_of(first)
            fresh.most = min(highest_of(last), self.most)
        earlier.total, earlier.sum = self.total, self.sum
        earlier.least, earlier.most = self.least, self.most
        return fresh

    def percentile(self, double percent):
        cdef uint64_t seen = 0
        cdef uint64_t wanted = <uint64_t>ceil(percent / 100.0 * self.total)
        wanted = wanted if wanted else 1
        cdef int i
        if not self.total:
            return 0
        for i in range(COUNTERS):
            seen += self.counts[i]
            if seen >= wanted:
                return min(highest_of(i), self.most)
        return self.most

    def items(self):
        cdef int i
        return [(lowest_of(i), self.counts[i]) for i in range(COUNTERS) if self.counts[i]]

    @property
    def min(self):
        return self.least if self.total else 0

    @property
    def max(self):
        return self.most

    @property
    def mean(self):
        return self.sum / <double>self.total if self.total else 0.0
