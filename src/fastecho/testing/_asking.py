"""How other threads, and other loops, ask something of a server that runs on the loop thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ._conditions import Condition
from ._loop import HELD_UP, resident
from ._record import Watch

T = TypeVar("T")


class Asked:
    """What answers. `call` is for what takes no time; conditions are watched on the loop's thread until they hold."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.watch = Watch()
        self.errors: list[tuple[int, BaseException]] = []
        self.forked = False
        self._thread = resident()

    def accept_all(self) -> None:
        raise NotImplementedError

    async def until_idle(self, timeout: float) -> bool:
        raise NotImplementedError

    def call(self, work: Callable[..., T], *arguments: Any) -> T:
        """What `work` returns on the loop's thread, at once."""
        self._check_caller()
        return self._thread.call(work, *arguments, timeout=self.timeout)

    def wait(self, condition: Condition[T]) -> T:
        """Until it holds; in the thread of a test."""
        return self.finish_soon(self._hold(condition))

    async def await_(self, condition: Condition[T]) -> T:
        """Until it holds; in another loop."""
        return await self.finishing_soon(self._hold(condition))

    def finish_soon(self, work: Coroutine[Any, Any, T], patience: float = 1.0) -> T:
        """What `work`, which is bounded by `timeout`, gives: unless the loop's thread is held up."""
        future = self._submit(work)
        try:
            result: T = future.result(self.timeout + patience)
            return result
        except concurrent.futures.TimeoutError:
            if future.done():
                raise
            raise TimeoutError(HELD_UP) from None

    async def finishing_soon(self, work: Coroutine[Any, Any, T], patience: float = 1.0) -> T:
        """The same, awaited."""
        future = asyncio.wrap_future(self._submit(work))
        await asyncio.wait([future], timeout=self.timeout + patience)
        if not future.done():
            raise TimeoutError(HELD_UP)
        result: T = future.result()
        return result

    def _submit(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            self._check_caller()
            if self._thread.is_current_thread:
                raise RuntimeError("a reply or a where() must not wait: nothing can happen meanwhile")
        except RuntimeError:
            work.close()
            raise
        return self._thread.submit(work)

    def _check_caller(self) -> None:
        if self.forked:
            raise RuntimeError("this server belongs to the process that started it; start another in this one")

    async def _hold(self, condition: Condition[T]) -> T:
        latest = time.monotonic() + self.timeout
        if condition.when_idle and not await self.until_idle(self.timeout):
            raise condition.late()
        changed = asyncio.Event()
        self.watch.add(changed.set)
        try:
            self.accept_all()
            while True:
                changed.clear()
                self.raise_failure()
                if (value := condition.check()) is not None:
                    return value
                try:
                    await asyncio.wait_for(changed.wait(), latest - time.monotonic())
                except asyncio.TimeoutError:
                    raise condition.late() from None
        finally:
            self.watch.remove(changed.set)

    def raise_failure(self) -> None:
        """What a test's own code raised on the loop's thread is raised in the test."""
        if self.errors:
            index, error = self.errors[0]
            if index < 0:
                raise error
            where = f"reply or where() raised {type(error).__name__} on connection {index}: {error}"
            raise RuntimeError(where) from error
