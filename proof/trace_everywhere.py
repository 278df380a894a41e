"""A plugin of coverage that follows what coverage by itself does not: raw threads, and processes that are killed.

`make coverage` puts it beside the package that it builds and measures. A forked child goes on with the tracer of its
parent, and so traces the function that forked it too; coverage gives it a data file of its own. Before a process kills
another one with SIGKILL, it sends SAVE: the other one saves its data in the handler, and says so with a file.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep  # a test may patch `time`
from typing import Any

from coverage import Coverage
from coverage.plugin import CoveragePlugin

DATA = Path(__file__).parent.parent / "data"
SAVE = signal.SIGRTMAX - 1
_PATIENCE = 1.0


class TraceEverywhere(CoveragePlugin):
    """It has no files to trace."""


def trace_native_threads() -> None:
    """Trace the threads that the load engine starts by `_thread`: `threading.settrace` is for those of `threading`."""
    start_new_thread = _thread.start_new_thread

    def start(function: Callable[..., object], arguments: tuple[Any, ...]) -> int:
        def run(*arguments: Any) -> None:
            sys.settrace(threading.gettrace())
            function(*arguments)

        return start_new_thread(run, arguments)

    _thread.start_new_thread = start  # type: ignore[assignment]


def save_before_a_kill() -> None:
    """Save at SAVE, and send it before each SIGKILL."""
    kill = os.kill

    def send_save_first(pid: int, number: int) -> None:
        if number == signal.SIGKILL and pid > 0:
            with contextlib.suppress(OSError):
                kill(pid, SAVE)
                _wait_until_saved(pid)
        kill(pid, number)

    os.kill = send_save_first
    signal.signal(SAVE, _save)


def _saved(pid: int) -> Path:
    return DATA / f"saved.{pid}"


def _save(number: int, frame: object) -> None:
    with contextlib.suppress(Exception):
        if current := Coverage.current():
            current.save()
    _saved(os.getpid()).touch()


def _wait_until_saved(pid: int) -> None:
    """Wait until it has saved; not for one that is stopped, hangs, or has ended since it is no traced Python."""
    deadline = monotonic() + _PATIENCE
    while not _saved(pid).exists() and monotonic() < deadline:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state in "TtZX":
            return
        sleep(0.005)


def coverage_init(registry: Any, options: dict[str, Any]) -> None:
    registry.add_configurer(TraceEverywhere())
    trace_native_threads()
    if threading.current_thread() is threading.main_thread():
        save_before_a_kill()
