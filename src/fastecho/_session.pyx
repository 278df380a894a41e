# cython: always_allow_keywords=False
"""The session: drives a transport with buffers and the terminator. The only module that calls a transport.

Rules that hold everywhere below, each learned from a crash:

* get_buffer returns memory and does nothing else: a pause, close or abort inside it crashes the process on uvloop.
  The memory is the pool's ready buffer. A read is synchronous between get_buffer and buffer_updated, so the buffer is acquired
  from the pool only when bytes of it are left over, and a read that found nothing (EOF, EAGAIN) holds no memory.
* The session holds `buffer` until a view of it that was passed to the transport is flushed, so that no read overwrites it.
* pause_writing and resume_writing tell whether data is queued: the high-water mark is 0. Without memory for it, a transport
  leaves such a call out, and does not make it later.
* `fd` is set to -1 before any close: the number may be used by another socket afterwards.
* After connection_lost no method of the transport is called; within it, close() alone.
"""

import asyncio

from libc.errno cimport ECONNRESET, EPIPE, ETIMEDOUT, errno
from libc.stdint cimport int64_t, uint32_t

from ._counters cimport (
    END_DRAIN_TIMEOUT, END_EOF, END_ERROR, END_NONE, END_REFUSED, END_RESET, END_TERMINATOR,
    END_WRITE_TIMEOUT,
)
from ._scan cimport scan
from ._sys cimport (
    FE_ASSERT, FE_SEND_FLAGS, SHUT_WR, fe_close_means_reset, fe_keep_urgent_inline, fe_receive_little, fe_reset_now,
    fe_unacknowledged, fe_would_block, send, shutdown,
)

from ._counters import CAUSES as _CAUSES

cdef tuple CAUSES = _CAUSES

cdef enum:
    OVERDUE = 3     # sweeps: two may happen in one turn of the loop


