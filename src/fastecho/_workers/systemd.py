"""What the service manager is told through NOTIFY_SOCKET: the protocol of sd_notify(3), without its library.

    (start) ──► READY=1 ──► RELOADING=1 ──► READY=1 ...      after SIGHUP, and when the new workers serve
                   └──────────────┴───────► STOPPING=1       EXTEND_TIMEOUT_USEC while the last two take time

STATUS= follows workers and connections. WATCHDOG=1 is sent at half of WATCHDOG_USEC by the supervisor's own turn, and
only while a worker serves: if either hangs, the manager hears nothing and restarts the service.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Callable, MutableMapping

__all__ = ["ServiceManager"]

_SEND_SECONDS = 1.0
"""How long to wait for a manager that does not read, with what is said only once."""

_log = logging.getLogger("fastecho")


class ServiceManager:
    """The service manager that started this process; without one, nothing is sent.

    Args:
        environ: the variables NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, which are removed.
        interval: seconds between two messages of the status, and between two requests for more time. A request is for
            three times as long.
    """

    def __init__(self, environ: MutableMapping[str, str], *, interval: float = 5.0) -> None:
        name, usec, pid = (environ.pop(each, "") for each in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
        self._address = _address(name)
        self._interval = interval
        self._watchdog: float | None = None
        if self._address is not None and usec.isascii() and usec.isdigit() and int(usec) and pid in ("", _pid()):
            self._watchdog = int(usec) / 1e6 / 2
        self._report_at = self._watchdog_at = math.inf
        self._reloading = self._stopping = self._failed = False
        self._status = ""

    @property
    def due_at(self) -> float:
        """When `watch` has to be called next; `math.inf` while nothing is due."""
        return min(self._report_at, self._watchdog_at)

    def ready(self, now: float, status: str) -> None:
        """The service accepts connections; also the end of a reload. `now` is the time of `time.monotonic`."""
        self._reloading = False
        self._tell_state("READY=1", f"MAINPID={_pid()}", status=status)
        if self._address is not None:
            self._report_at = now + self._interval
            if self._watchdog is not None:
                self._watchdog_at = min(self._watchdog_at, now)

    def reloading(self, status: str) -> None:
        """A rolling restart begins."""
        self._reloading = True
        self._tell_state("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", self._more_time, status=status)

    def stopping(self, now: float, status: str) -> None:
        """The service drains."""
        self._stopping = True
        self._tell_state("STOPPING=1", self._more_time, status=status)
        if self._address is not None:
            self._report_at = now + self._interval

    def watch(self, now: float, *, serving: bool, rolling: bool, status: Callable[[], str]) -> None:
        """Send what is due at `now`; for each turn of the supervisor.

        Args:
            serving: whether a worker serves.
            rolling: whether a rolling restart is under way.
            status: makes the text of the status.
        """
        if self._reloading and not rolling and not self._stopping:
            self.ready(now, status())
        if self._watchdog is not None and self._watchdog_at <= now:
            self._watchdog_at = now + self._watchdog
            if serving:
                self._send("WATCHDOG=1")
        if self._report_at <= now:
            self._report_at = now + self._interval
            lines = [self._more_time] if self._reloading or self._stopping else []
            if (text := status()) != self._status:
                self._status = text
                lines.append(f"STATUS={text}")
            if lines:
                self._send(*lines)

    @property
    def _more_time(self) -> str:
        return f"EXTEND_TIMEOUT_USEC={round(3e6 * self._interval)}"

    def _tell_state(self, *lines: str, status: str) -> None:
        self._status = status
        self._send(*lines, f"STATUS={status}", timeout=_SEND_SECONDS)

    def _send(self, *lines: str, timeout: float = 0.0) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(timeout)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._failed:
                self._failed = True
                _log.warning("the service manager cannot be notified: %s", error.strerror or error)


def _address(name: str) -> bytes | None:
    if name.startswith("@"):
        return b"\0" + os.fsencode(name[1:])
    if name and not name.startswith("/"):
        _log.warning("NOTIFY_SOCKET=%s: must be an absolute path, or @ and an abstract name; it is not used", name)
        return None
    return os.fsencode(name) or None


def _pid() -> str:
    return str(os.getpid())
