"""What a test sees of one connection."""

from __future__ import annotations

from typing import Any, NamedTuple

from . import _conditions as conditions
from ._notes import Notes, peer_name

__all__ = ["AsyncSession", "Chunk", "Session"]


class Chunk(NamedTuple):
    """One read, or one send, of a connection: where it began in the stream, its bytes, and when (`time.monotonic`)."""

    offset: int
    size: int
    time: float


class Seen:
    """The attributes of a connection, the same for synchronous and asyncio tests."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def __repr__(self) -> str:
        state = "open" if self.is_open else f"closed: {self.close_reason}"
        went = f"{self.bytes_in} B in, {self.bytes_out} B out"
        return f"<connection {self.index} of {peer_name(self.peer)}, {went}, {state}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seen) and other._notes is self._notes

    def __hash__(self) -> int:
        return hash(id(self._notes))

    @property
    def index(self) -> int:
        """0 for the first connection of the server, in the order of accept."""
        return self._notes.index

    @property
    def peer(self) -> Any:
        """The client's address; that of a UNIX socket is mostly empty."""
        return self._notes.name

    @property
    def tls(self) -> str | None:
        """`TLSv1.3` and the like after the handshake, else None."""
        return self._notes.tls

    @property
    def opened(self) -> float:
        """When it was accepted, in seconds of `time.monotonic`."""
        return self._notes.opened

    @property
    def closed(self) -> float | None:
        """When it ended, or None."""
        return self._notes.closed_at

    @property
    def is_open(self) -> bool:
        return self._notes.closed_at is None

    @property
    def received(self) -> bytes:
        """What came from the client: the first `record_limit` bytes of it."""
        return self._notes.record.data(0)

    @property
    def sent(self) -> bytes:
        """What was sent to the client, in the same measure."""
        return self._notes.record.data(1)

    @property
    def bytes_in(self) -> int:
        return self._notes.record.total(0)

    @property
    def bytes_out(self) -> int:
        return self._notes.record.total(1)

    @property
    def truncated(self) -> bool:
        """Whether there was more than `record_limit` keeps."""
        return self._notes.record.truncated

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """The reads that brought what was received, as far as it is kept."""
        return tuple(Chunk(*each) for each in self._notes.record.chunks(0))

    @property
    def sent_chunks(self) -> tuple[Chunk, ...]:
        """The sends, in the same measure."""
        return tuple(Chunk(*each) for each in self._notes.record.chunks(1))

    @property
    def half_closed(self) -> bool:
        """Whether the client has sent its FIN (TLS: its close_notify)."""
        return self._notes.half_closed_at is not None

    @property
    def close_reason(self) -> str | None:
        """None while it is open; else one of the causes in `Stats.ends`, "tls_handshake" (it failed), "test" (which
        ended it), or "server_stopped"."""
        return self._notes.cause

    @property
    def faults_fired(self) -> tuple[str, ...]:
        """The faults that took effect here, as text, in order."""
        return tuple(self._notes.faults_fired)

    # Steering

    def send(self, data: bytes) -> None:
        """Send `data`, whatever the client has sent. Raises BrokenPipeError when nothing can be sent any more."""
        self._steer("push", bytes(data))

    def reset(self) -> None:
        """End it with RST."""
        self._end("reset")

    def close(self) -> None:
        """Send what is due, then FIN; then linger as a server does."""
        self._end("finish")

    def shutdown_write(self) -> None:
        """Send what is due, then FIN, and read on until the client closes."""
        self._end("shutdown_write")

    def pause(self) -> None:
        """Read no more, until `resume`: the client is pushed back once the kernel's buffers are full."""
        self._notes.paused = True
        self._steer("pause")

    def resume(self) -> None:
        self._notes.paused = False
        self._steer("resume")

    def _end(self, how: str) -> None:
        notes = self._notes

        def work() -> None:
            if notes.driver is not None:
                notes.by_order = "test"
                getattr(notes if how == "reset" else notes.driver, how)()

        notes.peer.call(work)

    def _steer(self, how: str, *arguments: Any) -> None:
        notes = self._notes

        def work() -> None:
            if notes.driver is None:
                raise BrokenPipeError(f"connection {notes.index} is closed")
            getattr(notes.driver, how)(*arguments)

        notes.peer.call(work)


class Session(Seen):
    """One connection of a server. What waits is bounded by the server's `timeout`."""

    def wait_received(self, what: conditions.Wanted) -> bytes:
        """Wait until so many bytes, these bytes, or bytes for which a predicate holds have been received."""
        __tracebackhide__ = True
        return self._notes.peer.wait(conditions.received(self._notes.peer, lambda: (self._notes,), what))

    def wait_closed(self) -> None:
        """Wait until the connection has ended."""
        __tracebackhide__ = True
        self._notes.peer.wait(conditions.all_closed(self._notes.peer, lambda: (self._notes,)))

    def assert_received(self, expected: bytes) -> None:
        """Assert that these bytes and no others have been received."""
        __tracebackhide__ = True
        self._notes.peer.wait(conditions.received_exactly(self._notes.peer, lambda: (self._notes,), expected))

    def assert_sent_in(self, chunks: int) -> None:
        """Assert that what was sent went out in so many pieces."""
        __tracebackhide__ = True
        self._notes.peer.wait(conditions.sent_in(self._notes.peer, lambda: (self._notes,), chunks))


class AsyncSession(Seen):
    """One connection of a server, for asyncio: waits and assertions are awaited."""

    async def wait_received(self, what: conditions.Wanted) -> bytes:
        """Wait until so many bytes, these bytes, or bytes for which a predicate holds have been received."""
        __tracebackhide__ = True
        return await self._notes.peer.await_(conditions.received(self._notes.peer, lambda: (self._notes,), what))

    async def wait_closed(self) -> None:
        """Wait until the connection has ended."""
        __tracebackhide__ = True
        await self._notes.peer.await_(conditions.all_closed(self._notes.peer, lambda: (self._notes,)))

    async def assert_received(self, expected: bytes) -> None:
        """Assert that these bytes and no others have been received."""
        __tracebackhide__ = True
        await self._notes.peer.await_(conditions.received_exactly(self._notes.peer, lambda: (self._notes,), expected))

    async def assert_sent_in(self, chunks: int) -> None:
        """Assert that what was sent went out in so many pieces."""
        __tracebackhide__ = True
        await self._notes.peer.await_(conditions.sent_in(self._notes.peer, lambda: (self._notes,), chunks))
