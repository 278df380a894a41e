"""The receive windows of listeners: `stop_reading(window)` is kept only where the window was small at the handshake."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterable, Sequence

from ..faults import Fault
from ._wire import pin_window

__all__ = ["Windows"]

_SO_BUF_LOCK = 72  # Linux 5.16


class Windows:
    """Pins the windows of some listeners while a `stop_reading` is armed. It holds for all who connect meanwhile: which
    connection a fault is for shows only after the handshake."""

    def __init__(self) -> None:
        self._before: dict[socket.socket, int] = {}

    def fit(self, listeners: Sequence[socket.socket], faults: Iterable[Fault]) -> None:
        """As these faults want it: the smallest window of them, or what it was before."""
        wanted = min((fault.get("window") for fault in faults if fault.kind == "stop_reading"), default=None)
        if wanted is None:
            for listener in self._before:
                self._restore(listener)
            self._before.clear()
            return
        for listener in listeners:
            if listener not in self._before:
                self._before[listener] = listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            pin_window(listener, wanted)

    def _restore(self, listener: socket.socket) -> None:
        if listener.fileno() < 0:
            return
        size = self._before[listener]
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size // 2 if sys.platform == "linux" else size)
        with contextlib.suppress(OSError):  # grows again by itself; older kernels stay at the size that they start with
            listener.setsockopt(socket.SOL_SOCKET, _SO_BUF_LOCK, 0)
