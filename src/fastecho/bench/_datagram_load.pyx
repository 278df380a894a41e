"""The load engine for UDP; the .pxd documents its states and fields."""

cimport cython
from libc.errno cimport EAGAIN, EINTR, ENOBUFS, errno
from libc.math cimport ceil, log
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

import os
import socket

from ._hdr cimport Histogram
from ._load cimport (
    CONNECT, DRAIN, MEASURE, PERIOD, STOP, fe_load, fe_now, fe_poller_add, fe_poller_close, fe_poller_event,
    fe_poller_open, fe_poller_wait, fe_store, fe_thread_cpu,
)

from ._errors import DATAGRAM_KINDS as _KINDS, FirstError

cdef enum:
    REMEMBERED = 1024           # datagrams of a socket, at least
    RECEIVE_BUFFER = 4194304    # 4 MiB, of which the kernel allows what net.core.rmem_max says
cdef uint64_t SOON = 500_000, SWEEP = 20_000_000, CATCH_UP = 1_000_000_000      # nanoseconds


cdef bint counts(int phase, bint open_loop, uint64_t due, uint64_t from_time, uint64_t to_time) noexcept nogil:
    """`is_timed` of _load."""
    if open_loop:
        return due >= from_time and (phase == MEASURE or due < to_time)
    return phase == MEASURE


