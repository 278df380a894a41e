"""Signals as bytes to read: for a process that waits in `poll` and runs no event loop.

Python writes the number of each signal that has a handler to the wake-up descriptor. The handlers themselves
do nothing, so no code of ours ever runs between two arbitrary instructions.

A parent may leave signals blocked or ignored. Every signal that has a meaning here is unblocked and caught, except
that SIGINT stays ignored: a shell without job control starts its background jobs like that on purpose. Signals
without a meaning are ignored where their default would end the process. Those that dump core (SIGQUIT, SIGABRT)
keep their default.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

SUPERVISOR_SIGNALS = (*STOP_SIGNALS, signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD)

UNUSED_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR", "SIGSTKFLT", "SIGPIPE", "SIGXFSZ")
    if hasattr(signal, name)
)


class SignalPipe:
    """Catches `signals`, and ignores `unused` ones, from `open` to `close`, which restores what was before.

    An unused signal that has a handler keeps it. A signal that is ignored when `open` is called, and is in
    `leave_ignored`, stays ignored.
    """

    def __init__(
        self,
        signals: Sequence[signal.Signals],
        unused: Sequence[signal.Signals] = (),
        leave_ignored: Sequence[signal.Signals] = (signal.SIGINT,),
    ) -> None:
        self._signals = tuple(signals)
        self._unused = tuple(unused)
        self._leave_ignored = tuple(leave_ignored)
        self._previous: dict[signal.Signals, Any] = {}
        self._previous_mask: set[int] = set()
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
        for number in self._unused:
            if signal.getsignal(number) is signal.SIG_DFL:
                self._previous[number] = signal.signal(number, signal.SIG_IGN)
        self._previous_mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)

    def fileno(self) -> int:
        return self._read

    def read(self) -> list[int]:
        """The numbers of the signals that have come since the last call, in order; never waits."""
        with contextlib.suppress(BlockingIOError):
            return list(os.read(self._read, 4096))
        return []

    def was_ignored(self, number: signal.Signals) -> bool:
        """Whether `number` was ignored when `open` was called."""
        return self._previous.get(number, signal.getsignal(number)) is signal.SIG_IGN

    def close(self) -> None:
        if self._read < 0:
            return
        signal.pthread_sigmask(signal.SIG_SETMASK, self._previous_mask)
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()
        signal.set_wakeup_fd(self._previous_descriptor)
        self.close_descriptors()

    def close_descriptors(self) -> None:
        """Close the pipe only; in a forked child, whose handlers `reset_in_child` has already reset."""
        for descriptor in (self._read, self._write):
            if descriptor >= 0:
                os.close(descriptor)
        self._read = self._write = -1


def reset_inherited() -> None:
    """First thing in a command: undo what its parent did to signals.

    No signal stays blocked, and neither SIGTERM nor SIGCHLD ignored. What is ignored by convention stays so: SIGINT and
    SIGQUIT in a background job, SIGHUP under nohup.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGCHLD):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        # The kernel drops a signal with a default action for the first process of a container: until the command has
        # its own handlers, it could not be stopped.
        signal.signal(signal.SIGTERM, _exit_at_once)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Block the signals that must not reach a child between its fork and its `reset_in_child`.

    Until then the child has its parent's wake-up descriptor, and would report its signals to the parent.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISOR_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def reset_in_child() -> None:
    """First thing in a forked worker: no handler and no wake-up descriptor of the parent stays.

    All signals that could end a worker are ignored, SIGTERM only until the worker handles it: a stop of the whole
    process group must not look like a crash. SIGINT and SIGHUP stay ignored: a terminal sends them to the whole
    group, and what they mean for the workers is the supervisor's to say.
    """
    signal.set_wakeup_fd(-1)
    for number in (*SUPERVISOR_SIGNALS, *UNUSED_SIGNALS):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SUPERVISOR_SIGNALS)


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler has to exist for the wake-up descriptor to be written."""
