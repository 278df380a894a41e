"""Clients that read slowly: each byte of the echo is compared, and the connection ends with a half-close or a reset."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field

from fastecho.bench.stop import Stop

TICK = 0.02  # seconds between two reads of a client
READ = 4096  # bytes of one read
TABLE = random.Random(9).randbytes(65_521)  # a prime length: bytes that are lost or doubled do not fit again
ENDED = (ConnectionResetError, BrokenPipeError)


@dataclass
class Counts:
    """What the clients of a round have seen. errors: by kind, as the load engine names them."""

    bytes: int = 0
    echoes: int = 0
    connections: int = 0
    errors: Counter[str] = field(default_factory=Counter)


class Client:
    """One connection after the other, each with a random amount to send."""

    def __init__(self, address: tuple[str, int], draw: random.Random, counts: Counts) -> None:
        self.address, self.draw, self.counts = address, draw, counts
        self.sock: socket.socket | None = None

    def open(self) -> None:
        self.total = self.draw.randint(1, 1 << 20)
        # One in four resets the connection at a byte of the echo.
        self.resets_at = self.draw.randint(0, self.total) if self.draw.random() < 0.25 else None
        self.offset = self.draw.randrange(len(TABLE))
        self.sent = self.received = 0
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(10)
        try:
            sock.connect(self.address)
        except OSError:
            sock.close()
            self.counts.errors["connect"] += 1
            return
        sock.setblocking(False)
        self.sock = sock
        self.counts.connections += 1

    def expected(self, count: int) -> bytes:
        at = (self.offset + self.received) % len(TABLE)
        return (TABLE[at:] + TABLE * (count // len(TABLE) + 1))[:count]

    def step(self) -> None:
        """Send what the kernel takes, read a little."""
        if self.sock is None:
            self.open()
            return
        try:
            self.send(self.sock)
            self.receive(self.sock)
        except ENDED:
            self.fail("reset")
        except OSError as error:
            self.fail(errno.errorcode.get(error.errno or 0, "OSError"))

    def send(self, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.sent < self.total:
                at = (self.offset + self.sent) % len(TABLE)
                self.sent += sock.send(TABLE[at : at + self.total - self.sent])
                if self.sent == self.total:
                    sock.shutdown(socket.SHUT_WR)

    def receive(self, sock: socket.socket) -> None:
        try:
            got = sock.recv(READ)
        except BlockingIOError:
            return
        if got != self.expected(len(got)) or self.received + len(got) > self.sent:
            self.fail("corrupt")
        elif not got and (self.received < self.total or self.sent < self.total):
            self.fail("short")
        elif not got:
            self.counts.echoes += 1
            self.close()
        else:
            self.received += len(got)
            self.counts.bytes += len(got)
            if self.resets_at is not None and self.received >= self.resets_at:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close()

    def cut_short(self) -> None:
        """Send nothing more; the echo of what was sent is still due."""
        self.resets_at = None
        if self.sock is not None and self.sent < self.total:
            self.total = self.sent
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)

    def fail(self, kind: str) -> None:
        self.counts.errors[kind] += 1
        self.close()

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None


def slow_readers(port: int, clients: int, seconds: float, patience: float, seed: int, stop: Stop) -> Counts:
    """A round of them; what is still due at its end is read, for up to `patience` seconds."""
    counts, draw = Counts(), random.Random(seed)
    found = [Client(("127.0.0.1", port), draw, counts) for _ in range(clients)]
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stop.requested:
        for client in found:
            client.step()
        stop.wait(TICK)
    until = time.monotonic() + patience
    for client in found:
        client.cut_short()
    while (left := [client for client in found if client.sock is not None]) and time.monotonic() < until:
        for client in left:
            client.step()
        time.sleep(TICK / 10)
    for client in left:
        client.fail("timeout")
    return counts
