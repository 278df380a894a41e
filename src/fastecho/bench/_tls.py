"""The load engine for TLS: `_load.Engine` in Python, on one thread.

Its maximum is about a tenth of the C engine's; where it is the bottleneck the report says so. It shows whether a TLS
server works, and its latency at a moderate rate; it does not rank servers.
"""

import collections
import errno
import heapq
import itertools
import math
import os
import random
import re
import selectors
import socket
import ssl
import sys
import time
from dataclasses import dataclass, field

from ..errors import ConfigError
from ._errors import ERROR_KINDS, NO_EOF, FirstError
from ._hdr import Histogram
from ._load import Phase, close_means_reset, is_timed, may_send, now, proxy_header
from ._local import source_addresses
from .spec import PERIOD, LoadSpec
from .target import Address

_SWEEP, _RETRY, _CATCH_UP, _PENDING = 50_000_000, 100_000_000, 1_000_000_000, 32  # as in _load.pyx
_TURN = 1 << 18
"""Bytes that are read from one connection before the others are looked at. A server may send as fast as we read."""

CONNECT, _, MEASURE, DRAIN, STOP = Phase
_AGAIN = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, InterruptedError)

# What OpenSSL says of a first record that is none.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "UNEXPECTED_MESSAGE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG",
            "RECORD_LAYER_FAILURE", "BAD_RECORD_TYPE")  # fmt: skip
_OTHER_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


@dataclass(eq=False)
class Connection:
    """As `Connection` in `_load.pxd`; `messages` are (when, size), `handshake_done` is set after the handshake."""

    index: int
    sock: socket.socket | None = None
    handshake_done: bool = False
    messages: collections.deque[tuple[int, int]] = field(default_factory=collections.deque)
    missing: int = 0
    unsent: int = 0
    expected: int = 0
    tx_at: int = 0
    rx_at: int = 0
    received: int = 0
    last: int = 0
    retry: int = 0
    next: float = 0.0
    scheduled: bool = False


