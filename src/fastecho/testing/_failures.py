"""Failures that a test does not see: errors of its functions on the loop's thread, statements without `await` or
`with`, faults that never fired, connections that a client left open."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from ..errors import FastechoError

if TYPE_CHECKING:
    from .._injection import Armed

__all__ = [
    "LOOP_BLOCKED", "Failures", "FaultNotFired", "LeakWarning", "Statements", "TeardownError", "callers_place",
    "check_fired", "failing_place", "is_pytest_outcome", "must_be_awaited", "place_of", "report_leaks",
    "stop_timeout_error", "without_package_frames",
]  # fmt: skip

T = TypeVar("T")
P = ParamSpec("P")
O = TypeVar("O", bound="_HasStatements")  # noqa: E741

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_MOST_FRAMES = 20
_MOST_LINES = 20
_TRIGGERS = ("after_sent", "after_received", "on", "at", "n")
LOOP_BLOCKED = "the loop's thread is held up: a reply, a where() or a predicate does not return"


@dataclass(frozen=True, slots=True, eq=False)
class _Failure:
    """An error of a connection; the index is -1 where it belongs to none."""

    index: int
    error: BaseException


class Failures:
    """Errors of the loop's thread that no test has seen yet. They may be added and taken by any thread."""

    def __init__(self) -> None:
        self._all: list[_Failure] = []
        self._unseen: list[_Failure] = []

    def __len__(self) -> int:
        """How many there have been."""
        return len(self._all)

    def add(self, index: int, error: BaseException) -> None:
        """`error` was raised for the connection `index`, by a function of the test; or, with -1, by the server."""
        failure = _Failure(index, error)
        self._unseen.append(failure)
        self._all.append(failure)

    def unseen(self, since: int | None = None) -> Unseen | None:
        """The failures that the test has not seen, as one error. They count as seen when `Unseen.exception` was called.

        Args:
            since: the number of failures when a wait began. Later ones are included in any case: waits at the same time
                raise the same failure.
        """
        found = tuple(self._unseen) or (tuple(self._all[since:]) if since is not None else ())
        if not found:
            return None
        return Unseen(self, found[:1] if is_pytest_outcome(found[0].error) else found)

    def texts(self) -> list[str]:
        """The failures as text; they count as seen afterwards."""
        found, self._unseen = self._unseen, []
        return list(map(_text, found))

    def forget(self, failures: tuple[_Failure, ...]) -> None:
        self._unseen = [each for each in self._unseen if each not in failures]


class Unseen:
    """Failures that a test has not seen yet."""

    def __init__(self, failures: Failures, found: tuple[_Failure, ...]) -> None:
        self._failures, self._found = failures, found

    def exception(self) -> BaseException:
        """The first error with the text of all. pytest's own (`pytest.fail()`) is meant for the test as it is."""
        self._failures.forget(self._found)
        first = self._found[0]
        if first.index < 0 or is_pytest_outcome(first.error):
            return first.error
        failure = RuntimeError("\n".join(map(_text, self._found)))
        failure.__cause__ = first.error.with_traceback(without_package_frames(first.error.__traceback__))
        return failure


def is_pytest_outcome(error: BaseException) -> bool:
    """Whether `pytest.fail()`, `pytest.skip()` or the like has raised it."""
    return not isinstance(error, (Exception, SystemExit, KeyboardInterrupt, GeneratorExit))


def _text(failure: _Failure) -> str:
    error = failure.error
    if failure.index < 0:
        return f"the server failed: {type(error).__name__}: {error}"
    where = "".join(traceback.format_list(_frames(error)[-_MOST_FRAMES:])).rstrip()
    said = f"reply or where() raised {type(error).__name__} on connection {failure.index}: {error}"
    return said + (f"\n{where}" if where else "")


def failing_place(error: BaseException) -> str:
    """` (test_it.py:12)`: the line of the test's own function; empty where none of its lines was reached."""
    frames = _frames(error)
    return f" ({os.path.basename(frames[0].filename)}:{frames[0].lineno})" if frames else ""


def _frames(error: BaseException) -> traceback.StackSummary:
    return traceback.extract_tb(without_package_frames(error.__traceback__))


def without_package_frames(begin: TracebackType | None) -> TracebackType | None:
    """Without the frames of this package that called the test's function."""
    while begin is not None and _is_ours(begin.tb_frame.f_code.co_filename):
        begin = begin.tb_next
    return begin


def _is_ours(filename: str) -> bool:
    return filename.startswith(_PACKAGE) or filename.endswith(".pyx")


