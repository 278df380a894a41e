"""Recordings, and the session that makes them."""

from collections.abc import Callable
from typing import Protocol

from typing_extensions import Buffer, Self, disjoint_base

from .._session import EchoSession, Sessions

class _Log(Protocol):
    """Notified of what happens on a connection; on the loop's thread."""

    def answer(self, data: bytes) -> bytes: ...
    def secured(self, version: str) -> None: ...
    def client_closed(self) -> None: ...
    def failed(self, error: BaseException) -> None: ...
    def closed(self, cause: str) -> None: ...
    def has_unread(self) -> bool: ...

@disjoint_base
class Watch:
    """The waits of a server: their callbacks are called after each event. Free while no test waits."""

    def add(self, wake: Callable[[], object], /) -> None:
        """Call `wake` after each event, on the loop's thread."""
    def remove(self, wake: Callable[[], object], /) -> None: ...
    def notify_all(self) -> None:
        """Call them: something has happened."""

@disjoint_base
class Record:
    """Both directions of a connection (0 is in, 1 is out): the first `limit` bytes of each, their chunks, totals."""

    def __new__(cls, watch: Watch, limit: int) -> Self: ...
    @property
    def limit(self) -> int: ...
    @property
    def truncated(self) -> bool:
        """Whether there were more bytes than `limit` keeps."""
    def received(self, data: Buffer, /) -> None: ...
    def sent(self, data: Buffer, /) -> None: ...
    def data(self, direction: int, /) -> bytes: ...
    def total(self, direction: int, /) -> int: ...
    def chunks(self, direction: int, /) -> list[tuple[int, int, float]]:
        """Offset, size and monotonic time in seconds of each."""

@disjoint_base
class RecordingSession(EchoSession):
    """An `EchoSession` that records, answers as its `ReplyMode` says, and can be controlled by a test."""

@disjoint_base
class Steering:
    """Controls a RecordingSession for a test, with the methods that a FaultySession has too. On the loop's thread
    only."""

    def __init__(self, session: RecordingSession, /) -> None: ...
    def push(self, data: bytes, /) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def reset(self) -> None: ...
    def end(self) -> None:
        """`finish`, except that a `shutdown_write` before it still reads on without a time-out."""
    def finish(self) -> None: ...
    def shutdown_write(self) -> None: ...
    @property
    def begun(self) -> bool:
        """False until the TLS handshake is done, and until the header of the PROXY protocol has come."""
    def undelivered(self) -> int:
        """Bytes that the client has not acknowledged."""
    def idle(self) -> bool:
        """Whether nothing is in flight: neither to the client nor, unless reading is paused, from it."""
    def reads(self) -> bool:
        """Whether bytes and FIN of the client are read as they arrive."""

@disjoint_base
class ReplyMode:
    """Whether the recording sessions of a server echo, or ask their log for the answer. One object for all of them."""

    def __new__(cls, echoes: bool, /) -> Self: ...

    echoes: bool

def recording_session(
    registry: Sessions, record: Record, log: _Log, reply_mode: ReplyMode, greeting: bytes
) -> RecordingSession:
    """A session of `registry` that records into `record`, and sends `greeting` first."""
