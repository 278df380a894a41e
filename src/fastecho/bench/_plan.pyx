"""Checks and copies what an engine is to do into C; see the .pxd."""

from libc.math cimport log
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from posix.stdlib cimport posix_memalign

import os

cdef enum:
    PAGE = 4096


cdef class Plan:
    def __cinit__(self, *, int family, str host, int port, sources, int connections, int depth, sizes, bytes table,
                  uint32_t chunk, bint verify, bint churn, double rate, bint poisson, double offset, double timeout,
                  uint64_t seed, int index):
        cdef int i
        self.connection_count, self.depth, self.index = connections, 1 if churn else depth, index
        self.verify, self.churn = verify, churn
        self.open_loop, self.poisson = rate > 0, poisson
        self.gap = 1e9 / rate if rate > 0 else 0.0
        self.due = offset
        self.timeout = <uint64_t>(timeout * 1e9)
        self.random = (seed * 0x9E3779B97F4A7C15 + index) | 1
        self.chunk = chunk
        if len(table) < PERIOD + chunk:
            raise ValueError("the table must hold PERIOD + chunk bytes")
        self.address_len = fe_address(family, os.fsencode(host), port, &self.address)
        if self.address_len == 0:
            raise ValueError(f"{host}: not a numeric address, or too long a path")
        self.size_count, self.source_count = len(sizes), len(sources)
        self.connections = <Connection *>calloc(connections, sizeof(Connection))
        self.messages = <Message *>calloc(<size_t>connections * self.depth, sizeof(Message))
        self.free_ring = <int *>calloc(connections, sizeof(int))
        self.sizes = <uint32_t *>calloc(self.size_count, sizeof(uint32_t))
        self.sources = <sockaddr_storage *>calloc(self.source_count + 1, sizeof(sockaddr_storage))
        if (posix_memalign(<void **>&self.table, PAGE, PERIOD + chunk)
                or posix_memalign(<void **>&self.inbox, PAGE, chunk) or self.connections == NULL or self.messages == NULL
                or self.free_ring == NULL or self.sizes == NULL or self.sources == NULL):
            raise MemoryError
        memcpy(self.table, <const char *>table, PERIOD + chunk)
        for i in range(connections):
            self.connections[i].fd = -1
        for i in range(self.size_count):
            self.sizes[i] = sizes[i]
        for i in range(self.source_count):
            self.source_len = fe_address(family, os.fsencode(sources[i]), 0, &self.sources[i])
            if self.source_len == 0:
                raise ValueError(f"{sources[i]}: not a numeric address of the target's family")

    def __dealloc__(self):
        free(self.connections)
        free(self.messages)
        free(self.free_ring)
        free(self.sizes)
        free(self.sources)
        free(self.table)
        free(self.inbox)

    cdef void next_arrival(self) noexcept nogil:
        cdef uint64_t x = self.random
        if not self.poisson:
            self.due += self.gap
            return
        x ^= x << 13
        x ^= x >> 7
        x ^= x << 17
        self.random = x
        self.due -= self.gap * log(((x >> 11) + 1) * (1.0 / 9007199254740992.0))
