"""What the parts of a faulty session share: its state, its socket, its faults, and the report of each fault.

    NEW ─start─► ACCEPTED ─► HANDSHAKE ─► OPEN ─┬─ an end is decided ─► ENDING ─ all is sent ─┐
             (slow_accept)     (TLS)            │                                             │
                                                │   RESETTING (until SIOCOUTQ is 0) ◄─ reset ─┤
                                                │   LINGERING (FIN, discards) ◄────── close ──┤
                                                │   HALF (FIN, reads on) ◄──────── half_close ─┤
                                                │   STALLED ◄──────────────────────── stall ──┘
                                                └─ abort, refuse, an RST of either side ─► CLOSED

An error of the connection leads to CLOSED from each state.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Sequence
from typing import Final

from .._net.loops import clock_of
from ._armed import Chosen, Observer
from ._socket import ClientSocket

__all__ = ["EARLY", "NOT_READ", "WITHOUT_TIMEOUTS", "Connection", "State"]


class State(enum.Enum):
    """See above."""

    NEW, ACCEPTED, HANDSHAKE, OPEN, ENDING, RESETTING, LINGERING, HALF, STALLED, CLOSED = range(10)


EARLY: Final = frozenset({State.ACCEPTED, State.HANDSHAKE})
"""Started, and no byte of the stream may flow yet."""
NOT_READ: Final = frozenset({State.NEW, State.ACCEPTED, State.STALLED, State.CLOSED})
WITHOUT_TIMEOUTS: Final = EARLY | NOT_READ


class Connection:
    """One connection.

    Attributes:
        state: see the diagram.
        opened: the session has reached OPEN without a fault that ended it there, so answers are sent.
        end: "reset", "close", "half_close" or "stall" once an end is decided; before, "".
        cause: of the end, one of `Stats.ends`; or "".
        timer: the one that the state waits for, or None.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, socket: ClientSocket, chosen: Sequence[Chosen], observer: Observer
    ) -> None:
        self.loop, self.socket, self.chosen, self.observer = loop, socket, chosen, observer
        self.now = clock_of(loop)
        self.state = State.NEW
        self.opened = False
        self.end = ""
        self.cause = ""
        self.timer: asyncio.TimerHandle | None = None
        self._fired: set[int] = set()

    def first(self, *kinds: str) -> Chosen | None:
        """The first fault of one of these kinds."""
        return next((each for each in self.chosen if each.fault.kind in kinds), None)

    def report(self, chosen: Chosen, offset: int, direction: str, count: int) -> None:
        """Report that a fault has taken effect, once for each fault; see `Observer.fired`."""
        if id(chosen) not in self._fired:
            self._fired.add(id(chosen))
            chosen.armed.fired += 1
            self.observer.fired(chosen.armed, offset, direction, count)

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
