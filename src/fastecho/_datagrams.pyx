"""UDP: one datagram in, the same datagram out, in batches: see the .pxd."""

import os
import socket

cimport cython
from libc.errno cimport EAGAIN, EINTR, ENOBUFS, errno
from libc.stdlib cimport calloc, free

from ._buffer cimport Memory
from ._counters cimport (
    DATAGRAM_DROPPED, DATAGRAM_ECHOED, DATAGRAM_RATE_LIMITED, DATAGRAM_RECEIVE_ERROR, DATAGRAM_REFUSED_ADDRESS,
    DATAGRAM_REFUSED_ECHO, DATAGRAM_REFUSED_PORT, DATAGRAM_SEND_ERROR, DATAGRAM_TRUNCATED, Counters, Outcome,
)
from ._sys cimport fe_monotonic

from ._counters import SharedCounters

cdef enum:
    SECOND = 1000000000
    SERVICE_PORTS = 1024
    KERNEL_BUFFER = 4194304     # 4 MiB, of which the kernel allows what net.core.rmem_max and wmem_max say
    LAST_BATCHES = 4096


@cython.final
cdef class RateTable:
    def __cinit__(self, uint64_t rate):
        if not 1 <= rate <= SECOND:
            raise ValueError(f"rate={rate}: must be between 1 and {SECOND}")
        self.interval = SECOND // rate
        self.burst = self.interval * rate
        self.key = int.from_bytes(os.urandom(8), "little") | 1

    def allow(self, uint64_t network, uint64_t now):
        return self.allows(network, now)

    @cython.overflowcheck(False)
    cdef bint allows(self, uint64_t network, uint64_t now) noexcept nogil:
        # The generic cell rate algorithm: one number says how much of the burst is left.
        cdef uint64_t hash = (network ^ self.key) * <uint64_t>0x9E3779B97F4A7C15
        cdef Allowance* ways = &self.allowances[(hash >> 48) % SETS * WAYS]
        cdef Allowance* chosen = ways
        cdef int i
        for i in range(WAYS):
            if ways[i].network == network:
                chosen = &ways[i]
                break
            if ways[i].full_at < chosen.full_at:
                chosen = &ways[i]
        if chosen.network != network:
            chosen.network = network
            chosen.full_at = now
        if chosen.full_at < now:
            chosen.full_at = now
        if chosen.full_at - now + self.interval > self.burst:
            return False
        chosen.full_at += self.interval
        return True


