"""A client on a real socket that never blocks: what it has sent, and that what it got is the beginning of that."""

from __future__ import annotations

import contextlib
import random
import socket

from clients import Address, make_socket, reset_socket
from fastecho._net import kernel

_NOISE = random.Random(11).randbytes(65_537)  # a prime length: bytes that are lost or doubled do not fit again


class Stream:
    """sent, received: bytes so far. end: None while it is open, then "fin" or "reset", as the client saw it."""

    def __init__(self, address: Address, number: int, rcvbuf: int | None = 4096) -> None:
        self.number = number
        self.sock = make_socket(address, rcvbuf)
        self.sock.settimeout(10)
        try:
            self.sock.connect(address)
        except BaseException:
            self.sock.close()
            raise
        self.port = self.sock.getsockname()[1]
        self.sock.setblocking(False)
        self.sent = self.received = 0
        self.fin_sent = False
        self.end: str | None = None

    def _bytes(self, at: int, count: int) -> bytes:
        at = (at + 977 * self.number) % len(_NOISE)
        return (_NOISE[at:] + _NOISE * (count // len(_NOISE) + 1))[:count]

    def send(self, count: int) -> None:
        """Send as many of `count` bytes as the kernel takes."""
        if self.end is not None or self.fin_sent:
            return
        # After a reset the next read says how it ended, behind what can still be read.
        with contextlib.suppress(BlockingIOError, ConnectionResetError, BrokenPipeError):
            self.sent += self.sock.send(self._bytes(self.sent, count))

    def read(self, most: int) -> bool:
        """Read at most `most` bytes, compare them; whether anything came (bytes or an end)."""
        if self.end is not None:
            return False
        try:
            got = self.sock.recv(most)
        except BlockingIOError:
            return False
        except (ConnectionResetError, BrokenPipeError):
            self.end = "reset"
            return True
        if not got:
            self.end = "fin"
            return True
        assert self.received + len(got) <= self.sent, f"client {self.number} got bytes that it never sent"
        assert got == self._bytes(self.received, len(got)), f"client {self.number}: not its bytes at {self.received}"
        self.received += len(got)
        return True

    def acknowledged(self) -> int:
        """Bytes that have arrived at the server's host, as far as the client knows."""
        return self.sent - min(self.sent, kernel.unacknowledged(self.sock.fileno()))

    def half_close(self) -> None:
        if self.end is None and not self.fin_sent:
            self.fin_sent = True
            with contextlib.suppress(OSError):  # the connection has been reset
                self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        if self.end is None:
            self.end = "own reset"
            reset_socket(self.sock)

    def close(self) -> None:
        self.sock.close()
