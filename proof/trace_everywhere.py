"""A plugin of coverage that follows what coverage by itself does not: raw threads, and processes that are killed.

`make coverage` puts it beside the package that it builds and measures. A forked child goes on with the tracer of its
parent, and so traces the function that forked it too; coverage gives it another data file. Before a process kills
another one with SIGKILL, it sends SAVE: the other one and its children save their data, and say so with a file.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
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

    def save_first(pid: int, number: int) -> None:
        if number == signal.SIGKILL and pid > 0:
            have_saved([pid])
        kill(pid, number)

    def save(number: int, frame: object) -> None:
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        have_saved([int(pid) for pid in children.read_text().split()])  # they may end with this process
        with contextlib.suppress(Exception):
            if current := Coverage.current():
                current.save()
        _saved(os.getpid()).touch()

    def have_saved(processes: Sequence[int]) -> None:
        asked = [pid for pid in processes if _can_save(pid)]
        for pid in asked:
            with contextlib.suppress(ProcessLookupError):
                kill(pid, SAVE)
        deadline = monotonic() + _PATIENCE
        for pid in asked:
            while not _saved(pid).exists() and _can_save(pid) and monotonic() < deadline:
                sleep(0.005)

    os.kill = save_first
    signal.signal(SAVE, save)


def _saved(pid: int) -> Path:
    return DATA / f"saved.{pid}"


def _can_save(pid: int) -> bool:
    """Whether it catches SAVE, as each traced Python does, and is not stopped."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    state, caught = re.search(r"^State:\s+(\S)", status, re.M), re.search(r"^SigCgt:\s+(\w+)", status, re.M)
    return bool(state and caught and state[1] in "RSD" and int(caught[1], 16) >> (SAVE - 1) & 1)


def coverage_init(registry: Any, options: dict[str, Any]) -> None:
    registry.add_configurer(TraceEverywhere())
    trace_native_threads()
    if threading.current_thread() is threading.main_thread():
        save_before_a_kill()