cdef class EchoSession(SessionBase, asyncio.BufferedProtocol):
    # Never called. uvloop looks it up for each connection, of a BufferedProtocol too, and an AttributeError costs more than
    # the rest of `connection_made`.
    data_received = None

    def __dealloc__(self):
        FE_ASSERT(self.buffer == NULL or self.registry is None or self.registry.closed)
        self.clear_pending()

    def never_connected(self):
        self.clear_pending()
        self.registry.check_limit()

    def refuse(self, str reason):
        self.context.counters.accepted += 1
        self.context.counters.ended[<int>END_REFUSED] += 1
        if self.registry.log is not None:
            self.log_event(f"refused: {reason}")

    cdef void clear_pending(self) noexcept:
        if self.pending and self.registry is not None:
            self.pending = False
            self.registry.set_pending(self.registry.pending - 1)

    # -- a message --------------------------------------------------------------------------------------------------

    @property
    def get_buffer(self):
        # Loops look it up once a connection. One method for all sessions is in the cache whichever session reads.
        if self.registry.tls:
            return self.get_tls_buffer
        return self.registry.get_buffer if not self.registry.pinned else self.get_pinned_buffer

    def get_pinned_buffer(self, sizehint):
        cdef object ready = self.registry.pool.get_buffer(sizehint)
        if self.buffer == NULL or self.tail:
            return ready
        self.context.reading[0] = self.buffer
        return <object>self.buffer.view

    def get_tls_buffer(self, sizehint):
        self.ssl_object.begin_reads()
        return self.get_pinned_buffer(sizehint) if self.registry.pinned else self.registry.get_buffer(sizehint)

    def buffer_updated(self, Py_ssize_t nbytes):
        receive(self, nbytes)

    cdef int process(self, Buffer* buffer, Py_ssize_t size) except -1:
        cdef Py_ssize_t to_echo, sent
        cdef bint ended
        if self.state != OPEN:
            return self.receive_after_end(size)
        to_echo = scan(self.context.pattern, &self.scan_state, buffer.data, size)
        ended = to_echo >= 0
        if not ended:
            to_echo = size
        sent = 0
        if self.context.direct and not self.queued:
            sent = send(self.fd, buffer.data, to_echo, FE_SEND_FLAGS)
            if sent == to_echo and not ended:       # the likely case: the buffer is ready again
                self.sent += to_echo
                self.context.counters.bytes_out += to_echo
                if size == self.context.buffer_size:
                    return self.yield_after_full_reads()
                return 0
            if sent < 0:
                if not fe_would_block(errno):
                    return self.send_failed(errno)
                sent = 0
        self.send_rest(buffer, sent, to_echo)
        if ended:
            self.context.counters.bytes_discarded += size - to_echo
            return self.end_session(END_TERMINATOR)
        return self.yield_if_due(size)

    # -- what is left of a message ----------------------------------------------------------------------------------

    cdef int send_rest(self, Buffer* buffer, Py_ssize_t sent, Py_ssize_t to_echo) except -1:
        """Pass buffer[sent:to_echo] to the transport; hold the buffer until it is flushed."""
        cdef object data
        cdef Buffer* held = NULL
        self.sent += to_echo
        self.context.counters.bytes_out += sent
        if sent == to_echo:
            return 0
        data = (<object>buffer.view)[sent:to_echo]
        if self.registry.tls or self.queued:
            data = bytes(data)      # encrypted later, or behind a tail: copied
        elif self.buffer == NULL:
            held = self.registry.pool.acquire()
            FE_ASSERT(held == NULL or held == buffer)
            if held == NULL:        # no memory for another ready buffer: copy the tail instead
                data = bytes(data)
                self.context.counters.tails_copied += 1
            self.buffer = held
        return self.write_tail(data, to_echo - sent)

    cdef int write_tail(self, object data, Py_ssize_t size) except -1:
        """Write to the transport, which may keep `data` until it has called resume_writing."""
        if not self.limits_set:
            self.limits_set = True
            # With TLS a mark of 0 would pause with nothing queued.
            self.transport.set_write_buffer_limits(1 if self.registry.tls else 0, 0)
        self.tail += size
        self.transport.write(data)
        if not self.write_paused and (self.registry.tls or self.write_queue() == 0):
            self.flush_done()
        elif not self.queued:
            self.queued = True
            self.context.counters.pauses += 1
            self.context.counters.write_paused += 1
            self.transport.pause_reading()
        return 0

    def pause_writing(self):
        self.write_paused = True

    def resume_writing(self):
        self.write_paused = False
        if self.queued:
            self.queued = False
            self.context.counters.write_paused -= 1
            self.progress.active_at = self.context.now    # not idle: what has arrived meanwhile waits in the kernel
            self.flush_done()
            if self.state == FLUSHING:
                self.send_fin()
            else:
                self.resume_reading()

    cdef int flush_done(self) except -1:
        self.context.counters.bytes_out += self.tail
        self.tail = 0
        if not self.registry.pinned:
            self.release_buffer()
        return 0

    cdef int receive_after_end(self, Py_ssize_t size) except -1:
        self.context.counters.bytes_discarded += size
        if size == self.context.buffer_size and self.state == LINGERING:
            return self.yield_after_full_reads()
        return 0

    cdef int send_failed(self, int error) except -1:
        """send(2) has failed, which uvloop does not know."""
        self.end = END_RESET if error in (EPIPE, ECONNRESET, ETIMEDOUT) else END_ERROR
        return self.abort_transport()

    # -- fairness ---------------------------------------------------------------------------------------------------

    cdef int yield_if_due(self, Py_ssize_t size) except -1:
        if self.queued:                     # paused already
            return 0
        if self.registry.tls and self.ssl_object.out_of_time:
            return self.yield_to_others()   # only after a pause does the loop go on with what has arrived
        if size == self.context.buffer_size:
            return self.yield_after_full_reads()
        return 0

    cdef int yield_after_full_reads(self) except -1:
        """After `max_full_reads` full reads in a row, pause for one turn of the loop: libuv itself would read up to 32 times."""
        cdef uint32_t read = self.registry.pool.reads
        # Another read since: one of another session, or one that found nothing. So this is a new wake-up of the loop.
        self.full_reads = self.full_reads + 1 if read == self.last_full_read + 1 else 1
        self.last_full_read = read
        if self.full_reads >= self.context.max_full_reads:
            self.full_reads = 0
            return self.yield_to_others()
        return 0

    cdef int yield_to_others(self) except -1:
        self.yielding = True
        self.context.counters.yields += 1
        self.transport.pause_reading()
        self.registry.loop.call_soon(self.end_yield)
        return 0

    def end_yield(self):
        if self.yielding:
            self.yielding = False
            self.progress.active_at = self.context.now
            self.resume_reading()

    cdef int pause_reading(self) except -1:
        self.transport.pause_reading()

    cdef int resume_reading(self) except -1:
        if (self.state == OPEN or self.state == LINGERING) and not self.queued and not self.yielding:
            self.resuming = True
            self.transport.resume_reading()
            self.resuming = False
        return 0

    # -- begin ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport):
        self.transport = transport
        self.progress.active_at = self.progress.progress_at = self.context.now
        self.clear_pending()
        try:
            self.registry.add(self)         # first: if abort() fails too, the sweep gives the transport up
            self.begin()
        except Exception:                   # the loop would leave the connection open, and never read from it
            self.end = END_ERROR
            if self.fd >= 0:
                fe_close_means_reset(self.fd)
            self.abort_transport()
            raise

    cdef int begin(self) except -1:
        cdef object sock
        if self.registry.tls:
            self.ssl_object = self.transport.get_extra_info("ssl_object")
        else:
            sock = (<Sessions>self.registry).socket_of(self.transport)
            if sock is not None:
                self.fd = sock.fileno()
                if self.registry.over_unix:
                    fe_keep_urgent_inline(self.fd)
        if self.registry.log is not None:
            self.log_event(f"starts, from {self.client or self.transport.get_extra_info('peername') or 'a client that has left'}")
        if self.registry.pinned:
            self.buffer = self.registry.pool.acquire()
        if self.registry.closed or (self.registry.pinned and self.buffer == NULL) or not self.is_admitted():
            self.reset(END_REFUSED)
        return 0

    cdef bint is_admitted(self) except -1:
        if self.registry.source_of is None:
            return True
        return self.registry.admit(self, self.client or self.transport.get_extra_info("peername"))

    # -- end --------------------------------------------------------------------------------------------------------

    def eof_received(self):
        # Returning None lets the transport flush what is queued, then close. write_timeout bounds the flush.
        self.context.reading[0] = NULL
        if self.end == END_NONE:
            self.end = END_EOF
        self.state = CLOSING
        self.fd = -1

    cdef int end_session(self, End cause) except -1:
        self.end = cause
        if self.registry.log is not None:
            self.log_event("saw the terminator" if cause == END_TERMINATOR else f"ending: {self.cause()}")
        if self.queued:
            self.state = FLUSHING
            return 0
        return self.send_fin()

    cdef int send_fin(self) except -1:
        cdef bint paused
        if self.fd >= 0:
            # Nothing is queued here. asyncio's write_eof raises when the client has left, also in a later callback.
            shutdown(self.fd, SHUT_WR)      # an error means a reset, which the next read reports
        elif self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            return self.close()             # TLS offers no half-close: close_notify takes the place of FIN and lingering
        paused = self.state == FLUSHING
        self.state = LINGERING
        return self.resume_reading() if paused else 0

    cdef int close(self) except -1:
        cdef int fd = self.descriptor()
        if fd >= 0:
            fe_receive_little(fd)           # until the client's close_notify the loop decrypts all that it finds
        self.state = CLOSING
        self.fd = -1
        self.transport.close()
        return 0

    cdef int reset(self, End cause) except -1:
        cdef int fd = self.descriptor()
        self.end = cause
        if fd >= 0:
            fe_close_means_reset(fd)
        return self.abort_transport()

    cdef int abort_transport(self) except -1:
        self.state = CLOSING
        self.fd = -1
        self.aborted = True
        self.transport.abort()
        return 0

    cdef int abort(self) except -1:
        return self.reset(END_DRAIN_TIMEOUT)

    def connection_lost(self, exception):
        if self.transport is not None:      # None: the sweep has given the transport up
            self.lost(exception)

    cdef int lost(self, object exception) except -1:
        if self.fd >= 0 and exception is not None and not isinstance(exception, OSError):
            fe_close_means_reset(self.fd)   # bytes were lost for lack of memory: the client must not see an orderly end
        self.fd = -1
        self.state = CLOSING
        self.context.reading[0] = NULL
        self.context.counters.write_paused -= self.queued
        self.queued = self.yielding = False
        self.release_buffer()
        if isinstance(exception, OSError) and self.end <= END_EOF:
            self.end = END_RESET
        elif self.end == END_NONE:
            self.end = END_EOF if exception is None else END_ERROR
        if self.registry.log is not None:
            self.log_event(f"sent {self.sent - self.tail} bytes")
            self.log_event(f"ended: {self.cause()}")
        if self.registry.tls and not self.transport.is_closing():
            self.transport.close()          # Python 3.10 warns of a TLS transport that ends by any other way
        self.transport = None
        self.context.counters.ended[self.end] += 1
        return self.registry.remove(self)

    cdef str cause(self):
        return CAUSES[<int>self.end]

    cdef void release_buffer(self) noexcept:
        if self.buffer != NULL:
            self.registry.pool.release(self.buffer)
            self.buffer = NULL

    # -- the sweep --------------------------------------------------------------------------------------------------

    cdef int descriptor(self) except -2:
        """The descriptor, from the transport if `fd` is not set; -1 after the transport has closed its socket."""
        cdef object sock
        if self.fd >= 0:
            return self.fd
        sock = self.transport.get_extra_info("socket")
        return sock.fileno() if sock is not None else -1

    cdef Py_ssize_t write_queue(self) except -2:
        """Bytes that the transport holds; -1 after it was lost."""
        try:
            return self.transport.get_write_buffer_size()
        except AttributeError:              # Python 3.10: a TLS transport that has lost the one below
            return -1

    cdef Py_ssize_t unacknowledged(self) except -1:
        cdef int fd = self.descriptor()
        cdef Py_ssize_t queue = self.write_queue()
        if queue < 0:
            return 0
        return queue + (fe_unacknowledged(fd) if fd >= 0 else 0)

    cdef int recover(self) except -1:
        """Make the calls that a lack of memory has prevented; see hazard 51."""
        if self.queued and self.write_queue() == 0:
            self.resume_writing()
        elif self.resuming:
            self.transport.pause_reading()      # asyncio takes reading as resumed, though that has failed
            self.resume_reading()
        if self.yielding:                       # the loop may have failed to call it
            self.end_yield()
        return 0

    cdef int sweep(self, double now) except -1:
        cdef Py_ssize_t unacknowledged
        cdef End end
        if self.connection_lost_is_due():
            self.overdue += 1
            return self.give_transport_up() if self.overdue == OVERDUE else 0
        if self.queued or self.resuming or self.yielding:
            self.recover()
        if self.state == OPEN and self.progress.acknowledged == <int64_t>self.sent:
            unacknowledged = 0              # so at the last sweep, and nothing was sent since
            self.progress.progress_at = now
        else:
            unacknowledged = self.unacknowledged()
            if self.registry.write_timed_out(&self.progress, now, unacknowledged, <int64_t>self.sent - unacknowledged):
                return self.reset(END_WRITE_TIMEOUT)
        if self.state == LINGERING or self.state == CLOSING:
            return self.sweep_closing(now, unacknowledged)
        if self.state == OPEN and not self.queued and not self.yielding:
            end = self.registry.idle_or_drain_end(&self.progress, now, unacknowledged)
            if end != END_NONE:
                return self.end_session(end)
        return 0

    cdef bint connection_lost_is_due(self) except -1:
        """Whether the transport has been aborted or has failed: it calls connection_lost in the next turn of the loop."""
        try:
            return self.aborted or (self.state != CLOSING and self.transport.is_closing())
        except AttributeError:              # as above
            return True

    cdef int give_transport_up(self) except -1:
        """End as if connection_lost had come: the transport had no memory to schedule it, and does not try again. It closes its
        socket when nothing refers to it any more, which may be never. So the connection is ended here."""
        cdef int fd = -1
        try:
            self.transport.set_write_buffer_limits(0)       # RuntimeError of uvloop: the socket is closed already
            fd = self.transport.get_extra_info("socket").fileno()
        except (RuntimeError, AttributeError):
            pass
        if fd >= 0:
            fe_reset_now(fd)
        self.fd = -1
        if self.end <= END_EOF:
            self.end = END_ERROR
        return self.lost(None)

    cdef int sweep_closing(self, double now, Py_ssize_t unacknowledged) except -1:
        if self.registry.linger_timed_out(&self.progress, now, unacknowledged):
            self.context.counters.linger_timeouts += 1
            self.abort_transport()
        return 0

    cdef int log_event(self, str event) except -1:
        self.registry.log("session %d %s", self.number, event)
        return 0


