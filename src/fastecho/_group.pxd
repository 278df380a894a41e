"""The sessions of one loop: who they are, how many may be, and the clock that their time-outs run on."""

from libc.stdint cimport uint64_t

from ._buffer cimport BufferPool, Slot, Terminator
from ._counters cimport Block, Counters
from ._scan cimport Pattern


cdef struct Shared:
    # What a session needs of its group for each message: behind one pointer, without a reference count.
    Slot** ready
    const Pattern* pattern
    Block* count
    double now                      # as of the last sweep
    Py_ssize_t buffer_size
    unsigned int share              # full reads in one wake-up before a session lets the others have a turn
    bint direct                     # send(2) at once; else through the transport


cdef class Member:
    """What a group knows of a session. (A C base before the asyncio class: a session has no __dict__.)"""
    cdef Group group
    cdef void* next
    cdef void* previous

    cdef int sweep(self, double now) except -1
    cdef int unpark(self) except -1
    cdef int expel(self) except -1


cdef class Guest(Member):
    """A member written in Python, which drives a socket of its own; for what need not be fast."""
    cdef bint admitted
    cdef bint waiting
    cdef bint gone

    cdef int withdraw(self) except -1


cdef class Group:
    cdef Shared shared
    cdef readonly object config
    cdef readonly object loop
    cdef readonly BufferPool pool
    cdef readonly Counters counters
    cdef Terminator terminator
    cdef object log                 # the debug method of the session logger, or None
    # time-outs in seconds, 0 is off
    cdef public double interval     # between two sweeps
    cdef double idle_timeout
    cdef double write_timeout
    cdef double linger_timeout
    cdef double drain_grace
    cdef public double draining_since   # 0: not draining
    cdef readonly bint tls
    cdef readonly bint pinned
    cdef public bint closed         # whoever comes now is refused
    # the members, linked through themselves
    cdef void* first
    cdef readonly Py_ssize_t sessions
    # places
    cdef object parked              # deque of those who wait for one, in the order of their arrival
    cdef uint64_t limit             # of the service, over all processes; 0: none
    cdef uint64_t own_limit         # of this process: its descriptors; 0: none
    cdef readonly Py_ssize_t pending    # accepted, but still in the TLS handshake
    cdef readonly bint full         # accepting is paused
    cdef public object on_full      # called when it has to be, and when
    cdef public object on_room      # it need not any longer;
    cdef public object on_empty     # called when the last session has ended

    cdef int add(self, Member member) except -1
    cdef int remove(self, Member member) except -1
    cdef bint admit(self) noexcept
    cdef int leave(self) except -1
    cdef bint may_accept(self) noexcept
    cdef int each(self, double now, bint expel) except -1
