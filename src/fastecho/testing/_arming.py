"""Faults armed by a test: for a block or for good, and the complaint about one that never fired."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._faulty import Armed
from ..errors import ConfigError
from ..faults import Fault, check_faults

if TYPE_CHECKING:
    from ._peer import Peer

__all__ = ["Arming", "FaultNotFired", "arm_all", "check_fired"]

A = TypeVar("A")

_TRIGGERS = ("after_out", "after_in", "on", "at", "n")
LAST_BYTES = 1.0
"""Seconds at most for what clients have sent to be read, before a fault counts as one that never fired."""


class FaultNotFired(AssertionError):
    """A fault was armed and took effect on no connection, so the test has not tested what it says."""


def read(peer: Peer, faults: Sequence[Fault | str]) -> tuple[Fault, ...]:
    """Raises ConfigError for what is no fault, or needs TLS where there is none."""
    try:
        found = check_faults(list(faults))
    except ValueError as error:
        raise ConfigError("fault", faults, str(error)) from None
    for fault in found:
        if fault.needs_tls and peer.config.tls_cert is None:
            raise ConfigError("fault", str(fault), "needs a server with TLS")
    return found


def arm_all(peer: Peer, faults: Sequence[Fault | str]) -> tuple[Armed, ...]:
    found = read(peer, faults)
    return tuple(peer.call(lambda: [peer.arm(fault) for fault in found]))


def check_fired(peer: Peer, armed: Sequence[Armed]) -> None:
    """Raises FaultNotFired, with the reason for each that never fired."""
    __tracebackhide__ = True
    lines = []
    for each in armed:
        if not each.fired:
            made = max(0, len(peer.notes) - each.begin)
            lines.append(f"{each.fault}: armed and never fired; {_why(each, made)}")
    if lines:
        raise FaultNotFired("\n".join(lines))


def _why(armed: Armed, made: int) -> str:
    if made == 0:
        return "nobody connected after it was armed"
    if armed.selected == 0:
        return f"none of the {made} connection(s) made after it was armed was the one it is for"
    trigger = next((f"{name}={value!r}" for name, value in armed.fault.arguments if name in _TRIGGERS), None)
    reached = f" did not get as far as {trigger}" if trigger else " ended before it"
    return f"{armed.selected} connection(s) it was for{reached}"


class Arming(Generic[A]):
    """`with server.fault(...) as armed:`; at the end of the block they are disarmed, and must have fired."""

    def __init__(self, peer: Peer, faults: Sequence[Fault | str], must_fire: bool) -> None:
        self._peer = peer
        self._faults = read(peer, faults)
        self._must_fire = must_fire
        self._armed: tuple[Armed, ...] | None = None

    def __del__(self) -> None:
        if getattr(self, "_armed", ()) is None:
            faults = ", ".join(map(str, self._faults))
            text = f"{faults} was never armed: write `with server.fault(...):`, or use server.arm(...)"
            warnings.warn(text, RuntimeWarning, stacklevel=2, source=self)

    def _enter(self) -> A:
        self._armed = arm_all(self._peer, self._faults)
        given: Any = self._armed[0] if len(self._armed) == 1 else self._armed
        return given  # type: ignore[no-any-return]

    def _leave(self, error: BaseException | None) -> bool:
        """Whether what clients have sent last must still be read, to know which have fired."""
        armed = self._armed or ()
        if not self._peer.over:
            self._peer.call(self._peer.disarm, *armed)
        return error is None and self._must_fire and not all(each.fired for each in armed) and not self._peer.over

    def _check(self, error: BaseException | None) -> None:
        __tracebackhide__ = True
        if error is None:
            self._peer.raise_failure()
            if self._must_fire:
                check_fired(self._peer, self._armed or ())

    def __enter__(self) -> A:
        return self._enter()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        __tracebackhide__ = True
        if self._leave(error):
            self._peer.finish_soon(self._peer.until_idle(LAST_BYTES))
        self._check(error)

    async def __aenter__(self) -> A:
        return self._enter()

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        __tracebackhide__ = True
        if self._leave(error):
            await self._peer.finishing_soon(self._peer.until_idle(LAST_BYTES))
        self._check(error)
