# cython: always_allow_keywords=False
"""Recordings, and the session that makes them."""

from libc.errno cimport errno
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from .._buffer cimport Buffer
from .._counters cimport END_ERROR, END_FAULT, END_TERMINATOR
from .._scan cimport scan
from .._session cimport (
    CLOSING, LINGERING, OPEN, EchoSession, Sessions, receive,
)
from .._sys cimport FE_SEND_FLAGS, fe_monotonic, fe_readable, fe_would_block, send

cdef enum:
    IN = 0
    OUT = 1


cdef class Watch:
    def __cinit__(self):
        self.wakers = []

    def add(self, wake):
        self.wakers.append(wake)
        self.waiting += 1

    def remove(self, wake):
        self.wakers.remove(wake)
        self.waiting -= 1

    def notify_all(self):
        self.notify()

    cdef int notify(self) except -1:
        if self.waiting:
            for wake in tuple(self.wakers):
                wake()
        return 0


cdef class Record:
    def __cinit__(self, Watch watch, size_t limit):
        self.watch = watch
        self.limit = limit

    def __dealloc__(self):
        for direction in range(2):
            free(self.streams[direction].data)
            free(self.streams[direction].cuts)

    cdef int add(self, int direction, const unsigned char* data, Py_ssize_t size) except -1:
        cdef Stream* stream = &self.streams[direction]
        if size <= 0:
            return 0
        if stream.length < self.limit:
            self.store(stream, data, min(size, <Py_ssize_t>(self.limit - stream.length)))
        stream.total += size
        if self.watch.waiting:
            self.watch.notify()
        return 0

    cdef int store(self, Stream* stream, const unsigned char* data, Py_ssize_t size) except -1:
        cdef void* grown
        cdef size_t room
        if stream.length + size > stream.room:
            room = max(2 * stream.room, stream.length + size, 256)
            grown = realloc(stream.data, room)
            if grown == NULL:
                raise MemoryError(f"no memory for a recording of {room} bytes")
            stream.data = <unsigned char*>grown
            stream.room = room
        if stream.count == stream.cut_room:
            room = max(2 * stream.cut_room, 8)
            grown = realloc(stream.cuts, room * sizeof(Cut))
            if grown == NULL:
                raise MemoryError(f"no memory for a recording of {room} chunks")
            stream.cuts = <Cut*>grown
            stream.cut_room = room
        memcpy(stream.data + stream.length, data, size)
        stream.cuts[stream.count] = Cut(stream.total, size, fe_monotonic())
        stream.length += size
        stream.count += 1
        return 0

    def received(self, const unsigned char[::1] data):
        if data.shape[0]:
            self.add(IN, &data[0], data.shape[0])

    def sent(self, const unsigned char[::1] data):
        if data.shape[0]:
            self.add(OUT, &data[0], data.shape[0])

    def data(self, int direction):
        return self.streams[direction].data[:self.streams[direction].length] if self.streams[direction].length else b""

    def total(self, int direction):
        return self.streams[direction].total

    def chunks(self, int direction):
        cdef Stream* stream = &self.streams[direction]
        return [(stream.cuts[i].offset, stream.cuts[i].size, stream.cuts[i].time) for i in range(stream.count)]

    @property
    def truncated(self):
        return any([self.streams[i].length < self.streams[i].total for i in range(2)])


