"""What is known of a connection, from its accept to after its end."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ._record import Record, Steering

if TYPE_CHECKING:
    from .._faulty import Armed
    from ._peer import Peer

__all__ = ["Event", "Notes", "peer_name"]

_PREVIEW = 16


class Event(NamedTuple):
    """Something that happened on a connection. `time` is that of `time.monotonic`; `direction` is in, out or empty."""

    time: float
    connection: int
    direction: str
    offset: int
    data: bytes
    size: int
    what: str

    def line(self, start: float = 0.0) -> str:
        """The event as text; its time in seconds after `start`."""
        where = f"{self.direction:<3} {self.offset:>8} {self.size:>7} B" if self.direction else " " * 22
        shown = f" {self.data!r}{'…' if self.size > len(self.data) else ''}" if self.data else ""
        return f"{self.time - start:9.6f} s  connection {self.connection}  {where}  {self.what}{shown}".rstrip()


class Driver(Protocol):
    """What has the connection's socket in its hands; on the loop's thread."""

    def push(self, data: bytes, /) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def reset(self) -> None: ...
    def finish(self) -> None: ...
    def shutdown_write(self) -> None: ...
    def idle(self) -> bool: ...
    def due(self) -> int: ...


class Notes:
    """What is known of a connection: filled in on the loop's thread, read from any."""

    def __init__(self, peer: Peer, index: int, name: Any, connection: socket.socket, record: Record) -> None:
        self.peer, self.index, self.name, self.record = peer, index, name, record
        self.opened = time.monotonic()
        self.closed_at: float | None = None
        self.cause: str | None = None
        self.tls: str | None = None
        self.half_closed_at: float | None = None
        self._events: list[Event] = []
        self.faults: list[str] = []
        self.faults_fired: list[str] = []
        self.by_order: str | None = None
        """Who ended it, where that was neither the peer nor a time-out: "test" or "server_stopped"."""
        self.driver: Driver | None = None
        self.due = 0
        """Bytes that its client had not taken when the server was stopped."""
        self.serial = 0
        """Over all lives of the server, which `reset` begins anew."""
        self.paused = False
        """By the test itself."""
        self.session: object = None
        """What tests get to see of this."""
        self._connection: socket.socket | None = connection
        self._inode = os.fstat(connection.fileno()).st_ino

    # What the sessions tell

    def received(self, data: bytes) -> None:
        self.record.received(data)

    def sent(self, data: bytes) -> None:
        self.record.sent(data)

    def answer(self, data: bytes) -> bytes:
        return self.peer.responder.respond(data, self.session)

    def secured(self, version: str) -> None:
        self.tls = version
        self._happened(f"TLS handshake done: {version}")

    def peer_closed(self) -> None:
        if self.half_closed_at is None:
            self.half_closed_at = time.monotonic()
            self.peer.watch.tell()

    def fired(self, armed: Armed, offset: int, direction: str, count: int) -> None:
        what = str(armed.fault)
        self.faults.append(f"connection {self.index}: {what} at {direction} {offset}")
        self.faults_fired.append(what)
        self._happened(f"fault {what}", direction, offset, count)
        self.peer.watch.tell()

    def failed(self, error: BaseException) -> None:
        self.peer.errors.append((self.index, error))
        self._happened(f"reply or where() raised {type(error).__name__}: {error}")
        self.peer.watch.tell()

    def _happened(self, what: str, direction: str = "", offset: int = 0, size: int = 0) -> None:
        self._events.append(Event(time.monotonic(), self.index, direction, offset, b"", size, what))

    def closed(self, cause: str) -> None:
        if cause == "reset" and self.tls is None and not self.faults and self.peer.config.tls_cert is not None:
            cause = "tls_handshake"  # it failed, or the client was gone before
        self.cause = self.by_order or cause
        self.closed_at = time.monotonic()
        self.driver = self._connection = None
        self.peer.ended(self)

    def peer_gone(self) -> bool:
        """Whether the client has closed its side, as far as the kernel knows."""
        descriptor = self._connection.fileno() if self._connection is not None else -1
        if descriptor < 0:
            return True
        poll = select.poll()
        poll.register(descriptor, getattr(select, "POLLRDHUP", 0))
        return bool(poll.poll(0))

    @property
    def is_shaking(self) -> bool:
        """In a TLS handshake of the loop's, where there is no session yet that could be steered."""
        return self.peer.config.tls_cert is not None and self.tls is None and isinstance(self.driver, Steering)

    def reset(self) -> None:
        """RST, at once."""
        if self.is_shaking and self._connection is not None:
            with contextlib.suppress(OSError):  # the loop sees an EOF, which the client does not, and closes
                self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._connection.shutdown(socket.SHUT_RD)
        elif self.driver is not None:
            self.driver.reset()

    def close_copy(self) -> None:
        """In a forked child: close its copy of the connection, unless that number is another file's by now."""
        if self._connection is None:
            return
        descriptor = self._connection.detach()
        try:
            if descriptor >= 0 and os.fstat(descriptor).st_ino == self._inode:
                os.close(descriptor)
        except OSError:
            return

    def events(self) -> list[Event]:
        found = [Event(self.opened, self.index, "", 0, b"", 0, f"opened by {peer_name(self.name)}")]
        for direction, name, what in ((0, "in", "received"), (1, "out", "sent")):
            data = self.record.data(direction)
            at = 0
            for offset, size, when in self.record.chunks(direction):
                found.append(Event(when, self.index, name, offset, data[at : at + min(size, _PREVIEW)], size, what))
                at += size
        found += self._events
        if self.half_closed_at is not None:
            found.append(Event(self.half_closed_at, self.index, "", 0, b"", 0, "FIN of the peer"))
        if self.closed_at is not None:
            found.append(Event(self.closed_at, self.index, "", 0, b"", 0, f"closed: {self.cause}"))
        return found


def peer_name(peer: Any) -> str:
    if isinstance(peer, tuple) and len(peer) >= 2:
        return f"[{peer[0]}]:{peer[1]}" if ":" in str(peer[0]) else f"{peer[0]}:{peer[1]}"
    return str(peer) if peer else "a peer without a name"
