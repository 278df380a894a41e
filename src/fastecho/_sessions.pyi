"""The sessions of one loop: registry, limit and time-outs. It calls no transport: each session does that."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from ._buffer import BufferPool
from ._counters import Counters
from .config import ServerConfig

session_log: logging.Logger

@disjoint_base
class SessionBase:
    """A session, as the registry sees it."""

@disjoint_base
class PythonSession(SessionBase):
    """A session written in Python that drives a socket by itself, where speed does not matter.

    A subclass defines `on_sweep(now)` (check the time-outs) and `on_abort()` (reset, and `unregister`).
    """

    def register(self, registry: SessionRegistry, address: Any, /) -> bool:
        """Become a session of `registry`.

        Args:
            address: of the client, as `getpeername` returns it.

        Returns:
            False when `max_per_source` asks for its reset.
        """
    def unregister(self, cause: str, /) -> None:
        """Its connection is closed, because of `cause`, one of `Stats.ends`. Does nothing the second time."""
    def count(self, bytes_in: int = 0, bytes_out: int = 0, discarded: int = 0) -> None:
        """Add to the counters: bytes echoed or answered, bytes handed to the kernel, and bytes read and discarded."""
    def record_activity(self) -> None:
        """Restart `idle_timeout`: bytes have arrived or have been sent, or the session has begun."""
    def write_timed_out(self, now: float, unacknowledged: int, acknowledged: int, /) -> bool:
        """Whether `unacknowledged` bytes have waited for `write_timeout`, and the client has acknowledged none of them.

        Args:
            now: of the sweep, in seconds.
            acknowledged: bytes that the client has acknowledged since the connection began.
        """
    def linger_timed_out(self, now: float, unacknowledged: int, /) -> bool:
        """Whether the client has acknowledged everything, our FIN too, for `linger_timeout`."""
    def idle_or_drain_end(self, now: float, unacknowledged: int, /) -> str | None:
        """The cause "drain" or "idle" to end a session that has been quiet for long enough; else None."""
    def on_sweep(self, now: float, /) -> None: ...
    def on_abort(self) -> None: ...

@disjoint_base
class SessionRegistry:
    """The sessions of one loop.

    Args:
        config: the options of the server.
        loop: on which the sessions run.
        direct: the transports are uvloop's, and sessions call send(2) directly. Default False.
        tls: the transports are TLS. Default False.
        counters: where to count. Default: new ones.
        limit: the most connections; None is no limit.
    """

    def __init__(
        self,
        config: ServerConfig,
        loop: asyncio.AbstractEventLoop,
        *,
        direct: bool = False,
        tls: bool = False,
        counters: Counters | None = None,
        limit: int | None = None,
    ) -> None: ...
    @property
    def config(self) -> ServerConfig: ...
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def pool(self) -> BufferPool: ...
    @property
    def counters(self) -> Counters: ...
    @property
    def count(self) -> int:
        """Sessions whose connection is open."""
    @property
    def pending(self) -> int:
        """Connections that were accepted and whose session has not begun, such as those in a TLS handshake."""
    @property
    def at_capacity(self) -> bool:
        """Whether no further connection may be accepted."""
    @property
    def tls(self) -> bool: ...
    @property
    def pinned(self) -> bool: ...

    over_unix: bool
    """Whether a connection may be one over a UNIX socket. It follows from the configuration unless set."""
    limit: int
    """The most connections, those in a handshake included; 0 is no limit."""
    interval: float
    """Seconds between two sweeps that the time-outs need."""
    draining_since: float
    """Time of the SweepTimer when draining began; 0: not draining. While draining, quiet sessions end."""
    closed: bool
    """New connections are refused."""
    on_capacity: Callable[[bool], object] | None
    """Called with True when the limit is reached, with False when it no longer is."""
    on_empty: Callable[[], object] | None
    """Called when the last session has ended."""
    source_of: Callable[[Any], str | None] | None
    """The source of a client's address, as `max_per_source` counts them; None: sources are not limited."""

    def check_limit(self) -> None:
        """Call `on_capacity` if `at_capacity` has changed."""
    def sweep(self, now: float, /) -> None:
        """Check the time-outs of all sessions.

        `now` is the time of the SweepTimer: the loop's clock without time in which the loop was blocked.
        """
    def abort_all(self) -> None:
        """Reset the sessions that are left."""
    def update_gauges(self) -> None:
        """Update the gauges of the buffers."""
    def stats(self) -> dict[str, Any]:
        """The counters, with the names of `Stats`."""
    def close(self) -> None:
        """Forget the sessions that are left; for the end of a loop, after which no connection_lost will come."""
