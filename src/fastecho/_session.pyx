# cython: always_allow_keywords=False
"""The session: joins buffers and terminator to a transport. The only file that touches one.

Rules that hold everywhere below, each learned from a crash:

* get_buffer hands out memory and does nothing else: a pause, close or abort inside it crashes the process on uvloop.
  The memory is the pool's ready slot. A read is synchronous between get_buffer and buffer_updated, so the slot is taken
  from the pool only when bytes of it stay behind, and a read that found nothing (EOF, EAGAIN) holds no memory.
* A view that the transport has is of memory that nobody reads into until it is flushed: `slot` is held meanwhile.
* Whether something is queued, pause_writing and resume_writing decide alone, with the high-water mark at 0.
* The descriptor is forgotten before any close: its number may be somebody else's a moment later.
* After connection_lost no method of the transport is called.
"""

import asyncio

from libc.errno cimport ECONNRESET, EPIPE, ETIMEDOUT, errno

from ._scan cimport scan
from ._sys cimport (
    FE_ASSERT, FE_SEND_FLAGS, SHUT_WR, fe_close_means_reset, fe_unacknowledged, fe_would_block, send, shutdown,
)

cdef tuple CAUSES = ("none", "eof", "terminator", "reset", "idle", "write_timeout", "drain", "drain_timeout", "error",
                     "refused", "fault")