cdef class Sessions(SessionRegistry):
    def new_session(self):
        """The protocol factory. It cannot refuse: a factory that raises leaves uvloop's listener deaf."""
        return self.begin(EchoSession.__new__(EchoSession))

    cdef object socket_of(self, object transport):
        """The socket of a transport, or None after the transport has closed it.

        uvloop's TCPTransport overrides get_extra_info for the addresses, and goes through super() for the socket, which costs
        1,500 instructions. Its base class is called here.
        """
        cdef object bases
        if type(transport) is not self.transport_type:
            self.transport_type = type(transport)
            bases = self.transport_type.__mro__[self.context.direct:]
            self.get_extra_info = next(vars(base)["get_extra_info"] for base in bases if "get_extra_info" in vars(base))
        return self.get_extra_info(transport, "socket")

    cdef EchoSession begin(self, EchoSession session):
        self.created += 1
        session.registry = self
        session.context = &self.context
        session.number = self.created
        session.fd = -1
        session.pending = True
        self.set_pending(self.pending + 1)
        if self.is_at_capacity() != self.was_at_capacity:
            # In the next turn: uvloop is in the middle of an accept, and would lose that connection with its listener.
            self.loop.call_soon(self.check_limit)
        if self.log is not None:
            session.log_event("waits")
        return session
