"""Signals as bytes to read: for a process that waits in `poll` and runs no event loop.

Python writes the number of each signal that has a handler to the wake-up descriptor. The handlers themselves
do nothing, so no code of ours ever runs between two arbitrary instructions.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_FORK_SENSITIVE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class SignalPipe:
    """Catches `signals` from `open` to `close`; `close` puts back the handlers that stood before.

    A signal that is ignored when `open` is called, and is in `leave_ignored`, stays ignored: a shell without
    job control starts its background jobs like that on purpose.
    """

    def __init__(
        self, signals: Sequence[signal.Signals], leave_ignored: Sequence[signal.Signals] = (signal.SIGINT,)
    ) -> None:
        self._signals = tuple(signals)
        self._leave_ignored = tuple(leave_ignored)
        self._previous: dict[signal.Signals, Any] = {}
        self._previous_descriptor = -1
        self._read = self._write = -1

    def open(self) -> None:
        """Start to catch. Raises `ValueError` outside the main thread."""
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        try:
            self._previous_descriptor = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        except ValueError:
            self.close_descriptors()
            raise
        for number in self._signals:
            if number in self._leave_ignored and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._previous[number] = signal.signal(number, _nothing)

    def fileno(self) -> int:
        return self._read

    def read(self) -> list[int]:
        """The numbers of the signals that have come since the last call, in order; never waits."""
        with contextlib.suppress(BlockingIOError):
            return list(os.read(self._read, 4096))
        return []

    def close(self) -> None:
        if self._read < 0:
            return
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()
        signal.set_wakeup_fd(self._previous_descriptor)
        self.close_descriptors()

    def close_descriptors(self) -> None:
        """Close the pipe only; in a forked child, whose handlers `reset_in_child` has already put right."""
        for descriptor in (self._read, self._write):
            if descriptor >= 0:
                os.close(descriptor)
        self._read = self._write = -1


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Block the signals that must not reach a child between its fork and its `reset_in_child`.

    Until then the child has its parent's wake-up descriptor, and would tell the parent of its own signals.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FORK_SENSITIVE)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def reset_in_child() -> None:
    """First thing in a forked worker: no handler and no wake-up descriptor of the parent stays.

    SIGINT and SIGHUP are ignored: a terminal sends them to the whole process group, and what they mean for
    the workers is the supervisor's to say.
    """
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORK_SENSITIVE)


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler has to exist for the wake-up descriptor to be written."""