cdef class EchoSession(Member, asyncio.BufferedProtocol):

    def __dealloc__(self):
        self.not_pending()

    def never_connected(self):
        self.not_pending()

    cdef void not_pending(self) noexcept:
        if self.place == PENDING and self.group is not None:
            self.place = NOWHERE
            self.group.pending -= 1

    # -- a message --------------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint):
        if self.reading != NULL:
            self.full = 0           # the last read found nothing: this is another wake-up of the loop
        if self.slot == NULL or self.tail:
            self.reading = self.shared.ready[0]
        else:
            self.reading = self.slot
        return <object>self.reading.view

    def buffer_updated(self, Py_ssize_t nbytes):
        take_in(self, nbytes)

    cdef int process(self, Slot* slot, Py_ssize_t size) except -1:
        cdef Py_ssize_t due, sent
        cdef bint ended
        if self.state != OPEN:
            return self.not_open(size)
        due = scan(self.shared.pattern, &self.scan_state, slot.data, size)
        ended = due >= 0
        if not ended:
            due = size
        sent = 0
        if self.shared.direct and not self.queued:
            sent = send(self.fd, slot.data, due, FE_SEND_FLAGS)
            if sent == due and not ended:       # the likely outcome; the memory is free again as it is
                self.sent += due
                self.shared.count.bytes_out += due
                if size == self.shared.buffer_size:
                    return self.yield_share()
                self.full = 0
                return 0
            if sent < 0:
                if not fe_would_block(errno):
                    return self.broken(errno)
                sent = 0
        self.send_rest(slot, sent, due)
        if ended:
            self.shared.count.bytes_discarded += size - due
            return self.finish(TERMINATOR)
        if size == self.shared.buffer_size and not self.queued:
            return self.yield_share()
        return 0

    # -- what is left of a message ----------------------------------------------------------------------------------

    cdef int send_rest(self, Slot* slot, Py_ssize_t sent, Py_ssize_t due) except -1:
        """Hands slot[sent:due] to the transport; what it may still look at afterwards is held until it is flushed."""
        cdef object data
        cdef Slot* lent = NULL
        self.sent += due
        self.shared.count.bytes_out += sent
        if sent == due:
            return 0
        data = (<object>slot.view)[sent:due]
        if self.group.tls or self.queued:
            data = bytes(data)      # encrypted later, or behind a tail: memory of its own
        elif self.slot == NULL:
            lent = self.group.pool.take()
            FE_ASSERT(lent == NULL or lent == slot)
            if lent == NULL:        # no memory for another ready slot: the tail moves out instead
                data = bytes(data)
                self.shared.count.tails_copied += 1
            self.slot = lent
        return self.hand_over(data, due - sent)

    cdef int hand_over(self, object data, Py_ssize_t size) except -1:
        """To the transport, which may keep `data` until it has called resume_writing."""
        if not self.limits_set:
            self.limits_set = True
            # On TLS a mark of 0 would pause for nothing queued at all.
            self.transport.set_write_buffer_limits(1 if self.group.tls else 0, 0)
        self.tail += size
        self.transport.write(data)
        if not self.write_paused:
            self.flushed()
        elif not self.queued:
            self.queued = True
            self.shared.count.pauses += 1
            self.transport.pause_reading()
        return 0

    def pause_writing(self):
        self.write_paused = True

    def resume_writing(self):
        self.write_paused = False
        if self.queued:
            self.queued = False
            self.active_at = self.shared.now    # not quiet: what came meanwhile waits in the kernel
            self.flushed()
            if self.state == FLUSHING:
                self.send_fin()
            else:
                self.resume()

    cdef int flushed(self) except -1:
        self.shared.count.bytes_out += self.tail
        self.tail = 0
        if not self.group.pinned:
            self.release_slot()
        return 0

    cdef int not_open(self, Py_ssize_t size) except -1:
        if self.state == PARKED:    # uvloop reads once before a pause in connection_made takes effect
            if self.slot == NULL:
                self.slot = self.group.pool.take()
                if self.slot == NULL:
                    return self.reset(REFUSED)
            self.tail = size
            self.transport.resume_reading()     # on asyncio 3.10 a pause in connection_made is only believed, not made
            self.transport.pause_reading()
            return 0
        self.shared.count.bytes_discarded += size
        if size == self.shared.buffer_size and self.state == LINGERING:
            return self.yield_share()
        return 0

    cdef int broken(self, int error) except -1:
        """send(2) failed; uvloop has not seen it."""
        self.end = RESET if error in (EPIPE, ECONNRESET, ETIMEDOUT) else ERROR
        self.state = CLOSING
        self.fd = -1
        self.transport.abort()
        return 0

    # -- fairness ---------------------------------------------------------------------------------------------------

    cdef int yield_share(self) except -1:
        """After each read that filled the buffer: libuv would go on for up to 32 of them."""
        self.full += 1
        if self.full >= self.shared.share:
            self.full = 0
            self.yielding = True
            self.shared.count.yields += 1
            self.transport.pause_reading()
            self.group.loop.call_soon(self.take_turn)
        return 0

    def take_turn(self):
        if self.yielding:
            self.yielding = False
            self.active_at = self.shared.now
            self.resume()

    cdef int pause(self) except -1:
        self.transport.pause_reading()

    cdef int resume(self) except -1:
        if (self.state == OPEN or self.state == LINGERING) and not self.queued and not self.yielding:
            self.transport.resume_reading()
        return 0

    # -- begin ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport):
        cdef object sock = transport.get_extra_info("socket")
        self.transport = transport
        if sock is not None and not self.group.tls:
            self.fd = sock.fileno()
        self.active_at = self.progress_at = self.shared.now
        self.not_pending()
        self.group.add(self)
        if self.group.log is not None:
            self.say(f"starts, from {transport.get_extra_info('peername') or 'a peer without a name'}")
        if self.group.pinned:
            self.slot = self.group.pool.take()
        if self.group.closed or (self.group.pinned and self.slot == NULL):
            self.reset(REFUSED)
        elif self.group.admit():
            self.place = ADMITTED
            if not self.group.may_accept():
                self.group.settle()
        else:
            self.place = WAITING
            self.state = PARKED
            self.shared.count.waiting += 1
            self.group.parked.append(self)
            transport.pause_reading()
            self.group.settle()

    cdef int unpark(self) except -1:
        cdef Slot* slot = self.slot
        cdef Py_ssize_t size = self.tail
        self.place = ADMITTED
        self.shared.count.waiting -= 1
        if self.state != PARKED:            # ended while it waited
            return 0
        self.state = OPEN
        self.active_at = self.shared.now
        if size:
            self.tail = 0
            if not self.group.pinned:
                self.release_slot()         # which makes it the ready one again
            self.process(slot, size)
        return self.resume()

    # -- end --------------------------------------------------------------------------------------------------------

    def eof_received(self):
        # None, so the transport flushes what is queued, then closes. The sweep bounds the flush.
        self.reading = NULL
        if self.end == NONE:
            self.end = PEER_EOF
        self.state = CLOSING
        self.fd = -1

    cdef int finish(self, End cause) except -1:
        self.end = cause
        if self.group.log is not None:
            self.say("saw the terminator" if cause == TERMINATOR else f"is to end: {self.cause()}")
        if self.queued:
            self.state = FLUSHING
            return 0
        return self.send_fin()

    cdef int send_fin(self) except -1:
        if self.fd >= 0:
            # Nothing is queued here. asyncio's write_eof raises when the peer has gone, and so would a late call of its.
            shutdown(self.fd, SHUT_WR)      # an error means a reset, which the next read reports
        elif self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            return self.close()             # TLS offers no half-close: close_notify stands for FIN and linger
        self.state = LINGERING
        return self.resume()

    cdef int close(self) except -1:
        self.state = CLOSING
        self.fd = -1
        self.transport.close()
        return 0

    cdef int reset(self, End cause) except -1:
        cdef int fd = self.descriptor()
        self.end = cause
        self.state = CLOSING
        self.fd = -1
        if fd >= 0:
            fe_close_means_reset(fd)
        self.transport.abort()
        return 0

    cdef int expel(self) except -1:
        return self.reset(DRAIN_TIMEOUT)

    def connection_lost(self, exception):
        cdef unsigned char place = self.place
        self.fd = -1
        self.state = CLOSING
        self.place = NOWHERE
        self.reading = NULL
        self.queued = self.yielding = False
        self.release_slot()
        if isinstance(exception, OSError) and self.end <= PEER_EOF:
            self.end = RESET
        elif self.end == NONE:
            self.end = PEER_EOF if exception is None else ERROR
        if self.group.log is not None:
            self.say(f"had {self.sent - self.tail} bytes written back")
            self.say(f"ended: {self.cause()}")
        self.transport = None
        (&self.shared.count.end_eof)[self.end - PEER_EOF] += 1
        if place == WAITING:
            self.shared.count.waiting -= 1
            self.group.parked.remove(self)
        self.group.remove(self)
        if place == ADMITTED:
            self.group.leave()

    cdef str cause(self):
        return CAUSES[<int>self.end]

    cdef void release_slot(self) noexcept:
        if self.slot != NULL:
            self.group.pool.give(self.slot)
            self.slot = NULL

    # -- the sweep --------------------------------------------------------------------------------------------------

    cdef int descriptor(self) except -2:
        """Where it is not known, the transport is asked: it forgets its socket when it closes it."""
        cdef object sock
        if self.fd >= 0:
            return self.fd
        sock = self.transport.get_extra_info("socket")
        return sock.fileno() if sock is not None else -1

    cdef Py_ssize_t outstanding(self) except -1:
        cdef int fd = self.descriptor()
        cdef Py_ssize_t queue
        try:
            queue = self.transport.get_write_buffer_size()
        except AttributeError:              # Python 3.10: a TLS transport that has lost the one below
            return 0
        return queue + (fe_unacknowledged(fd) if fd >= 0 else 0)

    cdef int sweep(self, double now) except -1:
        cdef Py_ssize_t due
        cdef int64_t taken
        if self.state == OPEN and self.taken == <int64_t>self.sent:
            due = 0                         # nothing was due at the last sweep, nothing was sent since
            self.progress_at = now
        else:
            due = self.outstanding()
            taken = <int64_t>self.sent - due
            if due == 0 or taken > self.taken:
                self.progress_at = now
            self.taken = taken
        if due and now - self.progress_at >= self.group.write_timeout:
            return self.reset(WRITE_TIMEOUT)
        if self.state == LINGERING or self.state == CLOSING:
            return self.sweep_closing(now, due)
        if self.state == OPEN and not self.queued and not self.yielding:
            # active_at is up to one interval too old: it was the time of the sweep before the byte.
            if self.group.draining_since:
                if now - max(self.active_at, self.group.draining_since) >= self.group.drain_grace + self.group.interval:
                    return self.finish(DRAIN)
            elif self.group.idle_timeout and due == 0:
                if now - self.active_at >= self.group.idle_timeout + self.group.interval:
                    return self.finish(IDLE)
        return 0

    cdef int sweep_closing(self, double now, Py_ssize_t due) except -1:
        if due:
            self.acknowledged_at = 0
        elif self.acknowledged_at == 0:
            self.acknowledged_at = now
        elif now - self.acknowledged_at >= self.group.linger_timeout:
            self.shared.count.linger_timeouts += 1
            self.state = CLOSING
            self.fd = -1
            self.transport.abort()
        return 0

    cdef int say(self, str event) except -1:
        self.group.log("session %d %s", self.number, event)
        return 0


cdef class SessionGroup(Group):
    def new_session(self):
        """The protocol factory. It cannot refuse: a factory that raises leaves uvloop's listener deaf."""
        return self.begin(EchoSession.__new__(EchoSession))

    cdef EchoSession begin(self, EchoSession session):
        self.created += 1
        session.group = self
        session.shared = &self.shared
        session.number = self.created
        session.fd = -1
        if self.tls:                # no session before its handshake, but a descriptor
            session.place = PENDING
            self.pending += 1
            if not self.full and not self.may_accept():
                self.loop.call_soon(self.settle)
        if self.log is not None:
            session.say("waits")
        return session
