"""The log of a connection, from its accept to after its end."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .._net.kernel import close_means_reset, inode, left, monotonic, unread
from ._record import Record, Steering

if TYPE_CHECKING:
    from .._injection import Armed
    from ..config import ServerConfig
    from ._record import Watch

__all__ = ["Chunk", "ConnectionLog", "Event", "client_name"]

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


class Chunk(NamedTuple):
    """One read, or one send, of a connection: where it begins in the stream, its bytes, and when (`time.monotonic`)."""

    offset: int
    size: int
    time: float


class Driver(Protocol):
    """What reads from and writes to the socket: a recording or a faulty session. Called on the loop's thread."""

    def push(self, data: bytes, /) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def reset(self) -> None: ...
    def finish(self) -> None: ...
    def shutdown_write(self) -> None: ...
    def idle(self) -> bool: ...
    def reads(self) -> bool: ...
    def undelivered(self) -> int: ...


class Server(Protocol):
    """The server of a connection, as far as the log needs it."""

    config: ServerConfig
    watch: Watch

    def respond(self, log: ConnectionLog, data: bytes, /) -> bytes: ...
    def connection_failed(self, log: ConnectionLog, error: BaseException, /) -> None: ...
    def connection_closed(self, log: ConnectionLog, /) -> None: ...


