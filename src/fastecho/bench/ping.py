"""Round trips over one connection, one after the other: what `fastecho ping` does."""

import contextlib
import math
import os
import random
import socket
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from ..errors import ConfigError
from ._connect import cannot_connect, choose_answering, connect_datagrams, connect_first, signals_blocked
from ._errors import LoadError, service, tls_hint, wrong_bytes
from ._load import proxy_header
from ._tls import client_context, no_handshake, reason_of
from .spec import MAX_DATAGRAM
from .target import Address, Target

MIN_PING = 8  # bytes of a datagram: its sequence
_REMEMBERED = 1000


@dataclass(frozen=True)
class Reply:
    """One round trip: `seconds`, or why there was none."""

    sequence: int
    seconds: float
    problem: str | None = None


@dataclass
class Summary:
    """What ping(8) says at its end. Times are seconds."""

    sent: int = 0
    times: list[float] = field(default_factory=list)

    def count(self, reply: Reply) -> None:
        self.sent += 1
        if reply.problem is None:
            self.times.append(reply.seconds)

    @property
    def lost(self) -> int:
        return self.sent - len(self.times)

    @property
    def mean(self) -> float:
        return sum(self.times) / len(self.times) if self.times else math.nan

    @property
    def deviation(self) -> float:
        mean = self.mean
        return math.sqrt(sum((each - mean) ** 2 for each in self.times) / len(self.times)) if self.times else math.nan


class Pinger:
    """Sends `size` bytes, none of them `terminator`'s last, waits for them, and compares.

    A connection that failed or stayed silent is closed, since a late reply would be taken for the next one's; the next
    ping opens another.
    """

    def __init__(self, target: Target, *, size: int, timeout: float, terminator: bytes | None,
                 proxy_protocol: int | None, tls_ca: str | None, tls_insecure: bool) -> None:  # fmt: skip
        self.target, self.size, self.timeout = target, size, timeout
        self.proxy_protocol = proxy_protocol
        self.context = client_context(tls_ca, tls_insecure) if target.tls else None
        self.letters = bytes(b for b in range(256) if terminator is None or b != terminator[-1])
        self.random = random.Random()
        self.sock: socket.socket | None = None
        self.address: Address | None = None

    def connect(self) -> None:
        """Connect to the first address that accepts. Raises LoadError that names those that were tried."""
        sock, address = connect_first(self.target, self.target.addresses(), self.timeout)
        try:
            if not self.target.unix:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.proxy_protocol is not None:
                sock.sendall(proxy_header(sock.fileno(), self.proxy_protocol))
            if self.context is not None:
                with signals_blocked():
                    sock = self.context.wrap_socket(
                        sock, server_hostname=self.target.host, do_handshake_on_connect=False
                    )
                sock.do_handshake()
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):
                raise
            if isinstance(error, TimeoutError):
                error = no_handshake()
            raise cannot_connect(self.target, [(address, error)]) from None
        self.sock, self.address = sock, address

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def ping(self, sequence: int) -> Reply:
        message = bytes(self.random.choices(self.letters, k=self.size))
        start = time.perf_counter()
        try:
            if self.sock is None:
                self.connect()
                start = time.perf_counter()
            problem = self._round_trip(message, start)
        except LoadError as error:
            problem = str(error)
        except OSError as error:
            problem = reason_of(error, connected=True)
            if isinstance(error, ConnectionResetError):
                problem += self._hint(0)
        seconds = time.perf_counter() - start
        if problem is not None:
            self.close()
        return Reply(sequence, seconds, problem)

    def _round_trip(self, message: bytes, start: float) -> str | None:
        sock = self.sock
        assert sock is not None
        sock.settimeout(self.timeout)
        with contextlib.closing(self._exchange(sock, message)) as received:
            at = 0
            for data in received:
                expected = message[at : at + len(data)]
                if data != expected:
                    same = next((k for k, byte in enumerate(expected) if byte != data[k]), len(expected))
                    if at == 0 and service(data):
                        same = 0  # its first byte was sent by chance
                    return f"wrong: {wrong_bytes(at + same, data[same:], expected[same:])}"
                at += len(data)
                left = self.timeout - (time.perf_counter() - start)
                if at < self.size and left <= 0:
                    raise TimeoutError
                sock.settimeout(max(left, 1e-3))
        return None if at == self.size else f"closed by the server after {at} of {self.size} bytes{self._hint(at)}"

    def _hint(self, offset: int) -> str:
        return tls_hint(offset, plain=not self.target.tls and not self.target.unix)

    @staticmethod
    def _exchange(sock: socket.socket, message: bytes) -> Generator[bytes, None, None]:
        """Sends in pieces that fit any pair of socket buffers, so that neither side waits for the other."""
        piece, sent, received = 16 << 10, 0, 0
        while received < len(message):
            if sent < len(message) and sent - received <= piece:
                sock.sendall(message[sent : sent + piece])
                sent = min(sent + piece, len(message))
                continue
            data = sock.recv(65536)
            if not data:
                return
            received += len(data)
            yield data


