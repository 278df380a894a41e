"""The sessions of one loop: registry, limit and time-outs. It calls no transport: each session does that."""

import logging

from cpython.ref cimport Py_DECREF, Py_INCREF

from ._counters cimport END_DRAIN, END_FAULT, END_IDLE, END_NONE

from ._counters import CAUSES as _CAUSES, SharedCounters

cdef enum:
    FULL_READS = 8
    FULL_BYTES = 262144         # 256 KiB
cdef double TLS_SHUTDOWN = 2.0

session_log = logging.getLogger("fastecho.session")


cdef class SessionBase:
    cdef int sweep(self, double now) except -1:
        raise NotImplementedError

    cdef int abort(self) except -1:
        raise NotImplementedError


cdef class PythonSession(SessionBase):
    def register(self, SessionRegistry registry, address):
        self.registry = registry
        self.registered = True
        registry.add(self)
        return registry.source_of is None or registry.admit(self, address)

    def unregister(self, str cause):
        if self.registered:
            self.registered = False
            self.registry.context.counters.ended[<int>_CAUSES.index(cause)] += 1
            self.registry.remove(self)

    def count(self, uint64_t bytes_in=0, uint64_t bytes_out=0, uint64_t discarded=0):
        cdef WorkerCounters* counters = self.registry.context.counters
        counters.reads += bytes_in > 0 or discarded > 0
        counters.bytes_in += bytes_in + discarded
        counters.bytes_out += bytes_out
        counters.bytes_discarded += discarded

    def record_activity(self):
        self.progress.active_at = self.registry.context.now

    def write_timed_out(self, double now, Py_ssize_t unacknowledged, int64_t acknowledged):
        return self.registry.write_timed_out(&self.progress, now, unacknowledged, acknowledged)

    def linger_timed_out(self, double now, Py_ssize_t unacknowledged):
        return self.registry.linger_timed_out(&self.progress, now, unacknowledged)

    def idle_or_drain_end(self, double now, Py_ssize_t unacknowledged):
        cdef End end = self.registry.idle_or_drain_end(&self.progress, now, unacknowledged)
        return _CAUSES[<int>end] if end != END_NONE else None

    def on_sweep(self, double now):
        raise NotImplementedError

    def on_abort(self):
        raise NotImplementedError

    cdef int sweep(self, double now) except -1:
        self.on_sweep(now)
        return 0

    cdef int abort(self) except -1:
        self.on_abort()
        return 0


