"""The process above the workers: binds, forks, watches, replaces, and ends them.

One thread, no event loop: it waits in `poll` for the ends of processes, for messages of the workers and for
signals, and for nothing else but the next deadline. It opens all listening sockets before it starts any
worker and keeps them open, so a connection in the queue of a dead worker waits for its successor.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import selectors
import signal
import threading
import time
from typing import TYPE_CHECKING

from .._metrics.state import Phase
from .._net.activation import inherited_listeners
from .._net.limits import describe_shortage, raised_descriptor_limit
from .._net.listeners import bind
from .._net.tls import server_context
from .._options.types import format_seconds
from ..errors import EX_FAILURE, EX_OK, EX_SIGNAL, CrashLoopError, TLSError, WorkerStartError
from . import announce
from .channel import DRAINED, LEAVING, READY, RETIRE, STOP, parse_failed
from .logs import own_logging
from .metrics import Metrics
from .pidfile import PidFile
from .privileges import check_files, drop_privileges, resolve_identity
from .processes import WorkerProcesses
from .restarts import CrashLoop, RestartPolicy
from .rolling import RollingRestart
from .scaling import Scaling
from .signals import STOP_SIGNALS, SUPERVISOR_SIGNALS, UNUSED_SIGNALS, SignalPipe
from .slots import WorkerProcess, WorkerSlot
from .systemd import ServiceManager
from .terminal import ControllingTerminal

if TYPE_CHECKING:
    from ..config import ServerConfig

__all__ = ["Supervisor", "run"]

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


def run(config: ServerConfig) -> int:
    """Serve with `config.workers` processes until SIGTERM or SIGINT; return the exit code.

    0 after a clean stop, 130 or 143 after a second signal, 1 when a worker had to be killed at the end.
    SIGHUP replaces the workers one after another. SIGUSR1 logs the totals. It forks and handles signals, so it runs in
    the main thread only and not inside an event loop (`RuntimeError`); `fastecho.serve` runs anywhere.

    It logs to standard error, as `log_level` and `log_format` say, unless logging is configured. While it runs, it
    changes signal handlers, the signal mask and the descriptor limit of the process, and puts them back at its end.

    Raises `AddressInUseError`, `AddressError` or `PermissionDeniedError` when it cannot listen,
    `TLSError` when the certificate cannot be loaded,
    `WorkerStartError` with the worker's exit code when a worker cannot start, `CrashLoopError` when all die.
    """
    with own_logging(config.log_level, config.log_format):
        return Supervisor(config).run()


class Supervisor:
    """One run of a service. `heartbeat_timeout` and `start_timeout` are seconds."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
        start_timeout: float = START_TIMEOUT,
        restart_policy: RestartPolicy | None = None,
    ) -> None:
        self._config = config
        self._heartbeat_timeout = heartbeat_timeout
        self._start_timeout = start_timeout
        self._selector = selectors.PollSelector()
        self._processes = WorkerProcesses(config, self._selector, self._prepare_child, self._on_message, self._on_end)
        self._metrics = Metrics(config, self._processes.shared, self._prepare_metrics_child)
        self._slots: list[WorkerSlot] = []
        self._policy = restart_policy if restart_policy is not None else RestartPolicy()
        self._crash_loop = CrashLoop(self._policy, config.workers)
        self._rolling = RollingRestart(self._processes)
        self._ready = self._stopping = False
        self._stop_signal, self._same_until = signal.SIGTERM, 0.0
        self._exit_code = EX_OK
        self._killed_by: int | None = None
        self._exit_now = False
        self._stats = self._totals = announce.TotalsLog(math.inf, self._processes.shared.totals(), time.monotonic())
        self._terminal = ControllingTerminal()
        self._manager = ServiceManager(os.environ)
        self._reload_at = self._drain_at = math.inf
        self._accepting: set[WorkerProcess] = set()
        """The processes that still accept, after the beginning of a stop that waits for them."""
        self._watched_since = time.monotonic()

    def run(self) -> int:
        """Serve to the end, like `fastecho.run`. Once only for each object."""
        _check_caller()
        announce.check_descriptors(self._config)
        with raised_descriptor_limit():
            return self._serve()

    def _serve(self) -> int:
        if shortage := describe_shortage(self._config.max_connections, self._config.workers):
            _log.warning(shortage)
        identity = resolve_identity(self._config)
        # One context for all workers, so that a session is resumed by whichever worker accepts the connection.
        self._processes.tls_context = server_context(self._config)
        inherited = inherited_listeners(self._config, os.environ)
        self._listeners = inherited if inherited is not None else bind(self._config, self._config.workers)
        sockets = self._listeners.sockets
        self._slots = [WorkerSlot(index, each, self._policy) for index, each in enumerate(sockets)]
        self._scaling = Scaling(
            self._slots, self._listeners, self._processes, self._policy, self._crash_loop, self._config.backlog,
            self._retire,
        )  # fmt: skip
        self._signals = SignalPipe(SUPERVISOR_SIGNALS, UNUSED_SIGNALS)
        pid_file = self._pid_file = PidFile(self._config.pid_file) if self._config.pid_file is not None else None
        try:
            if pid_file is not None:
                pid_file.write()
            if identity is not None:
                self._listeners.give_to(identity.uid, identity.gid)
                self._listeners.prepare_to_drop_syns()
                drop_privileges(identity)
                check_files(self._config, identity)
            self._signals.open()
            self._selector.register(self._signals, selectors.EVENT_READ, self._on_signals)
            if self._config.exit_fd is not None:
                self._selector.register(self._config.exit_fd, selectors.EVENT_READ, self._on_exit_fd)
            self._metrics.start()
            for slot in self._slots:
                self._on_signals()
                if self._stopping:
                    break
                try:
                    slot.current = self._processes.fork(slot)
                except OSError as exc:
                    raise WorkerStartError(f"worker {slot.index} cannot be started: {exc.strerror or exc}") from None
            while (self._processes.processes or not self._stopping) and not self._exit_now:
                self._turn()
                if self._killed_by is not None:
                    return EX_SIGNAL + self._killed_by
            _log.info("stopped")
            return self._exit_code
        finally:
            self._processes.kill_all()
            self._metrics.close()
            self._listeners.unlink()
            self._listeners.close()
            if pid_file is not None:
                pid_file.remove()
            self._signals.close()
            self._selector.close()

    def _prepare_child(self, slot: WorkerSlot) -> None:
        self._listeners.close_other_copies(slot.sockets)
        self._metrics.close_copies()
        self._close_own_descriptors()

    def _prepare_metrics_child(self) -> None:
        self._listeners.close()
        self._processes.close_descriptors()
        self._close_own_descriptors()

    def _close_own_descriptors(self) -> None:
        self._signals.close_descriptors()
        if self._pid_file is not None:
            self._pid_file.close_copy()
        if self._config.ready_fd is not None and not self._ready:
            announce.release(self._config.ready_fd)
        if self._config.exit_fd is not None:
            announce.release(self._config.exit_fd)

    # Waiting

    def _turn(self) -> None:
        deadline = self._next_deadline()
        timeout = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
        events = self._selector.select(timeout)
        # The clock is read once a turn: a stop of this process afterwards shows as lateness in the next turn.
        now = time.monotonic()
        if now > deadline + 1.0:
            # This process itself did not run for a while, and perhaps the workers did not either.
            self._watched_since = now
        # A stop comes first: nothing that happened together with it starts a worker any more.
        self._on_signals()
        for key, _ in events:
            # An earlier event of this turn may have ended, and closed, what this one is about.
            if any(key is still for still in self._selector.get_map().values()):
                key.data()
        self._on_time(now)
        self._publish()

    def _publish(self) -> None:
        phase = Phase.STOPPING if self._is_to_stop else Phase.READY if self._ready else Phase.STARTING
        self._metrics.publish(phase, self._slots)

    @property
    def _is_to_stop(self) -> bool:
        """Whether it stops, or will after `shutdown_delay`."""
        return self._stopping or self._drain_at < math.inf

    def _next_deadline(self) -> float:
        deadlines = [self._reload_at, self._drain_at, self._stats.due_at]
        deadlines += (self._metrics.restart_at, self._manager.due_at)
        deadlines += (slot.restart_at for slot in self._slots)
        for process in self._processes.processes:
            deadlines += (process.kill_at, process.leave_at, self._silent_at(process))
        return min(deadlines)

    def _silent_at(self, process: WorkerProcess) -> float:
        return process.silent_at(self._watched_since, self._start_timeout, self._heartbeat_timeout)

    def _on_time(self, now: float) -> None:
        for process in self._processes.processes:
            if self._silent_at(process) <= now:
                _log.error("%s does not answer: killing it", process)
                self._processes.kill(process)
            elif process.kill_at <= now:
                _log.error("%s has not ended within the drain time-out: killing it", process)
                if self._stopping:
                    self._exit_code = EX_FAILURE
                self._processes.kill(process)
            elif process.leave_at <= now:
                process.leave_at = math.inf
                slot = process.slot
                if process is slot.current and slot.successor is None and not (self._stopping or process.retiring):
                    self._rolling.request((slot,))
        if self._drain_at <= now:
            self._drain()
        if self._reload_at <= now:
            self._on_sighup()
        self._metrics.restart_if_due(now)
        for slot in self._slots:
            if slot.restart_at <= now:
                self._restart(slot)
        if self._stats.due_at <= now:
            self._stats.log(self._processes.shared.totals(), now)
        rolling = self._rolling.is_active
        if self._ready and not rolling and not self._stopping:
            self._scaling.advance()
        self._manager.watch(now, serving=self._serving > 0, rolling=rolling, status=self._status)

    @property
    def _serving(self) -> int:
        """How many worker slots have a process that serves."""
        return sum(slot.is_serving for slot in self._slots)

    def _status(self) -> str:
        return announce.status_line(self._serving, len(self._slots), self._processes.shared.totals()["active"])

    def _on_signals(self) -> None:
        for number in self._signals.read():
            if number == signal.SIGCHLD:
                self._processes.reap()
                self._metrics.reap()
            elif number in STOP_SIGNALS:
                self._stop(signal.Signals(number))
            elif number == signal.SIGHUP:
                self._reload_at = time.monotonic() + GROUP_DELAY
            elif number == signal.SIGTTIN:
                self._scaling.add()
            elif number == signal.SIGTTOU:
                self._scaling.remove()
            elif number == signal.SIGUSR1:
                self._totals.log(self._processes.shared.totals(), time.monotonic())

    def _on_sighup(self) -> None:
        """Do what the last SIGHUP asked for: a rolling restart, or a stop if it came for the end of the terminal."""
        self._reload_at = math.inf
        if self._is_to_stop:
            _log.info("SIGHUP: ignored, the service stops")
            return
        if self._terminal.closed and not self._signals.was_ignored(signal.SIGHUP):
            self._stop(signal.SIGHUP, "the terminal is closed")
        elif self._ready:
            self._manager.reloading(f"replacing the workers; {self._status()}")
            try:
                self._processes.tls_context = server_context(self._config)
            except TLSError as error:
                _log.error("SIGHUP: %s; the old workers stay", error)
                return  # the next `watch` reports the end of the reload
            _log.info("SIGHUP: replacing the workers one after another")
            self._rolling.request(self._slots)

    def _on_exit_fd(self) -> None:
        assert self._config.exit_fd is not None
        if announce.at_end(self._config.exit_fd):
            _log.info("exit_fd has reached its end of file: ending at once")
            self._exit_now = True

    # What workers say

    def _on_message(self, process: WorkerProcess, message: bytes) -> None:
        if message == READY:
            self._on_ready(process)
        elif message == DRAINED and self._stopping:
            self._on_stopped_accepting(process)
        elif message == DRAINED:
            self._scaling.on_drained(process.slot)
        elif message == LEAVING:
            process.leave_at = time.monotonic() + GROUP_DELAY
        else:
            code, why = process.failure = parse_failed(message)
            if not self._ready and not self._stopping:
                raise _start_error(process, why, code)

    def _on_ready(self, process: WorkerProcess) -> None:
        process.ready_at = time.monotonic()
        slot = process.slot
        _log.info("%s is ready", process)
        if self._scaling.is_leaving(slot):
            self._scaling.on_ready(process)
            return
        if process is slot.successor:
            old, slot.current, slot.successor = slot.current, process, None
            assert old is not None  # a slot without a process gets a current one
            self._retire(old)
            self._metrics.count_restart("rolling")
        if not self._ready and all(slot.is_serving for slot in self._slots):
            self._announce()
        if not self._stopping:
            self._rolling.started(slot)

    def _announce(self) -> None:
        self._ready = True
        self._publish()
        addresses, urls = self._listeners.addresses, self._metrics.urls
        announce.log_ready(self._config, addresses, os.getpid(), urls)
        if self._config.ready_fd is not None:
            announce.announce(self._config.ready_fd, (*addresses, *urls))
        self._manager.ready(time.monotonic(), self._status())
        if self._config.stats is not None:
            totals = self._processes.shared.totals()
            self._stats = announce.TotalsLog(self._config.stats, totals, time.monotonic())

    # Deaths and replacements

    def _on_end(self, process: WorkerProcess, status: int | None) -> None:
        slot = process.slot
        how = process.failure[1] if process.failure is not None else _describe_end(status)
        if process is slot.current and self._scaling.is_leaving(slot) and not self._stopping:
            _log.warning("%s %s", process, how)
            self._scaling.on_end(process)
        elif self._stopping or process.retiring:
            self._on_stopped_accepting(process)
            _log.log(logging.DEBUG if status == 0 else logging.WARNING, "%s %s", process, how)
        elif not self._ready:
            raise _start_error(process, how)
        elif process is slot.successor:
            slot.successor = None
            _log.warning("%s %s", process, how)
            self._rolling.failed(slot, f"{process}: {how}")
        else:
            _log.warning("%s %s", process, how)
            self._on_death(slot, process)
        if not self._stopping:
            self._rolling.advance()

    def _on_death(self, slot: WorkerSlot, process: WorkerProcess | None) -> None:
        """The process of `slot` died, or (None) could not be forked.

        A system that is out of descriptors, memory or processes is no crash loop: it may have some again at any time.
        """
        now = time.monotonic()
        lived = process.served(now) if process is not None else 0.0
        if process is not None:
            self._crash_loop.record_death(now, lived)
            self._metrics.count_restart("hang" if process.killed else "crash")
        slot.current, slot.successor = slot.successor, None
        if slot.current is not None:
            return
        self._rolling.failed(slot, f"worker {slot.index} did not start")
        longest_life = max((each.current.served(now) for each in self._slots if each.current), default=0.0)
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

    def _retire(self, process: WorkerProcess, message: bytes = RETIRE) -> None:
        process.retiring = True
        process.kill_at = time.monotonic() + self._config.drain_timeout + DRAIN_MARGIN
        process.channel.send(message)

    # The end

    def _stop(self, number: signal.Signals, why: str | None = None) -> None:
        now = time.monotonic()
        if self._is_to_stop:
            if number != self._stop_signal or now > self._same_until:
                _log.error("a second signal, %s: ending at once", number.name)
                self._killed_by = number
            return
        self._stop_signal, self._same_until = number, now + SAME_SIGNAL
        delay = self._config.shutdown_delay if number == signal.SIGTERM and self._ready else 0.0
        self._drain_at = now + delay
        self._publish()
        _log.info("%s: stopping%s", why or number.name, f" in {format_seconds(delay)}" if delay else "")
        if not delay:
            self._drain()

    def _drain(self) -> None:
        """Stop accepting, and have the workers drain."""
        self._drain_at = math.inf
        self._stopping = True
        self._stats.due_at = math.inf
        self._manager.stopping(time.monotonic(), f"draining; {self._status()}")
        for slot in self._slots:
            slot.restart_at = math.inf
        self._listeners.drop_syns()
        self._listeners.unlink()
        if self._listeners.diverts_syns:
            self._accepting = set(self._processes.processes)
        if not self._accepting:
            self._listeners.close()
        self._processes.send_all(STOP)
        kill_at = time.monotonic() + self._config.drain_timeout + DRAIN_MARGIN
        for process in self._processes.processes:
            process.kill_at = kill_at

    def _on_stopped_accepting(self, process: WorkerProcess) -> None:
        """A process has closed its listeners, or has ended. The last one lets the supervisor close its own."""
        if process in self._accepting:
            self._accepting.remove(process)
            if not self._accepting:
                self._listeners.close()


def _check_caller() -> None:
    """Raise `RuntimeError` where a supervisor cannot work: it forks, and catches signals."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("fastecho.run() needs the main thread; fastecho.serve() runs beside any code")
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("fastecho.run() cannot fork inside an event loop; EchoServer runs there")


def _start_error(process: WorkerProcess, why: str, code: int = EX_FAILURE) -> WorkerStartError:
    """What ends the service when `process` cannot start, with the exit code that the worker gave."""
    error = WorkerStartError(f"{process} cannot start: {why}")
    error.exit_code = code
    return error


def _describe_end(status: int | None) -> str:
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
