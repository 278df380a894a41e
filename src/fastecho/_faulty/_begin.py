"""How a faulty session begins: a place, a delay on order, TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence

from .._session import SessionGroup
from .._tls import HANDSHAKE_TIMEOUT
from ._armory import Chosen, Observer
from ._life import Life
from ._secure import SecureWire
from ._state import State
from ._triggers import Triggers

__all__ = ["Beginning"]


class Beginning(Life):
    """From the accept until bytes may flow."""

    def __init__(
        self,
        sock: socket.socket,
        chosen: Sequence[Chosen],
        group: SessionGroup,
        context: ssl.SSLContext | None,
        observer: Observer,
    ) -> None:
        super().__init__(sock, chosen, group, context, observer)
        self._chosen = chosen
        self._triggers = Triggers(chosen)

    def _open(self) -> None:
        """Bytes may flow."""
        raise NotImplementedError

    def _reach(self, reached: list[Chosen], offset: int) -> None:
        """The triggers of these are reached, with `offset` bytes in."""
        raise NotImplementedError

    def _first(self, *kinds: str) -> Chosen | None:
        return next((each for each in self._chosen if each.fault.kind in kinds), None)

    def start(self) -> None:
        """Join the group, and begin as soon as there is a place. A session is started once."""
        if self._state is not State.NEW:
            return
        self._state = State.WAITING
        for each in self._chosen:
            if each.fault.kind == "stop_reading":
                self._wire.pin_window(each.fault.get("window"))
        admitted = self.join(self._group)
        if self._state is State.WAITING and (admitted or self._group.closed or self._first("refuse")):
            self._begin()

    def _begin(self) -> None:
        if self._group.closed:
            self.reset("refused")
            return
        if refuse := self._first("refuse"):
            self.on_fired(refuse, 0, "in", 0)
            self.reset()
            return
        delay = 0.0
        for each in self._chosen:
            if each.fault.kind == "slow_accept":
                self.on_fired(each, 0, "in", 0)
                delay += each.fault.get("delay")
        self._state = State.SLOW
        if delay:
            self._timer = self._loop.call_later(delay, self._connect)
        else:
            self._connect()

    def _connect(self) -> None:
        if not isinstance(self._wire, SecureWire):
            self._open()
            return
        self._state = State.SHAKING
        # A handshake cannot be made without reading: that stop waits for its end.
        self._reach([each for each in self._triggers.at_once if each.fault.kind != "stop_reading"], 0)
        if self._state is State.SHAKING:
            self._timer = self._loop.call_later(HANDSHAKE_TIMEOUT, self.reset, "reset")
            self._update()

    def _shake(self) -> None:
        assert isinstance(self._wire, SecureWire)
        fault = self._first("tls_abort", "tls_stall")
        try:
            step = self._wire.shake(answer=fault is None)
        except OSError as error:  # of TLS too; the fault of the peer
            self.on_broken(error)
            return
        if step == "hello":
            assert fault is not None
            self.on_fired(fault, 0, "in", 0)
            if fault.fault.kind == "tls_abort":
                self.reset()
            else:
                self._cancel_timers()
                self._wire.forget()
                self._decide("stall", "fault")
        elif step == "done":
            self._cancel_timers()
            self._observer.secured(self._wire.version())
            if self._state is State.SHAKING:
                self._open()
                if self._reading:
                    self._next_turn()  # what came with the last of the handshake
        else:
            self._output.pump()