@cython.final
cdef class DatagramEcho:
    def __cinit__(self, loop, sockets, counters=None, rate=None, Py_ssize_t size=LARGEST):
        cdef Py_ssize_t i, stride
        cdef Counters counts = counters if counters is not None else SharedCounters(1).counters_of(0)
        if not 1 <= size <= LARGEST:
            raise ValueError(f"size={size}: must be between 1 and {LARGEST}")
        self.loop = loop
        self.sockets = list(sockets)
        self.counted = counts
        self.counters = counts.fields
        self.rates = RateTable(rate) if rate is not None else None
        self.size = size
        stride = LARGEST + 1 + STAGGER
        self.memory = Memory(BATCH * stride)
        self.endpoints = <Endpoint*>calloc(max(1, len(self.sockets)), sizeof(Endpoint))
        if self.endpoints == NULL:
            raise MemoryError()
        for i in range(SERVICE_PORTS):
            self.refuse_port(i)
        for i, sock in enumerate(self.sockets):
            self.prepare(sock, &self.endpoints[i])
        for i in range(BATCH):
            self.buffers[i].iov_base = <char*>self.memory.address + i * stride
            self.buffers[i].iov_len = size
            self.received[i].msg_hdr.msg_iov = &self.buffers[i]
            self.received[i].msg_hdr.msg_iovlen = 1
            self.received[i].msg_hdr.msg_name = &self.sources[i]
            self.received[i].msg_hdr.msg_control = &self.asked[i]
            self.answers[i].msg_hdr.msg_iov = &self.payloads[i]
            self.answers[i].msg_hdr.msg_iovlen = 1

    def __dealloc__(self):
        free(self.endpoints)

    cdef int prepare(self, sock, Endpoint* endpoint) except -1:
        name = sock.getsockname()
        endpoint.fd = sock.fileno()
        endpoint.family = sock.family
        endpoint.any = name[0] in ("0.0.0.0", "::")
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            if sock.getsockopt(socket.SOL_SOCKET, option) < KERNEL_BUFFER:
                sock.setsockopt(socket.SOL_SOCKET, option, KERNEL_BUFFER)
        if fe_datagram_options(endpoint.fd, endpoint.family, endpoint.any, ANSWER_HOPS) != 0:
            raise OSError(errno, os.strerror(errno))
        self.refuse_port(name[1])
        return 0

    cdef void refuse_port(self, Py_ssize_t port) noexcept:
        self.refused_ports[port >> 3] |= <unsigned char>(1 << (port & 7))

    def start(self):
        for i, sock in enumerate(self.sockets):
            self.loop.add_reader(sock, self.read, i)

    def read(self, Py_ssize_t index):
        cdef Endpoint* endpoint = &self.endpoints[index]
        with nogil:
            self.serve(endpoint, BATCHES)

    def close(self, bint answer=False):
        sockets, self.sockets = self.sockets, []
        for i, sock in enumerate(sockets):
            self.loop.remove_reader(sock)
            if answer:
                self.serve(&self.endpoints[i], LAST_BATCHES)
            sock.close()

    def close_copies(self):
        # While a loop of uvloop watches a socket, its close() does nothing.
        for sock in self.sockets:
            descriptor = sock.detach()
            if descriptor >= 0:
                socket.close(descriptor)

    # -- a batch -------------------------------------------------------------------------------------------------------

    cdef bint serve(self, Endpoint* endpoint, int batches) noexcept nogil:
        """Answer what is queued, for at most so many batches. Return whether more may be queued."""
        cdef int count
        for _ in range(batches):
            count = self.receive(endpoint)
            if count < 0:
                if errno == EAGAIN:
                    return False
                if errno != EINTR:      # an ICMP error about an earlier answer, which this call has cleared
                    self.counters.datagrams[<int>DATAGRAM_RECEIVE_ERROR] += 1
                continue
            self.send(endpoint, self.select(endpoint, count))
            if count < BATCH:
                return False
        return True

    cdef int receive(self, Endpoint* endpoint) noexcept nogil:
        cdef int i
        for i in range(BATCH):          # the kernel has written over these
            self.received[i].msg_hdr.msg_namelen = sizeof(fe_address)
            self.received[i].msg_hdr.msg_controllen = sizeof(fe_control)
        return fe_receive(endpoint.fd, self.received, BATCH)

    cdef int select(self, Endpoint* endpoint, int count) noexcept nogil:
        """Make the answers to the datagrams of this batch that are answered, and return their number."""
        cdef fe_arrival arrival
        cdef Outcome outcome
        cdef fe_messages* datagram
        cdef fe_messages* answer
        cdef int i, answers = 0
        if self.rates is not None:
            self.now = <uint64_t>(fe_monotonic() * SECOND)
        for i in range(count):
            datagram = &self.received[i]
            fe_read_arrival(&datagram.msg_hdr, &arrival)
            self.counters.bytes_in += datagram.msg_len
            outcome = self.judge(i, &arrival)
            if outcome != DATAGRAM_ECHOED:
                self.counters.datagrams[<int>outcome] += 1
                continue
            answer = &self.answers[answers]
            self.payloads[answers].iov_base = self.buffers[i].iov_base
            self.payloads[answers].iov_len = datagram.msg_len
            answer.msg_hdr.msg_name = &self.sources[i]
            answer.msg_hdr.msg_namelen = datagram.msg_hdr.msg_namelen
            answer.msg_hdr.msg_control = NULL
            answer.msg_hdr.msg_controllen = 0
            if arrival.known:
                answer.msg_hdr.msg_control = &self.replied[answers]
                fe_reply_from(&answer.msg_hdr, endpoint.family, &arrival)
            answers += 1
        return answers

    cdef Outcome judge(self, int slot, const fe_arrival* arrival) noexcept nogil:
        """DATAGRAM_ECHOED for a datagram to answer, or why it is not answered."""
        cdef const fe_address* source = &self.sources[slot]
        cdef uint16_t port = fe_source_port(source)
        if self.received[slot].msg_hdr.msg_flags & MSG_TRUNC:
            return DATAGRAM_TRUNCATED
        if self.refused_ports[port >> 3] >> (port & 7) & 1:
            return DATAGRAM_REFUSED_PORT
        if arrival.group or not fe_source_is_host(source):
            return DATAGRAM_REFUSED_ADDRESS
        if arrival.hops > CLIENT_HOPS:
            return DATAGRAM_REFUSED_ECHO
        if self.rates is None or fe_source_is_loopback(source):
            return DATAGRAM_ECHOED
        return DATAGRAM_ECHOED if self.rates.allows(fe_source_network(source), self.now) else DATAGRAM_RATE_LIMITED

    cdef void send(self, Endpoint* endpoint, int count) noexcept nogil:
        cdef int done = 0, sent, i
        while done < count:
            sent = fe_send(endpoint.fd, &self.answers[done], count - done)
            if sent > 0:
                for i in range(done, done + sent):
                    self.counters.bytes_out += self.payloads[i].iov_len
                self.counters.datagrams[<int>DATAGRAM_ECHOED] += sent
                done += sent
            elif errno == EAGAIN or errno == ENOBUFS:
                self.counters.datagrams[<int>DATAGRAM_DROPPED] += count - done
                return
            elif errno != EINTR:
                self.counters.datagrams[<int>DATAGRAM_SEND_ERROR] += 1
                done += 1