cdef class RecordingSession(EchoSession):
    def buffer_updated(self, Py_ssize_t nbytes):
        receive(self, nbytes)

    cdef int process(self, Buffer* buffer, Py_ssize_t size) except -1:
        cdef uint64_t before = self.sent
        if self.paused:                 # paused in connection_made: uvloop reads once more before the pause takes effect
            self.stash.append(buffer.data[:size])
            return self.pause_reading()
        self.record.add(IN, buffer.data, size)
        if self.state == OPEN and not self.reply_mode.echoes:
            return self.answer(buffer.data, size)
        EchoSession.process(self, buffer, size)
        return self.record.add(OUT, buffer.data, self.sent - before)

    cdef int answer(self, const unsigned char* data, Py_ssize_t size) except -1:
        cdef Py_ssize_t to_answer = scan(self.context.pattern, &self.scan_state, data, size)
        cdef bint ended = to_answer >= 0
        if not ended:
            to_answer = size
        try:
            self.push(self.log.answer(data[:to_answer]))
        except BaseException as error:  # of the test's own code
            self.log.failed(error)
            return self.reset(END_ERROR)
        if self.state != OPEN:
            return 0
        if ended:
            self.context.counters.bytes_discarded += size - to_answer
            return self.end_session(END_TERMINATOR)
        return self.yield_if_due(size)

    cdef int push(self, bytes data) except -1:
        """Send `data` at once if nothing is queued, else through the transport."""
        cdef Py_ssize_t size = len(data), sent = 0
        if size == 0:
            return 0
        if self.context.direct and not self.queued:
            sent = send(self.fd, <const char*>data, size, FE_SEND_FLAGS)
            if sent < 0:
                if not fe_would_block(errno):
                    return self.send_failed(errno)
                sent = 0
        self.sent += size
        self.context.counters.bytes_out += sent
        self.record.add(OUT, <const unsigned char*><const char*>data, size)
        if sent < size:
            self.write_tail(data[sent:], size - sent)
        return 0

    # -- begin and end ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport):
        EchoSession.connection_made(self, transport)
        if self.registry.tls:
            self.log.secured(transport.get_extra_info("ssl_object").version())
        if self.state == OPEN:
            self.begin_open()
        self.record.watch.notify()

    cdef int begin_open(self) except -1:
        cdef list early = self.early
        self.early = None
        self.push(self.greeting)
        for method, arguments in early:
            method(*arguments)
        return 0

    def refuse(self, str reason):
        EchoSession.refuse(self, reason)
        self.log.closed("refused")
        self.log = None

    def never_connected(self):
        EchoSession.never_connected(self)
        if self.log is not None:       # the TLS handshake failed, or the client has left
            self.log.closed("reset")
            self.log = None

    def eof_received(self):
        EchoSession.eof_received(self)
        self.log.client_closed()

    cdef int lost(self, object exception) except -1:
        EchoSession.lost(self, exception)
        self.log.closed(self.cause())
        self.log = None
        return 0

    cdef int resume_paused(self) except -1:
        """Process what was read in spite of the pause, from the ready buffer, as if it were read now."""
        cdef bytes data
        self.paused = False
        while self.stash and not self.paused:
            data = self.stash.pop(0)
            memcpy(self.registry.pool.ready.data, <const char*>data, len(data))
            self.process(self.registry.pool.ready, len(data))
        return self.resume_reading() if self.transport is not None else 0

    cdef int resume_reading(self) except -1:
        return 0 if self.paused else EchoSession.resume_reading(self)

    cdef int sweep_closing(self, double now, Py_ssize_t unacknowledged) except -1:
        return 0 if self.half and self.state == LINGERING else EchoSession.sweep_closing(self, now, unacknowledged)


cdef class Steering:
    """Controls a RecordingSession for a test, with the methods that a FaultySession has too."""
    cdef RecordingSession session
    cdef bint local                 # UNIX socket: what is sent has arrived; SIOCOUTQ counts what the client has not read

    def __init__(self, RecordingSession session):
        self.session = session
        self.local = session.registry.config.unix is not None

    cdef bint later(self, method, tuple arguments=()):
        """Before connection_made: have `method` called then. That is in the loop's next turn, or after the handshake."""
        if self.session.early is not None and self.session.log is not None and self.session.state != CLOSING:
            self.session.early.append((method, arguments))
            return True
        return False

    def push(self, bytes data):
        if self.later(self.push, (data,)):
            return
        if self.session.state != OPEN:
            raise BrokenPipeError("the connection is closed for sending")
        self.session.push(data)

    def pause(self):
        if self.later(self.pause):
            return
        if not self.session.paused and self.session.state != CLOSING:
            self.session.paused = True
            EchoSession.pause_reading(self.session)

    def resume(self):
        if not self.later(self.resume) and self.session.paused:
            self.session.resume_paused()

    def reset(self):
        if self.session.transport is None:
            self.later(self.reset)
        elif self.session.state != CLOSING:
            self.session.reset(END_FAULT)

    def finish(self):
        self.session.half = False
        self.end()

    def shutdown_write(self):
        self.session.half = True
        self.end()

    def end(self):
        if not self.later(self.end) and self.session.state == OPEN:
            self.session.end_session(END_FAULT)

    def undelivered(self):
        return self.session.unacknowledged() if self.session.transport is not None else 0

    @property
    def begun(self):
        """False until the TLS handshake is done, and until the header of the PROXY protocol has come."""
        return self.session.transport is not None

    def idle(self):
        """Whether nothing is in flight: neither to the client nor, unless reading is paused, from it."""
        if self.session.transport is None:
            if self.session.log is None or self.session.registry.tls:
                return True
            return self.session.registry.config.proxy_protocol and not self.session.log.has_unread()
        if self.session.transport.get_write_buffer_size() if self.local else self.session.unacknowledged():
            return False
        return self.session.paused or fe_readable(self.session.descriptor()) == 0

    def reads(self):
        """Whether bytes and FIN of the client are read as they arrive."""
        return not (self.session.paused or self.session.queued)


cdef class ReplyMode:
    def __cinit__(self, bint echoes):
        self.echoes = echoes


def recording_session(Sessions registry, Record record, log, ReplyMode reply_mode, bytes greeting):
    cdef RecordingSession session = <RecordingSession>registry.begin(RecordingSession.__new__(RecordingSession))
    session.record = record
    session.log = log
    session.reply_mode = reply_mode
    session.early = []
    session.greeting = greeting
    session.stash = []
    return session