@cython.final
cdef class DatagramEngine:
    @cython.overflowcheck(False)    # the seed is meant to wrap
    def __cinit__(self, *, address, int family, sources, int connections, int depth, sizes, bytes table, bint verify,
                  double rate, bint poisson, double offset, double timeout, uint64_t seed, int index):
        cdef int i
        self.socket_count, self.depth, self.index, self.verify = connections, depth, index, verify
        self.open_loop, self.poisson = rate > 0, poisson
        self.gap = 1e9 / rate if rate > 0 else 0.0
        self.timeout = <uint64_t>(timeout * 1e9)
        self.seed = seed
        self.random = (<object>seed * 0x9E3779B97F4A7C15 + index | 1) & 0xFFFFFFFFFFFFFFFF
        self.ring = REMEMBERED
        while self.ring < 4 * <uint64_t>depth:
            self.ring *= 2
        self.size_count = len(sizes)
        if len(table) < PERIOD + BUFFER:
            raise ValueError("the table must hold PERIOD + 65536 bytes")
        self.socks = <Sock *>calloc(connections, sizeof(Sock))
        if self.socks == NULL:
            raise MemoryError
        for i in range(connections):        # before anything may raise: close() closes them
            self.socks[i].fd = -1
        self.slots = <Slot *>calloc(<size_t>connections * self.ring, sizeof(Slot))
        self.sizes = <uint32_t *>calloc(self.size_count, sizeof(uint32_t))
        self.table = <unsigned char *>malloc(len(table))
        self.inbox = <unsigned char *>malloc(BATCH * BUFFER)
        if self.slots == NULL or self.sizes == NULL or self.table == NULL or self.inbox == NULL:
            raise MemoryError
        memcpy(self.table, <const char *>table, len(table))
        for i in range(self.size_count):
            self.sizes[i] = sizes[i]
        for i in range(BATCH):
            self.boxes[i].iov_base = self.inbox + i * BUFFER
            self.boxes[i].iov_len = BUFFER
            self.incoming[i].msg_hdr.msg_iov = &self.boxes[i]
            self.incoming[i].msg_hdr.msg_iovlen = 1
            self.pieces[2 * i].iov_base = &self.headers[i]
            self.pieces[2 * i].iov_len = HEADER
            self.outgoing[i].msg_hdr.msg_iov = &self.pieces[2 * i]
            self.outgoing[i].msg_hdr.msg_iovlen = 2
        self.due = offset
        self.histogram = Histogram()
        if fe_poller_open(&self.poller, connections) < 0:
            raise OSError(errno, os.strerror(errno))
        for i in range(connections):
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
                if sources:
                    sock.bind((sources[i % len(sources)], 0))
                sock.connect(address)
                self.socks[i].fd = sock.detach()
            if fe_poller_add(&self.poller, self.socks[i].fd, i) < 0:
                raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        if self.socks != NULL:
            self.close()
        fe_poller_close(&self.poller)
        free(self.socks)
        free(self.slots)
        free(self.sizes)
        free(self.table)
        free(self.inbox)

    def close(self):
        cdef int i
        for i in range(self.socket_count):
            if self.socks[i].fd >= 0:
                os.close(self.socks[i].fd)
                self.socks[i].fd = -1

    def run(self):
        with nogil:
            self.loop()

    def enter_phase(self, int phase, uint64_t at):
        if phase == MEASURE:
            self.from_time = at
        elif phase == DRAIN:
            self.to_time = at
        fe_store(&self.phase, phase)

    cdef void loop(self) noexcept nogil:
        cdef int n, i = 0, k, phase
        cdef uint64_t wait, sweep_at = 0
        while True:
            phase = fe_load(&self.phase)
            self.now = fe_now()
            if phase != self.seen:
                self.enter(phase)
            if phase == STOP or (phase == DRAIN and self.inflight == 0 and (self.finished or not self.open_loop)):
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
            self.now = fe_now()
            for k in range(n):
                fe_poller_event(&self.poller, k, &i)
                self.handle(i)

    cdef void enter(self, int phase) noexcept nogil:
        cdef int i, before = self.seen
        self.seen = phase
        if phase == MEASURE:
            self.cpu_from = fe_thread_cpu()
        elif before == MEASURE:
            self.cpu_to = fe_thread_cpu()
        if self.open_loop:
            if before == CONNECT:
                self.due += self.now
            if phase == MEASURE and self.due < self.from_time:  # what the warm-up could not send is not the window's
                self.due += ceil((self.from_time - self.due) / self.gap) * self.gap
        elif before == CONNECT and phase != STOP:
            for i in range(self.socket_count):
                self.refill(i)

    # -- what comes back -------------------------------------------------------------------------------------------

    cdef void handle(self, int i) noexcept nogil:
        cdef int count, k
        while True:
            count = fe_receive(self.socks[i].fd, self.incoming, BATCH)
            if count < 0:
                if errno == EINTR:
                    continue
                if errno != EAGAIN:         # an ICMP error, which this call has cleared
                    self.fail(i, K_RESET, self.socks[i].next, errno)
                    continue
                break
            for k in range(count):
                self.check(i, self.inbox + k * BUFFER, self.incoming[k].msg_len)
            if not self.open_loop:
                self.refill(i)
            if count < BATCH:
                break
        if not self.open_loop:
            self.refill(i)                  # it may be writable again

    cdef void check(self, int i, unsigned char *data, uint32_t size) noexcept nogil:
        cdef Sock *sock = &self.socks[i]
        cdef Header header
        cdef Slot *slot
        cdef uint32_t place, same = 0, expected
        cdef Fault *fault = &self.faults[K_ALTERED]
        if size >= HEADER:
            memcpy(&header, data, HEADER)
        if size < HEADER or header.sequence >= sock.next or header.tag != self.tag_of(i, header.sequence):
            self.fail(i, K_ALTERED, UINT64_MAX, 0)
            return
        slot = self.slot_of(i, header.sequence)
        if slot.sequence != header.sequence or slot.state == DONE:
            self.fail(i, K_DUPLICATED, header.sequence, 0)
            return
        expected, place = self.size_of(header.sequence), self.place_of(i, header.sequence)
        if size != expected or (self.verify and memcmp(data + HEADER, self.table + place, size - HEADER) != 0):
            if not self.error_counts[K_ALTERED]:
                while (HEADER + same < min(size, expected)
                        and data[HEADER + same] == self.table[place + same]):
                    same += 1
                fault.got_size = min(SHOWN, <int>(size - HEADER - same))
                fault.expected_size = min(SHOWN, <int>(expected - HEADER - same))
                memcpy(fault.got, data + HEADER + same, fault.got_size)
                memcpy(fault.expected, self.table + place + same, fault.expected_size)
            self.fail(i, K_ALTERED, header.sequence, 0)
            if slot.state == IN_FLIGHT:
                self.inflight -= 1
                sock.inflight -= 1
            else:
                self.error_counts[K_LOST] -= 1
            slot.state = DONE
            return
        if header.sequence < sock.highest:
            self.fail(i, K_REORDERED, header.sequence, 0)
        else:
            sock.highest = header.sequence
        self.complete(i, slot, size)

    cdef void complete(self, int i, Slot *slot, uint32_t size) noexcept nogil:
        if slot.state == LOST:
            self.error_counts[K_LOST] -= 1
        else:
            self.inflight -= 1
            self.socks[i].inflight -= 1
        slot.state = DONE
        self.total_echoes += 1
        if self.seen == MEASURE:
            self.echo_count += 1
            self.byte_count += size
        if counts(self.seen, self.open_loop, slot.due, self.from_time, self.to_time):
            self.histogram.count(max(self.now - slot.due, 1))

    # -- what is sent ----------------------------------------------------------------------------------------------

    cdef void refill(self, int i) noexcept nogil:
        """Closed loop: as many as are missing."""
        cdef int wanted, k
        if self.seen == CONNECT or self.seen >= DRAIN:
            return
        while True:
            wanted = min(self.depth - <int>self.socks[i].inflight, <int>BATCH)
            if wanted <= 0:
                return
            for k in range(wanted):
                self.dues[k] = self.now
            if self.send(i, wanted) < wanted:
                return

    cdef int send(self, int i, int count) noexcept nogil:
        """Send `count` datagrams, due at `dues`; return how many the kernel took."""
        cdef Sock *sock = &self.socks[i]
        cdef Slot *slot
        cdef uint64_t sequence
        cdef int k, sent
        for k in range(count):
            sequence = sock.next + k
            self.headers[k].sequence = sequence
            self.headers[k].tag = self.tag_of(i, sequence)
            self.pieces[2 * k + 1].iov_base = self.table + self.place_of(i, sequence)
            self.pieces[2 * k + 1].iov_len = self.size_of(sequence) - HEADER
        sent = fe_send(sock.fd, self.outgoing, count)
        if sent < 0:
            if errno != EAGAIN and errno != ENOBUFS and errno != EINTR:
                self.fail(i, K_RESET, sock.next, errno)
            return 0
        for k in range(sent):
            slot = self.slot_of(i, sock.next)
            if slot.state == IN_FLIGHT:     # as many as the ring holds have overtaken it
                self.lose(i, slot)
            slot.sequence, slot.sent, slot.due, slot.state = sock.next, self.now, self.dues[k], IN_FLIGHT
            sock.next += 1
        sock.inflight += sent
        self.inflight += sent
        return sent

    cdef uint64_t pump(self) noexcept nogil:
        """Open loop: send what is due; return nanoseconds until more is."""
        cdef int i
        if self.finished:
            return UINT64_MAX
        while True:
            if self.seen == DRAIN and (self.due >= self.to_time or self.now > self.to_time + CATCH_UP):
                self.end_schedule()
                return UINT64_MAX
            if self.due > self.now:
                return <uint64_t>(self.due - self.now) + 1
            i = self.free_socket()
            if i < 0:
                return SOON
            self.dues[0] = <uint64_t>self.due
            if self.send(i, 1) == 0:
                return SOON
            self.due += self.draw_gap()

    cdef void end_schedule(self) noexcept nogil:
        self.finished = True
        if self.due < self.to_time:
            self.overdue_count += <uint64_t>ceil((self.to_time - self.due) / self.gap)

    cdef int free_socket(self) noexcept nogil:
        cdef int k
        for k in range(self.socket_count):
            self.turn = (self.turn + 1) % self.socket_count
            if <int>self.socks[self.turn].inflight < self.depth:
                return self.turn
        return -1

    cdef void sweep(self) noexcept nogil:
        """Count what has not come back in time as lost."""
        cdef Sock *sock
        cdef Slot *slot
        cdef uint64_t sequence
        cdef int i
        for i in range(self.socket_count):
            sock = &self.socks[i]
            if sock.next > self.ring and sock.oldest < sock.next - self.ring:
                sock.oldest = sock.next - self.ring
            while sock.oldest < sock.next and self.slot_of(i, sock.oldest).state != IN_FLIGHT:
                sock.oldest += 1
            for sequence in range(sock.oldest, sock.next):
                slot = self.slot_of(i, sequence)
                if slot.state == IN_FLIGHT and self.now - slot.sent > self.timeout:
                    self.lose(i, slot)
            if not self.open_loop:
                self.refill(i)

    cdef void lose(self, int i, Slot *slot) noexcept nogil:
        slot.state = LOST
        self.inflight -= 1
        self.socks[i].inflight -= 1
        self.fail(i, K_LOST, slot.sequence, 0)

    cdef void fail(self, int i, int kind, uint64_t sequence, int error) noexcept nogil:
        cdef Fault *fault = &self.faults[kind]
        if self.error_counts[kind] == 0:
            fault.connection, fault.sequence, fault.error = i, sequence, error
        self.error_counts[kind] += 1

    # -- what a datagram is ----------------------------------------------------------------------------------------

    cdef Slot *slot_of(self, int i, uint64_t sequence) noexcept nogil:
        return &self.slots[<uint64_t>i * self.ring + (sequence & (self.ring - 1))]

    @cython.overflowcheck(False)
    cdef uint64_t tag_of(self, int i, uint64_t sequence) noexcept nogil:
        cdef uint64_t x = (sequence + 1) * <uint64_t>0x9E3779B97F4A7C15
        x ^= (self.seed + ((<uint64_t>self.index << 32) | <uint64_t>i)) * <uint64_t>0xBF58476D1CE4E5B9
        return x ^ (x >> 29)

    cdef uint32_t size_of(self, uint64_t sequence) noexcept nogil:
        return self.sizes[sequence % self.size_count]

    cdef uint32_t place_of(self, int i, uint64_t sequence) noexcept nogil:
        return <uint32_t>((sequence + <uint64_t>i * 61) * 64 % PERIOD)

    @cython.overflowcheck(False)    # the generator wraps
    cdef double draw_gap(self) noexcept nogil:
        if not self.poisson:
            return self.gap
        self.random ^= self.random << 13
        self.random ^= self.random >> 7
        self.random ^= self.random << 17
        return -log(((self.random >> 11) + 1) * (1.0 / 9007199254740993.0)) * self.gap

    # -- what came of it -------------------------------------------------------------------------------------------

    @property
    def connected(self):
        return self.socket_count

    @property
    def counts(self):
        return self.total_echoes, self.echo_count, self.byte_count, self.overdue_count

    @property
    def cpu(self):
        return (self.cpu_to - self.cpu_from) / 1e9

    @property
    def errors(self):
        return dict(zip(_KINDS, self.error_counts))

    @property
    def first_errors(self):
        cdef Fault *fault
        found = {}
        for k, kind in enumerate(_KINDS):
            if self.error_counts[k]:
                fault = &self.faults[k]
                known = fault.sequence != UINT64_MAX
                found[kind] = FirstError(fault.connection, fault.sequence if known else -1, fault.error,
                                         got=fault.got[:fault.got_size], expected=fault.expected[:fault.expected_size])
        return found
