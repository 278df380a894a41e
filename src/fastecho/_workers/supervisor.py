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
from ..errors import EX_SIGNAL, TLSError
from . import announce
from .lifecycle import GROUP_DELAY, HEARTBEAT_TIMEOUT, START_TIMEOUT, Lifecycle
from .logs import own_logging
from .metrics import Metrics
from .pidfile import PidFile
from .privileges import check_files, drop_privileges, resolve_identity
from .processes import WorkerProcesses
from .restarts import RestartPolicy
from .signals import STOP_SIGNALS, SUPERVISOR_SIGNALS, UNUSED_SIGNALS, SignalPipe
from .slots import WorkerSlot
from .systemd import ServiceManager
from .terminal import ControllingTerminal

if TYPE_CHECKING:
    from ..config import ServerConfig

__all__ = ["Supervisor", "run"]

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
        self._heartbeat_timeout, self._start_timeout = heartbeat_timeout, start_timeout
        self._policy = restart_policy if restart_policy is not None else RestartPolicy()
        self._selector = selectors.PollSelector()
        self._processes = WorkerProcesses(
            config, self._selector, self._prepare_child,
            on_message=lambda process, message: self._lifecycle.on_message(process, message),
            on_end=lambda process, status: self._lifecycle.on_end(process, status),
        )  # fmt: skip
        self._metrics = Metrics(config, self._processes.shared, self._prepare_metrics_child)
        self._announced = self._exit_now = False
        self._stats = self._totals = announce.TotalsLog(math.inf, self._processes.shared.totals(), time.monotonic())
        self._terminal = ControllingTerminal()
        self._manager = ServiceManager(os.environ)
        self._reload_at = math.inf

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
        lifecycle = self._lifecycle = Lifecycle(
            self._config, self._listeners, self._processes, self._metrics, self._on_phase, self._policy,
            heartbeat_timeout=self._heartbeat_timeout, start_timeout=self._start_timeout,
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
            for slot in lifecycle.slots:
                self._on_signals()
                if lifecycle.is_draining:
                    break
                lifecycle.start(slot)
            while not (lifecycle.is_over or self._exit_now):
                self._turn()
                if lifecycle.killed_by is not None:
                    return EX_SIGNAL + lifecycle.killed_by
            _log.info("stopped")
            return lifecycle.exit_code
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
        if self._config.ready_fd is not None and not self._announced:
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
            self._lifecycle.on_standstill(now)
        # A stop comes first: nothing that happened together with it starts a worker any more.
        self._on_signals()
        for key, _ in events:
            # An earlier event of this turn may have ended, and closed, what this one is about.
            if any(key is still for still in self._selector.get_map().values()):
                key.data()
        self._on_time(now)
        self._publish()

    def _publish(self) -> None:
        self._metrics.publish(self._lifecycle.phase, self._lifecycle.slots)

    def _next_deadline(self) -> float:
        return min(
            self._lifecycle.due_at, self._reload_at, self._stats.due_at, self._metrics.restart_at, self._manager.due_at
        )  # fmt: skip

    def _on_time(self, now: float) -> None:
        lifecycle = self._lifecycle
        lifecycle.on_time(now)
        if self._reload_at <= now:
            self._on_sighup()
        self._metrics.restart_if_due(now)
        if self._stats.due_at <= now:
            self._stats.log(self._processes.shared.totals(), now)
        rolling = lifecycle.rolling.is_active
        self._manager.watch(now, serving=lifecycle.serving > 0, rolling=rolling, status=self._status)

    def _status(self) -> str:
        serving, slots = self._lifecycle.serving, self._lifecycle.slots
        return announce.status_line(serving, len(slots), self._processes.shared.totals()["active"])

    def _on_signals(self) -> None:
        for number in self._signals.read():
            if number == signal.SIGCHLD:
                self._processes.reap()
                self._metrics.reap()
            elif number in STOP_SIGNALS:
                self._lifecycle.stop(signal.Signals(number))
            elif number == signal.SIGHUP:
                self._reload_at = time.monotonic() + GROUP_DELAY
            elif number == signal.SIGTTIN:
                self._lifecycle.scaling.add()
            elif number == signal.SIGTTOU:
                self._lifecycle.scaling.remove()
            elif number == signal.SIGUSR1:
                self._totals.log(self._processes.shared.totals(), time.monotonic())

    def _on_sighup(self) -> None:
        """Do what the last SIGHUP asked for: a rolling restart, or a stop if it came for the end of the terminal."""
        self._reload_at = math.inf
        phase = self._lifecycle.phase
        if phase is Phase.STOPPING:
            _log.info("SIGHUP: ignored, the service stops")
            return
        if self._terminal.closed and not self._signals.was_ignored(signal.SIGHUP):
            self._lifecycle.stop(signal.SIGHUP, "the terminal is closed")
        elif phase is Phase.READY:
            self._manager.reloading(f"replacing the workers; {self._status()}")
            try:
                self._processes.tls_context = server_context(self._config)
            except TLSError as error:
                _log.error("SIGHUP: %s; the old workers stay", error)
                return  # the next `watch` reports the end of the reload
            _log.info("SIGHUP: replacing the workers one after another")
            self._lifecycle.rolling.request(self._lifecycle.slots)

    def _on_exit_fd(self) -> None:
        assert self._config.exit_fd is not None
        if announce.at_end(self._config.exit_fd):
            _log.info("exit_fd has reached its end of file: ending at once")
            self._exit_now = True

    # What the service tells of itself

    def _on_phase(self) -> None:
        self._publish()
        if self._lifecycle.is_ready and not self._announced:
            self._announce()
        elif self._lifecycle.is_draining:
            self._stats.due_at = math.inf
            self._manager.stopping(time.monotonic(), f"draining; {self._status()}")

    def _announce(self) -> None:
        self._announced = True
        addresses, urls = self._listeners.addresses, self._metrics.urls
        announce.log_ready(self._config, addresses, os.getpid(), urls)
        if self._config.ready_fd is not None:
            announce.announce(self._config.ready_fd, (*addresses, *urls))
        self._manager.ready(time.monotonic(), self._status())
        if self._config.stats is not None:
            totals = self._processes.shared.totals()
            self._stats = announce.TotalsLog(self._config.stats, totals, time.monotonic())


def _check_caller() -> None:
    """Raise `RuntimeError` where a supervisor cannot work: it forks, and catches signals."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("fastecho.run() needs the main thread; fastecho.serve() runs beside any code")
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("fastecho.run() cannot fork inside an event loop; EchoServer runs there")