class DatagramPinger:
    """Sends datagrams of `size` bytes, at least 8: a sequence, and random bytes. Counts what else comes back.

    Attributes:
        duplicated: datagrams that came back again.
        reordered: datagrams that came back after a later one was sent.
        altered: datagrams that are none of those that were sent.
    """

    def __init__(self, target: Target, *, size: int, timeout: float) -> None:
        if not MIN_PING <= size <= MAX_DATAGRAM:
            must = f"must be between {MIN_PING} and {MAX_DATAGRAM} bytes with a udp:// target"
            raise ConfigError("size", size, must)
        self.target, self.size, self.timeout = target, size, timeout
        self.address: Address | None = None
        self.duplicated = self.reordered = self.altered = 0
        self._sock: socket.socket | None = None
        self._unanswered: dict[int, bytes] = {}
        self._answered: dict[int, bytes] = {}

    def connect(self) -> None:
        """Choose the first address that answers; a single one is not asked. Raises LoadError."""
        addresses = self.target.addresses()
        self.address = addresses[0] if len(addresses) == 1 else choose_answering(self.target, addresses, self.timeout)
        try:
            self._sock = connect_datagrams(self.address, self.timeout)
        except OSError as error:
            raise cannot_connect(self.target, [(self.address, error)]) from None

    def close(self) -> None:
        """Look at what came after the last answer, and close the socket."""
        if self._sock is not None:
            self._sock.setblocking(False)
            with contextlib.suppress(OSError):
                while True:
                    self._classify(self._sock.recv(1 << 16), None)
            self._sock.close()
            self._sock = None

    def ping(self, sequence: int) -> Reply:
        message = sequence.to_bytes(MIN_PING, "big") + os.urandom(self.size - MIN_PING)
        self._unanswered[sequence] = message
        start = time.perf_counter()
        problem = None
        try:
            if self._sock is None:
                self.connect()
                start = time.perf_counter()
            sock = self._sock
            assert sock is not None
            sock.send(message)
            while True:
                sock.settimeout(max(self.timeout - (time.perf_counter() - start), 1e-3))
                if self._classify(sock.recv(1 << 16), sequence):
                    break
        except LoadError as error:
            problem = str(error)
        except OSError as error:
            problem = reason_of(error)
        self._forget()
        return Reply(sequence, time.perf_counter() - start, problem)

    def _classify(self, data: bytes, awaited: int | None) -> bool:
        """Count what has come back. Return whether it is the answer to `awaited`."""
        sequence = int.from_bytes(data[:MIN_PING], "big")
        if data == self._unanswered.get(sequence):
            self._answered[sequence] = self._unanswered.pop(sequence)
            if sequence == awaited:
                return True
            self.reordered += 1
        elif data == self._answered.get(sequence):
            self.duplicated += 1
        else:
            self.altered += 1
        return False

    def _forget(self) -> None:
        for known in (self._unanswered, self._answered):
            while len(known) > _REMEMBERED:
                del known[next(iter(known))]


def ping_all(
    pinger: Pinger | DatagramPinger,
    count: int | None,
    interval: float,
    on_reply: Callable[[Reply], None],
    wait: Callable[[float], bool],
) -> Summary:
    """Ping every `interval` seconds: `count` times, until `wait` (for so many seconds) returns False, or until
    KeyboardInterrupt, which ends it well."""
    summary = Summary()
    due_at = time.monotonic()
    try:
        while True:
            due_at = max(due_at + interval, time.monotonic())
            reply = pinger.ping(summary.sent + 1)
            summary.count(reply)
            on_reply(reply)
            if summary.sent == count or not wait(max(0.0, due_at - time.monotonic())):
                break
    except KeyboardInterrupt:
        pass
    finally:
        pinger.close()
    return summary
