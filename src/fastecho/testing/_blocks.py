"""Context managers of the fixture: those that do not wait work with `with` and with `async with`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from .._injection import Armed
    from ..faults import Fault
    from ._failures import Statements

__all__ = ["Arming", "Block", "BothWays", "OnlyAsyncWith", "OnlyWith", "Outage", "both_ways"]

A = TypeVar("A")
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


class ArmsFaults(Protocol):
    """A server, as far as `Arming` needs it."""

    statements: Statements
    stopping: bool
    forked: bool

    def validate_faults(self, faults: Sequence[Fault | str], /) -> tuple[Fault, ...]: ...
    def arm_all(self, faults: Sequence[Fault | str], /) -> tuple[Armed, ...]: ...
    def disarm_all(self, armed: Sequence[Armed], /) -> None: ...
    def check_fired(self, armed: Sequence[Armed], /) -> None: ...
    def raise_failure(self) -> None: ...
    def read_pending(self) -> None: ...
    async def read_pending_async(self) -> None: ...


class Arming(Generic[A]):
    """`with server.fault(...) as armed:`; at the end of the block they are disarmed, and must have fired."""

    def __init__(self, server: ArmsFaults, faults: Sequence[Fault | str], must_fire: bool) -> None:
        self._server = server
        self._faults = server.validate_faults(faults)
        self._must_fire = must_fire
        self._armed: tuple[Armed, ...] | None = None
        self._key = object()
        server.statements.add(self._key, self._never_armed())

    def __del__(self) -> None:
        if getattr(self, "_armed", ()) is None:
            warnings.warn(self._never_armed(), RuntimeWarning, stacklevel=2, source=self)

    def _never_armed(self) -> str:
        faults = ", ".join(map(str, self._faults))
        return f"{faults} was never armed: write `with server.fault(...):`, or use server.arm(...)"

    def _enter(self) -> A:
        self._server.statements.used(self._key)
        self._armed = self._server.arm_all(self._faults)
        given: Any = self._armed[0] if len(self._armed) == 1 else self._armed
        return given  # type: ignore[no-any-return]

    def _leave(self, error: BaseException | None) -> bool:
        """Disarm. Returns whether what clients have sent must still be read, to know which faults have fired."""
        armed = self._armed or ()
        if self._server.forked:
            return False
        if not self._server.stopping:
            self._server.disarm_all(armed)
        return error is None and self._must_fire and not all(each.fired for each in armed) and not self._server.stopping

    def _check(self, error: BaseException | None) -> None:
        __tracebackhide__ = True
        if error is None and not self._server.forked:
            self._server.raise_failure()
            if self._must_fire:
                self._server.check_fired(self._armed or ())

    def __enter__(self) -> A:
        return self._enter()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        __tracebackhide__ = True
        if self._leave(error):
            self._server.read_pending()
        self._check(error)

    async def __aenter__(self) -> A:
        return self._enter()

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        __tracebackhide__ = True
        if self._leave(error):
            await self._server.read_pending_async()
        self._check(error)
