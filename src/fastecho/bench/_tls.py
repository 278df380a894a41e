"""The load engine for TLS: `_load.Engine` over again in Python, on one thread.

It offers about a tenth of what the C engine sends; where it is the bottleneck the command says so. It shows that a TLS
server is sound, and its latency at a moderate rate; it does not rank servers.
"""

import collections
import errno
import heapq
import itertools
import random
import selectors
import socket
import ssl
import time

from ._hdr import Histogram
from ._load import ERROR_KINDS, now
from ._tls_parts import Connection, client_context
from .spec import PERIOD, LoadSpec

CONNECT, WARM_UP, MEASURE, DRAIN, STOP = range(5)
_SWEEP, _RETRY, _CATCH_UP, _PENDING = 50_000_000, 100_000_000, 1_000_000_000, 32  # as in _load.pyx
_AGAIN = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, InterruptedError)


class TLSEngine:
    """The interface of `_load.Engine`; `run` holds the interpreter lock most of the time."""

    def __init__(self, spec: LoadSpec, family: int, host: str, port: int, *, server_name: str) -> None:
        self.spec, self.family, self.address, self.server_name = spec, family, (host, port), server_name
        self.context = client_context(spec.tls_ca, spec.tls_insecure)
        self.chunk = spec.chunk
        self.table = memoryview(spec.payload(self.chunk))
        self.sizes = itertools.cycle(spec.size_table())
        self.draw = random.Random(spec.seed)
        self.depth = 1 if spec.churn else spec.depth
        self.timeout = int(spec.timeout * 1e9)
        self.connections = [Connection(k) for k in range(spec.connections)]
        self.poller = selectors.DefaultSelector()
        self.retries: list[tuple[int, int]] = [] if spec.churn else [(0, k) for k in range(spec.connections)]
        self.free: collections.deque[Connection] = collections.deque()
        self.gap = 1e9 / spec.rate if spec.rate else 0.0
        self.due = 0.0
        self.phase = self.seen = CONNECT
        self.now = self.inflight = self.pending = self.opened = 0
        self.from_time = self.to_time = 0
        self.total = self.echoes = self.bytes = self.overdue = 0
        self._histogram = Histogram()
        self._cpu = [0.0, 0.0]
        self._errors = dict.fromkeys(ERROR_KINDS, 0)
        self._first: dict[str, tuple[int, int, int, int, int]] = {}

    histogram = property(lambda self: self._histogram)
    connected = property(lambda self: self.opened)
    counts = property(lambda self: (self.total, self.echoes, self.bytes, self.overdue))
    cpu = property(lambda self: self._cpu[1] - self._cpu[0])
    errors = property(lambda self: dict(self._errors))
    first_errors = property(lambda self: dict(self._first))

    def enter_phase(self, phase: int, at: int) -> None:
        if phase == MEASURE:
            self.from_time = at
        elif phase == DRAIN:
            self.to_time = at
        self.phase = phase

    def close(self) -> None:
        for c in self.connections:
            self._drop(c)
        self.poller.close()

    def run(self) -> None:
        sweep_at = 0
        while True:
            phase = self.phase
            self.now = now()
            if phase != self.seen:
                self._enter(phase)
            settled = not self.gap or self.due >= self.to_time
            if phase == STOP or (phase == DRAIN and not self.inflight and settled):
                return
            if self.now >= sweep_at:
                self._sweep()
                sweep_at = self.now + _SWEEP
            wait = sweep_at - self.now
            if self.gap and phase != CONNECT:
                wait = min(wait, self._pump())
            for key, _ in self.poller.select(max(0, wait) / 1e9):
                if key.data.sock is key.fileobj:
                    self._handle(key.data)

    def _enter(self, phase: int) -> None:
        before, self.seen = self.seen, phase
        if phase == MEASURE:
            self._cpu[0] = time.thread_time()
        elif before == MEASURE:
            self._cpu[1] = time.thread_time()
        if before == CONNECT:
            self.due = float(self.now)
        if phase == MEASURE:
            self.due = max(self.due, float(self.from_time))
        if before == CONNECT and phase != STOP:
            for c in self.connections:
                if c.shaken or self.spec.churn:
                    self._begin(c)

    def _begin(self, c: Connection) -> None:
        if self.gap:
            self.free.append(c)
        elif self.spec.churn:
            self._open(c, now())
        else:
            for _ in range(self.depth):
                self._queue(c, self.now)
            self._flush(c)

    def _handle(self, c: Connection) -> None:
        sock = c.sock
        assert isinstance(sock, ssl.SSLSocket)
        if not c.shaken:
            try:
                sock.do_handshake()
            except _AGAIN as error:
                self._want(c, isinstance(error, ssl.SSLWantWriteError))
                return
            except OSError as error:
                self._fail(c, "connect", error.errno or errno.EPROTO)
                return
            c.shaken = True
            self.pending -= 1
            self.opened += 1
            self._open_due()
            if self.spec.churn or self.seen in (WARM_UP, MEASURE):
                self._flush(c) if c.unsent else self._begin(c)
            if c.sock is None:
                return
        self._receive(c, sock)
        if c.unsent and c.sock is sock:
            self._flush(c)

    def _receive(self, c: Connection, sock: ssl.SSLSocket) -> None:
        while c.sock is sock:
            try:
                data = sock.recv(self.chunk)
            except _AGAIN:
                return
            except OSError as error:
                self._fail(c, "reset", error.errno or errno.EPROTO)
                return
            if not data:
                self._fail(c, "short", 0)
                return
            self.now = c.last = now()
            if self.spec.verify and data != self.table[c.rx_at : c.rx_at + len(data)]:
                expected = self.table[c.rx_at : c.rx_at + len(data)]
                place = next(k for k, byte in enumerate(data) if byte != expected[k])
                c.received += place
                self._fail(c, "corrupt", 0, expected[place], data[place])
                return
            c.rx_at = (c.rx_at + len(data)) % PERIOD
            c.received += len(data)
            self._count(c, len(data))

    def _count(self, c: Connection, left: int) -> None:
        done = 0
        while c.messages and left >= c.due:
            left -= c.due
            self._complete(c)
            done += 1
        if left and not c.messages:
            self._fail(c, "excess", 0)
            return
        c.due -= left
        if done and self.spec.churn:
            self._drop(c)
            if self.seen != DRAIN or self.gap:
                self._begin(c)
        elif done and self.gap:
            self.free.append(c)
        elif done and self.seen < DRAIN:
            for _ in range(done):
                self._queue(c, self.now)
            self._flush(c)

    def _complete(self, c: Connection) -> None:
        when, size = c.messages.popleft()
        self.inflight -= 1
        self.total += 1
        measuring = self.seen == MEASURE
        if measuring:
            self.echoes += 1
            self.bytes += size
        if (when >= self.from_time and (measuring or 0 < when < self.to_time)) if self.gap else measuring:
            self._histogram.record(self.now - when)
        c.due = c.messages[0][1] if c.messages else 0

    def _queue(self, c: Connection, when: int) -> None:
        size = next(self.sizes)
        if not c.messages:
            c.due, c.last = size, self.now
        c.messages.append((when, size))
        self.inflight += 1
        c.unsent += size

    def _flush(self, c: Connection) -> None:
        while c.unsent and c.sock is not None and c.shaken:
            try:
                sent = c.sock.send(self.table[c.tx_at : c.tx_at + min(c.unsent, self.chunk)])
            except _AGAIN:
                break
            except OSError as error:
                self._fail(c, "reset", error.errno or errno.EPROTO)
                return
            c.unsent -= sent
            c.tx_at = (c.tx_at + sent) % PERIOD
        if c.sock is not None:
            self._want(c, c.unsent > 0)

    def _want(self, c: Connection, writing: bool) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        assert c.sock is not None
        if self.poller.get_key(c.sock).events != events:
            self.poller.modify(c.sock, events, c)

    def _pump(self) -> int:
        while self.seen == DRAIN and self.now > self.to_time + _CATCH_UP and self.due < self.to_time:
            self.overdue += 1
            self._next_arrival()
        while self.due <= self.now:
            if not self.free or (self.seen == DRAIN and self.due >= self.to_time):
                return _SWEEP
            c = self.free.popleft()
            if self.spec.churn:
                if c.sock is not None:
                    continue
                self._open(c, int(self.due))
            else:
                if not c.shaken or len(c.messages) >= self.depth:
                    continue
                self._queue(c, int(self.due))
                self._flush(c)
                self.free.append(c)
            self._next_arrival()
        return int(self.due - self.now) + 1

    def _next_arrival(self) -> None:
        self.due += self.draw.expovariate(1 / self.gap) if self.spec.arrivals == "poisson" else self.gap

    def _open(self, c: Connection, when: int) -> None:
        c.last = self.now
        c.messages.clear()
        c.unsent = c.received = c.due = 0
        c.tx_at = c.rx_at = c.index * 3904 % PERIOD
        raw = socket.socket(self.family, socket.SOCK_STREAM)
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        failed = raw.connect_ex(self.address)
        c.sock = self.context.wrap_socket(raw, do_handshake_on_connect=False, server_hostname=self.server_name)
        self.pending += 1
        self.poller.register(c.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, c)
        if failed not in (0, errno.EINPROGRESS):
            self._fail(c, "connect", failed)
        elif self.spec.churn:
            self._queue(c, when)

    def _open_due(self) -> None:
        while self.retries and self.retries[0][0] <= self.now and self.pending < _PENDING and self.seen < DRAIN:
            c = self.connections[heapq.heappop(self.retries)[1]]
            self._begin(c) if self.spec.churn else self._open(c, 0)

    def _sweep(self) -> None:
        self._open_due()
        for c in self.connections:
            if c.sock is not None and self.now > c.last + self.timeout:
                if not c.shaken:
                    self._fail(c, "connect", errno.ETIMEDOUT)
                elif c.messages:
                    self._fail(c, "timeout", 0)

    def _drop(self, c: Connection) -> None:
        if c.sock is None:
            return
        self.poller.unregister(c.sock)
        c.sock.close()
        c.sock = None
        if c.shaken:
            self.opened -= 1
        else:
            self.pending -= 1
        self.inflight -= len(c.messages)
        c.messages.clear()
        c.unsent, c.shaken = 0, False

    def _fail(self, c: Connection, kind: str, error: int, expected: int = -1, got: int = -1) -> None:
        self._first.setdefault(kind, (c.index, error, c.received, expected, got))
        self._errors[kind] += 1
        self._drop(c)
        heapq.heappush(self.retries, (self.now + _RETRY, c.index))
