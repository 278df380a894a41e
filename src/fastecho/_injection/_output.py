"""What is sent to the client: answers are edited (`_edits`), delayed and cut (`_pacing`), and sent as the kernel
accepts them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from .._net.loops import clock_of
from ._armed import Chosen
from ._edits import Edits, Mark
from ._pacing import PACING, Pacing
from ._socket import ClientSocket

__all__ = ["Output", "OutputOwner"]

_SENDS = 64  # in one turn of the loop, then other connections get theirs


class OutputOwner(Protocol):
    """The session, as the output sees it."""

    def on_sent(self, data: memoryview) -> None: ...
    def on_fired(self, chosen: Chosen, offset: int, direction: str, count: int) -> None: ...
    def on_pumped(self) -> None:
        """As much as possible was sent; see `empty`, `queued`, `sent`."""

    def on_connection_lost(self, error: OSError) -> None:
        """The connection is lost; nothing more will be sent."""


class Output:
    """The output of one connection.

    Attributes:
        fed: bytes that are due, edits included.
        sent: bytes of them that the socket has accepted.
        limit: the most that may be sent, or None. What is due beyond the limit stays queued.
        blocked: whether the kernel accepts nothing now.
    """

    def __init__(
        self, socket: ClientSocket, loop: asyncio.AbstractEventLoop, chosen: Sequence[Chosen], owner: OutputOwner
    ) -> None:
        self._socket = socket
        self._loop = loop
        self._owner = owner
        self._now = clock_of(loop)
        self._edits = Edits(chosen)
        self._pacing = Pacing(chosen)
        self._unreported = [each for each in chosen if each.fault.kind in PACING]
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
        """Bytes that are delayed, or that the kernel has not accepted."""
        return self._pacing.queued + self._socket.pending

    @property
    def coalescing(self) -> int:
        """Bytes that `coalesce` holds back until more arrive."""
        return self.fed - self.sent - self._pacing.queued

    @property
    def empty(self) -> bool:
        """Whether nothing is left to send (except what `coalesce` holds back), and the end may be sent."""
        return self._pacing.empty and self._socket.pending == 0

    @property
    def full(self) -> bool:
        """Whether so much is queued that reading must stop."""
        return self._pacing.is_full(self._now())

    def feed(self, data: bytes, ended: bool = False) -> None:
        """Queue the next bytes of the stream; `pump` sends them."""
        now = self._now()
        parts = []
        for piece in self._edits.feed(data, ended):
            self._marks.extend((self.fed, mark) for mark in piece.marks)
            self.fed += len(piece.data)
            parts.append(piece.data)
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        if whole:
            if self._unreported:
                self._fire()  # what was dropped before the first byte is reported first
            for each in self._unreported:
                self._owner.on_fired(each, 0, "out", 0)
            self._unreported = []
            self._pacing.feed(whole, now)

    def end_stream(self, answered: bool) -> None:
        """The stream ends: what was held back is due. (`answered` is False for a blackhole, which answers nothing.)"""
        if answered:
            self.feed(b"", ended=True)
        self._pacing.end_stream(self._now())

    def discard(self) -> None:
        """Discard what the socket has not accepted."""
        self._pacing.clear()
        self._marks.clear()

    def stop(self) -> None:
        """Cancel timers and callbacks, before the descriptor is closed."""
        self._open = False
        self.discard()
        self._cancel_turn()
        self._watch(False)

    def pump(self) -> None:
        """Send as much as possible now."""
        self._cancel_turn()
        if not self._open:
            return
        try:
            wait = self._send()
        except OSError as error:
            self._owner.on_connection_lost(error)
            return
        if not self._open:
            return
        self._fire()
        self._watch(self.blocked)
        if wait is not None and not self.blocked:
            self._again = self._loop.call_later(wait, self.pump) if wait > 0 else self._loop.call_soon(self.pump)
        self._owner.on_pumped()

    def _send(self) -> float | None:
        """Send; the seconds until more may be sent, or None."""
        for _ in range(_SENDS):
            if not self._open:
                return None
            self.blocked = not self._socket.flush()
            if self.blocked:
                return None
            room = None if self.limit is None else self.limit - self.sent
            if room == 0 or not self._socket.secured:
                return None
            now = self._now()
            piece = self._pacing.next(now)
            if piece is None or isinstance(piece, float):
                return piece
            taken = self._socket.send(piece[:room])
            if not taken:
                self.blocked = True
                return None
            self._pacing.sent(taken, now)
            self.sent += taken
            self._owner.on_sent(piece[:taken])
            self._fire()
        return 0.0

    def _fire(self) -> None:
        """Report the edits that have been sent. An edit between two bytes is reported with the first of them, unless
        the limit lies between them: then the client cannot see it."""
        while self._marks:
            at, mark = self._marks[0]
            here = mark.gap and at == self.sent and (self.limit is None or self.limit > at)
            if at >= self.sent and not here:
                return
            self._marks.popleft()
            self._owner.on_fired(mark.chosen, mark.offset, "out", mark.size)

    def _cancel_turn(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _watch(self, wanted: bool) -> None:
        if wanted and self._writing < 0:
            self._writing = self._socket.fd
            self._loop.add_writer(self._writing, self.pump)
        elif not wanted and self._writing >= 0:
            self._loop.remove_writer(self._writing)
            self._writing = -1
