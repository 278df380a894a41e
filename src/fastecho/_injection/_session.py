"""FaultySession: a connection on which faults take effect. It has an `Input`, an `Output` and an `Ending`.

    the client's bytes ─► Input ─► reply ─► Output ─► the client        Ending: RST, FIN, stall, close
                            └── triggers ──► reach() ──► Ending ◄── triggers ──┘ (a number of bytes sent)

Which fault takes effect, and at which offset, depends on the bytes alone, not on how they were segmented:

* A read is answered up to the first trigger in it, not further. The answer is queued before the fault ends the session.
* If an `after_sent` limit lies within the bytes queued at that moment, the `after_sent` fault takes effect, and the
  trigger in the read is ignored.
* A fault is reported when the bytes due before it are with the kernel, or at the close if it was decided by then.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence

from .._net.tls import HANDSHAKE_TIMEOUT
from .._session import Sessions
from .._sessions import PythonSession
from ._armed import Chosen, Observer
from ._connection import EARLY, WITHOUT_TIMEOUTS, Connection, State
from ._ending import Ending
from ._input import Input
from ._output import Output
from ._socket import ClientSocket, TLSClientSocket
from ._triggers import Triggers

__all__ = ["FaultySession"]


class FaultySession(PythonSession):
    """One connection on which the faults `chosen` take effect. All methods are called on the registry's loop.

    A byte may be slow here: it is handled in Python, on a non-blocking socket with `add_reader` and `add_writer`. A
    transport neither reports when its bytes have been acknowledged nor lets its socket be closed by others.

    Args:
        sock: the accepted socket; closed with the session.
        chosen: the faults of the connection, in the order of arming. Those for TLS do nothing without a `context`.
        registry: the sessions of the server. Its configuration holds for this session too.
        context: of TLS, or None.
        observer: notified of what happens on the connection.
        greeting: sent first.
        reply: makes the answer from the bytes of a read; None echoes. If it raises, the connection is reset.
    """

    def __init__(
        self,
        sock: socket.socket,
        chosen: Sequence[Chosen],
        registry: Sessions,
        *,
        context: ssl.SSLContext | None,
        observer: Observer,
        greeting: bytes = b"",
        reply: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._sessions = registry
        self._socket = ClientSocket(sock) if context is None else TLSClientSocket(sock, context)
        self._connection = Connection(registry.loop, self._socket, chosen, observer)
        self._triggers = Triggers(chosen)
        self._output = Output(self._socket, registry.loop, chosen, self)
        self._input = Input(self._connection, self._output, self._triggers, registry.config, reply, self)
        self._ending = Ending(self._connection, self._input, self._output, self._release)
        self._greeting = greeting
        self._pushed: list[bytes] = []
        """What a test has sent before the session was open."""
        self._decided: list[tuple[int, Chosen, int]] = []
        """Faults that are reported when so many bytes of the output are sent."""

    # -- begin -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Join the registry and begin. The second call does nothing."""
        if self._connection.state is not State.NEW:
            return
        self._connection.state = State.ACCEPTED
        for each in self._connection.chosen:
            if each.fault.kind == "stop_reading":
                self._socket.set_receive_window(each.fault.get("window"))
        admitted = self.register(self._sessions, self._socket.client_address())
        if self._sessions.closed or not admitted:
            self.reset("refused")
        elif refuse := self._connection.first("refuse"):
            self._connection.report(refuse, 0, "in", 0)
            self.reset()
        else:
            self._accept()

    def _accept(self) -> None:
        delay = 0.0
        for each in self._connection.chosen:
            if each.fault.kind == "slow_accept":
                self._connection.report(each, 0, "in", 0)
                delay += each.fault.get("delay")
        if delay:
            self._connection.timer = self._connection.loop.call_later(delay, self._begin)
            self._input.watch_client()
        else:
            self._begin()

    def _begin(self) -> None:
        if not isinstance(self._socket, TLSClientSocket):
            self._open()
            return
        self._connection.state = State.HANDSHAKE
        # A handshake cannot be made without reading: `stop_reading` waits for its end.
        self.reach([each for each in self._triggers.at_once if each.fault.kind != "stop_reading"], 0)
        if self._connection.state is State.HANDSHAKE:
            self._connection.timer = self._connection.loop.call_later(HANDSHAKE_TIMEOUT, self.reset, "reset")
            self._input.update()

    def continue_handshake(self) -> None:
        """Take the next step of the TLS handshake: bytes have arrived."""
        assert isinstance(self._socket, TLSClientSocket)
        fault = self._connection.first("tls_abort", "tls_stall")
        try:
            step = self._socket.do_handshake(answer=fault is None)
        except OSError as error:  # an ssl.SSLError too: the client's handshake failed
            self.on_connection_lost(error)
            return
        if step == "hello":
            assert fault is not None
            self._connection.report(fault, 0, "in", 0)
            if fault.fault.kind == "tls_abort":
                self.reset()
            else:
                self._ending.cancel_timers()
                self._socket.discard_pending()
                self._ending.decide("stall", "fault")
        elif step == "done":
            self._ending.cancel_timers()
            self._connection.observer.secured(self._socket.version())
            if self._connection.state is State.HANDSHAKE:
                self._open()
                self._input.read_soon()  # bytes may have come with the last message of the handshake
        else:
            self._output.pump()

    def _open(self) -> None:
        self._connection.state = State.OPEN
        self.record_activity()
        self._output.limit = self._triggers.limit
        if self._input.blackhole:
            self._connection.report(self._input.blackhole, 0, "in", 0)
        self.reach([*self._triggers.at_once, *self._triggers.feed(b"")[1]], 0)
        self.on_pumped()
        if self._connection.state is not State.OPEN:
            return
        self._connection.opened = True
        if not self._input.blackhole:
            self._output.feed(self._greeting)
        for data in self._pushed:
            self._output.feed(data)
        self._pushed.clear()
        self._input.update()
        self._output.pump()

    # -- faults take effect ------------------------------------------------------------------------------------

    def reach(self, reached: list[Chosen], offset: int) -> None:
        """The triggers of these faults are reached, with `offset` bytes received."""
        for each in reached:
            if self._connection.state not in (State.OPEN, State.HANDSHAKE):
                return
            kind = each.fault.kind
            if kind == "abort":
                self._output.pump()
                if self._connection.state in (State.OPEN, State.HANDSHAKE):
                    self._connection.report(each, offset, "in", 0)
                    self._ending.close_now("fault")
            elif kind == "stop_reading":
                self._input.stop()
                self._report_later(each, offset, self._output.fed - self._output.coalescing)
            else:
                self._ending.finish_output()
                self._report_later(each, offset, self._output.fed)
                self._ending.decide(kind, "fault")

    def _reach_limit(self, limit: int) -> bool:
        """`limit` bytes are sent: the next `after_sent` is reached. Returns whether an end was decided."""
        self._report_decided(limit)
        chosen = self._triggers.pop_limit()
        self._output.limit = self._triggers.limit
        self._connection.report(chosen, limit, "out", 0)
        kind = chosen.fault.kind
        if kind == "stop_reading":
            if self._connection.state is State.OPEN:
                self._input.stop()
            return False
        if kind == "abort":
            self._ending.close_now("fault")
            return False
        self._output.discard()
        self._output.limit = None
        self._ending.decide(kind, "fault")
        return True

    def _report_later(self, chosen: Chosen, offset: int, sent: int) -> None:
        """Report a fault when `sent` bytes of the output are sent, unless the limit of an `after_sent` comes first."""
        limit = self._output.limit
        if limit is None or limit > sent:
            self._decided.append((sent, chosen, offset))

    def _report_decided(self, sent: int) -> None:
        while self._decided and sent >= self._decided[0][0]:
            _, chosen, offset = self._decided.pop(0)
            self._connection.report(chosen, offset, "in", 0)

    # -- called by the output ----------------------------------------------------------------------------------

    def on_sent(self, data: memoryview) -> None:
        self.record_activity()
        self.count(bytes_out=len(data))
        self._connection.observer.sent(bytes(data))

    def on_pumped(self) -> None:
        moved = False
        while self._connection.state in (State.OPEN, State.ENDING):
            limit = self._triggers.limit
            if limit is None or self._output.sent < limit or self._output.limit is None:
                break
            moved = True
            if self._reach_limit(limit):
                return
        if moved and self._connection.state in (State.OPEN, State.ENDING):
            self._output.pump()
            return
        self._report_decided(self._output.sent)
        if self._connection.state is State.ENDING and self._output.empty:
            self._ending.take_effect()
        if self._connection.state is not State.CLOSED:
            self._input.update()

    def on_fired(self, chosen: Chosen, offset: int, direction: str, count: int) -> None:
        self._connection.report(chosen, offset, direction, count)

    # -- called by the input -----------------------------------------------------------------------------------

    def on_fin(self) -> None:
        self._ending.fin_received()

    def on_terminator(self) -> None:
        self._ending.finish("close", "terminator")

    def on_connection_lost(self, error: OSError) -> None:
        """A read or a write has failed."""
        self._ending.connection_lost(error)

    def close_now(self, cause: str) -> None:
        self._ending.close_now(cause)

    # -- called by the ending ----------------------------------------------------------------------------------

    def _release(self, cause: str) -> None:
        """The socket is about to be closed: stop everything that uses it, and remove it from the registry."""
        self._report_decided(self._output.fed)
        joined, self._connection.state = self._connection.state is not State.NEW, State.CLOSED
        self._ending.cancel_timers()
        self._input.update()
        self._output.stop()
        if joined:
            self.unregister(cause)

    # -- called by the registry --------------------------------------------------------------------------------

    def on_abort(self) -> None:
        self.reset("drain_timeout")

    def on_sweep(self, now: float) -> None:
        stopped = self._connection.state is State.OPEN and self._input.stopped
        quiet = stopped or self._connection.state in (State.ACCEPTED, State.STALLED)
        if quiet and self.idle_or_drain_end(now, 1) == "drain":
            self.reset("drain")  # such a session does not end by itself
        if self._connection.state in WITHOUT_TIMEOUTS:
            return
        unacknowledged = self._socket.unacknowledged()
        outstanding = unacknowledged or int(self._output.blocked)
        if self.write_timed_out(now, outstanding, self._socket.bytes_sent - unacknowledged):
            self.reset("write_timeout")
        elif self._connection.state is State.LINGERING:
            if self.linger_timed_out(now, outstanding):
                self._ending.close_now(self._connection.cause)
        elif self._connection.state is State.OPEN and not self._input.stopped and self._output.empty:
            cause = self.idle_or_drain_end(now, outstanding)
            if cause is not None:
                self._ending.finish("close", cause)

    # -- control by a test -------------------------------------------------------------------------------------

    def push(self, data: bytes) -> None:
        """Send `data` as if it were an answer: through the same faults, counted with the same offsets."""
        if self._connection.state in EARLY:
            self._pushed.append(bytes(data))
        elif self._connection.state is State.OPEN:
            self._output.feed(bytes(data))
            self._output.pump()

    def pause(self) -> None:
        """Stop reading. (Neither a RST nor the FIN of the client is noticed then.)"""
        self._input.paused = True
        if self._connection.state is not State.CLOSED:
            self._input.update()

    def resume(self) -> None:
        """Read again."""
        self._input.paused = False
        if self._connection.state is not State.CLOSED:
            self._input.update()

    def reset(self, cause: str = "fault") -> None:
        """Send RST now. Does nothing after the end."""
        self._ending.reset(cause)

    def finish(self, cause: str = "fault") -> None:
        """Send what is queued, then FIN, and discard until the client's FIN. Does nothing once an end is decided."""
        if self._connection.state is State.HALF:
            self._ending.linger()
        else:
            self._end("close", cause)

    def shutdown_write(self) -> None:
        """Send what is queued, then FIN, and read on until the client's FIN."""
        self._end("half_close", "fault")

    def _end(self, kind: str, cause: str) -> None:
        if self._connection.state in EARLY:
            self._ending.cancel_timers()
            for data in self._pushed if not isinstance(self._socket, TLSClientSocket) else ():
                self._output.feed(data)
            self._ending.decide(kind, cause)
        elif self._connection.state in (State.OPEN, State.STALLED):
            self._ending.finish(kind, cause)

    def undelivered(self) -> int:
        """Bytes that are queued, or that the client has not acknowledged."""
        return 0 if self._connection.state is State.CLOSED else self._output.queued + self._socket.unacknowledged()

    def idle(self) -> bool:
        """Whether nothing is in flight: neither to the client nor, unless reading has stopped, from it."""
        if self._connection.state is State.CLOSED:
            return True
        if self._connection.state in (State.ACCEPTED, State.ENDING, State.RESETTING) or not self._output.empty:
            return False
        return self._socket.delivered() and not (self._input.reading and self._socket.unread())

    def reads(self) -> bool:
        """Whether bytes and FIN of the client are read as they arrive."""
        return self._input.reading

    @property
    def blocked(self) -> bool:
        """Whether the kernel takes no more bytes, since the client does not read."""
        return self._output.blocked
