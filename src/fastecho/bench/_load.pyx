"""The load engine; its states and fields stand in the .pxd."""

cimport cython
from libc.errno cimport EAGAIN, EINPROGRESS, ENOTCONN, ETIMEDOUT, errno
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t
from libc.string cimport memcmp
from posix cimport unistd

import os

from ._hdr cimport Histogram
from ._plan cimport PERIOD, Connection, Message, Plan

cdef extern from "sys/socket.h" nogil:
    ssize_t recv(int fd, void *to, size_t size, int flags)
    ssize_t send(int fd, const void *data, size_t size, int flags)

cdef enum:
    STRIDE = 64 * 61        # between the places where two neighbours begin
    PENDING = 32            # handshakes under way at once: within any listener's backlog

cdef uint64_t SWEEP = 50_000_000
cdef uint64_t RETRY = 100_000_000
cdef uint64_t CATCH_UP = 1_000_000_000

ERROR_KINDS = ("connect", "reset", "short", "corrupt", "excess", "timeout")


def now():
    return fe_now()


@cython.final
cdef class Engine(Plan):
    def __cinit__(self, **plan):
        self.histogram = Histogram()
        fe_poller_init(&self.poller)
        if fe_poller_open(&self.poller, self.connection_count) < 0:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        self.drop_all()
        fe_poller_close(&self.poller)

    def run(self):
        with nogil:
            self.loop()

    def close(self):
        self.drop_all()

    def enter_phase(self, int phase, uint64_t at):
        if phase == MEASURE:
            self.from_time = at
        elif phase == DRAIN:
            self.to_time = at
        fe_store(&self.phase, phase)

    cdef void loop(self) noexcept nogil:
        cdef int n, i = 0, k, flags, phase
        cdef uint64_t wait, sweep_at = 0
        while True:
            phase = fe_load(&self.phase)
            if phase != self.seen:
                self.enter(phase)
            if phase == STOP or (phase == DRAIN and self.inflight == 0 and self.due >= self.to_time):
                break
            if self.now >= sweep_at:
                self.sweep()
                sweep_at = self.now + SWEEP
            wait = sweep_at - self.now
            if self.open_loop and phase != CONNECT:
                wait = min(wait, self.pump())
            n = fe_poller_wait(&self.poller, wait)
            # A busy closed loop has read the clock at each receipt; that is near enough for the time-outs.
            if n <= 0 or self.open_loop or self.opened < self.connection_count:
                self.now = fe_now()
            for k in range(n):
                flags = fe_poller_event(&self.poller, k, &i)
                self.handle(i, flags)

    cdef void enter(self, int phase) noexcept nogil:
        cdef int i, before = self.seen
        self.seen = phase
        self.now = fe_now()
        if phase == MEASURE:
            self.cpu_from = fe_thread_cpu()
        elif before == MEASURE:
            self.cpu_to = fe_thread_cpu()
        if phase == DRAIN and not self.open_loop:
            self.due = <double>UINT64_MAX
        if before == CONNECT and self.open_loop:
            self.due += self.now
        if phase == MEASURE and self.due < self.from_time:
            self.due = self.from_time       # what the warm-up could not send is not the window's to answer for
        if before == CONNECT and phase != STOP:
            for i in range(self.connection_count):
                if self.connections[i].state == OPEN or self.churn:
                    self.begin(i)

    # -- one connection -------------------------------------------------------------------------------------------

    cdef void handle(self, int i, int flags) noexcept nogil:
        cdef Connection *c = &self.connections[i]
        cdef int error
        if c.state == CONNECTING:
            error = fe_socket_error(c.fd)
            if error:
                self.fail(i, E_CONNECT, error, -1)
            if c.state == CLOSED or not flags & FE_WRITABLE:
                return
            self.established(c)
            self.open_more()
            if c.unsent:
                self.flush(i)
            elif self.seen == WARM_UP or self.seen == MEASURE:
                self.begin(i)
        if flags & FE_READABLE and c.state == OPEN:
            self.receive(i)
        if flags & FE_WRITABLE and c.state == OPEN and c.unsent:
            self.flush(i)

    cdef void receive(self, int i) noexcept nogil:
        cdef Connection *c = &self.connections[i]
        cdef ssize_t n
        cdef uint32_t left, place
        cdef int done
        while True:
            n = recv(c.fd, self.inbox, self.chunk, 0)
            if n <= 0:
                if n == 0:
                    self.fail(i, E_SHORT, 0, -1)
                elif not fe_again(errno):
                    self.fail(i, E_RESET, errno, -1)
                return
            self.now = fe_now()
            if self.verify and memcmp(self.inbox, self.table + c.rx_at, n) != 0:
                place = 0
                while self.inbox[place] == self.table[c.rx_at]:
                    place += 1
                    c.rx_at += 1
                c.received += place
                self.fail(i, E_CORRUPT, 0, self.inbox[place])
                return
            c.rx_at = (c.rx_at + <uint32_t>n) % PERIOD
            c.received += n
            c.last = self.now
            left, done = <uint32_t>n, 0
            while c.inflight and left >= c.due:
                left -= c.due
                self.complete(c, i)
                done += 1
            if left and not c.inflight:
                self.fail(i, E_EXCESS, 0, -1)
                return
            c.due -= left
            if done:
                if self.churn:
                    self.drop(i)
                    c.retry = 0
                    if self.seen != DRAIN or self.open_loop:
                        self.begin(i)
                    return
                if self.open_loop:
                    self.give_back(i)
                elif self.seen < DRAIN:
                    for _ in range(done):
                        self.queue(i, self.now)
                    if not c.blocked:
                        self.flush(i)
            # A short read means that nothing more is there (epoll(7)): the next byte makes the next event.
            if <uint32_t>n < self.chunk or c.state != OPEN:
                return

    cdef inline void complete(self, Connection *c, int i) noexcept nogil:
        cdef Message *message = &self.messages[<size_t>i * self.depth + c.head]
        self.total_echoes += 1
        if self.seen == MEASURE:
            self.echo_count += 1
            self.byte_count += message.size
        # An open loop answers for the messages due inside the window, whenever their echo comes.
        if (message.when >= self.from_time and (self.seen == MEASURE or message.when < self.to_time)
                if self.open_loop else self.seen == MEASURE):
            self.histogram.count(self.now - message.when)
        c.head += 1
        if c.head == <uint32_t>self.depth:
            c.head = 0
        c.inflight -= 1
        self.inflight -= 1
        c.due = self.messages[<size_t>i * self.depth + c.head].size if c.inflight else 0

    cdef inline void queue(self, int i, uint64_t when) noexcept nogil:
        cdef Connection *c = &self.connections[i]
        cdef uint32_t size = self.sizes[self.size_next], place = c.head + c.inflight
        self.size_next += 1
        if self.size_next == self.size_count:
            self.size_next = 0
        if place >= <uint32_t>self.depth:
            place -= self.depth
        self.messages[<size_t>i * self.depth + place].when = when
        self.messages[<size_t>i * self.depth + place].size = size
        if c.inflight == 0:
            c.due = size
            c.last = self.now
        c.inflight += 1
        self.inflight += 1
        c.unsent += size

    cdef void flush(self, int i) noexcept nogil:
        cdef Connection *c = &self.connections[i]
        cdef ssize_t n
        cdef size_t size
        cdef int kind
        c.blocked = False
        while c.unsent:
            size = min(c.unsent, <uint64_t>self.chunk)
            n = send(c.fd, self.table + c.tx_at, size, MSG_NOSIGNAL)
            if n < 0 and not fe_again(errno):
                if c.state == CONNECTING and (errno == ENOTCONN or errno == EINPROGRESS):
                    return
                kind = E_CONNECT if c.state == CONNECTING else E_RESET
                self.fail(i, kind, errno, -1)
                return
            if n > 0:
                if c.state == CONNECTING:
                    self.established(c)
                c.unsent -= n
                c.tx_at = (c.tx_at + <uint32_t>n) % PERIOD
            if n < <ssize_t>size:
                c.blocked = True
                fe_poller_want(&self.poller, i, FE_WRITABLE)
                return
        fe_poller_want(&self.poller, i, 0)

    cdef void begin(self, int i) noexcept nogil:
        """The first messages of connection `i`; with churn, its next life."""
        cdef int k
        if self.open_loop:
            self.give_back(i)
        elif self.churn:
            self.open(i, fe_now())
        else:
            for k in range(self.depth):
                self.queue(i, self.now)
            self.flush(i)

    # -- open loop ------------------------------------------------------------------------------------------------

    cdef uint64_t pump(self) noexcept nogil:
        """Send what is due; how long until the next arrival can be sent, as far as that is known."""
        cdef int i
        cdef Connection *c
        while self.seen == DRAIN and self.now > self.to_time + CATCH_UP and self.due < self.to_time:
            self.overdue_count += 1
            self.next_arrival()
        while self.due <= self.now:
            if self.free_count == 0 or (self.seen == DRAIN and self.due >= self.to_time):
                return UINT64_MAX
            i = self.free_ring[self.free_head]
            c = &self.connections[i]
            self.free_head = (self.free_head + 1) % self.connection_count
            self.free_count -= 1
            c.queued = False
            if self.churn:
                if c.state != CLOSED or c.retry > self.now:
                    continue
                if not self.open(i, <uint64_t>self.due):
                    continue
            else:
                if c.state != OPEN or c.inflight >= <uint32_t>self.depth:
                    continue
                self.queue(i, <uint64_t>self.due)
                self.flush(i)
                self.give_back(i)
            self.next_arrival()
        return <uint64_t>(self.due - self.now) + 1

    cdef void give_back(self, int i) noexcept nogil:
        """Connection `i` may take a message more: to the end of the ring of those that may."""
        cdef Connection *c = &self.connections[i]
        if c.queued or (c.inflight >= <uint32_t>self.depth) or (c.state != OPEN and not self.churn):
            return
        c.queued = True
        self.free_ring[(self.free_head + self.free_count) % self.connection_count] = i
        self.free_count += 1

    # -- opening and closing --------------------------------------------------------------------------------------

    cdef bint open(self, int i, uint64_t when) noexcept nogil:
        """Connect; with churn, send the one message due since `when` as soon as the kernel takes it.

        False when nothing was tried: a UNIX listener's backlog is full. The sweep comes back to it.
        """
        cdef Connection *c = &self.connections[i]
        cdef sockaddr_storage *source = &self.sources[self.source_next]
        self.now = fe_now()
        if self.source_count:
            self.source_next = (self.source_next + 1) % self.source_count
        c.fd = fe_connect(&self.address, self.address_len, source, self.source_len)
        c.last, c.retry = self.now, self.now + RETRY
        if c.fd < 0:
            if errno == EAGAIN:
                c.retry = self.now + 1
                return False
            self.fail(i, E_CONNECT, errno, -1)
            return True
        c.state = CONNECTING
        self.pending += 1
        c.inflight = c.head = c.due = 0
        c.unsent = c.received = 0
        c.blocked = False
        c.tx_at = c.rx_at = <uint32_t>((<uint64_t>(i + self.index * 7919) * STRIDE) % PERIOD)
        if self.churn:
            # On loopback the handshake is over when connect returns: the message can go with it.
            self.queue(i, when)
            self.flush(i)
        if c.state != CLOSED and fe_poller_add(&self.poller, c.fd, i) < 0:
            self.fail(i, E_CONNECT, errno, -1)
        return True

    cdef void open_more(self) noexcept nogil:
        while self.next_open < self.connection_count and self.pending < PENDING and not self.churn:
            self.next_open += 1
            self.open(self.next_open - 1, 0)

    cdef void sweep(self) noexcept nogil:
        cdef int i
        cdef Connection *c
        self.open_more()
        for i in range(self.connection_count):
            c = &self.connections[i]
            if c.state == CLOSED:
                if c.retry == 0 or c.retry > self.now or self.pending >= PENDING or self.seen >= DRAIN:
                    continue
                if not self.churn:
                    self.open(i, 0)
                elif self.seen != CONNECT:
                    self.begin(i)
            elif c.state == CONNECTING and self.now > c.last + self.timeout:
                self.fail(i, E_CONNECT, ETIMEDOUT, -1)
            elif c.inflight and self.now > c.last + self.timeout:
                self.fail(i, E_TIMEOUT, 0, -1)

    cdef inline void established(self, Connection *c) noexcept nogil:
        c.state = OPEN
        self.pending -= 1
        self.opened += 1

    cdef void drop(self, int i) noexcept nogil:
        cdef Connection *c = &self.connections[i]
        if c.state == CLOSED:
            return
        fe_poller_forget(&self.poller, i)
        unistd.close(c.fd)
        if c.state == OPEN:
            self.opened -= 1
        else:
            self.pending -= 1
        self.inflight -= c.inflight
        c.inflight = c.due = 0
        c.unsent = 0
        c.state = CLOSED
        c.fd = -1

    cdef void drop_all(self) noexcept nogil:
        cdef int i
        if self.connections != NULL:
            for i in range(self.connection_count):
                self.drop(i)

    cdef void fail(self, int i, int kind, int error, int got) noexcept nogil:
        cdef Connection *c = &self.connections[i]
        if self.error_counts[kind] == 0:
            self.faults[kind] = Fault(i, error, self.table[c.rx_at] if got >= 0 else -1, got, c.received)
        self.error_counts[kind] += 1
        self.drop(i)
        c.retry = self.now + RETRY

    # -- for the thread that measures -----------------------------------------------------------------------------

    @property
    def connected(self):
        return self.opened

    @property
    def counts(self):
        return self.total_echoes, self.echo_count, self.byte_count, self.overdue_count

    @property
    def cpu(self):
        return (self.cpu_to - self.cpu_from) / 1e9

    @property
    def errors(self):
        return {kind: self.error_counts[k] for k, kind in enumerate(ERROR_KINDS)}

    @property
    def first_errors(self):
        found = {kind: self.faults[k] for k, kind in enumerate(ERROR_KINDS) if self.error_counts[k]}
        return {kind: (f.connection, f.error, f.offset, f.expected, f.got) for kind, f in found.items()}
