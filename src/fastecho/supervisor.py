"""The process above the workers: binds, forks, watches, replaces, and ends them.

One thread, no event loop: it waits in `poll` for the ends of processes, for messages of the workers and for
signals, and for nothing else but the next deadline. It opens all listening sockets before it starts any
worker and keeps them open, so a connection in the queue of a dead worker waits for its successor.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import sys
import time
from typing import TYPE_CHECKING

from . import _control as control
from . import _report
from ._crew import Crew, check_place, describe_end, start_error
from ._platform import has_pidfd
from ._roll import Roll
from ._signals import STOP_SIGNALS, SignalPipe
from ._slot import DEATH_WINDOW, DEATHS, Process, Slot, SlotState, place_orphans
from ._sockets import bind, drop_syns, raise_descriptor_limit
from .errors import EX_FAILURE, EX_OK, CrashLoopError, WorkerStartError

if TYPE_CHECKING:
    from .config import ServerConfig

__all__ = ["Supervisor", "run"]

HEARTBEAT_TIMEOUT = 5.0
"""Seconds without a beat after which a worker counts as hung, and is killed."""
START_TIMEOUT = 30.0
"""Seconds that a worker may take from its fork to its ready message."""
DRAIN_MARGIN = 2.0
"""Seconds beyond `drain_timeout` after which a worker that ought to have ended is killed."""
KILL_PATIENCE = 0.15
"""Seconds to wait for killed processes to be gone."""

SAME_SIGNAL = 0.05
"""Seconds in which the signal that stops may come twice: timeout(1) sends it to the process and to its group."""

_log = logging.getLogger("fastecho")


def run(config: ServerConfig) -> int:
    """Serve with `config.workers` processes until SIGTERM or SIGINT; return the exit code.

    0 after a clean stop, 130 or 143 after a second signal, 1 when a worker had to be killed at the end.
    SIGHUP replaces the workers one after another. It forks and handles signals, so it runs in the main thread
    only and not inside an event loop (`RuntimeError`); `fastecho.serve` runs anywhere.

    Raises `AddressInUseError`, `AddressError` or `PermissionDeniedError` when it cannot listen,
    `WorkerStartError` with the worker's exit code when a worker cannot start, `CrashLoopError` when all die.
    """
    return Supervisor(config).run()


class Supervisor:
    """One run of a service. `heartbeat_timeout` and `start_timeout` are seconds."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        self._config = config
        self._heartbeat_timeout = heartbeat_timeout
        self._start_timeout = start_timeout
        self._selector = selectors.PollSelector()
        self._crew = Crew(config, self._selector, self._prepare_child, self._on_message, self._on_end)
        self._slots: list[Slot] = []
        self._roll = Roll(self._crew)
        self._ready = self._stopping = False
        self._exit_code = EX_OK
        self._killed_by: int | None = None
        self._stats: _report.StatsLines | None = None
        self._watched_since = time.monotonic()

    def run(self) -> int:
        """Serve to the end, like `fastecho.run`. Once only for each object."""
        check_place()
        if self._config.ready_fd is not None:
            _report.check_descriptor(self._config.ready_fd)
        raise_descriptor_limit()
        self._listeners = bind(self._config, self._config.workers)
        self._slots = [Slot(index, sockets) for index, sockets in enumerate(self._listeners.sockets)]
        sigchld = () if has_pidfd() else (signal.SIGCHLD,)
        self._signals = SignalPipe((*STOP_SIGNALS, signal.SIGHUP, *sigchld))
        try:
            self._signals.open()
            self._selector.register(self._signals, selectors.EVENT_READ, self._on_signals)
            for slot in self._slots:
                try:
                    slot.current = self._crew.fork(slot)
                except OSError as exc:
                    raise WorkerStartError(f"worker {slot.index} cannot be started: {exc}") from None
            while self._crew.processes or not self._stopping:
                self._turn()
                if self._killed_by is not None:
                    return self._killed_by + 128
            _log.info("stopped")
            return self._exit_code
        finally:
            self._crew.kill_all(KILL_PATIENCE)
            self._listeners.unlink()
            self._listeners.close()
            self._signals.close()
            self._selector.close()

    def _prepare_child(self, slot: Slot) -> None:
        self._signals.close_descriptors()
        self._listeners.keep(slot.index)
        if self._config.ready_fd is not None and not self._ready:
            _report.release(self._config.ready_fd)

    # Waiting

    def _turn(self) -> None:
        deadline = self._next_deadline()
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        events = self._selector.select(timeout)
        if deadline is not None and time.monotonic() > deadline + 1.0:
            # This process itself did not run for a while, and perhaps the workers did not either.
            self._watched_since = time.monotonic()
        for key, _ in events:
            # An earlier event of this turn may have ended what this one is about.
            if self._selector.get_map().get(key.fileobj) is key:
                key.data()
        self._on_time(time.monotonic())

    def _next_deadline(self) -> float | None:
        deadlines = [slot.restart_at for slot in self._slots]
        if self._stats is not None:
            deadlines.append(self._stats.due)
        for process in self._crew.processes:
            deadlines += (process.kill_at, self._silent_at(process))
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _silent_at(self, process: Process) -> float | None:
        return process.silent_at(self._watched_since, self._start_timeout, self._heartbeat_timeout)

    def _on_time(self, now: float) -> None:
        for process in self._crew.processes:
            silent_at = self._silent_at(process)
            if silent_at is not None and silent_at <= now:
                _log.error("%s does not answer: killing it", process)
                self._crew.kill(process)
            elif process.kill_at is not None and process.kill_at <= now:
                _log.error("%s has not ended within the drain time-out: killing it", process)
                if self._stopping:
                    self._exit_code = EX_FAILURE
                self._crew.kill(process)
        for slot in self._slots:
            if slot.restart_at is not None and slot.restart_at <= now:
                self._restart(slot)
        if self._stats is not None and self._stats.due <= now:
            print(self._stats.line(self._crew.shared.totals(), now), file=sys.stderr, flush=True)

    def _on_signals(self) -> None:
        for number in self._signals.read():
            if number == signal.SIGCHLD:
                self._crew.reap()
            elif number in STOP_SIGNALS and not self._stopping:
                self._stop(signal.Signals(number))
            elif (number, time.monotonic() < self._same_signal_until) == (self._stop_signal, True):
                continue
            elif number in STOP_SIGNALS:
                _log.error("a second %s: ending at once", signal.Signals(number).name)
                self._killed_by = number
            elif number == signal.SIGHUP and self._ready and not self._stopping:
                _log.info("SIGHUP: replacing the workers one after another")
                self._roll.request(self._slots)

    # What workers say

    def _on_message(self, process: Process, message: bytes) -> None:
        if message == control.READY:
            self._on_ready(process)
        elif message in (control.PAUSED, control.RESUMED):
            self._crew.tell(control.ROOM, but=process)
        elif message == control.LEAVING:
            if process is process.slot.current and process.slot.successor is None and not self._stopping:
                self._roll.request((process.slot,))
        elif (failure := control.parse_failed(message)) is not None:
            process.failure = failure
            if not self._ready and not self._stopping:
                raise start_error(process, failure[1], failure[0])

    def _on_ready(self, process: Process) -> None:
        process.ready_at = time.monotonic()
        slot = process.slot
        _log.info("%s is ready", process)
        if process is slot.successor:
            old, slot.current, slot.successor = slot.current, process, None
            if old is not None:
                self._retire(old)
        if slot.degraded:
            slot.degraded = False
            slot.policy.reset()
        slot.keeper = None
        if not self._ready and all(slot.serving for slot in self._slots):
            self._announce()
        if not self._stopping:
            place_orphans(self._slots, SlotState.DEGRADED)
            self._roll.started(slot)

    def _announce(self) -> None:
        self._ready = True
        addresses = self._listeners.addresses
        print(_report.ready_line(self._config, addresses, os.getpid()), file=sys.stderr, flush=True)
        if self._config.ready_fd is not None:
            _report.announce(self._config.ready_fd, addresses)
        if self._config.stats is not None:
            totals = self._crew.shared.totals()
            self._stats = _report.StatsLines(self._config.stats, totals, time.monotonic())

    # Deaths and replacements

    def _on_end(self, process: Process, status: int | None) -> None:
        slot = process.slot
        how = process.failure[1] if process.failure is not None else describe_end(status)
        if self._stopping or process.retiring:
            _log.log(logging.DEBUG if status == 0 else logging.WARNING, "%s %s", process, how)
        elif not self._ready:
            raise start_error(process, how)
        elif process is slot.successor:
            slot.successor = None
            _log.warning("%s %s", process, how)
            self._roll.failed(slot, f"{process}: {how}")
        elif process is slot.current:
            _log.warning("%s %s", process, how)
            self._on_death(slot, process)
        if not self._stopping:
            self._roll.advance()

    def _on_death(self, slot: Slot, process: Process | None) -> None:
        now = time.monotonic()
        slot.current, slot.successor = slot.successor, None
        for other in self._slots:
            if other.keeper is slot:
                other.keeper = None
        if slot.current is None:
            self._roll.failed(slot, f"worker {slot.index} did not start")
            lived = now - process.ready_at if process is not None and process.ready_at is not None else 0.0
            delay = None if slot.degraded else slot.policy.died(now, lived)
            if delay is None:
                self._degrade(slot)
            elif delay > 0:
                slot.restart_at = now + delay
            else:
                self._restart(slot)
        place_orphans(self._slots, SlotState.DEGRADED)

    def _restart(self, slot: Slot) -> None:
        slot.restart_at = None
        try:
            slot.current = self._crew.fork(slot)
        except OSError as exc:
            _log.error("worker %d cannot be started: %s", slot.index, exc)
            self._on_death(slot, None)

    def _degrade(self, slot: Slot) -> None:
        slot.degraded = True
        often = f"{DEATHS} times in {DEATH_WINDOW:.0f} s"
        if all(other.state is SlotState.DEGRADED for other in self._slots):
            raise CrashLoopError(f"every worker has died {often}; see the log above for the reason")
        _log.error("worker %d has died %s: not started again before a SIGHUP", slot.index, often)

    def _retire(self, process: Process) -> None:
        process.retiring = True
        process.kill_at = time.monotonic() + self._config.drain_timeout + DRAIN_MARGIN
        process.channel.send(control.RETIRE)
        for slot in self._slots:
            if slot.keeper is process.slot:
                slot.keeper = None

    # The end

    def _stop(self, number: signal.Signals) -> None:
        _log.info("%s: stopping", number.name)
        self._stopping = True
        self._stop_signal, self._same_signal_until = number, time.monotonic() + SAME_SIGNAL
        self._stats = None
        for slot in self._slots:
            slot.restart_at = None
        place_orphans(self._slots, SlotState.WAITING)
        place_orphans(self._slots, SlotState.DEGRADED)
        for sock in (sock for slot in self._slots for sock in slot.sockets):
            drop_syns(sock)
        self._listeners.unlink()
        self._listeners.close()
        self._crew.tell(control.STOP)
        kill_at = time.monotonic() + self._config.drain_timeout + DRAIN_MARGIN
        for process in self._crew.processes:
            process.kill_at = kill_at