class ConnectionLog:
    """What happened on a connection. Written on the loop's thread, read from any thread.

    Args:
        server: it is notified of each event.
        index: 0 for the first connection of the server.
        number: like `index`, but `reset` of the server does not set it back to 0.
        client: the address of the client.
        connection: the accepted socket; its session closes it.
        record: the bytes of both directions.
    """

    def __init__(
        self, server: Server, index: int, number: int, client: Any, connection: socket.socket, record: Record
    ) -> None:
        self.index, self.number, self.client, self.record = index, number, client, record
        self._server = server
        self.opened = monotonic()
        self.closed_at: float | None = None
        self.cause: str | None = None
        self.tls: str | None = None
        self.half_closed_at: float | None = None
        self._events: list[Event] = []
        self.faults: list[str] = []
        self.faults_fired: list[str] = []
        self.by_order: str | None = None
        """ "test" or "server_stopped" where one of these ended the connection, else None."""
        self.driver: Driver | None = None
        self.undelivered = 0
        """Bytes that the client had not received when the server was stopped."""
        self.unread = 0
        """Bytes in the kernel that the server does not read; `update_unread` asks for them."""
        self.paused = False
        """The test has paused reading."""
        self.session: object = None
        """The `Session` or `AsyncSession` that tests see."""
        self._connection: socket.socket | None = connection
        self._inode = inode(connection.fileno())

    # -- events, reported by the session --------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        self.record.received(data)

    def sent(self, data: bytes) -> None:
        self.record.sent(data)

    def answer(self, data: bytes) -> bytes:
        return self._server.respond(self, data)

    def secured(self, version: str) -> None:
        self.tls = version
        self.add_event(f"TLS handshake done: {version}")

    def client_closed(self) -> None:
        if self.half_closed_at is None:
            self.half_closed_at = monotonic()
            self._server.watch.notify_all()

    def fired(self, armed: Armed, offset: int, direction: str, count: int) -> None:
        what = str(armed.fault)
        self.faults.append(f"connection {self.index}: {what} at {direction} {offset}")
        self.faults_fired.append(what)
        self.add_event(f"fault {what}", direction, offset, count)
        self._server.watch.notify_all()

    def failed(self, error: BaseException) -> None:
        self._server.connection_failed(self, error)

    def add_event(self, what: str, direction: str = "", offset: int = 0, size: int = 0) -> None:
        self._events.append(Event(monotonic(), self.index, direction, offset, b"", size, what))

    def closed(self, cause: str) -> None:
        if cause == "reset" and self.tls is None and not self.faults and self._server.config.tls_cert is not None:
            cause = "tls_handshake"  # the handshake failed, or the client has left before
        self.cause = self.by_order or cause
        self.closed_at = monotonic()
        self.driver = self._connection = None
        self._server.connection_closed(self)

    def client_has_closed(self) -> bool:
        """Whether the client has closed its side, as far as the kernel knows."""
        descriptor = self._connection.fileno() if self._connection is not None else -1
        return descriptor < 0 or left(descriptor) is not None

    def update_unread(self) -> None:
        driver, connection = self.driver, self._connection
        if driver is not None and connection is not None:
            self.unread = 0 if driver.reads() else unread(connection.fileno())

    def caught_up(self) -> bool:
        """Whether all that the client has sent, and its FIN, were read; True where reading is paused."""
        if self.driver is None or not self.driver.reads():
            return True
        return self.driver.idle() and not self.client_has_closed()

    def has_unread(self) -> bool:
        """Whether bytes of the client wait in the kernel."""
        return self._connection is not None and unread(self._connection.fileno()) > 0

    @property
    def in_handshake(self) -> bool:
        """Whether the server carries out the TLS handshake, or reads the header of the PROXY protocol: a recording
        session gets control after it."""
        if not isinstance(self.driver, Steering):
            return False
        config = self._server.config
        return (config.tls_cert is not None and self.tls is None) or (config.proxy_protocol and not self.driver.begun)

    def reset(self) -> None:
        """Send RST at once."""
        if self.in_handshake and self._connection is not None:
            with contextlib.suppress(OSError):  # the loop sees an EOF, which the client does not, and closes
                close_means_reset(self._connection.fileno())
                self._connection.shutdown(socket.SHUT_RD)
        elif self.driver is not None:
            self.driver.reset()

    def close_copy(self) -> None:
        """In a forked child: close the child's copy of the socket, unless its descriptor is another file by now."""
        if self._connection is None:
            return
        descriptor = self._connection.detach()
        if descriptor >= 0 and inode(descriptor) == self._inode:
            socket.close(descriptor)

    def events(self) -> list[Event]:
        """All events, not in order of time."""
        found = [Event(self.opened, self.index, "", 0, b"", 0, f"opened by {client_name(self.client)}")]
        for direction, name, what in ((0, "in", "received"), (1, "out", "sent")):
            data = self.record.data(direction)
            at = 0
            for offset, size, when in self.record.chunks(direction):
                found.append(Event(when, self.index, name, offset, data[at : at + min(size, _PREVIEW)], size, what))
                at += size
        found += self._events
        if self.half_closed_at is not None:
            found.append(Event(self.half_closed_at, self.index, "", 0, b"", 0, "FIN of the client"))
        if self.closed_at is not None:
            found.append(Event(self.closed_at, self.index, "", 0, b"", 0, f"closed: {self.cause}"))
        return found

    def describe(self) -> str:
        """One line: the client, the bytes of both directions, and how it ended or what is outstanding."""
        return self.describe_open() if self.closed_at is None else f"{self._summary()}; closed: {self.cause}"

    def describe_open(self) -> str:
        """`describe` with what was outstanding, for a connection that the end of its server has closed too."""
        self.update_unread()
        outstanding = "its client has sent FIN"
        if self.half_closed_at is None:
            outstanding = "its client has not closed it"
            if self.unread:  # a FIN comes after these bytes
                outstanding = f"the server does not read, and sees no close behind {self.unread} bytes of the client"
        if self.undelivered:
            outstanding = f"its client has not taken {self.undelivered} bytes that are due to it"
        return f"{self._summary()}; {outstanding}"

    def _summary(self) -> str:
        bytes_both = f"{self.record.total(0)} B in, {self.record.total(1)} B out"
        return f"connection {self.index} of {client_name(self.client)}: {bytes_both}"


def client_name(client: Any) -> str:
    """The address of a client as text."""
    if isinstance(client, tuple) and len(client) >= 2:
        return f"[{client[0]}]:{client[1]}" if ":" in str(client[0]) else f"{client[0]}:{client[1]}"
    return str(client) if client else "a client without an address"
