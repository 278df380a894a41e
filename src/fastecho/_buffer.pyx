"""The buffer path: pooled memory and the terminator. Owns memory, knows no asyncio and no socket."""

import sys

cimport cython

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from libc.stdlib cimport calloc, free

from ._scan cimport TERMINATOR_MAX, pattern_init, scan
from ._sys cimport FE_ASSERT, FE_BUILD, fe_map, getpagesize, munmap

BUILD = (<bytes>FE_BUILD).decode()
MATCHES = ("tail", "anywhere")

cdef enum:
    SLAB_BYTES = 1048576        # 1 MiB: what the pool grows by: large against an mmap, small against a machine
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
    """The slots cut from one piece of memory."""

    def __cinit__(self, Py_ssize_t count, Py_ssize_t size):
        cdef Py_ssize_t stride = (size + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE, i
        cdef Memory memory = Memory((count * stride + getpagesize() - 1) // getpagesize() * getpagesize())
        cdef object whole = memoryview(memory)
        self.slots = <Slot*>calloc(count, sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError(f"no memory for {count} slots")
        self.count = count
        self.views = [whole[i * stride:i * stride + size] for i in range(count)]
        for i in range(count):
            self.slots[i].data = <unsigned char*>memory.address + i * stride
            self.slots[i].view = <void*>self.views[i]
            self.slots[i].slab = <void*>self

    def __dealloc__(self):
        free(self.slots)


@cython.final
cdef class BufferPool:
    def __cinit__(self, buffers=64, buffer_size=65536, *, limit=None):
        if buffers < 1 or buffer_size < 1 or (limit is not None and limit < buffers):
            raise ValueError(
                f"buffers={buffers}, buffer_size={buffer_size}, limit={limit}: "
                "must be at least 1, and the limit no less than buffers"
            )
        self.buffer_size = buffer_size
        self.preallocated = buffers
        self.limit = limit if limit is not None else sys.maxsize
        self.slots_per_slab = max(1, SLAB_BYTES // self.buffer_size)
        self.slab_list = []
        self.grow(buffers)
        self.empty = None           # the preallocated slab is never given back

    @property
    def free(self):
        return self.capacity - self.in_use

    @property
    def slabs(self):
        return len(self.slab_list)

    def lease(self):
        cdef Lease lease = Lease.__new__(Lease)
        lease.slot = self.take()
        if lease.slot == NULL:
            if self.ready == NULL:
                raise MemoryError(f"all {self.limit} buffers are in use")
            lease.slot = self.ready     # at the limit the last one goes too: no reader stands behind a Python lease
            self.ready = NULL
            self.in_use += 1
            (<Slab>lease.slot.slab).held += 1
        lease.pool = self
        return lease

    cdef Slot* take(self) noexcept:
        """The ready slot, if another one can stand ready after it; else NULL, and nothing has changed."""
        cdef Slot* slot = self.ready
        if slot == NULL:
            return NULL
        if slot.next == NULL:
            try:
                self.grow(self.slots_per_slab)
            except MemoryError:
                return NULL
            slot = self.ready
        self.ready = slot.next
        self.in_use += 1
        (<Slab>slot.slab).held += 1
        if slot.slab == <void*>self.empty:
            self.empty = None
        return slot

    cdef void give(self, Slot* slot) noexcept:
        """Back on top of the free list; a slab beyond the preallocated ones goes back to the system once empty."""
        cdef Slab slab = <Slab>slot.slab
        FE_ASSERT(slab.held > 0 and self.in_use > 0)
        slot.next = self.ready
        self.ready = slot
        self.in_use -= 1
        slab.held -= 1
        if self.capacity > self.preallocated:
            if slab.held == 0 and slab is not self.slab_list[0]:
                if self.empty is not None:
                    self.shrink()
                self.empty = slab
            # A slab's worth of free slots must stand elsewhere, or the next tail would map again what we unmap here.
            if self.empty is not None and (self.capacity - self.in_use - self.empty.count
                                           >= min(self.slots_per_slab, self.preallocated)):
                self.shrink()

    cdef int grow(self, Py_ssize_t count) except -1:
        cdef Slab slab
        cdef Py_ssize_t i
        count = min(count, self.limit - self.capacity)
        if count <= 0:
            raise MemoryError(f"the pool is at its limit of {self.limit} buffers")
        slab = Slab(count, self.buffer_size)
        self.slab_list.append(slab)
        self.capacity += count
        # Behind what is free already: the slots that are warm come first.
        for i in range(count - 1):
            slab.slots[i].next = &slab.slots[i + 1]
        if self.ready == NULL:
            self.ready = &slab.slots[0]
        else:
            self.ready.next = &slab.slots[0]    # grow is called with one free slot at the most
        self.empty = slab
        return 0

    cdef int shrink(self) except -1:
        cdef Slot** link = &self.ready
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
cdef class Lease:
    @property
    def address(self):
        self.check()
        return <size_t>self.slot.data

    @property
    def size(self):
        return self.pool.buffer_size

    cdef int check(self) except -1:
        if self.slot == NULL:
            raise ValueError("the lease was released")
        return 0

    def release(self):
        self.check()
        if self.exports:
            raise BufferError(f"{self.exports} view(s) of the lease are alive")
        self.pool.give(self.slot)
        self.slot = NULL

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *exception):
        if self.slot != NULL:
            self.release()

    def __dealloc__(self):
        if self.slot != NULL:
            self.pool.give(self.slot)

    def __getbuffer__(self, Py_buffer* view, int flags):
        self.check()
        PyBuffer_FillInfo(view, self, self.slot.data, self.pool.buffer_size, 0, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.exports -= 1


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
        cdef Py_ssize_t due
        if self.ended:
            raise ValueError("the stream has ended; reset() begins a new one")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        with nogil:
            due = scan(&self.pattern, &self.state, <const unsigned char*>view.buf, view.len)
        PyBuffer_Release(&view)
        self.ended = due >= 0
        return due

    def reset(self):
        self.state = 0
        self.ended = False

    def __repr__(self):
        return f"Terminator({self.value!r}, match={self.match!r})"
