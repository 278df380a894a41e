"""The sessions of one loop: registry, places and the sweep. Touches no transport: a member acts for itself."""

import logging
import time
from collections import deque

from cpython.ref cimport Py_DECREF, Py_INCREF

from ._counters import COUNTERS as _COUNTERS, SharedCounters
from ._sys cimport FE_FENCE

cdef enum:
    SHARE_READS = 8
    SHARE_BYTES = 262144        # 256 KiB
cdef double TLS_SHUTDOWN = 2.0

cdef dict END_COUNTERS = {name[4:]: i for i, name in enumerate(_COUNTERS) if name.startswith("end_")}

session_log = logging.getLogger("fastecho.session")


cdef class Member:
    cdef int sweep(self, double now) except -1:
        raise NotImplementedError

    cdef int unpark(self) except -1:
        raise NotImplementedError

    cdef int expel(self) except -1:
        raise NotImplementedError


cdef class Guest(Member):
    def join(self, Group group):
        self.group = group
        group.add(self)
        self.admitted = group.admit()
        if self.admitted:
            if not group.may_accept():
                group.settle()
            return True
        self.waiting = True
        group.shared.count.waiting += 1
        group.parked.append(self)
        group.settle()
        return False

    def leave(self, str cause):
        cdef uint64_t* fields = <uint64_t*>self.group.shared.count
        if self.gone:
            return
        fields[END_COUNTERS[cause]] += 1
        self.withdraw()

    cdef int withdraw(self) except -1:
        self.gone = True
        if self.waiting:
            self.waiting = False
            self.group.shared.count.waiting -= 1
            self.group.parked.remove(self)
        self.group.remove(self)
        if self.admitted:
            self.admitted = False
            self.group.leave()
        return 0

    def count(self, uint64_t bytes_in=0, uint64_t bytes_out=0, uint64_t discarded=0):
        cdef Block* block = self.group.shared.count
        block.reads += bytes_in > 0 or discarded > 0
        block.bytes_in += bytes_in + discarded
        block.bytes_out += bytes_out
        block.bytes_discarded += discarded

    def on_sweep(self, double now):
        raise NotImplementedError

    def on_place(self):
        raise NotImplementedError

    def on_expel(self):
        raise NotImplementedError

    cdef int sweep(self, double now) except -1:
        self.on_sweep(now)
        return 0

    cdef int unpark(self) except -1:
        self.waiting = False
        self.admitted = True
        self.group.shared.count.waiting -= 1
        self.on_place()
        return 0

    cdef int expel(self) except -1:
        self.on_expel()
        return 0


