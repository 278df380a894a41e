"""The rolling restart: every slot gets a new process, one slot after another."""

from __future__ import annotations

import collections
import logging
import math
from collections.abc import Iterable

from .processes import WorkerProcesses
from .slots import WorkerSlot

_log = logging.getLogger("fastecho")


class RollingRestart:
    """Which slots still wait for their new process, and the one whose new process is starting.

    The old process of a slot serves until the new one is ready. If the new one cannot start, the rolling restart ends
    and the old processes stay.
    """

    def __init__(self, processes: WorkerProcesses) -> None:
        self._processes = processes
        self._queue: collections.deque[WorkerSlot] = collections.deque()
        self._starting: WorkerSlot | None = None

    @property
    def is_active(self) -> bool:
        """Whether a process is starting, or a slot still waits for one."""
        return self._starting is not None or bool(self._queue)

    def request(self, slots: Iterable[WorkerSlot]) -> None:
        """Queue `slots` for replacement, also those that are being replaced now."""
        self._queue.extend(slot for slot in slots if slot not in self._queue)
        self.advance()

    def advance(self) -> None:
        """Start the next new process, unless one is starting or too few spare counters are left."""
        if self._starting is not None or not self._queue or not self._processes.has_spare_counters:
            return
        slot = self._queue.popleft()
        slot.restart_at = math.inf
        try:
            process = self._processes.fork(slot)
        except OSError as exc:
            self.give_up(f"worker {slot.index} cannot be started: {exc.strerror or exc}")
            return
        if slot.current is None:
            slot.current = process
        else:
            slot.successor = process
        self._starting = slot

    def started(self, slot: WorkerSlot) -> None:
        """The new process of `slot` is ready: continue with the next slot."""
        if slot is self._starting:
            self._starting = None
            self.advance()

    def failed(self, slot: WorkerSlot, why: str) -> None:
        """The new process of `slot` has died."""
        if slot is self._starting:
            self.give_up(why)

    def give_up(self, why: str) -> None:
        _log.error("%s; the old workers stay", why)
        self._queue.clear()
        self._starting = None
