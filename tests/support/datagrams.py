"""UDP clients that know what must come back.

`python tests/support/datagrams.py HOST PORT` exchanges 1,000,000 datagrams. It sends each datagram once and says how
many were lost, duplicated or altered, and how many the kernel dropped because a receive buffer was full. By default few
datagrams are on their way at a time, so that none is dropped; `--flood` sends without waiting.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from clients import Address, family
from patience import DEADLINE

_NUMBER = struct.Struct("!Q")
_PATTERN = bytes(range(256)) * 6


def payload(number: int) -> bytes:
    """What datagram `number` carries: the number, and up to 1,199 bytes that follow from it."""
    return _NUMBER.pack(number) + _PATTERN[number % 256 : number % 256 + number % 1200]


@contextlib.contextmanager
def udp_client(server: Address, source: str | None = None, source_port: int = 0) -> Iterator[socket.socket]:
    """A socket that is connected to `server`, and has a time-out."""
    with socket.socket(family(server), socket.SOCK_DGRAM) as sock:
        if source is not None:
            sock.bind((source, source_port))
        sock.connect(server)
        sock.settimeout(DEADLINE)
        yield sock


def ask(sock: socket.socket, data: bytes) -> bytes:
    sock.send(data)
    return sock.recv(1 << 16)


def kernel_drops(*ports: int) -> int:
    """Datagrams that were dropped because a receive buffer was full, of all sockets that are bound to these ports."""
    drops = 0
    for table in ("/proc/net/udp", "/proc/net/udp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) in ports:
                drops += int(fields[-1])
    return drops


@dataclasses.dataclass
class Exchange:
    """The datagrams of `sockets`: what was sent, and what came of it."""

    sockets: list[socket.socket]
    sent: int = 0
    received: int = 0
    altered: int = 0
    duplicated: int = 0

    def __post_init__(self) -> None:
        self._owners: dict[int, int] = {}
        for sock in self.sockets:
            sock.setblocking(False)

    @property
    def ports(self) -> list[int]:
        return [sock.getsockname()[1] for sock in self.sockets]

    @property
    def lost(self) -> int:
        return self.sent - self.received

    def send(self, count: int) -> None:
        """Send `count` datagrams more, from one socket after another."""
        for number in range(self.sent, self.sent + count):
            index = number % len(self.sockets)
            self.sockets[index].send(payload(number))
            self._owners[number] = index
        self.sent += count

    def receive(self) -> None:
        """Take what has arrived."""
        for index, sock in enumerate(self.sockets):
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._check(index, sock.recv(1 << 16))

    def _check(self, index: int, data: bytes) -> None:
        number = _NUMBER.unpack_from(data)[0] if len(data) >= _NUMBER.size else -1
        owner = self._owners.pop(number, None)
        if owner == index and data == payload(number):
            self.received += 1
        elif 0 <= number < self.sent and data == payload(number):
            self.duplicated += 1
        else:
            self.altered += 1


def exchange(server: Address, total: int, clients: int = 8, window: int | None = 32) -> tuple[Exchange, int]:
    """Send `total` datagrams, at most `window` on their way (None: without waiting), and receive until each has come
    back or was dropped by the kernel. Return what came, and how many the kernel dropped."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(udp_client(server)) for _ in range(clients)]
        run = Exchange(sockets)
        ports = [server[1], *run.ports]
        before = kernel_drops(*ports)
        while run.sent < total:
            run.send(min(100 if window is None else window - run.lost, total - run.sent))
            run.receive()
        deadline = time.monotonic() + DEADLINE
        while (dropped := kernel_drops(*ports) - before) != run.lost and time.monotonic() < deadline:
            run.receive()
        return run, dropped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--total", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--flood", action="store_true")
    given = parser.parse_args()
    start = time.monotonic()
    run, dropped = exchange((given.host, given.port), given.total, given.clients, None if given.flood else 32)
    figures = Counter(sent=run.sent, received=run.received, lost=run.lost, altered=run.altered,
                      duplicated=run.duplicated, dropped_by_the_kernel=dropped)
    print(f"{dict(figures)} in {time.monotonic() - start:.1f} s")
    return 0 if run.lost == dropped and not run.altered and not run.duplicated else 1


if __name__ == "__main__":
    sys.exit(main())
