"""The process that serves the metrics, and what the supervisor publishes for it.

The supervisor waits for no client, so HTTP is the work of a separate process, forked as a worker is. It reads the
shared counters, and ends with the supervisor. The supervisor holds its listening sockets, and replaces it when it dies:
requests wait in their queue meanwhile.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NoReturn

from .._metrics.state import Phase, ServiceState, WorkerState
from .._net.listeners import Listeners, bind
from .._options.text import split_host_port
from ..config import ServerConfig
from ..errors import AddressError, AddressInUseError, MissingExtraError, PermissionDeniedError
from .platform import die_with_parent, set_process_name
from .restarts import RestartPolicy
from .signals import reset_in_child, signals_blocked

if TYPE_CHECKING:
    from .._counters import SharedCounters
    from .slots import WorkerSlot

PROCESS_NAME = "fastecho-metric"
"""In /proc/PID/comm: `fastecho top PID` finds the process by it."""
_BACKLOG = 128
_KILL_PATIENCE = 0.15

_log = logging.getLogger("fastecho")


class Metrics:
    """The metrics of a service. Without `config.metrics` each method does nothing.

    Attributes:
        urls: those of /metrics, once bound.
        restart_at: when the process that has died is replaced.
    """

    def __init__(self, config: ServerConfig, counters: SharedCounters, prepare_child: Callable[[], None]) -> None:
        self.urls: tuple[str, ...] = ()
        self.restart_at = math.inf
        self._address = config.metrics
        self._counters = counters
        self._prepare_child = prepare_child
        self._policy = RestartPolicy()
        self._delay = 0.0
        self._state: ServiceState | None = None
        self._listeners: Listeners | None = None
        self._pid: int | None = None
        self._started = 0.0

    def start(self) -> None:
        """Bind, and fork the process.

        Raises AddressInUseError, AddressError or PermissionDeniedError; MissingExtraError without prometheus_client.
        """
        if self._address is None:
            return
        # Not imported here: the workers would inherit it.
        if importlib.util.find_spec("prometheus_client") is None:
            raise MissingExtraError("--metrics needs prometheus_client: pip install 'fastecho[metrics]'")
        self._listeners = _bind(self._address)
        self.urls = tuple(f"http{address.removeprefix('tcp')}/metrics" for address in self._listeners.addresses)
        self._state = ServiceState()
        self._fork()

    def publish(self, phase: Phase, slots: Iterable[WorkerSlot]) -> None:
        """Publish the phase of the service, and which slots are served."""
        if self._state is not None:
            self._state.publish(phase, [_worker_state(slot) for slot in slots])

    def count_restart(self, cause: str) -> None:
        """Count a worker that was replaced, by one of the RESTART_CAUSES."""
        if self._state is not None:
            self._state.count_restart(cause)

    def reap(self) -> None:
        """Check whether the process has ended; after SIGCHLD."""
        if self._pid is None:
            return
        with contextlib.suppress(ChildProcessError):
            pid, _ = os.waitpid(self._pid, os.WNOHANG)
            if not pid:
                return
        now = time.monotonic()
        _log.warning("the metrics process (pid %d) has ended: it is started again", self._pid)
        self._pid = None
        if now - self._started >= self._policy.stable_after:
            self._delay = 0.0
        self._schedule_restart(now)

    def restart_if_due(self, now: float) -> None:
        """Start the process again if `restart_at` has come."""
        if self.restart_at <= now:
            self.restart_at = math.inf
            self._fork()

    def close_copies(self) -> None:
        """Close the sockets in a forked child."""
        if self._listeners is not None:
            self._listeners.close()

    def close(self) -> None:
        """Kill the process, and close the sockets."""
        self.close_copies()
        self.restart_at = math.inf
        if self._pid is None:
            return
        pid, self._pid = self._pid, None
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + _KILL_PATIENCE
            while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
                time.sleep(0.002)

    def _fork(self) -> None:
        parent = os.getpid()
        self._started = time.monotonic()
        try:
            with signals_blocked():
                pid = os.fork()
                if pid == 0:
                    self._run_child(parent)
        except OSError as error:
            _log.error("the metrics process cannot be started: %s", error.strerror or error)
            self._schedule_restart(self._started)
        else:
            self._pid = pid

    def _schedule_restart(self, now: float) -> None:
        self.restart_at = now + self._delay
        self._delay = self._policy.next_delay(self._delay)

    def _run_child(self, parent: int) -> NoReturn:
        try:
            gc.freeze()
            self._prepare_child()
            reset_in_child()
            set_process_name(PROCESS_NAME)
            die_with_parent(parent)
            from .._metrics.application import Application
            from .._metrics.server import serve

            assert self._listeners is not None
            assert self._state is not None
            gc.freeze()  # what was imported lives as long as the process
            sockets = [sock for row in self._listeners.sockets for sock in row]
            serve(sockets, Application(self._counters, self._state), lambda: _end_without(parent))
        except BaseException:
            _log.exception("the metrics process ended by an error")
        finally:
            os._exit(1)


def _end_without(parent: int) -> None:
    """End this process if its parent has ended: where the kernel does not, see `die_with_parent`."""
    if os.getppid() != parent:
        os._exit(1)


def _worker_state(slot: WorkerSlot) -> WorkerState:
    if slot.current is None:
        return WorkerState(False, 0)
    return WorkerState(slot.is_serving, slot.current.counters_index)


def _bind(address: str) -> Listeners:
    host, port = split_host_port(address)
    try:
        return bind(ServerConfig(host=host, port=int(port), backlog=_BACKLOG))
    except AddressInUseError:
        raise AddressInUseError(f"metrics {address}: the address is in use; choose another one") from None
    except (AddressError, PermissionDeniedError) as error:
        raise type(error)(f"metrics {address}: {error}") from None
