"""Context managers of the fixture: those that do not wait work with `with` and with `async with`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from types import TracebackType
from typing import Any, Generic, NoReturn, ParamSpec, Protocol, TypeVar

__all__ = ["Block", "BothWays", "OnlyAsyncWith", "OnlyWith", "Outage", "both_ways"]

T_co = TypeVar("T_co", covariant=True)
P = ParamSpec("P")


class Block(Protocol[T_co]):
    """A block that does not wait: `with` and `async with` do the same."""

    def __enter__(self) -> T_co: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None: ...
    async def __aenter__(self) -> T_co: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None: ...


class BothWays:
    """Adds `async with` to a context manager that does not wait."""

    async def __aenter__(self) -> Any:
        return self.__enter__()  # type: ignore[attr-defined]

    async def __aexit__(self, *details: Any) -> Any:
        return self.__exit__(*details)  # type: ignore[attr-defined]


class _Both(BothWays, Generic[T_co]):
    def __init__(self, manager: AbstractContextManager[T_co]) -> None:
        self._manager = manager

    def __enter__(self) -> T_co:
        return self._manager.__enter__()

    def __exit__(self, *details: Any) -> bool | None:
        return self._manager.__exit__(*details)


def both_ways(function: Callable[P, AbstractContextManager[T_co]]) -> Callable[P, Block[T_co]]:
    """A decorator: the context manager that the function returns works with `async with` too."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Block[T_co]:
        return _Both(function(*args, **kwargs))

    return wrapped


class OnlyWith:
    """For a context manager that blocks: `async with` is refused in one line."""

    async def __aenter__(self) -> NoReturn:
        raise TypeError("a server of echo_server blocks: `with echo_server()`, or `async with async_echo_server()`")

    async def __aexit__(self, *_: object) -> None:
        """Python looks it up before the block begins."""


class OnlyAsyncWith:
    """For a context manager that is awaited: `with` is refused in one line."""

    def __enter__(self) -> NoReturn:
        raise TypeError("async_echo_server() is awaited: `async with async_echo_server()`, or `with echo_server()`")

    def __exit__(self, *_: object) -> None:
        """Python looks it up before the block begins."""


class Outage(BothWays):
    """Listeners that are down, or that drop SYNs: from the call on, until the end of the block."""

    def __init__(self, begin: Callable[[Outage], object], end: Callable[[Outage], object], state: str) -> None:
        self.state = state
        self._begin, self._end = begin, end
        begin(self)

    def __enter__(self) -> None:
        self._begin(self)  # it has begun already, unless an `up` has ended it

    def __exit__(self, *_: object) -> None:
        self._end(self)
