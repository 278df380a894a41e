"""How a connection ends. An end is decided, what is queued is sent, then the end takes effect.

    decide("reset")        all sent and acknowledged, and the client does not send: RST
    decide("close")        all sent: FIN; discard until the client's FIN, or linger_timeout
    decide("half_close")   all sent: FIN; read on until the client's FIN
    decide("stall")        all sent: nothing more, in either direction
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ._connection import Connection, State
from ._input import Input
from ._output import Output

__all__ = ["Ending"]

_log = logging.getLogger("fastecho.session")

_FIRST_WAIT, _LONGEST_WAIT = 0.0002, 0.005  # seconds between two checks of SIOCOUTQ
_STILL_SENDING = 0.25  # seconds at most that a reset waits for a client to stop sending


class Ending:
    """The end of one connection.

    Args:
        release: called with the cause before the socket is closed.
    """

    def __init__(
        self, connection: Connection, input: Input, output: Output, release: Callable[[str], None]
    ) -> None:
        self._connection, self._input, self._output, self._release = connection, input, output, release
        self._socket = connection.socket
        self._no_close_notify = connection.first("no_close_notify")
        self._notified = False

    # -- decide ------------------------------------------------------------------------------------------------

    def finish(self, end: str, cause: str) -> None:
        """The stream ends here: queue what faults hold back, and decide."""
        self.finish_output()
        self.decide(end, cause)

    def finish_output(self) -> None:
        """No more answers are due: queue what faults hold back."""
        if self._connection.opened:  # before, nothing was due
            self._output.end_stream(answered=self._input.blackhole is None)

    def decide(self, end: str, cause: str) -> None:
        """When what is queued is sent, `end` takes effect."""
        connection = self._connection
        connection.state, connection.end, connection.cause = State.ENDING, end, cause
        self._input.stopped = False
        self.cancel_timers()
        self._input.update()
        self._input.watch_client()
        if self._is(State.ENDING):
            self._output.pump()

    def fin_received(self) -> None:
        """The client has sent its FIN."""
        if self._is(State.OPEN):
            self.finish("close", "eof")
        elif self._is(State.LINGERING, State.HALF):
            self.close_now(self._connection.cause)

    def _is(self, *states: State) -> bool:
        return self._connection.state in states

    # -- take effect -------------------------------------------------------------------------------------------

    def take_effect(self) -> None:
        """What was queued is sent."""
        connection = self._connection
        if connection.end == "reset":
            connection.state = State.RESETTING
            self._input.discarded = True
            self._reset_when_delivered(_FIRST_WAIT, connection.now() + _STILL_SENDING)
        elif connection.end == "stall":
            connection.state = State.STALLED
            self._input.watch_client()
        elif self._socket.secured and not self._notified and not self._send_close_notify():
            return
        else:
            self._socket.send_fin()
            if self._input.client_fin:
                self.close_now(connection.cause)
            else:
                connection.state = State.HALF if connection.end == "half_close" else State.LINGERING

    def _send_close_notify(self) -> bool:
        """Send TLS's close_notify, which comes before FIN. False while it is queued, or if the connection is lost."""
        self._notified = True
        if self._socket.is_tls:
            if self._no_close_notify is not None:
                self._connection.report(self._no_close_notify, self._output.sent, "out", 0)
            else:
                try:
                    self._socket.close_notify()
                except OSError as error:
                    self.connection_lost(error)
                    return False
        if self._output.empty:
            return True
        self._output.pump()
        return False

    def _reset_when_delivered(self, wait: float, deadline: float) -> None:
        """Send RST when the client has acknowledged everything and does not send: an asyncio transport whose send fails
        drops what it has received and not yet read."""
        connection = self._connection
        connection.timer = None
        quiet = not self._input.discarded and not self._socket.unread()
        self._input.discarded = False
        if self._socket.delivered() and (quiet or connection.now() > deadline):
            self.reset(connection.cause)
        else:
            following = min(2 * wait, _LONGEST_WAIT)
            connection.timer = connection.loop.call_later(wait, self._reset_when_delivered, following, deadline)

    def linger(self) -> None:
        """After a half-close: discard from now on, and close at the client's FIN."""
        self._connection.state, self._connection.end = State.LINGERING, "close"
        self._input.update()

    def cancel_timers(self) -> None:
        """Cancel those of the whole session."""
        self._connection.cancel_timer()
        self._input.cancel_timers()

    # -- at once -----------------------------------------------------------------------------------------------

    def reset(self, cause: str) -> None:
        """Close with RST. Does nothing after the end."""
        self._close(cause, self._socket.reset)

    def close_now(self, cause: str) -> None:
        """close(2): FIN, or RST if the kernel has bytes of the client that were not read. Does nothing after the
        end."""
        self._close(cause, self._socket.close)

    def connection_lost(self, error: OSError) -> None:
        """A read or a write has failed: the client has reset the connection, or the network has."""
        _log.debug("a faulty session lost its connection: %s", error)
        cause = self._connection.cause
        self.close_now(cause if cause not in ("", "eof") else "reset")

    def _close(self, cause: str, close: Callable[[], None]) -> None:
        if self._is(State.CLOSED):
            return
        self._release(cause)
        close()
        _log.debug("a faulty session ended: %s", cause)
        self._connection.observer.closed(cause)
