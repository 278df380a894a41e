"""What becomes of the worker processes: their start, death and replacement, and the end of the service.

The supervisor says what has happened. The decisions are made here, and carried out by `WorkerProcesses`.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .._metrics.state import Phase
from .._options.types import format_seconds
from ..errors import EX_FAILURE, EX_OK, CrashLoopError, WorkerStartError
from .channel import DRAINED, LEAVING, READY, RETIRE, STOP, parse_failed
from .restarts import CrashLoop, RestartPolicy
from .rolling import RollingRestart
from .scaling import Scaling
from .slots import WorkerProcess, WorkerSlot

if TYPE_CHECKING:
    from .._net.listeners import Listeners
    from ..config import ServerConfig
    from .metrics import Metrics
    from .processes import WorkerProcesses

__all__ = ["DRAIN_MARGIN", "GROUP_DELAY", "HEARTBEAT_TIMEOUT", "SAME_SIGNAL", "START_TIMEOUT", "Lifecycle"]

HEARTBEAT_TIMEOUT = 5.0
"""Seconds without a beat after which a worker counts as hung, and is killed."""
START_TIMEOUT = 30.0
"""Seconds that a worker may take from its fork to its ready message."""
DRAIN_MARGIN = 2.0
"""Seconds beyond `drain_timeout` after which a worker that ought to have ended is killed."""

SAME_SIGNAL = 0.05
"""Seconds in which the signal that stops may come twice: timeout(1) sends it to the process and to its group."""

GROUP_DELAY = 0.1
"""Seconds to wait after a signal: it may have gone to the whole process group, or the terminal may have ended."""

_log = logging.getLogger("fastecho")


class Lifecycle:
    """The worker slots of a service and their processes, from the start of the first to the end of the last.

    Args:
        on_phase: called when the phase changes: all workers are ready, the service is to stop, it drains.
        heartbeat_timeout: seconds.
        start_timeout: seconds.
        clock: the time in seconds; `now` of a method is one that it has given.

    Attributes:
        exit_code: of the service, after a stop.
        killed_by: the second signal, which ends the service at once.
    """

    def __init__(
        self,
        config: ServerConfig,
        listeners: Listeners,
        processes: WorkerProcesses,
        metrics: Metrics,
        on_phase: Callable[[], None],
        policy: RestartPolicy,
        *,
        heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
        start_timeout: float = START_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._listeners, self._processes, self._metrics = config, listeners, processes, metrics
        self._on_phase, self._policy, self._clock = on_phase, policy, clock
        self._heartbeat_timeout, self._start_timeout = heartbeat_timeout, start_timeout
        self.slots = [WorkerSlot(index, each, policy) for index, each in enumerate(listeners.sockets)]
        self._crash_loop = CrashLoop(policy, config.workers)
        self.rolling = RollingRestart(processes)
        self.scaling = Scaling(
            self.slots, listeners, processes, policy, self._crash_loop, config.backlog, self._retire
        )  # fmt: skip
        self._ready = self._draining = False
        self._stop_signal, self._same_until = signal.SIGTERM, 0.0
        self._drain_at = math.inf
        self._accepting: set[WorkerProcess] = set()
        """The processes that still accept, after the beginning of a drain that waits for them."""
        self._watched_since = clock()
        self.exit_code = EX_OK
        self.killed_by: signal.Signals | None = None

    @property
    def phase(self) -> Phase:
        """STOPPING from the signal on, with `shutdown_delay`."""
        if self._draining or self._drain_at < math.inf:
            return Phase.STOPPING
        return Phase.READY if self._ready else Phase.STARTING

    @property
    def is_ready(self) -> bool:
        """Whether all workers have been ready, which may come after the beginning of a stop."""
        return self._ready

    @property
    def is_draining(self) -> bool:
        """Whether the workers were told to stop. Before that, `shutdown_delay` may be under way."""
        return self._draining

    @property
    def is_over(self) -> bool:
        """Whether the service has drained, and its last process has ended."""
        return self._draining and not self._processes.processes

    @property
    def serving(self) -> int:
        """How many worker slots have a process that serves."""
        return sum(slot.is_serving for slot in self.slots)

    @property
    def due_at(self) -> float:
        """When `on_time` has to be called next; `math.inf` while nothing is due."""
        times = [self._drain_at, *(slot.restart_at for slot in self.slots)]
        for process in self._processes.processes:
            times += (process.kill_at, process.leave_at, self._silent_at(process))
        return min(times)

    def start(self, slot: WorkerSlot) -> None:
        """Start the first process of `slot`. Raises `WorkerStartError`."""
        try:
            slot.current = self._processes.fork(slot)
        except OSError as exc:
            raise WorkerStartError(f"worker {slot.index} cannot be started: {exc.strerror or exc}") from None

    # Time

    def on_standstill(self, now: float) -> None:
        """The supervisor did not run for a while, and perhaps the workers did not either."""
        self._watched_since = now

    def on_time(self, now: float) -> None:
        """Do what is due."""
        for process in self._processes.processes:
            if self._silent_at(process) <= now:
                _log.error("%s does not answer: killing it", process)
                self._processes.kill(process)
            elif process.kill_at <= now:
                _log.error("%s has not ended within the drain time-out: killing it", process)
                if self._draining:
                    self.exit_code = EX_FAILURE
                self._processes.kill(process)
            elif process.leave_at <= now:
                process.leave_at = math.inf
                self._replace(process)
        if self._drain_at <= now:
            self._drain()
        for slot in self.slots:
            if slot.restart_at <= now:
                self._restart(slot)
        if self._ready and not self.rolling.is_active and not self._draining:
            self.scaling.advance()

    def _silent_at(self, process: WorkerProcess) -> float:
        return process.silent_at(self._watched_since, self._start_timeout, self._heartbeat_timeout)

    # What workers say

    def on_message(self, process: WorkerProcess, message: bytes) -> None:
        """`process` has sent `message`. Raises `WorkerStartError` when it cannot start with the service."""
        if message == READY:
            self._on_ready(process)
        elif message == DRAINED and self._draining:
            self._on_stopped_accepting(process)
        elif message == DRAINED:
            self.scaling.on_drained(process.slot)
        elif message == LEAVING:
            process.leave_at = self._clock() + GROUP_DELAY
        else:
            code, why = process.failure = parse_failed(message)
            if self.phase is Phase.STARTING:
                raise _start_error(process, why, code)

    def _on_ready(self, process: WorkerProcess) -> None:
        process.ready_at = self._clock()
        slot = process.slot
        _log.info("%s is ready", process)
        if self.scaling.is_leaving(slot):
            self.scaling.on_ready(process)
            return
        if process is slot.successor:
            old, slot.current, slot.successor = slot.current, process, None
            assert old is not None  # a slot without a process gets a current one
            self._retire(old)
            self._metrics.count_restart("rolling")
        if not self._ready and all(each.is_serving for each in self.slots):
            self._ready = True
            self._on_phase()
        if not self._draining:
            self.rolling.started(slot)

    # Deaths and replacements

    def on_end(self, process: WorkerProcess, status: int | None) -> None:
        """`process` has ended with this wait status, None when it was lost.

        Raises `WorkerStartError` before the service is ready, and `CrashLoopError` when all workers die.
        """
        slot = process.slot
        how = process.failure[1] if process.failure is not None else describe_end(status)
        if process is slot.current and self.scaling.is_leaving(slot) and not self._draining:
            _log.warning("%s %s", process, how)
            self.scaling.on_end(process)
        elif self._draining or process.retiring:
            self._on_stopped_accepting(process)
            _log.log(logging.DEBUG if status == 0 else logging.WARNING, "%s %s", process, how)
        elif not self._ready:
            raise _start_error(process, how)
        elif process is slot.successor:
            slot.successor = None
            _log.warning("%s %s", process, how)
            self.rolling.failed(slot, f"{process}: {how}")
        else:
            _log.warning("%s %s", process, how)
            self._on_death(slot, process)
        if not self._draining:
            self.rolling.advance()

    def _on_death(self, slot: WorkerSlot, process: WorkerProcess | None) -> None:
        """The process of `slot` died, or (None) could not be forked.

        A system that is out of descriptors, memory or processes is no crash loop: it may have some again at any time.
        """
        now = self._clock()
        lived = process.served(now) if process is not None else 0.0
        if process is not None:
            self._crash_loop.record_death(now, lived)
            self._metrics.count_restart("hang" if process.killed else "crash")
        slot.current, slot.successor = slot.successor, None
        if slot.current is not None:
            return
        self.rolling.failed(slot, f"worker {slot.index} did not start")
        longest_life = max((each.current.served(now) for each in self.slots if each.current), default=0.0)
        if process is not None and self._crash_loop.detected(now, longest_life):
            often = f"{self._policy.deaths} times in {self._policy.stable_after:g} s"
            raise CrashLoopError(f"every worker has died {often}; see the log above for the reason")
        delay = slot.delay_after_death(lived)
        if delay > 0:
            slot.restart_at = now + delay
        else:
            self._restart(slot)

    def _restart(self, slot: WorkerSlot) -> None:
        slot.restart_at = math.inf
        try:
            slot.current = self._processes.fork(slot)
        except OSError as exc:
            _log.error("worker %d cannot be started: %s", slot.index, exc.strerror or exc)
            self._on_death(slot, None)

    def _replace(self, process: WorkerProcess) -> None:
        """Replace a process that has asked for it, unless it ends in any case."""
        slot = process.slot
        if process is slot.current and slot.successor is None and not (self._draining or process.retiring):
            self.rolling.request((slot,))

    def _retire(self, process: WorkerProcess, message: bytes = RETIRE) -> None:
        process.retiring = True
        process.kill_at = self._latest_end()
        process.channel.send(message)

    def _latest_end(self) -> float:
        """When a process that is told now to end is killed."""
        return self._clock() + self._config.drain_timeout + DRAIN_MARGIN

    # The end

    def stop(self, number: signal.Signals, why: str | None = None) -> None:
        """Stop the service because of signal `number`; `why` is for the log, by default the name of the signal.

        The second signal ends the service at once, unless it is the same one within `SAME_SIGNAL`.
        """
        now = self._clock()
        if self.phase is Phase.STOPPING:
            if number != self._stop_signal or now > self._same_until:
                _log.error("a second signal, %s: ending at once", number.name)
                self.killed_by = number
            return
        self._stop_signal, self._same_until = number, now + SAME_SIGNAL
        delay = self._config.shutdown_delay if number == signal.SIGTERM and self._ready else 0.0
        self._drain_at = now + delay
        self._on_phase()
        _log.info("%s: stopping%s", why or number.name, f" in {format_seconds(delay)}" if delay else "")
        if not delay:
            self._drain()

    def _drain(self) -> None:
        """Stop accepting, and have the workers drain."""
        self._drain_at = math.inf
        self._draining = True
        self._on_phase()
        for slot in self.slots:
            slot.restart_at = math.inf
        self._listeners.drop_syns()
        self._listeners.unlink()
        if self._listeners.diverts_syns:
            self._accepting = set(self._processes.processes)
        if not self._accepting:
            self._listeners.close()
        self._processes.send_all(STOP)
        for process in self._processes.processes:
            process.kill_at = self._latest_end()

    def _on_stopped_accepting(self, process: WorkerProcess) -> None:
        """A process has closed its listeners, or has ended. The last one lets the supervisor close its own."""
        if process in self._accepting:
            self._accepting.remove(process)
            if not self._accepting:
                self._listeners.close()


def _start_error(process: WorkerProcess, why: str, code: int = EX_FAILURE) -> WorkerStartError:
    """What ends the service when `process` cannot start, with the exit code that the worker gave."""
    error = WorkerStartError(f"{process} cannot start: {why}")
    error.exit_code = code
    return error


def describe_end(status: int | None) -> str:
    """A wait status in words."""
    if status is None:
        return "has ended"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
