"""Memory for reads, and which session holds which buffer.

    Memory      one mmap; unmapped with the last view of it
    Slab        the buffers cut from one Memory, each with a memoryview that is made once
    BufferPool  the free list over all slabs; its head is the *ready buffer*, which every read goes into

    free ──► ready buffer ──► buffer ──► buffer ──► NULL       last in, first out: the head is still in the cache
                 │ acquire()                    ▲
                 ▼                              │ release()
              held by one session until its tail is flushed, or for its whole life with pin_buffers
"""

cimport cython
from libc.stdint cimport uint32_t

from ._scan cimport Pattern


cdef struct Buffer:
    unsigned char* data
    void* view              # memoryview over data, borrowed from the slab
    void* slab              # Slab, borrowed from the pool
    Buffer* next            # in the free list; meaningless while held


@cython.final
cdef class Memory:
    cdef void* address
    cdef Py_ssize_t size


@cython.final
cdef class Slab:
    cdef Buffer* buffers
    cdef Py_ssize_t count
    cdef Py_ssize_t held
    cdef list views


@cython.final
cdef class BufferPool:
    cdef Buffer* ready              # head of the free list; never NULL
    cdef Buffer* reading            # of the read under way: between get_buffer and buffer_updated
    cdef uint32_t reads             # begun so far, whichever session they are for
    cdef readonly Py_ssize_t buffer_size
    cdef readonly Py_ssize_t preallocated
    cdef readonly Py_ssize_t capacity
    cdef readonly Py_ssize_t in_use
    cdef Py_ssize_t buffers_per_slab
    cdef Slab empty                 # the one extra slab none of whose buffers is held, or None
    cdef list slab_list             # the preallocated slab first

    cdef Buffer* acquire(self) noexcept
    cdef void release(self, Buffer* buffer) noexcept
    cdef int grow(self, Py_ssize_t count) except -1
    cdef int shrink(self) except -1


@cython.final
cdef class Terminator:
    cdef Pattern pattern
    cdef unsigned char state
    cdef readonly bint ended
