"""Which faults are armed, on which connections they fall, and who is told."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Protocol

from ..faults import Fault

__all__ = ["Armed", "Armory", "Chosen", "Observer"]


@dataclass(slots=True, eq=False)
class Armed:
    """A fault that is armed on one server.

    Attributes:
        arming: 1, 2, … on this server.
        begin: connections accepted before it was armed.
        selected: connections that it chose.
        fired: connections on which it took effect.
    """

    fault: Fault
    arming: int
    begin: int
    selected: int = 0
    fired: int = 0


@dataclass(slots=True, eq=False)
class Chosen:
    """An armed fault on a connection it chose, with the chance that belongs to the two of them."""

    armed: Armed
    random: random.Random

    @property
    def fault(self) -> Fault:
        return self.armed.fault


class Armory:
    """The faults of one server. Arming and disarming from another thread than the one that chooses is safe."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.armed: list[Armed] = []
        self._armings = 0

    def arm(self, fault: Fault, begin: int) -> Armed:
        """Have `fault` fall on connections after the first `begin` of the server."""
        self._armings += 1
        armed = Armed(fault, self._armings, begin)
        self.armed = [*self.armed, armed]  # a new list: another thread may be looking at the old one
        return armed

    def disarm(self, armed: Armed) -> None:
        """Have it choose no more connections; those it chose keep it. Does nothing the second time."""
        self.armed = [each for each in self.armed if each is not armed]

    def choose(self, ticket: int, session: object) -> list[Chosen]:
        """What falls on the connection that was accepted as number `ticket` (1, 2, …), in the order of arming.

        What a `where` raises comes out of here, and then nobody has been chosen.
        """
        chosen = []
        for armed in self.armed:
            number = ticket - armed.begin
            if number >= 1 and armed.fault.selects(number, self.seed, armed.arming, session):
                chosen.append(Chosen(armed, armed.fault.random(self.seed, armed.arming, number)))
        for each in chosen:
            each.armed.selected += 1
        return chosen


class Observer(Protocol):
    """Who wants to know what happens on one connection. Everything is called on the thread of the loop."""

    def received(self, data: bytes) -> None:
        """`data` came from the peer. What is read only to be thrown away, after the end was decided, is not told."""

    def sent(self, data: bytes) -> None:
        """`data` was handed to the kernel (TLS: encrypted for it)."""

    def peer_closed(self) -> None:
        """The peer's FIN was seen (TLS: or its close_notify)."""

    def secured(self, version: str) -> None:
        """The TLS handshake is done; `version` is like "TLSv1.3"."""

    def fired(self, armed: Armed, offset: int, direction: str, count: int) -> None:
        """A fault took effect, told once for each fault and connection.

        `offset` is where in the stream, `direction` ("in" or "out") says in which one, `count` how many bytes it
        concerned (0 where it is not about certain bytes). The same bytes give the same, however they were cut.
        """

    def failed(self, error: BaseException) -> None:
        """The `reply` of this connection raised `error`; the connection is reset."""

    def closed(self, cause: str) -> None:
        """The connection has ended, because of `cause`, one of `Stats.ends`. Nothing is told after that."""
