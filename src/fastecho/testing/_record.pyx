# cython: always_allow_keywords=False
"""Recordings, and the session that makes them. The plain session knows nothing of it."""

from libc.errno cimport errno
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from .._buffer cimport Slot
from .._scan cimport scan
from .._session cimport (
    CLOSING, ERROR, FAULT, LINGERING, OPEN, PARKED, TERMINATOR, EchoSession, SessionGroup, take_in,
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

    def tell(self):
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
            self.keep(stream, data, min(size, <Py_ssize_t>(self.limit - stream.length)))
        stream.total += size
        if self.watch.waiting:
            self.watch.notify()
        return 0

    cdef int keep(self, Stream* stream, const unsigned char* data, Py_ssize_t size) except -1:
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
        take_in(self, nbytes)

    cdef int process(self, Slot* slot, Py_ssize_t size) except -1:
        cdef uint64_t before = self.sent
        if self.state == PARKED:        # comes again when there is room
            return EchoSession.process(self, slot, size)
        if self.early is not None and self.state == OPEN:
            self.begin_open()
        if self.held:                   # paused in connection_made: uvloop reads once before that takes effect
            self.stash.append(slot.data[:size])
            return self.pause()
        self.record.add(IN, slot.data, size)
        if self.state == OPEN and not (<RecordingGroup>self.group).echoes:
            return self.answer(slot.data, size)
        EchoSession.process(self, slot, size)
        return self.record.add(OUT, slot.data, self.sent - before)

    cdef int answer(self, const unsigned char* data, Py_ssize_t size) except -1:
        cdef Py_ssize_t due = scan(self.shared.pattern, &self.scan_state, data, size)
        cdef bint ended = due >= 0
        if not ended:
            due = size
        try:
            self.push(self.view.answer(data[:due]))
        except BaseException as error:  # of the test's own code
            self.view.failed(error)
            return self.reset(ERROR)
        if self.state != OPEN:
            return 0
        if ended:
            self.shared.count.bytes_discarded += size - due
            return self.finish(TERMINATOR)
        if size == self.shared.buffer_size and not self.queued:
            return self.yield_share()
        self.full = 0
        return 0

    cdef int push(self, bytes data) except -1:
        """What is no echo: sent at once where that may be, else through the transport."""
        cdef Py_ssize_t size = len(data), sent = 0
        if size == 0:
            return 0
        if self.shared.direct and not self.queued:
            sent = send(self.fd, <const char*>data, size, FE_SEND_FLAGS)
            if sent < 0:
                if not fe_would_block(errno):
                    return self.broken(errno)
                sent = 0
        self.sent += size
        self.shared.count.bytes_out += sent
        self.record.add(OUT, <const unsigned char*><const char*>data, size)
        if sent < size:
            self.hand_over(data[sent:], size - sent)
        return 0

    # -- life -------------------------------------------------------------------------------------------------------

    def connection_made(self, transport):
        EchoSession.connection_made(self, transport)
        if self.group.tls:
            self.view.secured(transport.get_extra_info("ssl_object").version())
        if self.state == OPEN:
            self.begin_open()
        self.record.watch.notify()

    cdef int unpark(self) except -1:
        EchoSession.unpark(self)
        if self.state == OPEN and self.early is not None:
            self.begin_open()
        return 0

    cdef int begin_open(self) except -1:
        cdef list early = self.early
        self.early = None
        self.push(self.banner)
        for method, arguments in early:
            method(*arguments)
        return 0

    def never_connected(self):
        EchoSession.never_connected(self)
        if self.view is not None:       # its TLS handshake failed, or the peer was gone
            self.view.closed("reset")
            self.view = None

    def eof_received(self):
        EchoSession.eof_received(self)
        self.view.peer_closed()

    def connection_lost(self, exception):
        EchoSession.connection_lost(self, exception)
        self.view.closed(self.cause())
        self.view = None

    cdef int unhold(self) except -1:
        """What came in spite of the pause comes now, as if it were read now: the ready slot is free memory."""
        cdef bytes data
        self.held = False
        while self.stash and not self.held:
            data = self.stash.pop(0)
            memcpy(self.shared.ready[0].data, <const char*>data, len(data))
            self.process(self.shared.ready[0], len(data))
        return self.resume() if self.transport is not None else 0

    cdef int resume(self) except -1:
        return 0 if self.held else EchoSession.resume(self)

    cdef int sweep_closing(self, double now, Py_ssize_t due) except -1:
        return 0 if self.half and self.state == LINGERING else EchoSession.sweep_closing(self, now, due)


cdef class Steering:
    """A hand on a RecordingSession, under the names that a FaultySession has for it too."""
    cdef RecordingSession session
    cdef bint local                 # what is sent is with the peer at once; SIOCOUTQ tells what it has not read

    def __init__(self, RecordingSession session):
        self.session = session
        self.local = session.group.config.unix is not None

    cdef bint later(self, method, tuple arguments=()):
        """It has not begun: that comes in the next turn, after the TLS handshake, or when there is a place."""
        if self.session.early is not None and self.session.view is not None and self.session.state != CLOSING:
            self.session.early.append((method, arguments))
            return True
        return False

    def push(self, bytes data):
        if self.later(self.push, (data,)):
            return
        if self.session.state > PARKED:
            raise BrokenPipeError("the connection is closed for sending")
        self.session.push(data)

    def pause(self):
        if self.later(self.pause):
            return
        if not self.session.held and self.session.state != CLOSING:
            self.session.held = True
            EchoSession.pause(self.session)

    def resume(self):
        if not self.later(self.resume) and self.session.held:
            self.session.unhold()

    def reset(self):
        if self.session.transport is None:
            self.later(self.reset)
        elif self.session.state != CLOSING:
            self.session.reset(FAULT)

    def finish(self):
        self.session.half = False
        self.end()

    def shutdown_write(self):
        self.session.half = True
        self.end()

    def end(self):
        if not self.later(self.end) and self.session.state == OPEN:
            self.session.finish(FAULT)

    def due(self):
        return self.session.outstanding() if self.session.transport is not None else 0

    def idle(self):
        """Nothing is under way: neither to the peer nor, unless reading is paused, from it."""
        if self.session.transport is None:
            return self.session.view is None or self.session.group.tls
        if self.session.transport.get_write_buffer_size() if self.local else self.session.outstanding():
            return False
        return self.session.held or fe_readable(self.session.descriptor()) == 0


cdef class RecordingGroup(SessionGroup):
    def answer_with(self, bint echoes, bytes banner):
        self.echoes = echoes
        self.banner = banner

    def recorded(self, Record record, view):
        cdef RecordingSession session = <RecordingSession>self.begin(RecordingSession.__new__(RecordingSession))
        session.record = record
        session.view = view
        session.early = []
        session.banner = self.banner
        session.stash = []
        return session