cdef class SessionRegistry:
    def __init__(self, config, loop, *, direct=False, tls=False, counters=None, limit=None):
        cdef double shortest
        self.config = config
        self.loop = loop
        self.tls = tls
        self.pinned = config.pin_buffers
        self.over_unix = config.unix is not None
        self.pool = BufferPool(config.buffers, config.buffer_size)
        self.get_buffer = self.pool.get_buffer
        self.terminator = Terminator(config.terminator, config.match)
        self.counters = counters if counters is not None else SharedCounters(1).counters_of(0)
        self.log = session_log.debug if session_log.isEnabledFor(logging.DEBUG) else None
        self.idle_timeout = config.idle_timeout or 0
        self.write_timeout = config.write_timeout
        self.linger_timeout = TLS_SHUTDOWN if tls else config.linger_timeout
        self.drain_grace = config.drain_grace
        shortest = min(self.idle_timeout or 4, self.write_timeout, self.linger_timeout, 4)
        self.interval = max(shortest / 4, 0.01)
        self.limit = limit or 0
        self.per_source = {}
        self.context.reading = &self.pool.reading
        self.context.pattern = &self.terminator.pattern
        self.context.counters = self.counters.fields
        self.context.now = loop.time()
        self.context.buffer_size = self.pool.buffer_size
        self.context.max_full_reads = max(FULL_READS, -(-FULL_BYTES // self.pool.buffer_size))
        self.context.direct = direct and not tls
        assert self.remember_unended()

    # -- registry ---------------------------------------------------------------------------------------------------

    cdef int add(self, SessionBase session) except -1:
        Py_INCREF(session)
        session.previous = NULL
        session.next = self.first
        if self.first != NULL:
            (<SessionBase>self.first).previous = <void*>session
        self.first = <void*>session
        self.count += 1
        self.context.counters.accepted += 1
        self.context.counters.active += 1
        if self.is_at_capacity() != self.was_at_capacity:
            self.check_limit()
        return 0

    cdef int remove(self, SessionBase session) except -1:
        if session.previous != NULL:
            (<SessionBase>session.previous).next = session.next
        elif self.first == <void*>session:
            self.first = session.next
        else:
            return 0                # never added, or removed already
        if session.next != NULL:
            (<SessionBase>session.next).previous = session.previous
        session.next = session.previous = NULL
        self.count -= 1
        self.context.counters.active -= 1
        if session.source is not None:
            self.per_source[session.source] -= 1
            if not self.per_source[session.source]:
                del self.per_source[session.source]
        Py_DECREF(session)
        if self.is_at_capacity() != self.was_at_capacity:
            self.check_limit()
        if self.count == 0 and self.on_empty is not None:
            self.on_empty()
        return 0

    # -- limit ------------------------------------------------------------------------------------------------------

    cdef bint is_at_capacity(self) noexcept:
        return self.limit != 0 and self.count + self.pending >= self.limit

    @property
    def at_capacity(self):
        return self.is_at_capacity()

    cdef bint admit(self, SessionBase session, object address) except -1:
        """Count the session for the source of its client; False: `max_per_source` sessions are counted for it already."""
        cdef object source = self.source_of(address)
        cdef object count = self.per_source.get(source, 0)
        if source is not None:
            if count >= self.config.max_per_source:
                return False
            session.source = source
            self.per_source[source] = count + 1
        return True

    cdef void set_pending(self, Py_ssize_t pending) noexcept:
        self.pending = pending
        self.context.counters.pending = pending

    def check_limit(self):
        """Call `on_capacity` if the capacity was reached, or is no longer."""
        cdef bint at_capacity = self.is_at_capacity()
        if at_capacity != self.was_at_capacity:
            self.was_at_capacity = at_capacity
            if self.on_capacity is not None:
                self.on_capacity(at_capacity)

    # -- clock ------------------------------------------------------------------------------------------------------

    def sweep(self, double now):
        """Check the time-outs of all sessions. `now` is the time of the SweepTimer."""
        self.context.now = now
        self.update_gauges()
        self.sweep_or_abort_each(now, False)
        self.check_limit()          # a session whose handshake failed may have been collected silently

    def abort_all(self):
        """Reset the sessions that are left."""
        self.sweep_or_abort_each(0, True)

    cdef int sweep_or_abort_each(self, double now, bint abort) except -1:
        cdef void* here = self.first
        cdef SessionBase session
        while here != NULL:
            session = <SessionBase>here
            here = session.next     # the session may leave the list
            try:
                if abort:
                    session.abort()
                else:
                    session.sweep(now)
            except Exception as error:      # one session's error must not cost the others their time-outs
                session_log.warning("a session could not be swept: %s: %s", type(error).__name__, error)
        return 0

    # -- time-outs --------------------------------------------------------------------------------------------------

    cdef bint write_timed_out(self, Progress* progress, double now, Py_ssize_t unacknowledged, int64_t acknowledged) noexcept:
        """Whether bytes were unacknowledged for `write_timeout`, and the client has acknowledged none of them."""
        if unacknowledged == 0 or acknowledged > progress.acknowledged or progress.progress_at == 0:
            progress.progress_at = now
        progress.acknowledged = acknowledged
        return now - progress.progress_at >= self.write_timeout

    cdef bint linger_timed_out(self, Progress* progress, double now, Py_ssize_t unacknowledged) noexcept:
        """Whether the client has acknowledged everything, our FIN too, for `linger_timeout`."""
        if unacknowledged:
            progress.acknowledged_at = 0
        elif progress.acknowledged_at == 0:
            progress.acknowledged_at = now
        return unacknowledged == 0 and now - progress.acknowledged_at >= self.linger_timeout

    cdef End idle_or_drain_end(self, Progress* progress, double now, Py_ssize_t unacknowledged) noexcept:
        """Why an open session that sends nothing must end now: END_DRAIN or END_IDLE; or END_NONE."""
        # active_at is up to one interval too old: it was the time of the sweep before the byte.
        if self.draining_since:
            if now - max(progress.active_at, self.draining_since) >= self.drain_grace + self.interval:
                return END_DRAIN
        elif self.idle_timeout and unacknowledged == 0:
            if now - progress.active_at >= self.idle_timeout + self.interval:
                return END_IDLE
        return END_NONE

    def update_gauges(self):
        self.context.counters.buffers_total = self.pool.capacity
        self.context.counters.buffers_in_use = self.pool.in_use

    def stats(self):
        self.update_gauges()
        return self.counters.snapshot()

    def close(self):
        """Forget the sessions that are left; for the end of a loop, after which no connection_lost will come."""
        cdef bint forgets = self.first != NULL
        assert not (self.closed and forgets), f"{self.count} sessions were reset and have not ended"
        self.closed = True
        while self.first != NULL:
            self.remove(<SessionBase>self.first)
        assert forgets or self.unreturned() == "", f"sessions have ended and not returned {self.unreturned()}"

    # -- debug builds: what sessions must have returned ---------------------------------------------------------------

    cdef bint remember_unended(self) noexcept:
        self.unended = self.count_unended()
        return True

    cdef int64_t count_unended(self) noexcept:
        """How many connections were accepted and have not ended. Counters may be those of a process that was killed."""
        cdef int64_t unended = self.context.counters.accepted
        cdef int i
        for i in range(END_FAULT + 1):
            unended -= self.context.counters.ended[i]
        return unended

    cdef str unreturned(self):
        """What is still held or counted although no session is left; empty if nothing is."""
        held = {
            "buffers": self.pool.in_use,
            "counts of active": self.context.counters.active,
            "counts of write_paused": self.context.counters.write_paused,
            "counts of an end": self.count_unended() - self.unended,
            "sources": len(self.per_source),
        }
        return ", ".join([f"{number} {name}" for name, number in held.items() if number])
