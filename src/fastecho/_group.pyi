"""The sessions of one loop: registry, places and the sweep. Touches no transport: a member acts for itself."""

import asyncio
import logging
from collections.abc import Callable

from typing_extensions import disjoint_base

from ._buffer import BufferPool
from ._counters import Counters
from .config import ServerConfig

session_log: logging.Logger

@disjoint_base
class Member:
    """What a group knows of a session."""

@disjoint_base
class Guest(Member):
    """A member written in Python, which drives a socket of its own; for what need not be fast.

    A subclass defines `on_sweep(now)`, `on_place()` (a place is free: begin) and `on_expel()` (reset, and leave).
    """

    def join(self, group: Group, /) -> bool:
        """Become a member; True if there is a place, else `on_place` is called when there is one."""
    def leave(self, cause: str, /) -> None:
        """Its connection is closed, because of `cause`, one of `Stats.ends`. Does nothing the second time."""
    def count(self, bytes_in: int = 0, bytes_out: int = 0, discarded: int = 0) -> None:
        """Add to the counters of the group: bytes echoed or answered, handed to the kernel, and read in vain."""
    def on_sweep(self, now: float, /) -> None: ...
    def on_place(self) -> None: ...
    def on_expel(self) -> None: ...

@disjoint_base
class Group:
    """The sessions of one loop.

    Args:
        config: the options of the server.
        loop: where sessions are called.
        direct: the transports are uvloop's, and sessions send(2) by themselves. Default False.
        tls: the transports are TLS. Default False.
        counters: where to count; memory of its own if not given.
        own_limit: the most sessions of this process, apart from `max_connections`; None is no limit.
    """

    def __init__(
        self,
        config: ServerConfig,
        loop: asyncio.AbstractEventLoop,
        *,
        direct: bool = False,
        tls: bool = False,
        counters: Counters | None = None,
        own_limit: int | None = None,
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
    def sessions(self) -> int:
        """Connections that are open."""
    @property
    def pending(self) -> int:
        """Connections that were accepted and are still in their TLS handshake."""
    @property
    def full(self) -> bool:
        """Whether accepting is paused for want of a place."""
    @property
    def tls(self) -> bool: ...
    @property
    def pinned(self) -> bool: ...

    interval: float
    """Seconds between two sweeps that the time-outs need."""
    draining_since: float
    """Monotonic seconds; 0 is not draining. While draining, quiet sessions end."""
    closed: bool
    """Whoever comes now is refused."""
    on_full: Callable[[], object] | None
    on_room: Callable[[], object] | None
    on_empty: Callable[[], object] | None

    def settle(self) -> None:
        """Give free places to those who wait, then call `on_full` or `on_room` if accepting must pause or resume."""
    def sweep(self, now: float, /) -> None:
        """All time-outs of all sessions, as of `now` in seconds of the monotonic clock."""
    def expel_all(self) -> None:
        """Reset whoever is left."""
    def stats(self) -> dict[str, int]:
        """The counters by name."""
    def close(self) -> None:
        """Forget whoever is left; for the end of a loop, after which no connection_lost will come."""
