"""Round trips over one connection, one after the other: what `fastecho ping` does."""

import contextlib
import math
import random
import socket
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from ._connect import cannot_connect, connect_first, signals_blocked
from ._errors import LoadError, tls_hint, wrong_bytes
from ._load import proxy_header
from ._tls import client_context, no_handshake, reason_of
from .target import Address, Target


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
            problem = reason_of(error) + (self._hint(0) if isinstance(error, ConnectionResetError) else "")
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


def ping_all(
    pinger: Pinger,
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
