"""The load engine; the .pxd documents its states and fields."""

cimport cython
from libc.errno cimport EAGAIN, EINPROGRESS, ENOTCONN, ETIMEDOUT, errno
from libc.math cimport ceil, log
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy
from posix cimport unistd
from posix.stdlib cimport posix_memalign

from .._sys cimport fe_close_means_reset, fe_would_block

import os

from ._errors import ERROR_KINDS, NO_EOF, FirstError
from ._hdr cimport Histogram

cdef extern from "sys/socket.h" nogil:
    ssize_t recv(int fd, void *to, size_t size, int flags)
    ssize_t send(int fd, const void *data, size_t size, int flags)

cdef enum:
    PAGE = 4096
    STRIDE = 3904           # 61 cache lines, between the places where two neighbours begin
    PENDING = 32            # handshakes under way at once: within any listener's backlog
cdef uint64_t SOON = 500_000, SWEEP = 50_000_000, RETRY = 100_000_000, CATCH_UP = 1_000_000_000     # nanoseconds


def now():
    return fe_now()


def close_means_reset(int fd):
    fe_close_means_reset(fd)


def proxy_header(int fd, int version):
    cdef char header[FE_PROXY_HEADER_MAX]
    cdef int size = fe_proxy_header(fd, version, header)
    if size < 0:
        raise OSError(errno, os.strerror(errno))
    return header[:size]


cpdef bint may_send(int phase, bint open_loop) noexcept nogil:
    return phase == WARM_UP or phase == MEASURE or (phase == DRAIN and open_loop)


cpdef bint is_timed(int phase, bint open_loop, uint64_t when, uint64_t from_time, uint64_t to_time) noexcept nogil:
    if open_loop:
        return when >= from_time and (phase == MEASURE or when < to_time)
    return phase == MEASURE


