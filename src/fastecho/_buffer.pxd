"""Who owns which memory.

    Memory   one mmap; unmapped when the last view of it is gone
    Slab     the slots cut from one Memory, each with a memoryview made once
    BufferPool   the free list over all slabs; its head is the *ready slot*, which every read goes into

    free ──► ready slot ──► slot ──► slot ──► NULL       last in, first out: the head is the one still hot in cache
                 │ take()                    ▲
                 ▼                           │ give()
              held by one session until its tail is flushed, or for life with pin_buffers
"""

cimport cython
from ._scan cimport Pattern


cdef struct Slot:
    unsigned char* data
    void* view              # memoryview over data, borrowed from the slab
    void* slab              # Slab, borrowed from the pool
    Slot* next              # in the free list; meaningless while held


@cython.final
cdef class Memory:
    cdef void* address
    cdef Py_ssize_t size


@cython.final
cdef class Slab:
    cdef Slot* slots
    cdef Py_ssize_t count
    cdef Py_ssize_t held
    cdef list views


@cython.final
cdef class BufferPool:
    cdef Slot* ready                # head of the free list; NULL only at the limit
    cdef readonly Py_ssize_t buffer_size
    cdef readonly Py_ssize_t preallocated
    cdef readonly Py_ssize_t capacity
    cdef readonly Py_ssize_t in_use
    cdef Py_ssize_t limit
    cdef Py_ssize_t slots_per_slab
    cdef Slab empty                 # the one extra slab that nobody holds a slot of, or None
    cdef list slab_list             # the preallocated slab first

    cdef Slot* take(self) noexcept
    cdef void give(self, Slot* slot) noexcept
    cdef int grow(self, Py_ssize_t count) except -1
    cdef int shrink(self) except -1


@cython.final
cdef class Lease:
    cdef BufferPool pool
    cdef Slot* slot
    cdef Py_ssize_t exports

    cdef int check(self) except -1


@cython.final
cdef class Terminator:
    cdef Pattern pattern
    cdef unsigned char state
    cdef readonly bint ended
