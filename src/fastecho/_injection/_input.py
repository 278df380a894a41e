"""What arrives from the client: its bytes, its FIN, and its disappearance while it is not read.

    readable ─► recv ─► triggers and terminator ─► reply ─► Output

Do not rely on a second readiness event: after an error libuv no longer watches the descriptor. So the input reads until
recv would block, or schedules another read in the next turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from .._buffer import Terminator
from ..config import ServerConfig
from ._armed import Chosen
from ._connection import NOT_READ, Connection, State
from ._output import Output
from ._triggers import Triggers

__all__ = ["Input"]

_READS = 16  # in one turn of the loop
_WATCH_SECONDS = 0.02  # between two checks of a client that is not read


class InputOwner(Protocol):
    """The session, as the input sees it."""

    def record_activity(self) -> None: ...
    def count(self, bytes_in: int = 0, bytes_out: int = 0, discarded: int = 0) -> None: ...
    def continue_handshake(self) -> None: ...
    def reach(self, reached: list[Chosen], offset: int) -> None: ...
    def on_fin(self) -> None: ...
    def on_terminator(self) -> None: ...
    def on_connection_lost(self, error: OSError) -> None: ...
    def close_now(self, cause: str) -> None: ...
    def reset(self, cause: str) -> None: ...


class Input:
    """Reads from the client, answers, and finds what reaches a trigger.

    Attributes:
        reading: whether the loop watches the socket for bytes.
        paused: a test has paused reading.
        stopped: a `stop_reading` has taken effect.
        client_fin: the client's FIN was seen.
        discarded: bytes were read and discarded since the flag was cleared.
        blackhole: the fault that leaves everything without an answer, or None.
    """

    def __init__(
        self,
        connection: Connection,
        output: Output,
        triggers: Triggers,
        config: ServerConfig,
        reply: Callable[[bytes], bytes] | None,
        owner: InputOwner,
    ) -> None:
        self._connection, self._output, self._triggers, self._owner = connection, output, triggers, owner
        self._socket = connection.socket
        self._size: int = config.buffer_size
        self._terminator = Terminator(config.terminator, config.match)
        self._reply = reply
        self._received = 0
        self._turn: asyncio.Handle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self.blackhole = connection.first("blackhole")
        self.reading = self.paused = self.stopped = self.client_fin = self.discarded = False

    # -- whether to read ---------------------------------------------------------------------------------------

    def update(self) -> None:
        """Watch the socket for bytes, or do not, as the state of the connection and the output's queue require."""
        wanted = self._wants_bytes()
        if wanted and not self.reading:
            self._connection.loop.add_reader(self._socket.fd, self._readable)
            if self._socket.has_buffered:
                self._read_in_next_turn()
        elif self.reading and not wanted:
            self._connection.loop.remove_reader(self._socket.fd)
        self.reading = wanted

    def _wants_bytes(self) -> bool:
        state, end = self._connection.state, self._connection.end
        if self.client_fin or state in NOT_READ:
            return False
        if state is State.OPEN:
            return not self.paused and not self.stopped and not self._output.full
        if state is State.HALF or (state is State.ENDING and end == "half_close"):
            return not self.paused
        return end != "stall"  # to be discarded: a client that sends must not block before it has read everything

    def stop(self) -> None:
        """A `stop_reading` takes effect."""
        self.stopped = True
        self.update()
        self.watch_client()

    def read_soon(self) -> None:
        """Read in the next turn of the loop, if the socket is read at all."""
        if self.reading:
            self._read_in_next_turn()

    def _read_in_next_turn(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
        self._turn = self._connection.loop.call_soon(self._readable)

    def cancel_timers(self) -> None:
        for handle in (self._turn, self._watch):
            if handle is not None:
                handle.cancel()
        self._turn = self._watch = None

    # -- bytes -------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        for _ in range(_READS):
            if not self.reading:
                return
            if self._connection.state is State.HANDSHAKE:
                self._owner.continue_handshake()
                return
            try:
                data = self._socket.recv(self._size)
            except OSError as error:
                self._owner.on_connection_lost(error)
                return
            if data is None:
                if self._socket.pending:
                    self._output.pump()
                return
            self._owner.record_activity()
            if not data:
                self._fin_received()
            elif self._connection.state is State.OPEN or self._connection.end == "half_close":
                self._process(data)
            else:
                self._owner.count(discarded=len(data))
                self.discarded = True
        self._read_in_next_turn()

    def _process(self, data: bytes) -> None:
        """Answer `data` up to the first trigger or terminator in it, and let that take effect."""
        connection = self._connection
        if self._socket.secured:
            connection.observer.received(data)
        if connection.state is not State.OPEN:
            self._owner.count(discarded=len(data))
            return
        before, self._received = self._received, self._received + len(data)
        to_answer, reached = self._triggers.feed(data)
        end = self._terminator.feed(data)
        terminated = 0 <= end < to_answer or (end == to_answer and not reached)
        if terminated:
            to_answer, reached = end, []
        if self.blackhole:
            self._owner.count(discarded=len(data))
        elif not self._answer(data if to_answer == len(data) else data[:to_answer], len(data) - to_answer):
            return
        self._owner.reach(reached, before + to_answer)
        if self._is_open():
            if terminated:
                self._owner.on_terminator()
            else:
                self._output.pump()

    def _answer(self, data: bytes, discarded: int) -> bool:
        """Queue the answer to `data`. False if the reply has ended the session."""
        self._owner.count(bytes_in=len(data), discarded=discarded)
        try:
            answer = data if self._reply is None or not data else bytes(self._reply(data))
        except BaseException as error:  # of a test's function, which may be pytest.fail()
            self._connection.observer.failed(error)
            self._owner.reset("error")
            return False
        if not self._is_open():
            return False
        self._output.feed(answer)
        return self._is_open()

    def _is_open(self) -> bool:
        return self._connection.state is State.OPEN

    # -- the client's end --------------------------------------------------------------------------------------

    def _fin_received(self) -> None:
        self.client_fin = True
        self.update()
        self._connection.observer.client_closed()
        self._owner.on_fin()

    def watch_client(self) -> None:
        """Check every 20 ms whether a client that is not read is still there: without a read no event reports it."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if not self._is_watched():
            return
        left = self._socket.client_left()
        if left == "reset":
            self._owner.on_connection_lost(ConnectionResetError("reset by the client"))
        elif left == "eof" and self._is_open() and not self.client_fin:
            self._fin_received()
        elif left == "eof" and self._fin_ends_session():
            if not self.client_fin:
                self._connection.observer.client_closed()
            self._owner.close_now(self._connection.cause or "eof")
        else:
            self._watch = self._connection.loop.call_later(_WATCH_SECONDS, self.watch_client)

    def _is_watched(self) -> bool:
        state = self._connection.state
        if state in (State.ACCEPTED, State.STALLED):
            return True
        return state is not State.CLOSED and (self.client_fin or (state is State.OPEN and self.stopped))

    def _fin_ends_session(self) -> bool:
        """Whether nothing would be answered after the client's FIN."""
        if self._connection.state is State.ACCEPTED:
            return self._socket.is_tls or not self._socket.unread()
        return self._connection.state is State.STALLED
