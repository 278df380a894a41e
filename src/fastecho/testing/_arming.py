"""Faults armed by a test, and the complaint about one that never fired."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._injection import Armed
from ..config import check_transport
from ..errors import ConfigError
from ..faults import Fault, check_faults

if TYPE_CHECKING:
    from ._fixture_server import FixtureServer

__all__ = ["Arming", "FaultNotFired", "arm_all", "check", "check_fired"]

A = TypeVar("A")

_TRIGGERS = ("after_sent", "after_received", "on", "at", "n")


class FaultNotFired(AssertionError):
    """A fault was armed and took effect on no connection, so the test has not tested what it says."""


def check(server: FixtureServer, faults: Sequence[Fault | str]) -> tuple[Fault, ...]:
    """The `faults`, parsed. Raises ConfigError for text that is no fault, and for a fault that needs TLS or TCP where
    the server has none."""
    if not faults:
        raise TypeError("fault() needs a fault, such as Fault.reset(after_sent=17)")
    try:
        found = check_faults(list(faults))
    except ValueError as error:
        raise ConfigError("fault", faults, str(error)) from None
    check_transport(found, tls=server.config.tls_cert is not None, unix=server.config.unix is not None)
    return found


def arm_all(server: FixtureServer, faults: Sequence[Fault | str]) -> tuple[Armed, ...]:
    """Arm `faults` for the connections that are made from now on."""
    found = check(server, faults)
    return tuple(server.call(lambda: [server.arm(fault) for fault in found]))


def check_fired(server: FixtureServer, armed: Sequence[Armed]) -> None:
    """Raises FaultNotFired, with the reason for each that never fired."""
    __tracebackhide__ = True
    lines = []
    for each in armed:
        if not each.fired:
            made = max(0, len(server.connections) - each.begin)
            lines.append(f"{each.fault}: armed and never fired; {_why(each, made)}")
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


class Arming(Generic[A]):
    """`with server.fault(...) as armed:`; at the end of the block they are disarmed, and must have fired."""

    def __init__(self, server: FixtureServer, faults: Sequence[Fault | str], must_fire: bool) -> None:
        self._server = server
        self._faults = check(server, faults)
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
        self._armed = arm_all(self._server, self._faults)
        given: Any = self._armed[0] if len(self._armed) == 1 else self._armed
        return given  # type: ignore[no-any-return]

    def _leave(self, error: BaseException | None) -> bool:
        """Disarm. Returns whether what clients have sent must still be read, to know which faults have fired."""
        armed = self._armed or ()
        if self._server.forked:
            return False
        if not self._server.stopping:
            self._server.call(self._server.disarm, *armed)
        return error is None and self._must_fire and not all(each.fired for each in armed) and not self._server.stopping

    def _check(self, error: BaseException | None) -> None:
        __tracebackhide__ = True
        if error is None and not self._server.forked:
            self._server.raise_failure()
            if self._must_fire:
                check_fired(self._server, self._armed or ())

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