cdef class Group:
    def __init__(self, config, loop, *, direct=False, tls=False, counters=None, own_limit=None):
        cdef double shortest
        self.config = config
        self.loop = loop
        self.tls = tls
        self.pinned = config.pin_buffers
        self.pool = BufferPool(config.buffers, config.buffer_size)
        self.terminator = Terminator(config.terminator, config.match)
        self.counters = counters if counters is not None else SharedCounters(1).slot(0)
        self.log = session_log.debug if session_log.isEnabledFor(logging.DEBUG) else None
        self.idle_timeout = config.idle_timeout or 0
        self.write_timeout = config.write_timeout
        self.linger_timeout = TLS_SHUTDOWN if tls else config.linger_timeout
        self.drain_grace = config.drain_grace
        shortest = min(self.idle_timeout or 4, self.write_timeout, self.linger_timeout, 4)
        self.interval = max(shortest / 4, 0.01)
        self.limit = config.max_connections or 0
        self.own_limit = own_limit or 0
        self.parked = deque()
        self.shared.ready = &self.pool.ready
        self.shared.pattern = &self.terminator.pattern
        self.shared.count = self.counters.block
        self.shared.now = time.monotonic()
        self.shared.buffer_size = self.pool.buffer_size
        self.shared.share = max(SHARE_READS, -(-SHARE_BYTES // self.pool.buffer_size))
        self.shared.direct = direct and not tls

    # -- registry ---------------------------------------------------------------------------------------------------

    cdef int add(self, Member member) except -1:
        Py_INCREF(member)
        member.previous = NULL
        member.next = self.first
        if self.first != NULL:
            (<Member>self.first).previous = <void*>member
        self.first = <void*>member
        self.sessions += 1
        self.shared.count.accepted += 1
        return 0

    cdef int remove(self, Member member) except -1:
        if member.previous != NULL:
            (<Member>member.previous).next = member.next
        elif self.first == <void*>member:
            self.first = member.next
        else:
            return 0                # never added, or removed already
        if member.next != NULL:
            (<Member>member.next).previous = member.previous
        member.next = member.previous = NULL
        self.sessions -= 1
        Py_DECREF(member)
        if self.sessions == 0 and self.on_empty is not None:
            self.on_empty()
        return 0

    # -- places -----------------------------------------------------------------------------------------------------

    cdef bint may_accept(self) noexcept:
        """Whether one more descriptor may be taken, by somebody who would get a place."""
        if self.own_limit and self.sessions + self.pending >= self.own_limit:
            return False
        return self.limit == 0 or self.counters.shared.total_active() + self.pending < self.limit

    cdef bint admit(self) noexcept:
        """Takes a place if there is one. Two processes that take the last one together both step back and try again."""
        while self.limit == 0 or self.counters.shared.total_active() < self.limit:
            self.shared.count.active += 1
            if self.limit == 0 or self.counters.shared.total_active() <= self.limit:
                return True
            self.shared.count.active -= 1
        return False

    cdef int leave(self) except -1:
        self.shared.count.active -= 1
        FE_FENCE()                  # pairs with settle(): of a flag just set and a place just left, one side sees the other
        if self.full or (self.limit and self.counters.shared.header.accept_paused):
            self.settle()
        return 0

    def settle(self):
        """Gives free places to those who wait, then has accepting paused or resumed as it must be."""
        cdef bint full = False, announce = False
        while self.parked and self.admit():
            (<Member>self.parked.popleft()).unpark()
        if self.limit:
            full = self.counters.shared.total_active() >= self.limit
            if full:
                self.counters.shared.header.accept_paused = 1
                full = self.counters.shared.total_active() >= self.limit
            if not full and self.counters.shared.header.accept_paused:
                self.counters.shared.header.accept_paused = 0
                announce = True
        full = full or not self.may_accept() or bool(self.parked)
        announce = announce and not full
        if full != self.full:
            self.full = full
            announce = not full
            if full and self.on_full is not None:
                self.on_full()
        if announce and self.on_room is not None:
            self.on_room()

    # -- clock ------------------------------------------------------------------------------------------------------

    def sweep(self, double now):
        """All time-outs of all sessions, as of `now` in seconds of the monotonic clock."""
        self.shared.now = now
        self.counters.block.buffers_total = self.pool.capacity
        self.counters.block.buffers_in_use = self.pool.in_use
        self.each(now, False)
        if self.full or self.parked:
            self.settle()

    def expel_all(self):
        """Resets whoever is left."""
        self.each(0, True)

    cdef int each(self, double now, bint expel) except -1:
        cdef void* here = self.first
        cdef Member member
        while here != NULL:
            member = <Member>here
            here = member.next      # the member may leave the list
            try:
                if expel:
                    member.expel()
                else:
                    member.sweep(now)
            except Exception as error:      # whatever ails one session, the others keep their time-outs
                session_log.warning("a session could not be looked at: %s: %s", type(error).__name__, error)
        return 0

    def stats(self):
        self.counters.block.buffers_total = self.pool.capacity
        self.counters.block.buffers_in_use = self.pool.in_use
        return self.counters.snapshot()

    def close(self):
        """Forgets whoever is left; for the end of a loop, after which no connection_lost will come."""
        self.closed = True
        while self.first != NULL:
            self.remove(<Member>self.first)
