"""FaultySession: what comes is answered up to where a fault ends it.

Which fault takes effect, and at which offset, depends on the bytes alone, not on how they were cut:

* A read is answered up to the first trigger on what came in, not further. Whatever that makes due is queued.
* If the limit of an `after_out` lies within what is queued then, it comes first, and that trigger is void.
* A fault is told when what is due before it is with the kernel, or at the close if it was decided by then.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence

from .._buffer import Terminator
from .._session import SessionGroup
from ._armory import Chosen, Observer
from ._begin import Beginning
from ._secure import SecureWire
from ._state import EARLY, State

__all__ = ["FaultySession"]


class FaultySession(Beginning):
    """One connection that misbehaves as `chosen` says. All methods are called on the thread of the group's loop.

    Args:
        sock: the accepted socket; closed with the session.
        chosen: the faults that fall on it, in the order of arming. Those for TLS do nothing without a `context`.
        group: the sessions it belongs to, whose configuration holds for it too.
        context: TLS of the server's side, or None.
        observer: who is told.
        banner: sent first.
        reply: the answer to what was received, as it was read; None echoes. What it raises resets the connection.
    """

    def __init__(
        self,
        sock: socket.socket,
        chosen: Sequence[Chosen],
        group: SessionGroup,
        *,
        context: ssl.SSLContext | None,
        observer: Observer,
        banner: bytes = b"",
        reply: Callable[[bytes], bytes] | None = None,
    ) -> None:
        super().__init__(sock, chosen, group, context, observer)
        self._terminator = Terminator(group.config.terminator, group.config.match)
        self._banner = banner
        self._reply = reply
        self._received = 0
        self._pushed: list[bytes] = []  # before it was open
        self._opened = False
        self._hole = self._first("blackhole")

    # -- the bytes -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._state = State.OPEN
        self._clock.touch()
        self._output.limit = self._triggers.limit
        if self._hole:
            self.on_fired(self._hole, 0, "in", 0)
        self._reach([*self._triggers.at_once, *self._triggers.feed(b"")[1]], 0)
        self.on_pumped()
        if self._state is not State.OPEN:
            return
        self._opened = True
        if not self._hole:
            self._output.feed(self._banner)
        for data in self._pushed:
            self._output.feed(data)
        self._pushed.clear()
        self._update()
        self._output.pump()

    def _take(self, data: bytes) -> None:
        if self._wire.secured:
            self._observer.received(data)
        if self._state is not State.OPEN:
            self.count(discarded=len(data))
            return
        before, self._received = self._received, self._received + len(data)
        due, reached = self._triggers.feed(data)
        end = self._terminator.feed(data)
        terminated = 0 <= end < due or (end == due and not reached)
        if terminated:
            due, reached = end, []
        if self._hole:
            self.count(discarded=len(data))
        elif not self._answer(data if due == len(data) else data[:due], len(data) - due):
            return
        self._reach(reached, before + due)
        if self._state is State.OPEN:
            if terminated:
                self._end_with("close", "terminator")
            else:
                self._output.pump()

    def _answer(self, data: bytes, discarded: int) -> bool:
        """Queue the answer; whether the session goes on."""
        self.count(bytes_in=len(data), discarded=discarded)
        try:
            answer = data if self._reply is None or not data else bytes(self._reply(data))
        except BaseException as error:  # of a test's own code, which may be pytest.fail()
            if (failed := getattr(self._observer, "failed", None)) is not None:
                failed(error)
            self.reset("error")
            return False
        if self._state is State.OPEN:  # unless the reply itself has ended it
            self._output.feed(answer)
        return self._state is State.OPEN

    # -- ends ------------------------------------------------------------------------------------------------

    def _reach(self, reached: list[Chosen], offset: int) -> None:
        """The triggers of these are reached, with `offset` bytes in."""
        for each in reached:
            if self._state not in (State.OPEN, State.SHAKING):
                return
            kind = each.fault.kind
            if kind == "abort":
                self._output.pump()
                if self._state in (State.OPEN, State.SHAKING):
                    self.on_fired(each, offset, "in", 0)
                    self._close("fault")
            elif kind == "stop_reading":
                self._stop_reading()
                self._will_tell(each, offset, self._output.fed - self._output.held)
            else:
                self._finish_output()
                self._will_tell(each, offset, self._output.fed)
                self._decide(kind, "fault")

    def _will_tell(self, chosen: Chosen, offset: int, at: int) -> None:
        limit = self._output.limit
        if limit is None or limit > at:
            self._decided.append((at, chosen, offset))

    def _stop_reading(self) -> None:
        self._deaf = True
        self._update()
        if self._watch is None:
            self._watch_peer()

    def _finish_output(self) -> None:
        if self._opened and not self._hole:  # else nothing was due
            self._output.finish()

    def on_pumped(self) -> None:
        moved = False
        while self._state in (State.OPEN, State.ENDING):
            limit = self._triggers.limit
            if limit is None or self._output.sent < limit or self._output.limit is None:
                break
            self._tell_decided(limit)
            chosen, moved = self._triggers.pop_limit(), True
            self._output.limit = self._triggers.limit
            self.on_fired(chosen, limit, "out", 0)
            kind = chosen.fault.kind
            if kind == "stop_reading":
                if self._state is State.OPEN:
                    self._stop_reading()
            elif kind == "abort":
                self._close("fault")
            else:
                self._output.discard()
                self._output.limit = None
                self._decide(kind, "fault")
                return
        if moved and self._state in (State.OPEN, State.ENDING):
            self._output.pump()
        else:
            super().on_pumped()

    def _end_with(self, end: str, cause: str) -> None:
        self._finish_output()
        self._decide(end, cause)

    # -- steering by a test ----------------------------------------------------------------------------------

    def push(self, data: bytes) -> None:
        """Send `data` as if it were an answer: through the same faults, counted with the same offsets."""
        if self._state in EARLY:
            self._pushed.append(bytes(data))
        elif self._state is State.OPEN:
            self._output.feed(bytes(data))
            self._output.pump()

    def pause(self) -> None:
        """Read no more. (An RST of the peer is not noticed then, nor its FIN.)"""
        self._paused = True
        if self._state is not State.CLOSED:
            self._update()

    def resume(self) -> None:
        """Read again."""
        self._paused = False
        if self._state is not State.CLOSED:
            self._update()

    def finish(self, cause: str = "fault") -> None:
        """Flush, FIN, read in vain until the peer's FIN. Does nothing once an end is under way."""
        if self._state is State.HALF:
            self._state, self._end = State.LINGERING, "close"
            self._update()
        else:
            self._order("close", cause)

    def shutdown_write(self) -> None:
        """Flush, FIN, and go on reading until the peer's FIN."""
        self._order("half_close", "fault")

    def _order(self, end: str, cause: str) -> None:
        if self._state in EARLY:
            self._cancel_timers()
            for data in self._pushed if not isinstance(self._wire, SecureWire) else ():
                self._output.feed(data)
            self._decide(end, cause)
        elif self._state in (State.OPEN, State.STALLED):
            self._end_with(end, cause)

    def due(self) -> int:
        """Bytes that the peer's side has not acknowledged, or that wait."""
        return 0 if self._state is State.CLOSED else self._output.queued + self._wire.unacknowledged()

    def idle(self) -> bool:
        """Nothing is under way: neither to the peer nor, unless reading has stopped, from it."""
        if self._state is State.CLOSED:
            return True
        if self._state in (State.SLOW, State.ENDING, State.RESETTING) or not self._output.empty:
            return False
        return self._wire.delivered() and not (self._reading and self._wire.unread())

    def fileno(self) -> int:
        """The descriptor; -1 after the end."""
        return self._wire.fd
