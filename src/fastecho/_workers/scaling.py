"""More and fewer workers while the service runs: SIGTTIN adds one, SIGTTOU removes one.

A new worker slot gets sockets of its own where the system allows (`SO_REUSEPORT`), and shares those of another slot
where it does not. A slot that leaves loses no client. If it has sockets of its own, they get no new handshakes, its
worker accepts all clients in their queues, closes them and says DRAINED. Only then does the supervisor close its own,
which ends the sockets. The worker serves its sessions to their end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from .channel import REMOVE, RETIRE
from .restarts import CrashLoop, RestartPolicy
from .slots import WorkerProcess, WorkerSlot

if TYPE_CHECKING:
    from .._net.listeners import Listeners
    from .processes import WorkerProcesses

__all__ = ["Scaling"]

_log = logging.getLogger("fastecho")


class Scaling:
    """Adds and removes worker slots, one at a time, until there are as many as wanted.

    Args:
        slots: those of the service; changed here.
        retire: marks a process as retiring, and sends it the message.
    """

    def __init__(
        self,
        slots: list[WorkerSlot],
        listeners: Listeners,
        processes: WorkerProcesses,
        policy: RestartPolicy,
        crash_loop: CrashLoop,
        backlog: int,
        retire: Callable[[WorkerProcess, bytes], None],
    ) -> None:
        self._slots, self._listeners, self._processes = slots, listeners, processes
        self._policy, self._crash_loop, self._backlog, self._retire = policy, crash_loop, backlog, retire
        self._wanted = len(slots)
        self._leaving: list[WorkerSlot] = []

    def add(self) -> None:
        """Want one worker more."""
        if self._wanted == self._processes.most_workers:
            _log.warning("SIGTTIN: there are %d workers, the most that can be added to", self._wanted)
            return
        self._wanted += 1
        _log.info("SIGTTIN: adding a worker, %d in all", self._wanted)

    def remove(self) -> None:
        """Want one worker less; one stays in any case."""
        if self._wanted == 1:
            _log.warning("SIGTTOU: the last worker stays")
            return
        self._wanted -= 1
        _log.info("SIGTTOU: removing a worker, %d left", self._wanted)

    def advance(self) -> None:
        """Do what can be done now. For each turn of the supervisor in which no slot is being replaced."""
        # The sockets of a slot that leaves must be the last ones.
        while len(self._slots) < self._wanted and not self._leaving:
            self._add_slot()
        while len(self._slots) > self._wanted and self._slots[-1].is_serving and self._slots[-1].successor is None:
            self._remove_slot(self._slots.pop())
        if self._processes.workers != len(self._slots):
            self._processes.workers = len(self._slots)
            self._crash_loop.resize(len(self._slots))

    def is_leaving(self, slot: WorkerSlot) -> bool:
        """Whether the clients in the queues of `slot` have yet to be accepted, before it is gone."""
        return slot in self._leaving

    def on_ready(self, process: WorkerProcess) -> None:
        """A process has started only to accept what waits for a slot that leaves."""
        self._retire(process, REMOVE)

    def on_drained(self, slot: WorkerSlot) -> None:
        """The worker of `slot` has closed its sockets: the supervisor's copies are the last ones."""
        if slot in self._leaving:
            self._leaving.remove(slot)
            self._listeners.remove_copy(slot.sockets)
            self._listeners.prefer(len(self._slots))

    def on_end(self, process: WorkerProcess) -> None:
        """A process has ended before it had closed the sockets of its slot, which leaves: another accepts the rest."""
        slot = process.slot
        try:
            if process.ready_at is None:
                raise OSError("a new process cannot start")
            slot.current = self._processes.fork(slot)
        except OSError as exc:
            _log.error("the clients that wait for worker %d are lost: %s", slot.index, exc.strerror or exc)
            self.on_drained(slot)

    def _add_slot(self) -> None:
        slot = WorkerSlot(len(self._slots), self._listeners.add_copy(self._backlog), self._policy)
        try:
            slot.current = self._processes.fork(slot)
        except OSError as exc:
            _log.error("worker %d cannot be started: %s", slot.index, exc.strerror or exc)
            self._listeners.remove_copy(slot.sockets)
            self._wanted = len(self._slots)
            return
        self._slots.append(slot)

    def _remove_slot(self, slot: WorkerSlot) -> None:
        assert slot.current is not None
        if self._listeners.shares(slot.sockets):
            self._listeners.remove_copy(slot.sockets)
            self._retire(slot.current, RETIRE)
            return
        self._leaving.append(slot)
        self._listeners.prefer(len(self._slots))
        self._retire(slot.current, REMOVE)