def client_context(ca: str | None, insecure: bool) -> ssl.SSLContext:
    """Raises ConfigError when `ca` cannot be read."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ValueError) as error:
        reason = "it has none" if isinstance(error, ssl.SSLError) else getattr(error, "strerror", error)
        raise ConfigError("tls_ca", ca, f"must be a file of certificates in PEM: {reason}") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def no_handshake() -> OSError:
    return TimeoutError(errno.ETIMEDOUT, "no answer to the TLS handshake")


def reason_of(error: OSError, *, connected: bool = False) -> str:
    """Why a connection failed, with the options that help when it was TLS. `connected`: after the handshake."""
    if isinstance(error, TimeoutError):
        return str(error.strerror or "no answer in time")
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_NAME:
            return f"{error.verify_message.rstrip('.')} (--tls-insecure does not check it)"
        help_ = "--tls-ca FILE names a trusted authority, --tls-insecure trusts any"
        return f"the server's certificate is not trusted: {error.verify_message} ({help_})"
    if isinstance(error, ssl.SSLEOFError):
        return os.strerror(errno.ECONNRESET) if connected else "closed by the server in the TLS handshake"
    if isinstance(error, ssl.SSLError):
        words = (error.reason or "").replace("_", " ").lower() or re.sub(r" \(_ssl\.c:\d+\)$", "", str(error))
        if error.reason in _NOT_TLS:
            return f"the server does not speak TLS: {words} (tcp:// is for a server without TLS)"
        return f"TLS: {words}"
    return error.strerror or str(error)


def was_reset(sock: socket.socket, error: ssl.SSLEOFError) -> bool:
    """Whether an end without close_notify was RST, not FIN: Python may raise `SSLEOFError` for both."""
    if error.reason == "UNEXPECTED_EOF_WHILE_READING":
        return False  # from OpenSSL 3 on, for FIN only
    try:
        sock.getpeername()
    except OSError:
        return True
    return False


class TLSEngine:
    """The interface of `_load.Engine`; `run` holds the interpreter lock most of the time."""

    def __init__(self, spec: LoadSpec, address: Address, *, server_name: str, count_all: bool) -> None:
        self.spec, self.address, self.server_name, self.count_all = spec, address, server_name, count_all
        self.sources = itertools.cycle(source_addresses(spec, address.host) or [None])
        self.context = client_context(spec.tls_ca, spec.tls_insecure)
        self.chunk = spec.chunk
        self.table = memoryview(spec.payload(self.chunk))
        self.sizes = itertools.cycle(spec.size_table())
        self.ending = spec.ending  # empty: the client closes first
        self.draw = random.Random(spec.seed)
        self.depth = 1 if spec.churn else spec.depth
        self.timeout = int(spec.timeout * 1e9)
        self.connections = [Connection(k) for k in range(spec.connections)]
        self.poller = selectors.DefaultSelector()
        self.retries: list[tuple[int, int]] = [] if spec.churn else [(0, k) for k in range(spec.connections)]
        self.gap = 1e9 * spec.connections / spec.rate if spec.rate else 0.0
        self.open_loop = bool(spec.rate)
        for k, c in enumerate(self.connections):
            c.next = self._draw_gap() if spec.arrivals == "poisson" else self.gap * k / spec.connections
        self.heap: list[tuple[float, int]] = []  # open loop: the connections that can send, by when they are due
        self.behind = 0
        self.phase = self.seen = CONNECT
        self.now = self.inflight = self.pending = self.opened = 0
        self.from_time = self.to_time = 0
        self.total = self.echoes = self.bytes = self.overdue = 0
        self._histogram = Histogram()
        self._cpu = [0.0, 0.0]
        self._errors = dict.fromkeys(ERROR_KINDS, 0)
        self._first: dict[str, FirstError] = {}

    histogram = property(lambda self: self._histogram)
    connected = property(lambda self: self.opened)
    counts = property(lambda self: (self.total, self.echoes, self.bytes, self.overdue))
    cpu = property(lambda self: self._cpu[1] - self._cpu[0])
    errors = property(lambda self: dict(self._errors))
    first_errors = property(lambda self: dict(self._first))

    def enter_phase(self, phase: Phase, at: int) -> None:
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
            if phase == STOP or (phase == DRAIN and not self.inflight and not self.behind):
                return
            if self.now >= sweep_at:
                self._sweep()
                sweep_at = self.now + _SWEEP
            wait = sweep_at - self.now
            if self.open_loop and phase != CONNECT:
                wait = min(wait, self._pump())
            for key, _ in self.poller.select(max(0, wait) / 1e9):
                if key.data.sock is key.fileobj:
                    self._handle(key.data)

    def _enter(self, phase: Phase) -> None:
        before, self.seen = self.seen, phase
        if phase == MEASURE:
            self._cpu[0] = time.thread_time()
        elif before == MEASURE:
            self._cpu[1] = time.thread_time()
        for c in self.connections if self.open_loop else ():
            if before == CONNECT:
                c.next += self.now
            if phase == MEASURE:
                self._skip_to(c, self.from_time)
            elif phase == DRAIN:
                self.behind += c.next < self.to_time
        if phase == MEASURE:
            self.heap = sorted((self.connections[k].next, k) for _, k in self.heap)
        if before == CONNECT and phase != STOP:
            for c in self.connections:
                if c.handshake_done or self.spec.churn:
                    self._begin(c)

    def _begin(self, c: Connection) -> None:
        if self.open_loop:
            self._send_due(c)
        elif self.spec.churn:
            self._open(c, now())
        else:
            for _ in range(self.depth):
                self._queue(c, self.now)
            self._flush(c)

    def _handle(self, c: Connection) -> None:
        if not isinstance(c.sock, ssl.SSLSocket):
            self._begin_handshake(c)
        sock = c.sock
        if not isinstance(sock, ssl.SSLSocket):
            return
        if not c.handshake_done:
            try:
                sock.do_handshake()
            except _AGAIN as error:
                self._want(c, isinstance(error, ssl.SSLWantWriteError))
                return
            except OSError as error:
                self._fail(c, "connect", error)
                return
            c.handshake_done = True
            self.pending -= 1
            self.opened += 1
            self._open_due()
            if self.spec.churn or may_send(self.seen, self.open_loop):
                self._flush(c) if c.unsent else self._begin(c)
        self._receive(c, sock)
        if c.unsent and c.sock is sock:
            self._flush(c)

    def _begin_handshake(self, c: Connection) -> None:
        """Once the connection is there or has failed: wrapping the socket earlier leaks it when it fails meanwhile."""
        raw = c.sock
        assert raw is not None
        failed = raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            self._fail(c, "connect", OSError(failed, os.strerror(failed)))
            return
        if self.spec.proxy_protocol is not None:
            try:
                raw.send(proxy_header(raw.fileno(), self.spec.proxy_protocol))
            except OSError as error:
                self._fail(c, "connect", error)
                return
        self.poller.unregister(raw)
        c.sock = self.context.wrap_socket(
            raw, do_handshake_on_connect=False, suppress_ragged_eofs=False, server_hostname=self.server_name
        )
        self.poller.register(c.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, c)

    def _receive(self, c: Connection, sock: ssl.SSLSocket) -> None:
        received = 0
        while c.sock is sock and (received < _TURN or sock.pending()):
            try:
                data = sock.recv(self.chunk)
            except _AGAIN:
                return
            except ssl.SSLEOFError as error:
                if was_reset(sock, error):
                    self._fail(c, "reset", OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
                    return
                data = b""
            except OSError as error:
                self._fail(c, "reset", error)
                return
            if not data and self._awaits_eof(c):
                self.now = now()
                self._end_cycle(c)
                return
            if not data:
                self._fail(c, "short")
                return
            self.now = c.last = now()
            expected = self._part(c.rx_at, c.expected, min(c.expected, len(data)))
            if self.spec.verify and data[: len(expected)] != expected:
                place = next(k for k, byte in enumerate(expected) if byte != data[k])
                c.received += place
                self._fail(c, "corrupt", got=data[place:], expected=bytes(expected[place:]))
                return
            if len(data) > c.expected:
                place = len(expected) if self.spec.verify else 0
                c.received += place
                self._fail(c, "excess", got=data[place:], expected=bytes(expected[place:]))
                return
            c.rx_at = (c.rx_at + len(data)) % PERIOD
            received += len(data)
            c.received += len(data)
            c.expected -= len(data)
            self._count(c, len(data))

    def _count(self, c: Connection, left: int) -> None:
        done = 0
        while c.messages and left >= c.missing:
            left -= c.missing
            self._complete(c)
            done += 1
        c.missing -= left
        if done and self.ending:
            self._await_eof(c)
        elif done and self.spec.churn:
            self._end_cycle(c)
        elif done and self.open_loop:
            self._send_due(c)
        elif done and may_send(self.seen, self.open_loop):
            for _ in range(done):
                self._queue(c, self.now)
            self._flush(c)

    def _await_eof(self, c: Connection) -> None:
        """As in `_load.pxd`: EOF counts as in flight, and any byte before it is excess."""
        c.messages.append((self.now, 0))
        c.missing = 1
        self.inflight += 1

    def _awaits_eof(self, c: Connection) -> bool:
        return bool(self.ending and c.messages and not c.expected)

    def _end_cycle(self, c: Connection) -> None:
        assert c.sock is not None
        if self.ending:
            close_means_reset(c.sock.fileno())
        self._drop(c)
        if may_send(self.seen, self.open_loop):
            self._begin(c)

    def _part(self, at: int, left: int, size: int) -> "bytes | memoryview":
        """`size` bytes of a stream from `at` in the table; with a terminator, the message ends after `left` bytes."""
        plain = max(0, left - len(self.ending))
        if not self.ending or size <= plain:
            return self.table[at : at + size]
        start = len(self.ending) - (left - plain)
        return bytes(self.table[at : at + plain]) + self.ending[start : start + size - plain]

    def _complete(self, c: Connection) -> None:
        when, size = c.messages.popleft()
        self.inflight -= 1
        self.total += 1
        if self.seen == MEASURE or self.count_all:
            self.echoes += 1
            self.bytes += size
        if is_timed(self.seen, self.open_loop, when, self.from_time, self.to_time) or self.count_all:
            self._histogram.record(self.now - when)
        c.missing = c.messages[0][1] if c.messages else 0

    def _queue(self, c: Connection, when: int) -> None:
        size = next(self.sizes)
        if not c.messages:
            c.missing, c.last = size, self.now
        c.messages.append((when, size))
        self.inflight += 1
        c.unsent += size
        c.expected += size

    def _flush(self, c: Connection) -> None:
        while c.unsent and c.sock is not None and c.handshake_done:
            try:
                sent = c.sock.send(self._part(c.tx_at, c.unsent, min(c.unsent, self.chunk)))
            except _AGAIN:
                break
            except OSError as error:
                self._fail(c, "reset", error)
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
        if self.seen == DRAIN and self.behind and self.now > self.to_time + _CATCH_UP:
            self._give_up_due()
        while self.heap and not (self.seen == DRAIN and self.heap[0][0] >= self.to_time):
            due_at, k = self.heap[0]
            if due_at > self.now:
                return int(due_at - self.now) + 1
            heapq.heappop(self.heap)
            self.connections[k].scheduled = False
            self._send_due(self.connections[k])
        return _SWEEP

    def _send_due(self, c: Connection) -> None:
        if c.scheduled:
            return
        while self._is_free(c) and c.next <= self.now and (self.seen != DRAIN or c.next < self.to_time):
            when = int(c.next)
            c.next += self._draw_gap()
            self.behind -= self.seen == DRAIN and c.next >= self.to_time
            if self.spec.churn:
                self._open(c, when)
            else:
                self._queue(c, when)
        if c.unsent:
            self._flush(c)
        if self._is_free(c):
            c.scheduled = True
            heapq.heappush(self.heap, (c.next, c.index))

    def _is_free(self, c: Connection) -> bool:
        if self.spec.churn:
            return c.sock is None and c.retry <= self.now
        return c.handshake_done and len(c.messages) < self.depth

    def _give_up_due(self) -> None:
        for c in self.connections:
            while c.next < self.to_time:
                self.overdue += 1
                c.next += self._draw_gap()
        self.behind = 0
        self.heap.clear()

    def _draw_gap(self) -> float:
        return self.draw.expovariate(1 / self.gap) if self.spec.arrivals == "poisson" else self.gap

    def _skip_to(self, c: Connection, when: int) -> None:
        if c.next < when and self.spec.arrivals == "poisson":
            c.next = when + self._draw_gap()
        elif c.next < when:
            c.next += math.ceil((when - c.next) / self.gap) * self.gap

    def _open(self, c: Connection, when: int) -> None:
        c.last = self.now
        c.messages.clear()
        c.unsent = c.expected = c.received = c.missing = 0
        c.tx_at = c.rx_at = c.index * 3904 % PERIOD
        raw = socket.socket(self.address.family, socket.SOCK_STREAM)
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending += 1
        c.sock = raw
        self.poller.register(raw, selectors.EVENT_READ | selectors.EVENT_WRITE, c)
        try:
            self._connect(raw)
        except OSError as error:
            self._fail(c, "connect", error)
            return
        if self.spec.churn:
            self._queue(c, when)

    def _connect(self, raw: socket.socket) -> None:
        """Begin to connect."""
        source = next(self.sources)
        if source is not None:
            if sys.platform == "linux":
                raw.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT, as in _poller.h
            raw.bind((source, 0))
        failed = raw.connect_ex((self.address.host, self.address.port))
        if failed not in (0, errno.EINPROGRESS):
            raise OSError(failed, os.strerror(failed))

    def _open_due(self) -> None:
        while self.retries and self.retries[0][0] <= self.now and self.pending < _PENDING and self.seen < DRAIN:
            c = self.connections[heapq.heappop(self.retries)[1]]
            self._begin(c) if self.spec.churn else self._open(c, 0)

    def _sweep(self) -> None:
        self._open_due()
        for c in self.connections:
            if c.sock is not None and self.now > c.last + self.timeout:
                if not c.handshake_done:
                    self._fail(c, "connect", no_handshake())
                elif c.messages:
                    self._fail(c, "timeout", reason=NO_EOF if self._awaits_eof(c) else "")

    def _drop(self, c: Connection) -> None:
        if c.sock is None:
            return
        self.poller.unregister(c.sock)
        c.sock.close()
        c.sock = None
        if c.handshake_done:
            self.opened -= 1
        else:
            self.pending -= 1
        self.inflight -= len(c.messages)
        c.messages.clear()
        c.unsent, c.handshake_done = 0, False

    def _fail(
        self, c: Connection, kind: str, error: OSError | None = None, got: bytes = b"", expected: bytes = b"",
        reason: str = "",
    ) -> None:  # fmt: skip
        number, reason = (error.errno or 0, reason_of(error, connected=kind != "connect")) if error else (0, reason)
        if isinstance(error, ssl.SSLError):
            number = 0  # of OpenSSL
        self._first.setdefault(kind, FirstError(c.index, c.received, number, reason, got, expected))
        self._errors[kind] += 1
        self._drop(c)
        c.retry = self.now + _RETRY
        heapq.heappush(self.retries, (c.retry, c.index))
