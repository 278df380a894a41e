"""The loop thread: one thread with an event loop, shared by all fixture servers of the process.

It starts with the first server and ends with the interpreter.

After a fork the child has the descriptors of all servers, but not the thread. They would keep ports open and
connections alive after the parent has closed its own, so a hook closes the child's copies. A server that the child
starts makes a loop thread for the child.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from .._net.acceptor import fork_lock
from .._net.loops import check_threads, new_loop
from ._failures import LOOP_BLOCKED

T = TypeVar("T")


class Forkable(Protocol):
    """A server, as the hooks of the process see it."""

    def close_copies(self) -> None:
        """In a forked child: close the child's copies of all descriptors."""

    def remove_files(self) -> None:
        """At the end of the interpreter: remove the folder of the socket, if there is one."""

    async def shut_down(self, timeout: float) -> object:
        """Stop the server; at the end of the interpreter."""


INTERPRETER_ENDS = "the interpreter is ending, and starts no thread for a server: start it before"

_EXIT_SECONDS = 1.0

_servers: set[Forkable] = set()
_abandoned: list[object] = []
_current: LoopThread | None = None


class LoopThread:
    """A thread that runs an event loop, and the calls into it from other threads."""

    def __init__(self) -> None:
        self.loop = new_loop()
        self._thread = threading.Thread(target=self._run, name="fastecho-testing", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def is_current_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def post(self, work: Callable[..., object], *arguments: Any) -> None:
        """Call `work` on the loop's thread in its next turn; return at once."""
        self.loop.call_soon_threadsafe(work, *arguments)

    def call(self, work: Callable[..., T], *arguments: Any, timeout: float) -> T:
        """Call `work` on the loop's thread, and return what it returns or raise what it raises.

        Raises:
            TimeoutError: it has not returned within `timeout` seconds.
        """
        if self.is_current_thread:
            return work(*arguments)
        outcome: list[Any] = []
        done = threading.Lock()  # a quarter of the cost of an Event
        done.acquire()

        def run() -> None:
            try:
                outcome.append((True, work(*arguments)))
            except BaseException as error:
                outcome.append((False, error))
            finally:
                done.release()

        self.post(run)
        if not done.acquire(timeout=timeout):
            raise TimeoutError(LOOP_BLOCKED)
        fine, value = outcome[0]
        if fine:
            result: T = value
            return result
        raise value

    def submit(self, work: Coroutine[Any, Any, T]) -> Any:
        """Run `work` as a task of the loop, and return its `concurrent.futures.Future`."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def stop(self) -> None:
        self.post(self.loop.stop)
        self._thread.join(1.0)


def loop_thread() -> LoopThread:
    """The loop thread of this process.

    Raises:
        FastechoError: gevent or eventlet has replaced threads.
        RuntimeError: the interpreter is ending, and Python starts no thread any more.
    """
    check_threads()
    global _current
    with fork_lock:
        if _current is None or not _current.is_alive:
            try:
                _current = LoopThread()
            except RuntimeError:
                if threading.main_thread().is_alive():
                    raise
                raise RuntimeError(INTERPRETER_ENDS) from None
        return _current


def register(server: Forkable) -> None:
    """Have the hooks of fork and exit take care of `server`, until `unregister`."""
    with fork_lock:
        _servers.add(server)


def unregister(server: Forkable) -> None:
    with fork_lock:
        _servers.discard(server)


def _after_in_child() -> None:
    global _current
    try:
        for server in _servers:
            server.close_copies()
        # Referenced for ever: collecting them would close descriptors by number, and these numbers may be in use again.
        _abandoned.extend((_current, *_servers))
        _servers.clear()
        _current = None
    finally:
        fork_lock.release()


@atexit.register
def _at_exit() -> None:
    if _current is None or not _current.is_alive:
        return
    for server in tuple(_servers):
        with contextlib.suppress(Exception):  # at exit there is no caller that could handle it
            _current.submit(server.shut_down(0.0)).result(_EXIT_SECONDS)
        server.remove_files()
    _current.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=fork_lock.acquire, after_in_parent=fork_lock.release, after_in_child=_after_in_child)
