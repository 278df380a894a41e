"""The worker processes: they are forked, monitored, killed and reaped here. The supervisor decides when.

Forked from a parent that has imported everything a worker needs, a replacement serves within milliseconds.
The fork happens in the main thread: `die_with_parent` acts when the thread that forked ends.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .._counters import SharedCounters
from ..errors import EX_FAILURE
from . import worker as _worker
from .channel import Channel
from .platform import open_pidfd
from .signals import signals_blocked
from .slots import WorkerProcess, WorkerSlot

if TYPE_CHECKING:
    import ssl

    from ..config import ServerConfig

KILL_PATIENCE = 0.15
_COUNTERS = 4
"""Sets of counters per worker: during a rolling restart a slot has two processes, and old ones take time to drain."""
_ADDED = 64
"""Workers that may be added to those of the start."""


class WorkerProcesses:
    """All worker processes of a service.

    `prepare_child` runs in a new child and closes there what is the supervisor's own. `on_message` gets each
    message of a process, `on_end` each process that has ended, with its wait status (None when that was lost).
    `workers` is how many the service has, at most `most_workers`.
    """

    def __init__(
        self,
        config: ServerConfig,
        selector: selectors.BaseSelector,
        prepare_child: Callable[[WorkerSlot], None],
        on_message: Callable[[WorkerProcess, bytes], None],
        on_end: Callable[[WorkerProcess, int | None], None],
    ) -> None:
        self.processes: list[WorkerProcess] = []
        self.workers = config.workers
        self.most_workers = config.workers + _ADDED
        self.shared = SharedCounters(_COUNTERS * self.most_workers)
        self.tls_context: ssl.SSLContext | None = None
        """Of the workers that are started from now on."""
        self._config = config
        self._free = list(range(_COUNTERS * self.most_workers))
        self._selector = selector
        self._prepare_child = prepare_child
        self._on_message = on_message
        self._on_end = on_end

    @property
    def has_spare_counters(self) -> bool:
        """Whether a rolling restart may continue.

        One set of counters per worker is reserved for replacing workers that die.
        """
        return len(self.processes) < (_COUNTERS - 1) * self.workers

    def fork(self, slot: WorkerSlot) -> WorkerProcess:
        """Start a worker on the sockets of `slot`. Raises `OSError` when there is no process to be had."""
        if not self._free:
            raise OSError("too many retired workers are still draining")
        ours, theirs = Channel.pair()
        index = self._free.pop()
        counters = self.shared.counters_of(index)
        parent = os.getpid()
        _flush_streams()
        try:
            with signals_blocked():
                pid = os.fork()
                if pid == 0:
                    try:
                        # What exists now is shared with the parent as long as no collection touches it.
                        gc.freeze()
                        ours.close()
                        self.close_descriptors()
                        self._prepare_child(slot)
                        _worker.main(self._config, slot.sockets, theirs, counters, self.tls_context, parent)
                    finally:
                        os._exit(EX_FAILURE)
        except OSError:
            ours.close()
            self._free.append(index)
            raise
        finally:
            theirs.close()
        process = WorkerProcess(pid, slot, ours, open_pidfd(pid), counters, index, time.monotonic())
        self.processes.append(process)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(process))
        if process.pidfd is not None:
            self._selector.register(process.pidfd, selectors.EVENT_READ, lambda: self._reap(process))
        return process

    def close_descriptors(self) -> None:
        """Close this side of all channels; in a forked child that is no worker."""
        for process in self.processes:
            _close(process)

    def send_all(self, message: bytes) -> None:
        """Send `message` to every process."""
        for process in self.processes:
            process.channel.send(message)

    def reap(self) -> None:
        """Check every process; after SIGCHLD, where there are no pidfds.

        The process 1 of a container also gets the orphans of all others, and has to reap them.
        """
        for process in tuple(self.processes):
            self._reap(process)
        if os.getpid() == 1:
            self._reap_orphans()

    def _reap_orphans(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                ours = next((each for each in self.processes if each.pid == ended.si_pid), None)
                if ours is not None:
                    self._reap(ours)
                else:
                    os.waitpid(ended.si_pid, os.WNOHANG)

    def kill(self, process: WorkerProcess) -> None:
        process.killed = True
        process.kill_at = math.inf
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """Kill the processes that are left; wait at most `KILL_PATIENCE` seconds for their end."""
        for process in self.processes:
            self.kill(process)
        deadline = time.monotonic() + KILL_PATIENCE
        while self.processes and time.monotonic() < deadline:
            for process in tuple(self.processes):
                if _has_ended(process) is not False:
                    self._forget(process)
            if self.processes:
                time.sleep(0.002)

    def _hear(self, process: WorkerProcess) -> None:
        while (message := process.channel.receive()) is not None:
            if not message:
                # It closed its end of the channel; the end of the process is reported separately.
                with contextlib.suppress(KeyError):
                    self._selector.unregister(process.channel)
                return
            self._on_message(process, message)

    def _reap(self, process: WorkerProcess) -> None:
        status = _has_ended(process)
        if status is False:
            return
        self._hear(process)
        self._forget(process)
        self._on_end(process, status)

    def _forget(self, process: WorkerProcess) -> None:
        self.processes.remove(process)
        for watched in (process.channel, process.pidfd):
            with contextlib.suppress(KeyError, ValueError):
                if watched is not None:
                    self._selector.unregister(watched)
        _close(process)
        self.shared.retire(process.counters_index)
        self._free.append(process.counters_index)


def _flush_streams() -> None:
    """Leave nothing in the buffers that a child would print a second time. A program may run without streams."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


def _has_ended(process: WorkerProcess) -> int | bool | None:
    """The wait status; None when another part of the program took it; False while the process lives."""
    try:
        pid, status = os.waitpid(process.pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return status if pid else False


def _close(process: WorkerProcess) -> None:
    process.channel.close()
    if process.pidfd is not None:
        os.close(process.pidfd)
