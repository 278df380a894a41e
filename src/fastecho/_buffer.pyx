# cython: always_allow_keywords=False
"""Pooled buffers and the terminator. This module uses neither asyncio nor sockets."""

cimport cython

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from libc.stdlib cimport calloc, free

from ._scan cimport TERMINATOR_MAX, pattern_init, scan
from ._sys cimport FE_ASSERT, FE_BUILD, fe_map, getpagesize, munmap

BUILD = (<bytes>FE_BUILD).decode()
MATCHES = ("tail", "anywhere")

cdef enum:
    SLAB_BYTES = 1048576        # the pool grows by 1 MiB: few mmap calls, little memory
    CACHE_LINE = 64


@cython.final
cdef class Memory:
    """Page-aligned memory from the system, writable through the buffer protocol."""

    def __cinit__(self, Py_ssize_t size):
        self.address = fe_map(size)
        if self.address == NULL:
            raise MemoryError(f"no memory for {size} bytes of buffers")
        self.size = size

    def __dealloc__(self):
        if self.address != NULL:
            munmap(self.address, self.size)

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.address, self.size, 0, flags)


@cython.final
cdef class Slab:
    """Buffers cut from one piece of memory."""

    def __cinit__(self, Py_ssize_t count, Py_ssize_t size):
        cdef Py_ssize_t stride = (size + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE, i
        cdef Memory memory = Memory((count * stride + getpagesize() - 1) // getpagesize() * getpagesize())
        cdef object whole = memoryview(memory)
        self.buffers = <Buffer*>calloc(count, sizeof(Buffer))
        if self.buffers == NULL:
            raise MemoryError(f"no memory for {count} buffers")
        self.count = count
        self.views = [whole[i * stride:i * stride + size] for i in range(count)]
        for i in range(count):
            self.buffers[i].data = <unsigned char*>memory.address + i * stride
            self.buffers[i].view = <void*>self.views[i]
            self.buffers[i].slab = <void*>self

    def __dealloc__(self):
        free(self.buffers)


@cython.final
cdef class BufferPool:
    def __cinit__(self, buffers=64, buffer_size=65536):
        if buffers < 1 or buffer_size < 1:
            raise ValueError(f"buffers={buffers}, buffer_size={buffer_size}: must be at least 1")
        self.buffer_size = buffer_size
        self.preallocated = buffers
        self.buffers_per_slab = max(1, SLAB_BYTES // self.buffer_size)
        self.slab_list = []
        self.grow(buffers)
        self.empty = None           # the preallocated slab is never unmapped

    @property
    def free(self):
        return self.capacity - self.in_use

    @property
    def slabs(self):
        return len(self.slab_list)

    def get_buffer(self, sizehint):
        self.reading = self.ready
        self.reads += 1
        return <object>self.reading.view

    cdef Buffer* acquire(self) noexcept:
        """The ready buffer, if another one is free or can be made; else NULL, and nothing has changed."""
        cdef Buffer* buffer = self.ready
        if buffer.next == NULL:
            try:
                self.grow(self.buffers_per_slab)
            except MemoryError:
                return NULL
            buffer = self.ready
        self.ready = buffer.next
        self.in_use += 1
        (<Slab>buffer.slab).held += 1
        if buffer.slab == <void*>self.empty:
            self.empty = None
        return buffer

    cdef void release(self, Buffer* buffer) noexcept:
        """Put the buffer on top of the free list. A slab beyond the preallocated one is unmapped when it is empty."""
        cdef Slab slab = <Slab>buffer.slab
        FE_ASSERT(slab.held > 0 and self.in_use > 0)
        buffer.next = self.ready
        self.ready = buffer
        self.in_use -= 1
        slab.held -= 1
        if self.capacity > self.preallocated:
            if slab.held == 0 and slab is not self.slab_list[0]:
                if self.empty is not None:
                    self.shrink()
                self.empty = slab
            # A slab's worth of buffers must be free elsewhere, or the next tail would map again what is unmapped here.
            if self.empty is not None and (self.capacity - self.in_use - self.empty.count
                                           >= min(self.buffers_per_slab, self.preallocated)):
                self.shrink()

    cdef int grow(self, Py_ssize_t count) except -1:
        cdef Slab slab
        cdef Py_ssize_t i
        slab = Slab(count, self.buffer_size)
        self.slab_list.append(slab)
        self.capacity += count
        # Behind the free buffer: it is still in the cache.
        for i in range(count - 1):
            slab.buffers[i].next = &slab.buffers[i + 1]
        if self.ready == NULL:              # the first slab
            self.ready = &slab.buffers[0]
        else:
            self.ready.next = &slab.buffers[0]    # grow is called with at most one free buffer
        self.empty = slab
        return 0

    cdef int shrink(self) except -1:
        cdef Buffer** link = &self.ready
        while link[0] != NULL:
            if link[0].slab == <void*>self.empty:
                link[0] = link[0].next
            else:
                link = &link[0].next
        self.capacity -= self.empty.count
        self.slab_list.remove(self.empty)
        self.empty = None
        return 0


@cython.final
cdef class Terminator:
    def __cinit__(self, value, match="tail"):
        if value is not None and not isinstance(value, bytes):
            raise TypeError(f"terminator {value!r}: must be bytes or None")
        if value is not None and not 1 <= len(value) <= TERMINATOR_MAX:
            raise ValueError(f"terminator of {len(value)} bytes: must be 1 to {TERMINATOR_MAX} bytes, or None")
        if match not in MATCHES:
            raise ValueError(f"match {match!r}: must be one of {', '.join(MATCHES)}")
        cdef bytes text = value or b""
        pattern_init(&self.pattern, text, len(text), match == "anywhere")

    @property
    def value(self):
        return self.pattern.text[:self.pattern.length] if self.pattern.length else None

    @property
    def match(self):
        return MATCHES[self.pattern.anywhere]

    def feed(self, data):
        cdef Py_buffer view
        cdef Py_ssize_t to_echo
        if self.ended:
            raise ValueError("the stream has ended; reset() begins a new one")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        with nogil:
            to_echo = scan(&self.pattern, &self.state, <const unsigned char*>view.buf, view.len)
        PyBuffer_Release(&view)
        self.ended = to_echo >= 0
        return to_echo

    def reset(self):
        self.state = 0
        self.ended = False

    def __repr__(self):
        return f"Terminator({self.value!r}, match={self.match!r})"
