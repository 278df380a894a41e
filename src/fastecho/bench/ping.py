"""Round trips over one connection, one after the other: what `fastecho ping` does."""

import contextlib
import math
import random
import socket
import ssl
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from ._tls_parts import client_context
from .spec import LoadError, Target


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
        return sum(self.times) / len(self.times)

    @property
    def deviation(self) -> float:
        return math.sqrt(sum((each - self.mean) ** 2 for each in self.times) / len(self.times))


class Pinger:
    """Sends `size` bytes, none of them `terminator`'s last, waits for them, and compares.

    A connection that failed or stayed silent is closed, since a late reply would be taken for the next one's; the next
    ping opens another.
    """

    def __init__(self, target: Target, *, size: int, timeout: float, terminator: bytes | None, tls_ca: str | None,
                 tls_insecure: bool) -> None:  # fmt: skip
        self.target, self.size, self.timeout = target, size, timeout
        self.context = client_context(tls_ca, tls_insecure) if target.tls else None
        self.letters = bytes(b for b in range(256) if terminator is None or b != terminator[-1])
        self.random = random.Random()
        self.sock: socket.socket | None = None

    def connect(self) -> None:
        """Raises LoadError."""
        family, host, port = self.target.resolve()
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(host if self.target.unix else (host, port))
            if not self.target.unix:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.context is not None:
                sock = self.context.wrap_socket(sock, server_hostname=self.target.host)
        except OSError as error:
            sock.close()
            raise LoadError(f"cannot connect to {self.target}: {_why(error)}") from None
        self.sock = sock

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
            problem = _why(error)
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
                if data != message[at : at + len(data)]:
                    return f"a wrong byte came back, in the {self.size} from offset {at} on"
                at += len(data)
                left = self.timeout - (time.perf_counter() - start)
                if at < self.size and left <= 0:
                    raise TimeoutError
                sock.settimeout(max(left, 1e-3))
        return None if at == self.size else f"closed by the server after {at} of {self.size} bytes"

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


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return str(error)
    return error.strerror or str(error)


def ping_all(pinger: Pinger, count: int | None, interval: float, on_reply: Callable[[Reply], None]) -> Summary:
    """Ping `count` times (None: until KeyboardInterrupt, which ends it well), every `interval` seconds."""
    summary = Summary()
    due = time.monotonic()
    try:
        pinger.connect()
        while count is None or summary.sent < count:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due + interval, time.monotonic())
            reply = pinger.ping(summary.sent + 1)
            summary.count(reply)
            on_reply(reply)
    except KeyboardInterrupt:
        pass
    finally:
        pinger.close()
    return summary
