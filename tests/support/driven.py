"""A session without a socket: a transport that obeys its contract, reports violations, and takes as
much at a time as the test says.

The transport keeps the very memoryview that it was given and copies the bytes out only when it is told to
flush: a session that reads into that memory again in between is caught (hazard 5).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import reference
from fastecho import ServerConfig
from fastecho._session import Sessions


class Wire(asyncio.Transport):
    """`takes`: how many bytes each write() sends at once, in turn; None is all of them.

    `lacks_memory_for`: calls that fail once with MemoryError before they begin. Transports pass over such an error of
    `pause_writing` and `resume_writing`.
    """

    def __init__(self, takes: list[int | None] | None = None, extra: dict[str, Any] | None = None) -> None:
        super().__init__(extra)
        self.takes = takes or [None]
        self.session: Any = None
        self.sent = bytearray()
        self.queue: list[memoryview] = []
        self.high, self.low = 65536, 16
        self.writes = self.pauses = 0
        self.write_paused = self.reading_paused = self.closing = self.aborted = self.lost = False
        self.eof_asked = False
        self.in_get_buffer = False
        self.deaf = False
        """Reading counts as resumed, and nothing is read, as in asyncio after a lack of memory."""
        self.has_eof = True
        self.violations: list[str] = []
        self.lacks_memory_for: set[str] = set()

    def _fails(self, call: str) -> bool:
        if call not in self.lacks_memory_for:
            return False
        self.lacks_memory_for.remove(call)
        return True

    def _enter(self, name: str, touches: bool = True) -> None:
        if self.lost:
            self.violations.append(f"{name}() after connection_lost (hazard 29)")
        if self.in_get_buffer and touches:
            self.violations.append(f"{name}() inside get_buffer (hazard 1)")

    def write(self, data: Any) -> None:
        self._enter("write")
        if self.eof_asked:
            self.violations.append("write() after write_eof()")
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.closing:
            return
        view = memoryview(data).cast("B")
        take = self.takes[self.writes % len(self.takes)]
        self.writes += 1
        if not self.queue:
            take = len(view) if take is None else min(take, len(view))
            self.sent += view[:take]
            view = view[take:]
        if len(view):
            self.queue.append(view)
        if not self.write_paused and self.get_write_buffer_size() > self.high:
            self.write_paused = True
            if not self._fails("pause_writing"):
                self.session.pause_writing()

    def flush(self, most: int | None = None) -> None:
        """The peer takes `most` bytes; resume_writing once the queue is at the low mark."""
        left = self.get_write_buffer_size() if most is None else most
        while self.queue and left:
            view = self.queue[0]
            self.sent += view[:left]
            if len(view) > left:
                self.queue[0], left = view[left:], 0
            else:
                left -= len(view)
                del self.queue[0]
        if self.write_paused and self.get_write_buffer_size() <= self.low:
            self.write_paused = False
            if not self._fails("resume_writing"):
                with contextlib.suppress(MemoryError):
                    self.session.resume_writing()

    def writelines(self, data: Any) -> None:
        self.write(b"".join(data))

    def write_eof(self) -> None:
        self._enter("write_eof")
        if not self.has_eof:
            self.violations.append("write_eof() where can_write_eof() is False (hazard 27)")
            raise NotImplementedError
        self.eof_asked = True

    def can_write_eof(self) -> bool:
        return self.has_eof

    def close(self) -> None:
        self._enter("close")
        self.closing = True

    def abort(self) -> None:
        self._enter("abort")
        self.closing = self.aborted = True
        self.queue.clear()

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self._enter("pause_reading")
        self.pauses += 1
        self.reading_paused = True

    def resume_reading(self) -> None:
        self._enter("resume_reading")
        if self._fails("resume_reading"):
            raise MemoryError
        if self.reading_paused and self._fails("add_reader"):
            self.reading_paused, self.deaf = False, True
            raise MemoryError
        if self.reading_paused:
            self.reading_paused = self.deaf = False

    def is_reading(self) -> bool:
        return not self.reading_paused and not self.closing

    def get_write_buffer_size(self) -> int:
        self._enter("get_write_buffer_size", touches=False)
        return sum(map(len, self.queue))

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self.low, self.high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._enter("set_write_buffer_limits")
        self.high = high if high is not None else (4 * low if low is not None else 65536)
        self.low = low if low is not None else self.high // 4

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return super().get_extra_info(name, default)


class Driven:
    """A session, its wire and its model, moved by the test. Reads obey pause_reading as a real loop does."""

    def __init__(
        self, group: Sessions, config: ServerConfig, loop: Any, wire: Wire | None = None
    ) -> None:
        self.loop = loop
        self.wire = wire or Wire()
        self.config = config
        self.model = reference.Session(config.terminator, config.match)
        self.session = group.new_session()
        self.wire.session = self.session
        self.session.connection_made(self.wire)
        self.lost = False

    def turn(self, times: int = 1) -> None:
        """Let the loop run what was scheduled with call_soon."""
        for _ in range(times):
            self.loop.run_until_complete(asyncio.sleep(0))
        self.lose_if_flushed()

    def lose_if_flushed(self) -> None:
        """connection_lost once a closing transport has flushed, as transports do it."""
        if self.wire.closing and not self.wire.queue and not self.lost:
            self.lose(None)

    def lose(self, cause: BaseException | None) -> None:
        self.lost = True
        self.wire.closing = True
        self.wire.queue.clear()
        self.session.connection_lost(cause)
        self.wire.lost = True

    def buffer(self) -> memoryview:
        self.wire.in_get_buffer = True
        try:
            view = memoryview(self.session.get_buffer(-1))
        finally:
            self.wire.in_get_buffer = False
        assert not view.readonly
        assert view.nbytes == self.config.buffer_size, "get_buffer gave something else than a whole buffer"
        return view.cast("B") if view.format != "B" else view

    def until_reading(self, flushes: list[int | None]) -> bool:
        """Flush, or turn the loop, until the session reads again; False when it never will."""
        for step in range(100_000):
            if self.lost or self.wire.closing:
                self.lose_if_flushed()
                return False
            if not self.wire.reading_paused:
                return True
            if self.wire.queue:
                self.wire.flush(flushes[step % len(flushes)])
            else:
                self.turn()
        raise AssertionError("deadlock: reading is paused, nothing is queued, and it does not resume")

    def read(self, data: bytes, flushes: list[int | None] | None = None) -> None:
        """The peer sends `data`: as many reads as buffers are needed."""
        at = 0
        while at < len(data) and self.until_reading(flushes or [None]):
            view = self.buffer()
            size = min(len(view), len(data) - at)
            piece = data[at : at + size]
            view[:size] = piece
            self.session.buffer_updated(size)
            self.model.read(piece)
            at += size
            self.lose_if_flushed()

    def eof(self) -> None:
        """The peer's FIN, and what a transport does with the answer."""
        if self.lost or self.wire.closing:
            return
        self.model.eof()
        stays = self.session.eof_received()
        if not stays:
            self.wire.closing = True
        self.lose_if_flushed()

    def finish(self, flushes: list[int | None] | None = None) -> None:
        """Flush and turn until the connection is gone."""
        for step in range(100_000):
            if self.lost:
                return
            if self.wire.queue:
                self.wire.flush((flushes or [None])[step % len(flushes or [None])])
            self.turn()
            if not self.wire.queue and not self.wire.closing and step > 1000:
                break
        assert self.lost, "the session did not end after the peer's FIN: a leaked descriptor (hazard 10)"

    def check(self) -> None:
        assert not self.wire.violations
        assert bytes(self.wire.sent) == self.model.echo
