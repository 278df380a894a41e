"""Clients that compare every byte that comes back: a few at once, or a load that connects again and again."""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from clients import Address, connect_blocking
from patience import DEADLINE, wait_until

BLOCK = 1 << 14
WINDOW = 1 << 18


class WrongBytes(AssertionError):
    """A client got something else than it had sent."""


class Client:
    """One connection that sends `size` bytes of a seeded stream, and checks what comes back.

    Attributes:
        received: bytes that came back, all of them right.
        port: the local one.

    Args:
        pieces: the most bytes for one `send`.
        window: the most bytes that are sent ahead of what has come back.
    """

    def __init__(
        self, sock: socket.socket, size: int, seed: object, pieces: int = BLOCK, window: int = WINDOW
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.port = sock.getsockname()[1]
        self.received = 0
        self._size, self._pieces, self._window = size, pieces, window
        self._random = random.Random(f"stream {seed}")
        self._sent = 0
        self._made = bytearray()
        """Bytes of the stream from `received` on, sent or not."""

    @property
    def done(self) -> bool:
        return self.received == self._size

    @property
    def wants_to_send(self) -> bool:
        return self._sent < self._size and self._sent - self.received < self._window

    def send(self) -> None:
        """Send what the socket takes of the next piece. OSError after a reset."""
        ahead = self._sent - self.received
        wanted = min(self._pieces, self._size - self._sent)
        while len(self._made) < ahead + wanted:
            self._made += self._random.randbytes(BLOCK)
        with contextlib.suppress(BlockingIOError):
            self._sent += self.sock.send(memoryview(self._made)[ahead : ahead + wanted].tobytes())

    def receive(self) -> None:
        """Check what has come. EOFError at its end, OSError after a reset."""
        try:
            got = self.sock.recv(1 << 16)
        except BlockingIOError:
            return
        if not got:
            raise EOFError(f"the end after {self.received} of {self._size} bytes")
        if len(got) > self._sent - self.received or self._made[: len(got)] != got:
            raise WrongBytes(f"other bytes came back than were sent, after {self.received} right ones")
        del self._made[: len(got)]
        self.received += len(got)

    def turn(self, events: int) -> None:
        if events & selectors.EVENT_READ:
            self.receive()
        if events & selectors.EVENT_WRITE and self.wants_to_send:
            self.send()

    def events(self) -> int:
        return selectors.EVENT_READ | selectors.EVENT_WRITE * self.wants_to_send


def exchange(
    sockets: Sequence[socket.socket], size: int, seed: object = 0, limit: float = 2 * DEADLINE, **cut: int
) -> int:
    """Send `size` bytes on each socket, and check that they come back; return the bytes of all of them.

    `cut` are `pieces` and `window` of the clients.
    """
    clients = [Client(sock, size, f"{seed} {number}", **cut) for number, sock in enumerate(sockets)]
    finish(clients, limit)
    return sum(client.received for client in clients)


def finish(clients: Sequence[Client], limit: float = 2 * DEADLINE, *, may_be_reset: bool = False) -> list[Client]:
    """Drive the clients until each has all its bytes back, or (`may_be_reset`) was reset or never served: those are
    returned."""
    end, reset = time.monotonic() + limit, []
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.sock, client.events(), client)
        while selector.get_map():
            left = end - time.monotonic()
            received = sorted(client.received for client in clients)
            assert left > 0, f"not within {limit:g} s: the clients have {received} bytes"
            for key, events in selector.select(left):
                client = key.data
                try:
                    client.turn(events)
                except (ConnectionError, EOFError) as error:
                    # A client that was never served may see an end, but no client takes a part for the whole.
                    if not may_be_reset or (isinstance(error, EOFError) and client.received):
                        raise
                    reset.append(client)
                    selector.unregister(client.sock)
                    continue
                if client.done:
                    selector.unregister(client.sock)
                elif client.events() != key.events:
                    selector.modify(client.sock, client.events(), client)
    return reset


def fill(clients: Sequence[Client], quiet: float = 0.3) -> None:
    """Let the clients send and read nothing, until no socket has taken any more for `quiet` seconds."""
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.sock, selectors.EVENT_WRITE, client)
        while ready := selector.select(quiet):
            for key, _ in ready:
                if not key.data.wants_to_send:
                    selector.unregister(key.fileobj)
                    continue
                try:
                    key.data.send()
                except ConnectionError:  # `finish` reports it
                    selector.unregister(key.fileobj)


@dataclass
class Counts:
    """What a `CheckedLoad` has seen. `broken` are ends before the last byte, on connections that had no leave to."""

    connections: int = 0
    bytes: int = 0
    lost: int = 0
    """Connections that ended early with leave to."""
    broken: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        return self.broken + self.wrong + self.refused


class CheckedLoad:
    """A thread with `clients` connections; each gets all its bytes back, closes, and is followed by another one.

    A connection may end early after `allow_loss` with its local port, and its bytes are checked until then. Anything
    else is a fault, in `counts`.
    """

    def __init__(
        self, address: Address, clients: int = 12, seed: int = 0, sizes: Sequence[int] = (1, 100, 4000, 300_000)
    ) -> None:
        self.counts = Counts()
        self._address, self._sizes = address, sizes
        self._random = random.Random(f"load {seed}")
        self._clients: dict[int, Client] = {}
        self._wanted = clients
        self._losses: set[Client] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def allow_loss(self, ports: Iterable[int]) -> None:
        """Let the present connections from these local ports end early."""
        with self._lock:
            self._losses.update(self._clients[port] for port in ports if port in self._clients)

    def wait_for_clients(self, count: int) -> None:
        """Wait until so many more have connected, or one has seen a fault."""
        before = self.counts.connections
        wait_until(lambda: self.counts.connections >= before + count or self.counts.faults, "more clients")

    def __enter__(self) -> CheckedLoad:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(2 * DEADLINE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            try:
                while not self._stop.is_set():
                    while len(self._clients) < self._wanted:
                        self._connect(selector)
                    for key, events in selector.select(0.1):
                        self._turn(selector, key.data, key.events, events)
            finally:
                for client in self._clients.values():
                    client.sock.close()

    def _connect(self, selector: selectors.BaseSelector) -> None:
        with self._lock:
            try:
                sock = connect_blocking(self._address, DEADLINE)
            except OSError as error:
                self.counts.refused.append(repr(error))
                self._stop.set()
                self._wanted = 0
                return
            self.counts.connections += 1
            client = Client(sock, self._random.choice(self._sizes), self.counts.connections)
            self._clients[client.port] = client
        selector.register(sock, client.events(), client)

    def _turn(self, selector: selectors.BaseSelector, client: Client, watched: int, events: int) -> None:
        before = client.received
        try:
            client.turn(events)
        except WrongBytes as error:
            self.counts.wrong.append(str(error))
        except (OSError, EOFError) as error:
            with self._lock:
                if client in self._losses:
                    self._losses.remove(client)
                    self.counts.lost += 1
                else:
                    self.counts.broken.append(f"port {client.port}: {error!r}")
        else:
            self.counts.bytes += client.received - before
            if not client.done:
                if client.events() != watched:
                    selector.modify(client.sock, client.events(), client)
                return
        selector.unregister(client.sock)
        with self._lock:
            del self._clients[client.port]
            self._losses.discard(client)
        client.sock.close()
