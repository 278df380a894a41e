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
Outcome = tuple[Any, BaseException | None]


class Asked:
    """What answers. `call` is for what takes no time; conditions are watched on the loop's thread until they hold."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.watch = Watch()
        self.errors: list[tuple[int, BaseException]] = []
        self.forked = self.finished = False
        self._thread = resident()

    def accept_all(self) -> None:
        raise NotImplementedError

    async def until_idle(self, timeout: float) -> bool:
        raise NotImplementedError

    @property
    def is_called_from_loop(self) -> bool:
        return self._thread.is_current_thread

    def call(self, work: Callable[..., T], *arguments: Any) -> T:
        """What `work` returns on the loop's thread, at once."""
        self._check_caller()
        return self._thread.call(work, *arguments, timeout=self.timeout)

    def wait(self, condition: Condition[T]) -> T:
        """Until it holds; in the thread of a test."""
        __tracebackhide__ = True
        result: T = _unwrap(self.finish_soon(self._hold(condition)), _blocked_loop())
        return result

    async def await_(self, condition: Condition[T]) -> T:
        """Until it holds; in another loop."""
        __tracebackhide__ = True
        result: T = _unwrap(await self.finishing_soon(self._hold(condition)))
        return result

    def finish_soon(self, work: Coroutine[Any, Any, T], patience: float = 1.0) -> T:
        """What `work`, which is bounded by `timeout`, gives: unless the loop's thread is held up."""
        __tracebackhide__ = True
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
        __tracebackhide__ = True
        future = asyncio.wrap_future(self._submit(work))
        try:
            await asyncio.wait([future], timeout=self.timeout + patience)
        except asyncio.CancelledError:
            future.cancel()
            raise
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
        if not self._thread.is_alive:
            raise RuntimeError("the interpreter is ending, and the thread of the servers has ended")

    async def _hold(self, condition: Condition[T]) -> Outcome:
        """Its result, or the error that a test is to see, without the frames of this thread."""
        latest = time.monotonic() + self.timeout
        if condition.when_idle and not self.finished and not await self.until_idle(self.timeout):
            return None, condition.late()
        changed = asyncio.Event()
        self.watch.add(changed.set)
        try:
            self.accept_all()
            while True:
                changed.clear()
                try:
                    self.raise_failure()
                    value = condition.check()
                except (AssertionError, RuntimeError) as error:
                    return None, error.with_traceback(None)
                except BaseException as error:  # of a predicate; SystemExit must not end the thread of all servers
                    return None, error
                if value is not None:
                    return value, None
                if self.finished:
                    return None, _stopped(condition.late())
                try:
                    await asyncio.wait_for(changed.wait(), latest - time.monotonic())
                except asyncio.TimeoutError:
                    return None, condition.late()
        finally:
            self.watch.remove(changed.set)

    def raise_failure(self) -> None:
        """What a test's own code raised on the loop's thread is raised in the test."""
        __tracebackhide__ = True
        for failure in self.failures():
            raise failure

    def failures(self) -> list[BaseException]:
        found: list[BaseException] = []
        for index, error in tuple(self.errors):
            failure = error
            if index >= 0 and not _is_of_pytest(error):
                failure = RuntimeError(f"reply or where() raised {type(error).__name__} on connection {index}: {error}")
                failure.__cause__ = error
            found.append(failure)
        return found


def _is_of_pytest(error: BaseException) -> bool:
    """pytest.fail() and pytest.skip() are meant for the test as they are."""
    return not isinstance(error, (Exception, SystemExit, KeyboardInterrupt))


def _stopped(late: BaseException) -> BaseException:
    late.args = (f"the server was stopped: {late}",)
    return late


def _unwrap(outcome: Outcome, hint: str = "") -> Any:
    __tracebackhide__ = True
    value, error = outcome
    if error is None:
        return value
    if hint:
        error.args = (f"{error}{hint}",)
    raise error


def _blocked_loop() -> str:
    """What to say of a wait that may have waited for its own thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return ""
    return "\n(an event loop runs in this thread, and stood still meanwhile: use aecho_server, or fastecho_aserver)"
