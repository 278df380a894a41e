"""Threads of the operating system, also where gevent has replaced those of Python by greenlets.

An engine runs in C until the load ends. As a greenlet, it would keep all others from running, among them the one that
ends the load.
"""

import _thread
import sys
from collections.abc import Callable
from typing import Any


def _original(name: str) -> Any:
    """The function of `_thread` that gevent replaces, as it was before."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey.get_original("_thread", name) if monkey is not None else getattr(_thread, name)


def allocate_lock() -> Any:
    """A lock for threads of the operating system."""
    return _original("allocate_lock")()


class NativeThread:
    """Calls `function(*arguments)`, which must not raise. Does not keep the process alive."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._function, self._arguments = function, arguments
        self._ended = allocate_lock()  # held while the thread runs

    def start(self) -> None:
        self._ended.acquire()
        try:
            _original("start_new_thread")(self._run, ())
        except BaseException:
            self._ended.release()
            raise

    def _run(self) -> None:
        try:
            self._function(*self._arguments)
        finally:
            self._ended.release()

    def is_alive(self) -> bool:
        return bool(self._ended.locked())

    def join(self, timeout: float = -1) -> None:
        """Wait until it has ended, at most `timeout` seconds. Returns at once if it was not started."""
        if self._ended.acquire(timeout=timeout):
            self._ended.release()
