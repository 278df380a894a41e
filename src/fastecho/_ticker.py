"""The clock of the sweeps: what the time-outs of a group's sessions are counted by."""

from __future__ import annotations

import asyncio
import time

from ._session import SessionGroup

__all__ = ["Ticker"]


class Ticker:
    """Has the group swept every `group.interval` seconds.

    A loop that was held up has not listened, so the time that it lost counts for nobody.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, group: SessionGroup) -> None:
        self._loop, self._group = loop, group
        self.now = self._looked_at = time.monotonic()
        self._next = loop.call_later(group.interval, self.tick)

    def tick(self) -> None:
        """Sweep, and again from now on."""
        self._next.cancel()
        now = time.monotonic()
        self.now += min(now - self._looked_at, self._group.interval)
        self._looked_at = now
        try:
            self._group.sweep(self.now)
        finally:
            self._next = self._loop.call_later(self._group.interval, self.tick)

    def cancel(self) -> None:
        self._next.cancel()
