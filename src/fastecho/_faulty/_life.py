"""What a faulty session is, whatever its faults: states, reading, ends, time-outs. Bytes and triggers: `_session`.

No readiness of a descriptor is trusted to be told again: after an error libuv watches it no more. So one reads until
there is nothing, and what is left for a later turn is asked for.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Sequence

from .._group import Guest
from .._session import SessionGroup
from ._armory import Chosen, Observer
from ._clock import Clock
from ._output import Output
from ._secure import SecureWire
from ._state import NOT_SWEPT, SILENT, State
from ._wire import Wire

__all__ = ["Life"]

log = logging.getLogger("fastecho.session")

_READS = 16  # in one turn of the loop
_MOST_QUEUED = 262144
_LOOK = 0.02  # seconds between two looks at a peer that is not read
_SOON, _LATER = 0.0002, 0.005  # seconds between two looks at SIOCOUTQ: the first, and the longest


_STILL_SENDING = 0.25  # seconds at most that a reset waits for a peer to stop sending


class Life(Guest):
    """The part of `FaultySession` that knows no trigger. Everything runs on the thread of the loop."""

    def __init__(
        self,
        sock: socket.socket,
        chosen: Sequence[Chosen],
        group: SessionGroup,
        context: ssl.SSLContext | None,
        observer: Observer,
    ) -> None:
        self._group = group
        self._loop: asyncio.AbstractEventLoop = group.loop
        self._observer = observer
        self._wire = Wire(sock) if context is None else SecureWire(sock, context)
        self._output = Output(self._wire, self._loop, chosen, self)
        self._clock = Clock(group.config, context is not None)
        self._most: int = group.config.buffer_size
        self._rude = next((each for each in chosen if each.fault.kind == "no_close_notify"), None)
        self._state = State.NEW
        self._end = ""
        self._cause = ""
        self._fired: set[int] = set()
        self._decided: list[tuple[int, Chosen, int]] = []
        self._reading = self._paused = self._deaf = self._peer_eof = self._notified = False
        self._in_vain = False
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._turn: asyncio.Handle | None = None

    # -- what the subclass does ------------------------------------------------------------------------------

    def _begin(self) -> None:
        """There is a place."""
        raise NotImplementedError

    def _take(self, data: bytes) -> None:
        """`data` came, not in vain."""
        raise NotImplementedError

    def _shake(self) -> None:
        """In the handshake, and something came."""
        raise NotImplementedError

    def _end_with(self, end: str, cause: str) -> None:
        """An end that no fault brings about: flush, then `end`."""
        raise NotImplementedError

    # -- reading ---------------------------------------------------------------------------------------------

    def _update(self) -> None:
        """Have the loop watch for bytes, or not, as state and queue want it."""
        wanted = self._wants_bytes()
        if wanted and not self._reading:
            self._loop.add_reader(self._wire.fd, self._readable)
            if self._wire.held:
                self._next_turn()
        elif self._reading and not wanted:
            self._loop.remove_reader(self._wire.fd)
        self._reading = wanted

    def _wants_bytes(self) -> bool:
        if self._peer_eof or self._state in SILENT:
            return False
        if self._state is State.OPEN:
            return not self._paused and not self._deaf and self._output.queued <= _MOST_QUEUED
        if self._state is State.HALF or (self._state is State.ENDING and self._end == "half_close"):
            return not self._paused
        return self._end != "stall"  # and read in vain, so that no peer blocks that has not read everything yet

    def _readable(self) -> None:
        for _ in range(_READS):
            if not self._reading:
                return
            if self._state is State.SHAKING:
                self._shake()
                return
            try:
                data = self._wire.recv(self._most)
            except OSError as error:
                self.on_broken(error)
                return
            if data is None:
                if self._wire.pending:
                    self._output.pump()
                return
            self._clock.touch()
            if not data:
                self._peer_ended()
            elif self._state is State.OPEN or self._end == "half_close":
                self._take(data)
            else:
                self.count(discarded=len(data))
                self._in_vain = True
        self._next_turn()

    def _next_turn(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
        self._turn = self._loop.call_soon(self._readable)

    def _peer_ended(self) -> None:
        self._peer_eof = True
        self._update()
        self._observer.peer_closed()
        if self._state is State.OPEN:
            self._end_with("close", "eof")
        elif self._state in (State.LINGERING, State.HALF):
            self._close(self._cause)

    def _watch_peer(self) -> None:
        """Look every now and then whether a peer that is not read is still there."""
        self._watch = None
        if not (self._state is State.STALLED or (self._state is State.OPEN and self._deaf)):
            return
        fate = self._wire.fate()
        if fate is None:
            self._watch = self._loop.call_later(_LOOK, self._watch_peer)
        elif fate == "reset":
            self.on_broken(ConnectionResetError("reset by the peer"))
        elif self._state is State.OPEN:
            self._peer_ended()
        else:
            self._observer.peer_closed()
            self._close(self._cause)

    # -- what the output tells -------------------------------------------------------------------------------

    def on_sent(self, data: memoryview) -> None:
        self._clock.touch()
        self.count(bytes_out=len(data))
        self._observer.sent(bytes(data))

    def on_fired(self, chosen: Chosen, offset: int, direction: str, count: int) -> None:
        if id(chosen) not in self._fired:
            self._fired.add(id(chosen))
            chosen.armed.fired += 1
            self._observer.fired(chosen.armed, offset, direction, count)

    def on_broken(self, error: OSError) -> None:
        log.debug("a faulty session lost its peer: %s", error)
        self._close(self._cause if self._cause not in ("", "eof") else "reset")

    def on_pumped(self) -> None:
        self._tell_decided(self._output.sent)
        if self._state is State.ENDING and self._output.empty:
            self._take_effect()
        if self._state is not State.CLOSED:
            self._update()

    def _tell_decided(self, sent: int) -> None:
        while self._decided and sent >= self._decided[0][0]:
            _, chosen, offset = self._decided.pop(0)
            self.on_fired(chosen, offset, "in", 0)

    # -- ends ------------------------------------------------------------------------------------------------

    def _decide(self, end: str, cause: str) -> None:
        """What is queued is the last; once it is sent, `end` takes effect."""
        self._state, self._end, self._cause = State.ENDING, end, cause
        self._deaf = False
        self._cancel_timers()
        self._update()
        self._output.pump()

    def _take_effect(self) -> None:
        if self._end == "reset":
            self._state = State.RESETTING
            self._in_vain = True
            self._reset_when_delivered(_SOON, time.monotonic() + _STILL_SENDING)
        elif self._end == "stall":
            self._state = State.STALLED
            self._watch_peer()
        elif self._wire.secured and not self._notified and not self._say_goodbye():
            return
        else:
            self._wire.fin()
            if self._peer_eof:
                self._close(self._cause)
            else:
                self._state = State.HALF if self._end == "half_close" else State.LINGERING

    def _say_goodbye(self) -> bool:
        """Whether what TLS has to say before a FIN is on its way."""
        self._notified = True
        if isinstance(self._wire, SecureWire):
            if self._rude is not None:
                self.on_fired(self._rude, self._output.sent, "out", 0)
            else:
                try:
                    self._wire.notify()
                except OSError as error:
                    self.on_broken(error)
                    return False
        if self._output.empty:
            return True
        self._output.pump()
        return False

    def _reset_when_delivered(self, wait: float, latest: float) -> None:
        """Once the peer's side has everything, and is not sending either: an asyncio transport whose send fails throws
        away what it has not read yet."""
        self._timer = None
        still, self._in_vain = not self._in_vain and not self._wire.unread(), False
        if self._wire.delivered() and (still or time.monotonic() > latest):
            self.reset(self._cause)
        else:
            self._timer = self._loop.call_later(wait, self._reset_when_delivered, min(2 * wait, _LATER), latest)

    def reset(self, cause: str = "fault") -> None:
        """RST, now. Does nothing after the end."""
        self._close(cause, self._wire.reset)

    def _close(self, cause: str, close: Callable[[], None] | None = None) -> None:
        if self._state is State.CLOSED:
            return
        joined = self._state is not State.NEW
        self._tell_decided(self._output.fed)
        self._state = State.CLOSED
        self._cancel_timers()
        self._update()
        self._output.stop()
        (close or self._wire.close)()
        log.debug("a faulty session ended: %s", cause)
        if joined:
            self.leave(cause)
        self._observer.closed(cause)

    def _cancel_timers(self) -> None:
        for handle in (self._timer, self._watch, self._turn):
            if handle is not None:
                handle.cancel()
        self._timer = self._watch = self._turn = None

    # -- what the group asks ---------------------------------------------------------------------------------

    def on_place(self) -> None:
        if self._state is State.WAITING:
            self._begin()

    def on_expel(self) -> None:
        self.reset("drain_timeout")

    def on_sweep(self, now: float) -> None:
        self._clock.tick(now)
        still = self._state in (State.SLOW, State.STALLED) or (self._state is State.OPEN and self._deaf)
        if still and self._clock.quiet(now, self._group.draining_since) == "drain":
            self.reset("drain")  # which would not end by itself
        if self._state in NOT_SWEPT:
            return
        unacknowledged = self._wire.unacknowledged()
        due = unacknowledged > 0 or self._output.blocked
        if self._clock.starved(now, due, self._wire.given - unacknowledged):
            self.reset("write_timeout")
        elif self._state is State.LINGERING:
            if self._clock.lingered(now, due):
                self._close(self._cause)
        elif self._state is State.OPEN and not self._deaf and self._output.empty:
            why = self._clock.quiet(now, self._group.draining_since)
            if why == "drain" or (why and not due):
                self._end_with("close", why)
