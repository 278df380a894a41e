"""The time-outs of one session, as the sweeps see them: they bring the time, so a loop held up loses nobody."""

from __future__ import annotations

from ..config import ServerConfig

__all__ = ["Clock"]

_TLS_SHUTDOWN = 2.0  # as the plain session has it


class Clock:
    """Told what has happened and asked at each sweep."""

    def __init__(self, config: ServerConfig, tls: bool) -> None:
        self._idle = config.idle_timeout
        self._write = config.write_timeout
        self._linger = _TLS_SHUTDOWN if tls else config.linger_timeout
        self._grace = config.drain_grace
        self._active = True
        self._active_at = 0.0
        self._progress_at = 0.0
        self._taken = 0
        self._acknowledged_at = 0.0

    def touch(self) -> None:
        """Bytes came or went, or the session has just begun."""
        self._active = True

    def tick(self, now: float) -> None:
        if self._active:  # since the last sweep; so it is never thought to be older than it is
            self._active = False
            self._active_at = now

    def starved(self, now: float, due: bool, taken: int) -> bool:
        """Whether the peer, to whom bytes are `due`, has `taken` no more of all it was ever sent for too long."""
        if not due or taken > self._taken or not self._progress_at:
            self._progress_at = now
        self._taken = taken
        return now - self._progress_at >= self._write

    def quiet(self, now: float, draining_since: float) -> str | None:
        """Whether a session with nothing to do has been quiet long enough to be ended: "drain", "idle" or None."""
        if draining_since:
            return "drain" if now - max(self._active_at, draining_since) >= self._grace else None
        return "idle" if self._idle and now - self._active_at >= self._idle else None

    def lingered(self, now: float, due: bool) -> bool:
        """Whether the peer has had everything for `linger_timeout`."""
        if due:
            self._acknowledged_at = 0.0
        elif not self._acknowledged_at:
            self._acknowledged_at = now
        return not due and now - self._acknowledged_at >= self._linger
