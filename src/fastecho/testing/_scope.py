"""Which connections a test looks at, all of a server or those of a block: waits and assertions, both ways to wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from . import _conditions as conditions
from ._session import AsyncSession, Session

if TYPE_CHECKING:
    from ._notes import Notes
    from ._peer import Peer

__all__ = ["AsyncCapture", "AsyncScope", "Capture", "Scope"]

S = TypeVar("S", Session, AsyncSession)


class View(Generic[S]):
    """The connections from a certain one on, to a certain one."""

    _peer: Peer
    _kind: type[S]

    def _notes(self) -> Sequence[Notes]:
        return self._peer.notes

    def _settle(self) -> Sequence[Notes]:
        """Whoever has connected counts, whether or not the server's loop has had its turn."""
        if not self._peer.over:
            self._peer.call(self._peer.accept_all)
        return self._notes()

    @property
    def connections(self) -> tuple[S, ...]:
        """All connections, in the order of accept."""
        return tuple(map(self._kind, self._settle()))

    @property
    def open_connections(self) -> tuple[S, ...]:
        """Those that have not ended."""
        return tuple(each for each in self.connections if each.is_open)

    @property
    def connection_count(self) -> int:
        """How many connections were made."""
        return len(self._settle())

    @property
    def bytes_in(self) -> int:
        """Bytes received on all of them."""
        return sum(notes.record.total(0) for notes in self._notes())

    @property
    def bytes_out(self) -> int:
        """Bytes sent on all of them."""
        return sum(notes.record.total(1) for notes in self._notes())


class Scope(View[Session]):
    """Each wait is bounded by the server's `timeout` and raises TimeoutError, each assertion AssertionError."""

    _kind = Session

    def wait_connections(self, n: int) -> tuple[Session, ...]:
        """Wait until at least `n` connections were made; all of them."""
        __tracebackhide__ = True
        self._peer.wait(conditions.connections(self._peer, self._notes, n))
        return self.connections

    def wait_received(self, what: conditions.Wanted) -> bytes:
        """Wait until so many bytes, these bytes, or bytes for which a predicate holds have been received, on all
        connections together, one after another; what was received."""
        __tracebackhide__ = True
        return self._peer.wait(conditions.received(self._peer, self._notes, what))

    def wait_closed(self) -> None:
        """Wait until every connection has ended."""
        __tracebackhide__ = True
        self._peer.wait(conditions.all_closed(self._peer, self._notes))

    def wait_idle(self) -> None:
        """Wait until nothing is under way: all that came is answered, and acknowledged by the clients' side."""
        __tracebackhide__ = True
        self._peer.wait(conditions.idle(self._peer))

    def assert_connections(self, n: int) -> None:
        """Assert that exactly `n` connections were made; waits for those that are to come."""
        __tracebackhide__ = True
        self._peer.wait(conditions.exactly(self._peer, self._notes, n))

    def assert_no_connections(self) -> None:
        """Assert that nobody has connected."""
        __tracebackhide__ = True
        self.assert_connections(0)

    def assert_all_closed(self) -> None:
        """Assert that every connection ends."""
        __tracebackhide__ = True
        self._peer.wait(conditions.all_closed(self._peer, self._notes, AssertionError))

    def assert_received(self, expected: bytes) -> None:
        """Assert that these bytes and no others have been received, on all connections together, one after another."""
        __tracebackhide__ = True
        self._peer.wait(conditions.received_exactly(self._peer, self._notes, expected))

    def assert_sent_in(self, chunks: int) -> None:
        """Assert that what was sent went out in so many pieces; waits until nothing is under way."""
        __tracebackhide__ = True
        self._peer.wait(conditions.sent_in(self._peer, self._notes, chunks))


class AsyncScope(View[AsyncSession]):
    """The same for asyncio: waits and assertions are awaited."""

    _kind = AsyncSession

    async def wait_connections(self, n: int) -> tuple[AsyncSession, ...]:
        """Wait until at least `n` connections were made; all of them."""
        __tracebackhide__ = True
        await self._peer.await_(conditions.connections(self._peer, self._notes, n))
        return self.connections

    async def wait_received(self, what: conditions.Wanted) -> bytes:
        """Wait until so many bytes, these bytes, or bytes for which a predicate holds have been received, on all
        connections together, one after another; what was received."""
        __tracebackhide__ = True
        return await self._peer.await_(conditions.received(self._peer, self._notes, what))

    async def wait_closed(self) -> None:
        """Wait until every connection has ended."""
        __tracebackhide__ = True
        await self._peer.await_(conditions.all_closed(self._peer, self._notes))

    async def wait_idle(self) -> None:
        """Wait until nothing is under way: all that came is answered, and acknowledged by the clients' side."""
        __tracebackhide__ = True
        await self._peer.await_(conditions.idle(self._peer))

    async def assert_connections(self, n: int) -> None:
        """Assert that exactly `n` connections were made; waits for those that are to come."""
        __tracebackhide__ = True
        await self._peer.await_(conditions.exactly(self._peer, self._notes, n))

    async def assert_no_connections(self) -> None:
        """Assert that nobody has connected."""
        __tracebackhide__ = True
        await self.assert_connections(0)

    async def assert_all_closed(self) -> None:
        """Assert that every connection ends."""
        __tracebackhide__ = True
        await self._peer.await_(conditions.all_closed(self._peer, self._notes, AssertionError))

    async def assert_received(self, expected: bytes) -> None:
        """Assert that these bytes and no others have been received, on all connections together, one after another."""
        __tracebackhide__ = True
        await self._peer.await_(conditions.received_exactly(self._peer, self._notes, expected))

    async def assert_sent_in(self, chunks: int) -> None:
        """Assert that what was sent went out in so many pieces; waits until nothing is under way."""
        __tracebackhide__ = True
        await self._peer.await_(conditions.sent_in(self._peer, self._notes, chunks))


class _Block:
    """Begins and ends with a `with` block; what was captured can be looked at afterwards too."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._begin: int | None = None
        self._end: int | None = None

    def _notes(self) -> Sequence[Notes]:
        if self._begin is None:
            return []
        end = self._peer.serials if self._end is None else self._end
        return [notes for notes in self._peer.notes if self._begin <= notes.serial < end]

    def _count(self) -> int:
        if not self._peer.over:
            self._peer.call(self._peer.accept_all)
        return self._peer.serials

    def _enter(self) -> None:
        self._begin, self._end = self._count(), None

    def _exit(self) -> None:
        self._end = self._count()


class Capture(_Block, Scope):
    """The connections made inside a block: `with server.capture() as captured:`."""

    def __enter__(self) -> Capture:
        self._enter()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit()


class AsyncCapture(_Block, AsyncScope):
    """The connections made inside a block: `with server.capture() as captured:`; waits are awaited."""

    def __enter__(self) -> AsyncCapture:
        self._enter()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit()
