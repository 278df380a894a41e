"""Recordings, and the session that makes them. The plain session knows nothing of it."""

from collections.abc import Callable
from typing import Protocol

from typing_extensions import Buffer, Self, disjoint_base

from .._session import EchoSession, SessionGroup

class _View(Protocol):
    """Who is told what becomes of a connection; on the loop's thread."""

    def answer(self, data: bytes) -> bytes: ...
    def secured(self, version: str) -> None: ...
    def peer_closed(self) -> None: ...
    def failed(self, error: BaseException) -> None: ...
    def closed(self, cause: str) -> None: ...

@disjoint_base
class Watch:
    """Who waits for something to happen on a server. Free while nobody does."""

    def add(self, wake: Callable[[], object], /) -> None:
        """Call `wake` after each event, on the loop's thread."""
    def remove(self, wake: Callable[[], object], /) -> None: ...
    def tell(self) -> None:
        """Something has happened."""

@disjoint_base
class Record:
    """Both directions of a connection (0 is in, 1 is out): the first `limit` bytes of each, their chunks, totals."""

    def __new__(cls, watch: Watch, limit: int) -> Self: ...
    @property
    def limit(self) -> int: ...
    @property
    def truncated(self) -> bool:
        """Whether more went by than was kept."""
    def received(self, data: Buffer, /) -> None: ...
    def sent(self, data: Buffer, /) -> None: ...
    def data(self, direction: int, /) -> bytes: ...
    def total(self, direction: int, /) -> int: ...
    def chunks(self, direction: int, /) -> list[tuple[int, int, float]]:
        """Offset, size and monotonic time in seconds of each."""

@disjoint_base
class RecordingSession(EchoSession):
    """An `EchoSession` that records, answers as its group is told, and can be steered."""

@disjoint_base
class Steering:
    """A hand on a RecordingSession, under the names that a FaultySession has for it too. On the loop's thread only."""

    def __init__(self, session: RecordingSession, /) -> None: ...
    def push(self, data: bytes, /) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def reset(self) -> None: ...
    def end(self) -> None:
        """`finish`, but a half-close of before goes on without a bound."""
    def finish(self) -> None: ...
    def shutdown_write(self) -> None: ...
    def due(self) -> int:
        """Bytes that the client's side has not acknowledged."""
    def idle(self) -> bool:
        """Nothing is under way: neither to the peer nor, unless reading is paused, from it."""

@disjoint_base
class RecordingGroup(SessionGroup):
    """The group whose members are `RecordingSession`s."""

    def answer_with(self, echoes: bool, banner: bytes, /) -> None:
        """Echo what is received from now on, or answer as each one's view says; greet with `banner`."""
    def recorded(self, record: Record, view: _View, /) -> RecordingSession:
        """A session that records into `record`."""