def place_of(function: Callable[..., Any]) -> str:
    """` (test_it.py:12)`: where a function begins; empty for what is not written in Python."""
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(inspect.unwrap(function), "__code__", None)
    if type(code) is not CodeType:  # of a mock, it is a mock
        return ""
    return f" ({os.path.basename(code.co_filename)}:{code.co_firstlineno})"


def callers_place() -> str:
    """`test_it.py:12`: the line of the test that calls into this package."""
    frame, _ = _callers_frame()
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def _callers_frame() -> tuple[FrameType, int]:
    """The frame of the test: the first that is neither of this package nor of contextlib; and its `stacklevel`."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and _is_between(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    return frame, level


def _is_between(filename: str) -> bool:
    return _is_ours(filename) or filename == contextlib.__file__


class Statements:
    """Waits that were not awaited and fault blocks that were not entered so far.

    `unused` returns a message for each.
    """

    def __init__(self) -> None:
        self._open: dict[object, tuple[str, Coroutine[Any, Any, Any] | None]] = {}

    def add(self, key: object, text: str) -> None:
        """`text` is what to say unless `key` is used."""
        self._open[key] = (f"{callers_place()}: {text}", None)

    def used(self, key: object) -> None:
        self._open.pop(key, None)

    def awaitable(self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> Coroutine[Any, Any, T]:
        """What `work` does, once it is awaited."""
        key = object()

        async def begin() -> T:
            __tracebackhide__ = True
            self.used(key)
            return await work()

        coroutine = begin()
        named: Any = coroutine
        named.__name__ = named.__qualname__ = name  # for the warning of Python
        self._open[key] = (f"{callers_place()}: {name}() was never awaited, so that it did nothing", coroutine)
        return coroutine

    def unused(self) -> list[str]:
        """Messages for the statements that were never used. Call it at the end of a test; it forgets them."""
        left, self._open = list(self._open.values()), {}
        found = []
        for text, coroutine in left:
            if coroutine is not None:
                if inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
                    continue  # it was cancelled before its turn
                coroutine.close()  # or Python warns of it too
            found.append(text)
        return found


class _HasStatements(Protocol):
    @property
    def _statements(self) -> Statements: ...


def must_be_awaited(
    method: Callable[Concatenate[O, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[O, P], Coroutine[Any, Any, T]]:
    """A coroutine method that fails the test unless it is awaited."""

    @functools.wraps(method)
    def call(owner: O, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return owner._statements.awaitable(method.__name__, functools.partial(method, owner, *args, **kwargs))

    return call


class FaultNotFired(AssertionError):
    """A fault was armed and took effect on no connection, so the test has not tested what it says."""


def check_fired(armed: Sequence[Armed], made: int) -> None:
    """Raises FaultNotFired, with the reason for each fault that never fired.

    Args:
        made: the connections of the server up to now.
    """
    __tracebackhide__ = True
    lines = [
        f"{each.fault}: armed and never fired; {_why(each, max(0, made - each.accepted_before))}"
        for each in armed
        if not each.fired
    ]
    if lines:
        raise FaultNotFired("\n".join(lines))


def _why(armed: Armed, made: int) -> str:
    if made == 0:
        return "no client connected after it was armed"
    if armed.selected == 0:
        return f"none of the {made} connection(s) made after it was armed was the one it is for"
    trigger = next((f"{name}={value!r}" for name, value in armed.fault.arguments if name in _TRIGGERS), None)
    reached = f" did not get as far as {trigger}" if trigger else " ended before it"
    return f"{armed.selected} connection(s) it was for{reached}"


class LeakWarning(UserWarning):
    """A client still held a connection open when the server was stopped."""


class TeardownError(FastechoError, AssertionError):
    """The server could not be stopped in `teardown_timeout`, or, with `leak="error"`, clients held connections open."""


def report_leaks(left: Sequence[T], describe: Callable[[T], str], url: str, leak: str) -> None:
    """Ignore the connections that are `left` open, warn of them, or raise TeardownError, as `leak` says.

    Args:
        describe: given a connection, the line for it.
    """
    if not left or leak == "ignore":
        return
    text = f"{len(left)} connection(s) left open on {url}:\n  " + "\n  ".join(map(describe, left[:_MOST_LINES]))
    if leak == "error":
        raise TeardownError(text)
    warnings.warn(LeakWarning(text), stacklevel=_callers_frame()[1])


def stop_timeout_error(timeout: float, left: Sequence[T], describe: Callable[[T], str]) -> TeardownError:
    """The error of a stop that took longer than `timeout` seconds, with the connections that are `left` open."""
    open_ones = "; ".join(map(describe, left[:_MOST_LINES])) or "none"
    return TeardownError(f"not stopped within {timeout:g} s: {LOOP_BLOCKED}; left open: {open_ones}")
