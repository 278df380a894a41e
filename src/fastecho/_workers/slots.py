"""Worker slots and the processes that serve them.

A worker slot is one share of the service: a set of listening sockets that one worker process serves.

                start              ready            rolling restart
    (none) ──────────► STARTING ──────────► SERVING ──────────────► REPLACING  serving, successor starts
                       ▲   │                 │  ▲                    │  │  │
       delay is over,  │   │ died, failed    │  │     successor ready│  │  │ died: the successor
       rolling restart │   ▼                 │  └────────────────────┘  │  ▼ alone is left
                      WAITING ◄──────────────┘    (or failed: keep)     STARTING
                                   died

Connections that arrive while a slot is WAITING queue in its sockets, which the supervisor holds open. A process that is
no longer the one of its slot is retiring: it serves its sessions to their end and is never replaced.

Times are those of `time.monotonic`; `math.inf` is never.
"""

from __future__ import annotations

import dataclasses
import math
import socket
from typing import TYPE_CHECKING

from .channel import Channel
from .restarts import RestartPolicy

if TYPE_CHECKING:
    from .._counters import Counters


@dataclasses.dataclass(eq=False, slots=True)
class WorkerProcess:
    """One worker process, from its fork until it has been reaped."""

    pid: int
    slot: WorkerSlot
    channel: Channel
    pidfd: int | None
    counters: Counters
    counters_index: int
    """Index of `counters` in the shared counters."""
    started: float
    ready_at: float | None = None
    kill_at: float = math.inf
    leave_at: float = math.inf
    """When to replace the process, after its LEAVING message."""
    killed: bool = False
    retiring: bool = False
    failure: tuple[int, str] | None = None

    def silent_at(self, since: float, start_timeout: float, heartbeat_timeout: float) -> float:
        """The time at which the worker counts as hung, unless it sends a heartbeat first.

        Silence before `since` does not count.
        """
        if self.killed:
            return math.inf
        if self.ready_at is None:
            return max(self.started, since) + start_timeout
        beat: int = self.counters.heartbeat
        return max(beat / 1000, since) + heartbeat_timeout

    def served(self, now: float) -> float:
        """Seconds that it has served at `now`."""
        return now - self.ready_at if self.ready_at is not None else 0.0

    def __str__(self) -> str:
        return f"worker {self.slot.index} (pid {self.pid})"


@dataclasses.dataclass(eq=False, slots=True)
class WorkerSlot:
    """One share of the service. `current` serves it; `successor` is starting, to replace it."""

    index: int
    sockets: list[socket.socket]
    policy: RestartPolicy = dataclasses.field(default_factory=RestartPolicy)
    current: WorkerProcess | None = None
    successor: WorkerProcess | None = None
    restart_at: float = math.inf
    delay: float = 0.0
    """Seconds before the next restart, without jitter."""

    @property
    def is_serving(self) -> bool:
        """Whether a process accepts on this slot's sockets."""
        return self.current is not None and self.current.ready_at is not None and not self.current.killed

    def delay_after_death(self, lived: float) -> float:
        """Seconds to wait before the restart, after the death of a process that served for `lived` seconds."""
        if lived >= self.policy.stable_after:
            self.delay = 0.0
        delay, self.delay = self.delay, self.policy.next_delay(self.delay)
        return delay * (1 - self.policy.jitter() / 4)
