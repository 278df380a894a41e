"""The armed faults of a server, which connections they are for, and the observer of a connection."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Protocol

from ..faults import Fault

__all__ = ["Armed", "ArmedFaults", "Chosen", "Observer"]


@dataclass(slots=True, eq=False)
class Armed:
    """A fault that is armed on one server.

    Attributes:
        arm_number: 1, 2, … on this server.
        accepted_before: connections accepted before it was armed.
        selected: connections that it chose.
        fired: connections on which it took effect.
    """

    fault: Fault
    arm_number: int
    accepted_before: int
    selected: int = 0
    fired: int = 0


@dataclass(slots=True, eq=False)
class Chosen:
    """One fault on one connection that it selected, with the random generator for that pair."""

    armed: Armed
    random: random.Random

    @property
    def fault(self) -> Fault:
        return self.armed.fault


class ArmedFaults:
    """The faults of one server. `arm` and `disarm` may be called in another thread than `choose`."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.armed: list[Armed] = []
        self._armed_so_far = 0

    def arm(self, fault: Fault, accepted_before: int) -> Armed:
        """Arm `fault` for the connections after the first `accepted_before` of the server."""
        self._armed_so_far += 1
        armed = Armed(fault, self._armed_so_far, accepted_before)
        self.armed = [*self.armed, armed]  # a new list: another thread may iterate over the old one
        return armed

    def disarm(self, armed: Armed) -> None:
        """Choose it for no more connections; those that it was chosen for keep it. The second call does nothing."""
        self.armed = [each for each in self.armed if each is not armed]

    def choose(self, ticket: int, session: object) -> list[Chosen]:
        """The faults for the connection that was accepted as number `ticket` (1, 2, …), in the order of arming.

        Raises what a `where` raises; then no fault counts as chosen.
        """
        chosen = []
        for armed in self.armed:
            number = ticket - armed.accepted_before
            if number >= 1 and armed.fault.selects(number, self.seed, armed.arm_number, session):
                chosen.append(Chosen(armed, armed.fault.random(self.seed, armed.arm_number, number)))
        for each in chosen:
            each.armed.selected += 1
        return chosen


class Observer(Protocol):
    """Notified of what happens on one connection, on the thread of the loop."""

    def received(self, data: bytes) -> None:
        """`data` was received. What is read and discarded after the end was decided is not reported."""

    def sent(self, data: bytes) -> None:
        """`data` was passed to the kernel (with TLS, encrypted)."""

    def client_closed(self) -> None:
        """The client's FIN has arrived (with TLS, or its close_notify)."""

    def secured(self, version: str) -> None:
        """The TLS handshake is done; `version` is like "TLSv1.3"."""

    def fired(self, armed: Armed, offset: int, direction: str, count: int) -> None:
        """A fault has taken effect; called once for each fault and connection.

        Args:
            offset: where in the stream. It depends on the bytes alone, not on how they were segmented.
            direction: the stream, "in" or "out".
            count: how many bytes it concerns; 0 where it does not concern certain bytes.
        """

    def failed(self, error: BaseException) -> None:
        """`reply` has raised `error`; the connection is reset."""

    def closed(self, cause: str) -> None:
        """The connection has ended; `cause` is one of `Stats.ends`. The last call."""
