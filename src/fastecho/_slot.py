"""The supervisor's bookkeeping: worker processes, the slots they fill, and when a dead one is replaced.

A slot is one share of the service: a set of listening sockets that some process has to serve at all times.

                start              ready                 roll
    (none) ──────────► STARTING ──────────► SERVING ──────────────► REPLACING  serving, successor starts
                       ▲   │                 │  ▲                    │  │  │
       delay is over,  │   │ died, failed    │  │     successor ready│  │  │ died: the successor
       or a roll       │   ▼                 │  └────────────────────┘  │  ▼ alone is left
                     WAITING ◄──────────────┘    (or failed: keep)     STARTING
                       ▲   │      died
                       │   │ the fifth death in ten seconds
                 (none)│   ▼
                     DEGRADED    a sibling serves the sockets; only a roll starts it again

A process that is no longer the one of its slot is RETIRING: it serves its sessions to their end and is never
replaced.
"""

from __future__ import annotations

import dataclasses
import enum
import logging
import random
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ._control import ADOPT, Channel

if TYPE_CHECKING:
    from ._counters import Counters

_log = logging.getLogger("fastecho")

DEATHS = 5
"""So many deaths within `DEATH_WINDOW` seconds degrade a slot; a life that long forgives the earlier ones."""
DEATH_WINDOW = 10.0
FIRST_DELAY = 0.05
LONGEST_DELAY = 5.0


class SlotState(enum.Enum):
    STARTING = enum.auto()
    SERVING = enum.auto()
    REPLACING = enum.auto()
    WAITING = enum.auto()
    DEGRADED = enum.auto()


class RestartPolicy:
    """When to start the next process of a slot: at once, then after 50 ms, doubling to 5 s, with jitter."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self._delay = 0.0

    def died(self, now: float, lived: float) -> float | None:
        """Seconds to wait, after a death at `now` of a process that served `lived` seconds; None: give up."""
        if lived >= DEATH_WINDOW:
            self.reset()
        self._deaths.append(now)
        if len(self._deaths) == DEATHS and now - self._deaths[0] < DEATH_WINDOW:
            return None
        delay, self._delay = self._delay, min(max(FIRST_DELAY, 2 * self._delay), LONGEST_DELAY)
        return delay * (1 - self._jitter() / 4)

    def reset(self) -> None:
        self._deaths.clear()
        self._delay = 0.0


@dataclasses.dataclass(eq=False, slots=True)
class Process:
    """One worker process, from its fork until it has been reaped."""

    pid: int
    slot: Slot
    channel: Channel
    pidfd: int | None
    counters: Counters
    block: int
    """The index of its block in the shared counters."""
    started: float
    ready_at: float | None = None
    kill_at: float | None = None
    killed: bool = False
    retiring: bool = False
    failure: tuple[int, str] | None = None

    def silent_at(self, since: float, start_timeout: float, heartbeat_timeout: float) -> float | None:
        """When it will have been silent for too long, without a beat before; only time after `since` counts."""
        if self.killed:
            return None
        if self.ready_at is None:
            return max(self.started, since) + start_timeout
        beat: int = self.counters.heartbeat
        return max(beat / 1000, since) + heartbeat_timeout

    def __str__(self) -> str:
        return f"worker {self.slot.index} (pid {self.pid})"


@dataclasses.dataclass(eq=False, slots=True)
class Slot:
    """One share of the service. `current` serves it; `successor` is starting to take its place."""

    index: int
    sockets: list[socket.socket]
    current: Process | None = None
    successor: Process | None = None
    restart_at: float | None = None
    degraded: bool = False
    keeper: Slot | None = None
    """Who serves the sockets meanwhile, when no process of this slot does."""
    policy: RestartPolicy = dataclasses.field(default_factory=RestartPolicy)

    @property
    def state(self) -> SlotState:
        if self.current is not None:
            if self.successor is not None:
                return SlotState.REPLACING
            return SlotState.STARTING if self.current.ready_at is None else SlotState.SERVING
        return SlotState.DEGRADED if self.degraded else SlotState.WAITING

    @property
    def serving(self) -> Process | None:
        """The process that accepts on this slot's sockets, if one does."""
        return self.current if self.current is not None and self.current.ready_at is not None else None


def place_orphans(slots: Sequence[Slot], state: SlotState) -> None:
    """Give the sockets of each slot in `state`, which no process serves, to a sibling that does serve."""
    able = [slot for slot in slots if slot.serving]
    for slot in slots:
        if slot.state is not state or slot.keeper is not None or not able:
            continue
        keeper = min(able, key=lambda able: sum(other.keeper is able for other in slots))
        process = keeper.serving
        # Where all copies are one socket, every sibling serves it already.
        orphans = [sock for sock in slot.sockets if sock not in keeper.sockets]
        if process is not None and (not orphans or process.channel.send(ADOPT, orphans)):
            slot.keeper = keeper
            _log.info("%s serves the clients of worker %d meanwhile", process, slot.index)