@cython.final
cdef class Engine:
    @cython.overflowcheck(False)    # the seed is meant to wrap
    def __cinit__(self, *, int family, str host, int port, sources, int connections, int depth, sizes, bytes table,
                  uint32_t chunk, bint verify, bint churn, bytes terminator, double rate, bint poisson, double offset,
                  double timeout, uint64_t seed, int index, int proxy_protocol, bint count_all):
        cdef int i
        self.connection_count, self.depth, self.index = connections, 1 if churn else depth, index
        self.verify, self.churn, self.count_all = verify, churn, count_all
        self.proxy_protocol = proxy_protocol
        self.open_loop, self.poisson = rate > 0, poisson
        self.gap = 1e9 * connections / rate if rate > 0 else 0.0
        self.timeout = <uint64_t>(timeout * 1e9)
        self.random = (<object>seed * 0x9E3779B97F4A7C15 + index | 1) & 0xFFFFFFFFFFFFFFFF
        self.chunk = chunk
        self.terminator_size = len(terminator) if churn else 0
        if len(table) < PERIOD + chunk:
            raise ValueError("the table must hold PERIOD + chunk bytes")
        self.address_len = fe_address(family, os.fsencode(host), port, &self.address)
        if self.address_len == 0:
            raise ValueError(f"{host}: not a numeric address, or too long a path")
        self.size_count, self.source_count = len(sizes), len(sources)
        self.connections = <Connection *>calloc(connections, sizeof(Connection))
        self.messages = <Message *>calloc(<size_t>connections * self.depth, sizeof(Message))
        self.heap = <int *>calloc(connections, sizeof(int))
        self.sizes = <uint32_t *>calloc(self.size_count, sizeof(uint32_t))
        self.sources = <sockaddr_storage *>calloc(self.source_count + 1, sizeof(sockaddr_storage))
        if (posix_memalign(<void **>&self.table, PAGE, PERIOD + chunk)
                or posix_memalign(<void **>&self.inbox, PAGE, chunk)
                or posix_memalign(<void **>&self.outbox, PAGE, chunk if self.terminator_size else PAGE)
                or posix_memalign(<void **>&self.terminator, PAGE, len(terminator) + 1)
                or self.connections == NULL or self.messages == NULL
                or self.heap == NULL or self.sizes == NULL or self.sources == NULL):
            raise MemoryError
        memcpy(self.table, <const char *>table, PERIOD + chunk)
        memcpy(self.terminator, <const char *>terminator, len(terminator))
        for i in range(connections):
            self.connections[i].fd = -1
            # Constant arrivals are evenly spaced over all connections, Poisson ones need no order.
            self.connections[i].next = self.draw_gap() if poisson else offset + self.gap * i / connections
        for i in range(self.size_count):
            self.sizes[i] = sizes[i]
        for i in range(self.source_count):
            self.source_len = fe_address(family, os.fsencode(sources[i]), 0, &self.sources[i])
            if self.source_len == 0:
                raise ValueError(f"{sources[i]}: not a numeric address of the target's family")
        self.histogram = Histogram()
        if fe_poller_open(&self.poller, self.connection_count) < 0:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        if self.connections != NULL:
            self.drop_all()
        fe_poller_close(&self.poller)
        free(self.connections)
        free(self.messages)
        free(self.heap)
        free(self.sizes)
        free(self.sources)
        free(self.table)
        free(self.inbox)
        free(self.outbox)
        free(self.terminator)

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
            if phase == STOP or (phase == DRAIN and self.inflight == 0 and self.unfinished == 0):
                break
            if self.now >= sweep_at:
                self.sweep()
                sweep_at = self.now + SWEEP
            wait = sweep_at - self.now
            if phase == CONNECT:
                wait = min(wait, SOON)      # the phase is polled: no event reports that the load begins
            elif self.open_loop:
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
        cdef Connection *c
        self.seen = phase
        self.now = fe_now()
        if phase == MEASURE:
            self.cpu_from = fe_thread_cpu()
        elif before == MEASURE:
            self.cpu_to = fe_thread_cpu()
        if self.open_loop:
            for i in range(self.connection_count):
                c = &self.connections[i]
                if before == CONNECT:
                    c.next += self.now
                if phase == MEASURE:
                    self.skip_to(c, self.from_time)     # what the warm-up could not send is not the window's
                elif phase == DRAIN:
                    self.unfinished += c.next < self.to_time
            if phase == MEASURE:                        # the keys have changed
                self.heap_size = 0
                for i in range(self.connection_count):
                    if self.connections[i].scheduled:
                        self.schedule(i)
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
                self.fail(i, E_CONNECT, error)
            if error or not flags & FE_WRITABLE:
                return
            self.established(c)
            self.send_proxy_header(c)
            self.open_more()
            if c.unsent:
                self.flush(i)
            elif may_send(self.seen, self.open_loop):
                self.begin(i)
        if flags & FE_READABLE and c.state == OPEN:
            self.receive(i, flags & FE_ENDING)
        if flags & FE_WRITABLE and c.state == OPEN and c.unsent:
            self.flush(i)

    cdef void receive(self, int i, int ending) noexcept nogil:
        cdef Connection *c = &self.connections[i]
        cdef ssize_t n
        cdef uint32_t left, place
        cdef size_t expected
        cdef const unsigned char *due
        cdef int done
        while True:
            n = recv(c.fd, self.inbox, self.chunk, 0)
            if n <= 0:
                if n == 0 and self.awaits_eof(c):
                    self.now = fe_now()
                    self.end_cycle(i)
                elif n == 0:
                    self.fail(i, E_SHORT, 0)
                elif not fe_would_block(errno):
                    self.fail(i, E_RESET, errno)
                return
            self.now = fe_now()
            expected = min(<uint64_t>n, c.expected)
            if self.verify and memcmp(self.inbox, self.table + c.rx_at, expected) != 0:
                # The terminator is not in the table: with one, this is the way of every complete message.
                due = self.part(c.rx_at, c.expected, expected)
                if not self.terminator_size or memcmp(self.inbox, due, expected) != 0:
                    place = 0
                    while self.inbox[place] == due[place]:
                        place += 1
                    self.fail_with_bytes(i, E_CORRUPT, place, expected, n)
                    return
            if <uint64_t>n > expected:
                self.fail_with_bytes(i, E_EXCESS, expected if self.verify else 0, expected, n)
                return
            c.rx_at = (c.rx_at + <uint32_t>n) % PERIOD
            c.received += n
            c.expected -= n
            c.last = self.now
            left, done = <uint32_t>n, 0
            while c.inflight and left >= c.missing:
                left -= c.missing
                self.complete(c, i)
                done += 1
            c.missing -= left
            if done:
                if self.churn:
                    if not self.terminator_size:
                        self.end_cycle(i)
                        return
                    self.await_eof(c)
                elif self.open_loop:
                    if not c.scheduled:
                        self.send_due(i)
                elif may_send(self.seen, self.open_loop):
                    for _ in range(done):
                        self.queue(i, self.now)
                    if not c.blocked:
                        self.flush(i)
            # After a short read nothing more is there (epoll(7)) but perhaps a FIN: the next byte makes the next event.
            if (<uint32_t>n < self.chunk and not ending) or c.state != OPEN:
                return

    cdef inline void complete(self, Connection *c, int i) noexcept nogil:
        cdef Message *message = &self.messages[<size_t>i * self.depth + c.head]
        self.total_echoes += 1
        if self.seen == MEASURE or self.count_all:
            self.echo_count += 1
            self.byte_count += message.size
        if is_timed(self.seen, self.open_loop, message.when, self.from_time, self.to_time) or self.count_all:
            self.histogram.count(self.now - message.when)
        c.head += 1
        if c.head == <uint32_t>self.depth:
            c.head = 0
        c.inflight -= 1
        self.inflight -= 1
        c.missing = self.messages[<size_t>i * self.depth + c.head].size if c.inflight else 0

    cdef inline void await_eof(self, Connection *c) noexcept nogil:
        c.inflight = c.missing = 1
        self.inflight += 1

    cdef inline bint awaits_eof(self, Connection *c) noexcept nogil:
        return self.terminator_size and c.inflight and c.expected == 0

    cdef void end_cycle(self, int i) noexcept nogil:
        """Close a connection that has carried its message, and open the next one."""
        cdef Connection *c = &self.connections[i]
        if self.terminator_size:
            fe_close_means_reset(c.fd)
        self.drop(i)
        c.retry = 0
        if may_send(self.seen, self.open_loop):
            self.begin(i)

    cdef inline const unsigned char *part(self, uint32_t at, uint64_t left, size_t size) noexcept nogil:
        """`size` bytes of a stream from `at` in the table. With a terminator, the message ends after `left` bytes."""
        if self.terminator_size:
            return self.with_terminator(at, left, size)
        return self.table + at

    cdef const unsigned char *with_terminator(self, uint32_t at, uint64_t left, size_t size) noexcept nogil:
        cdef uint64_t plain = left - min(left, <uint64_t>self.terminator_size)
        if size <= plain:
            return self.table + at
        memcpy(self.outbox, self.table + at, plain)
        memcpy(self.outbox + plain, self.terminator + self.terminator_size - (left - plain), size - plain)
        return self.outbox

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
            c.missing = size
            c.last = self.now
        c.inflight += 1
        self.inflight += 1
        c.unsent += size
        c.expected += size

    cdef void flush(self, int i) noexcept nogil:
        cdef Connection *c = &self.connections[i]
        cdef ssize_t n
        cdef size_t size
        cdef int kind
        c.blocked = False
        if c.state == CONNECTING and self.proxy_protocol:
            return                          # the header goes first, once the connection is established
        while c.unsent:
            size = min(c.unsent, <uint64_t>self.chunk)
            n = send(c.fd, self.part(c.tx_at, c.unsent, size), size, MSG_NOSIGNAL)
            if n < 0 and not fe_would_block(errno):
                if c.state == CONNECTING and (errno == ENOTCONN or errno == EINPROGRESS):
                    return
                kind = E_CONNECT if c.state == CONNECTING else E_RESET
                self.fail(i, kind, errno)
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
            if not self.connections[i].scheduled:
                self.send_due(i)
        elif self.churn:
            self.open(i, fe_now())
        else:
            for k in range(self.depth):
                self.queue(i, self.now)
            self.flush(i)

    # -- open loop ------------------------------------------------------------------------------------------------

    cdef uint64_t pump(self) noexcept nogil:
        """Send what is due; how long until the next message is, as far as that is known."""
        cdef double due_at
        if self.seen == DRAIN and self.unfinished and self.now > self.to_time + CATCH_UP:
            self.give_up_due()
        while self.heap_size:
            due_at = self.connections[self.heap[0]].next
            if self.seen == DRAIN and due_at >= self.to_time:
                break
            if due_at > self.now:
                return <uint64_t>(due_at - self.now) + 1
            self.send_due(self.take_first())
        return UINT64_MAX

    cdef void send_due(self, int i) noexcept nogil:
        """Send what is due on connection `i`, as far as it can send; if it can send more, it goes into the heap."""
        cdef Connection *c = &self.connections[i]
        cdef bint queued = False
        cdef uint64_t when
        while self.is_free(c) and c.next <= self.now and (self.seen != DRAIN or c.next < self.to_time):
            when = <uint64_t>c.next
            if self.churn:
                if not self.open(i, when):
                    return
            else:
                self.queue(i, when)
                queued = True
            c.next += self.draw_gap()
            self.unfinished -= self.seen == DRAIN and c.next >= self.to_time
        if queued:
            self.flush(i)
        if self.is_free(c):
            self.schedule(i)

    cdef bint is_free(self, Connection *c) noexcept nogil:
        if self.churn:
            return c.state == CLOSED and c.retry <= self.now
        return c.state == OPEN and c.inflight < <uint32_t>self.depth

    cdef void give_up_due(self) noexcept nogil:
        cdef int i
        for i in range(self.connection_count):
            while self.connections[i].next < self.to_time:
                self.overdue_count += 1
                self.connections[i].next += self.draw_gap()
        self.unfinished = self.heap_size = 0

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
            self.fail(i, E_CONNECT, errno)
            return True
        c.state = CONNECTING
        self.pending += 1
        c.inflight = c.head = c.missing = 0
        c.unsent = c.expected = c.received = 0
        c.blocked = False
        c.tx_at = c.rx_at = <uint32_t>((<uint64_t>(i + self.index * 7919) * STRIDE) % PERIOD)
        if self.churn:
            # On loopback the handshake is over when connect returns: the message can go with it.
            self.queue(i, when)
            self.flush(i)
        if c.state != CLOSED and fe_poller_add(&self.poller, c.fd, i) < 0:
            self.fail(i, E_CONNECT, errno)
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
                self.fail(i, E_CONNECT, ETIMEDOUT)
            elif c.inflight and self.now > c.last + self.timeout:
                self.fail(i, E_TIMEOUT, 0)

    cdef inline void established(self, Connection *c) noexcept nogil:
        c.state = OPEN
        fe_poller_want(&self.poller, <int>(c - self.connections), 0)
        self.pending -= 1
        self.opened += 1

    cdef inline void send_proxy_header(self, Connection *c) noexcept nogil:
        cdef char header[FE_PROXY_HEADER_MAX]
        cdef int size
        if self.proxy_protocol:
            size = fe_proxy_header(c.fd, self.proxy_protocol, header)
            if size > 0:                    # an error is that of a connection which was reset: the next call reports it
                send(c.fd, header, size, MSG_NOSIGNAL)

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
        c.inflight = c.missing = 0
        c.unsent = 0
        c.state = CLOSED
        c.fd = -1

    cdef void drop_all(self) noexcept nogil:
        cdef int i
        if self.connections != NULL:
            for i in range(self.connection_count):
                self.drop(i)

    cdef void fail(self, int i, int kind, int error) noexcept nogil:
        cdef Connection *c = &self.connections[i]
        cdef Fault *fault = &self.faults[kind]
        if self.error_counts[kind] == 0:
            fault.connection, fault.error, fault.offset = i, error, c.received
            fault.awaited_eof = self.awaits_eof(c)
        self.error_counts[kind] += 1
        self.drop(i)
        c.retry = self.now + RETRY

    cdef void fail_with_bytes(self, int i, int kind, size_t place, size_t expected, size_t size) noexcept nogil:
        """A failure that begins at `place` of the `size` bytes received, of which `expected` were expected."""
        cdef Connection *c = &self.connections[i]
        cdef Fault *fault = &self.faults[kind]
        c.received += place
        if self.error_counts[kind] == 0:
            fault.got_size = <int>min(size - place, <size_t>SHOWN)
            fault.expected_size = <int>min(expected - place, <size_t>SHOWN)
            memcpy(fault.got, self.inbox + place, fault.got_size)
            memcpy(fault.expected, self.part(c.rx_at, c.expected, expected) + place, fault.expected_size)
        self.fail(i, kind, 0)

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
        return dict(zip(ERROR_KINDS, self.error_counts))

    @property
    def first_errors(self):
        cdef Fault *fault
        found = {}
        for k, kind in enumerate(ERROR_KINDS):
            if self.error_counts[k]:
                fault = &self.faults[k]
                found[kind] = FirstError(fault.connection, fault.offset, fault.error,
                                         reason=NO_EOF if kind == "timeout" and fault.awaited_eof else "",
                                         got=fault.got[:fault.got_size], expected=fault.expected[:fault.expected_size])
        return found

    # -- the schedule of an open loop ---------------------------------------------------------------------------------

    @cython.overflowcheck(False)    # the generator wraps
    cdef double draw_gap(self) noexcept nogil:
        """Nanoseconds from one message of a connection to its next."""
        cdef uint64_t x = self.random
        if not self.poisson:
            return self.gap
        x ^= x << 13
        x ^= x >> 7
        x ^= x << 17
        self.random = x
        return -self.gap * log(((x >> 11) + 1) * (1.0 / 9007199254740992.0))

    cdef void skip_to(self, Connection *c, double when) noexcept nogil:
        """Leave out the messages of `c` that were due before `when`."""
        if c.next >= when:
            return
        if self.poisson:
            c.next = when + self.draw_gap()     # the process has no memory
        else:
            c.next += ceil((when - c.next) / self.gap) * self.gap

    cdef void schedule(self, int i) noexcept nogil:
        """Put connection `i` into the heap."""
        cdef double when = self.connections[i].next
        cdef int place = self.heap_size, parent
        self.connections[i].scheduled = True
        self.heap_size += 1
        while place:
            parent = (place - 1) // 2
            if self.connections[self.heap[parent]].next <= when:
                break
            self.heap[place] = self.heap[parent]
            place = parent
        self.heap[place] = i

    cdef int take_first(self) noexcept nogil:
        """Take the connection that is due first out of the heap, which is not empty."""
        cdef int first = self.heap[0], last, place = 0, child = 1
        self.connections[first].scheduled = False
        self.heap_size -= 1
        last = self.heap[self.heap_size]
        while child < self.heap_size:
            if (child + 1 < self.heap_size
                    and self.connections[self.heap[child + 1]].next < self.connections[self.heap[child]].next):
                child += 1
            if self.connections[last].next <= self.connections[self.heap[child]].next:
                break
            self.heap[place] = self.heap[child]
            place, child = child, 2 * child + 1
        self.heap[place] = last
        return first
