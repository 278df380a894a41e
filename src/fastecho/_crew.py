"""The worker processes as such: forked, heard, killed and reaped. What follows from it is the supervisor's.

Forked from a parent that has imported everything a worker needs, a replacement serves within milliseconds.
The fork happens in the main thread, whose end is what `die_with_parent` watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import _control as control
from . import _worker
from ._control import Channel
from ._counters import SharedCounters
from ._platform import open_pidfd
from ._signals import held_back
from ._slot import Process, Slot
from .errors import EX_FAILURE, WorkerStartError

if TYPE_CHECKING:
    from .config import ServerConfig

_BLOCKS = 4
"""Counter blocks per worker: during a roll a slot has two processes, and the old ones take time to drain."""


def check_place() -> None:
    """Raise `RuntimeError` where a supervisor cannot work: it forks, and catches signals."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("fastecho.run() needs the main thread; fastecho.serve() runs beside any code")
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("fastecho.run() cannot fork inside an event loop; EchoServer runs there")


class Crew:
    """All worker processes of a service.

    `prepare_child` runs in a new child and closes there what is the supervisor's own. `on_message` gets each
    message of a process, `on_end` each process that is gone, with its wait status (None when that was lost).
    """

    def __init__(
        self,
        config: ServerConfig,
        selector: selectors.BaseSelector,
        prepare_child: Callable[[Slot], None],
        on_message: Callable[[Process, bytes], None],
        on_end: Callable[[Process, int | None], None],
    ) -> None:
        self.processes: list[Process] = []
        self.shared = SharedCounters(_BLOCKS * config.workers)
        self._config = config
        self._free = list(range(_BLOCKS * config.workers))
        self._selector = selector
        self._prepare_child = prepare_child
        self._on_message = on_message
        self._on_end = on_end

    @property
    def has_spare_blocks(self) -> bool:
        """Whether a roll may go on: the last blocks are kept for workers that replace dead ones."""
        return len(self._free) > self._config.workers

    def fork(self, slot: Slot) -> Process:
        """Start a worker on the sockets of `slot`. Raises `OSError` when there is no process to be had."""
        if not self._free:
            raise OSError("too many retired workers are still draining")
        ours, theirs = Channel.pair()
        block = self._free.pop()
        counters = self.shared.slot(block)
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        # What exists now is shared with the child as long as no collection touches it.
        gc.freeze()
        try:
            with held_back():
                pid = os.fork()
                if pid == 0:
                    try:
                        ours.close()
                        for process in self.processes:
                            _close(process)
                        self._prepare_child(slot)
                        _worker.main(self._config, slot.sockets, theirs, counters, parent)
                    finally:
                        os._exit(EX_FAILURE)
        except OSError:
            ours.close()
            self._free.append(block)
            raise
        finally:
            gc.unfreeze()
            theirs.close()
        process = Process(pid, slot, ours, open_pidfd(pid), counters, block, time.monotonic())
        self.processes.append(process)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(process))
        if process.pidfd is not None:
            self._selector.register(process.pidfd, selectors.EVENT_READ, lambda: self._reap(process))
        return process

    def tell(self, message: bytes, but: Process | None = None) -> None:
        """Send `message` to every process except `but`."""
        for process in self.processes:
            if process is not but:
                process.channel.send(message)

    def reap(self) -> None:
        """Look at every process: for systems that tell by SIGCHLD only that one of them has ended."""
        for process in tuple(self.processes):
            self._reap(process)

    def kill(self, process: Process) -> None:
        process.killed = True
        process.kill_at = None
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)

    def kill_all(self, patience: float) -> None:
        """Kill whoever is left; wait at most `patience` seconds for them to be gone."""
        for process in self.processes:
            self.kill(process)
        deadline = time.monotonic() + patience
        while self.processes and time.monotonic() < deadline:
            for process in tuple(self.processes):
                if _has_ended(process) is not False:
                    self._forget(process)
            if self.processes:
                time.sleep(0.002)

    def _hear(self, process: Process) -> None:
        while (received := process.channel.receive()) is not None:
            if not received[0]:
                # It closed its end; that it has ended too is told by other means.
                with contextlib.suppress(KeyError):
                    self._selector.unregister(process.channel)
                return
            self._on_message(process, received[0])

    def _reap(self, process: Process) -> None:
        status = _has_ended(process)
        if status is False:
            return
        self._hear(process)
        self._forget(process)
        self._on_end(process, status)

    def _forget(self, process: Process) -> None:
        self.processes.remove(process)
        for watched in (process.channel, process.pidfd):
            with contextlib.suppress(KeyError, ValueError):
                if watched is not None:
                    self._selector.unregister(watched)
        _close(process)
        self.shared.retire(process.block)
        self._free.append(process.block)
        # Its sessions went with it: if the service was full, it is no longer.
        limit = self._config.max_connections
        if self.shared.accept_paused and (limit is None or self.shared.active() < limit):
            self.shared.accept_paused = False
            self.tell(control.ROOM)


def _has_ended(process: Process) -> int | bool | None:
    """The wait status; None when somebody else has taken it; False while the process lives."""
    try:
        pid, status = os.waitpid(process.pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return status if pid else False


def _close(process: Process) -> None:
    process.channel.close()
    if process.pidfd is not None:
        os.close(process.pidfd)


def start_error(process: Process, why: str, code: int = EX_FAILURE) -> WorkerStartError:
    """What ends the service when `process` cannot start, with the exit code that the worker gave."""
    error = WorkerStartError(f"{process} cannot start: {why}")
    error.exit_code = code
    return error


def describe_end(status: int | None) -> str:
    """A wait status in words."""
    if status is None:
        return "is gone"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
