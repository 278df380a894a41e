"""The one loop thread of this process that all its fixtures share: started at first use, ended with the interpreter.

A fork leaves the child with the descriptors of all servers but without the thread. What the child has of them would
keep ports open and connections alive after the parent has closed its own, so a hook closes the child's copies; the
child gets a loop thread of its own when it starts a server.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from ..thread import new_loop

T = TypeVar("T")


class Forkable(Protocol):
    def close_copies(self) -> None:
        """In a forked child: close its copies of all descriptors."""

    def clean_up(self) -> None:
        """At the end of the interpreter: remove what would stay behind."""

    async def shut(self, patience: float) -> object:
        """Stop."""


HELD_UP = "the loop's thread is held up: a reply, a where() or a predicate does not return"

_LAST_SECONDS = 1.0

fork_guard = threading.RLock()
"""Held over a fork, and by the loop's thread while it has descriptors that no server knows yet."""
_servers: set[Forkable] = set()
_abandoned: list[object] = []
_resident: Resident | None = None


class Resident:
    """A loop that runs in a thread of its own."""

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
        """Have `work` called on the loop's thread, soon."""
        self.loop.call_soon_threadsafe(work, *arguments)

    def call(self, work: Callable[..., T], *arguments: Any, timeout: float) -> T:
        """What `work` returns or raises on the loop's thread. TimeoutError when that is held up."""
        if self.is_current_thread:
            return work(*arguments)
        outcome: list[Any] = []
        done = threading.Lock()  # a quarter of what an Event costs, and this is on the way of every look at a server
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
            raise TimeoutError(HELD_UP)
        fine, value = outcome[0]
        if fine:
            result: T = value
            return result
        raise value

    def submit(self, work: Coroutine[Any, Any, T]) -> Any:
        """Run `work` as a task of the loop; its concurrent future."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def stop(self) -> None:
        self.post(self.loop.stop)
        self._thread.join(1.0)


def resident() -> Resident:
    """The loop thread of this process."""
    global _resident
    with fork_guard:
        if _resident is None or not _resident.is_alive:
            _resident = Resident()
        return _resident


def register(server: Forkable) -> None:
    with fork_guard:
        _servers.add(server)


def forget(server: Forkable) -> None:
    with fork_guard:
        _servers.discard(server)


def _after_in_child() -> None:
    global _resident
    try:
        for server in _servers:
            server.close_copies()
        # Kept as they are: collecting them would close descriptors, by numbers that may be somebody else's by now.
        _abandoned.extend((_resident, *_servers))
        _servers.clear()
        _resident = None
    finally:
        fork_guard.release()


@atexit.register
def _at_exit() -> None:
    if _resident is None or not _resident.is_alive:
        return
    for server in tuple(_servers):
        with contextlib.suppress(Exception):  # nobody is left to be told
            _resident.submit(server.shut(0.0)).result(_LAST_SECONDS)
        server.clean_up()
    _resident.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=fork_guard.acquire, after_in_parent=fork_guard.release, after_in_child=_after_in_child)
