"""From a reply to the wire: the bytes are edited, paced, and sent as the kernel takes them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from ._armory import Chosen
from ._edits import Edits, Mark
from ._pace import PACING, Pace
from ._wire import Wire

__all__ = ["Output", "Owner"]

_SENDS = 64  # in one turn of the loop; then others have theirs


class Owner(Protocol):
    """Whose output it is."""

    def on_sent(self, data: memoryview) -> None: ...
    def on_fired(self, chosen: Chosen, offset: int, direction: str, count: int) -> None: ...
    def on_pumped(self) -> None:
        """As much as could be sent was sent; ask `empty`, `queued`, `sent`."""

    def on_broken(self, error: OSError) -> None:
        """The connection is no more; nothing will be sent."""


class Output:
    """What is due to one peer.

    Attributes:
        fed: bytes that are due, edits included.
        sent: bytes of them that the wire took.
        limit: the most that it may take, or None. What is due beyond it waits; whoever set the limit decides.
        blocked: whether the kernel takes nothing now.
    """

    def __init__(self, wire: Wire, loop: asyncio.AbstractEventLoop, chosen: Sequence[Chosen], owner: Owner) -> None:
        self._wire = wire
        self._loop = loop
        self._owner = owner
        self._edits = Edits(chosen)
        self._pace = Pace(chosen)
        self._pacing = [each for each in chosen if each.fault.kind in PACING]
        self._marks: deque[tuple[int, Mark]] = deque()
        self._again: asyncio.Handle | None = None
        self._writing = -1
        self._open = True
        self.fed = 0
        self.sent = 0
        self.limit: int | None = None
        self.blocked = False

    @property
    def queued(self) -> int:
        """Bytes that wait for their time or for the peer."""
        return self._pace.queued + self._wire.pending

    @property
    def held(self) -> int:
        """Bytes that wait for others to come."""
        return self.fed - self.sent - self._pace.queued

    @property
    def empty(self) -> bool:
        """Whether there is nothing left to send, but what waits for more to come."""
        return self.queued == 0

    def feed(self, data: bytes, ended: bool = False) -> None:
        """The next bytes of the stream; `pump` sends them."""
        now = time.monotonic()
        parts = []
        for piece in self._edits.feed(data, ended):
            self._marks.extend((self.fed, mark) for mark in piece.marks)
            self.fed += len(piece.data)
            parts.append(piece.data)
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        if whole:
            if self._pacing:
                self._fire()  # what was left out before the first byte comes first, with that byte or without it
            for each in self._pacing:
                self._owner.on_fired(each, 0, "out", 0)
            self._pacing = []
            self._pace.feed(whole, now)

    def finish(self) -> None:
        """The stream ends: what was held back for more to come is due."""
        self.feed(b"", ended=True)
        self._pace.finish(time.monotonic())

    def discard(self) -> None:
        """Forget what the wire has not taken."""
        self._pace.clear()
        self._marks.clear()

    def stop(self) -> None:
        """No timer and no callback of this comes any more. Before the descriptor is closed."""
        self._open = False
        self.discard()
        self._forget_turn()
        self._watch(False)

    def pump(self) -> None:
        """Send what may be sent."""
        self._forget_turn()
        if not self._open:
            return
        try:
            wait = self._send()
        except OSError as error:
            self._owner.on_broken(error)
            return
        if not self._open:
            return
        self._fire()
        self._watch(self.blocked)
        if wait is not None and not self.blocked:
            self._again = self._loop.call_later(wait, self.pump) if wait > 0 else self._loop.call_soon(self.pump)
        self._owner.on_pumped()

    def _send(self) -> float | None:
        """The seconds after which there will be more to send."""
        for _ in range(_SENDS):
            if not self._open:
                return None
            self.blocked = not self._wire.flush()
            if self.blocked:
                return None
            room = None if self.limit is None else self.limit - self.sent
            if room == 0 or not self._wire.secured:
                return None
            now = time.monotonic()
            piece = self._pace.next(now)
            if piece is None or isinstance(piece, float):
                return piece
            taken = self._wire.send(piece[:room])
            if not taken:
                self.blocked = True
                return None
            self._pace.took(taken, now)
            self.sent += taken
            self._owner.on_sent(piece[:taken])
            self._fire()
        return 0.0

    def _fire(self) -> None:
        """Tell of the edits that are on the wire. One between two bytes is there with the first of them, unless the
        limit is just there: then nobody will ever know."""
        while self._marks:
            at, mark = self._marks[0]
            here = mark.gap and at == self.sent and (self.limit is None or self.limit > at)
            if at >= self.sent and not here:
                return
            self._marks.popleft()
            self._owner.on_fired(mark.chosen, mark.offset, "out", mark.size)

    def _forget_turn(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _watch(self, wanted: bool) -> None:
        if wanted and self._writing < 0:
            self._writing = self._wire.fd
            self._loop.add_writer(self._writing, self.pump)
        elif not wanted and self._writing >= 0:
            self._loop.remove_writer(self._writing)
            self._writing = -1
