"""The listeners of a server: open, down, behind a firewall that drops, closed. Once `open`, on the loop's thread."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable
from typing import Any

from .._accept import Acceptor
from .._faulty import Windows
from .._sockets import drop_syns
from .._unix import remove_path
from ..config import ServerConfig
from ..faults import Fault
from ._ports import answer_syns_again, listen_again, refuse, reserve, shut, spare, take_down


class Listening:
    """Bound and listening from the start, by whoever made the sockets."""

    def __init__(self, sockets: list[socket.socket], texts: tuple[str, ...], config: ServerConfig) -> None:
        self.texts = texts
        self._sockets, self._config = sockets, config
        self._acceptor: Acceptor | None = None
        self._down = self._dropping = self._accepting = False
        self._windows = Windows()
        self._rebound: tuple[int, int] | None = None
        self._names: tuple[Any, ...] | None = None

    @property
    def names(self) -> tuple[Any, ...]:
        """What `getsockname` says of them; not asked on the way of a start, for that takes time too."""
        if self._names is None:
            self._names = tuple(map(_name, self._sockets, self.texts))
        return self._names

    def open(self, acceptor: Acceptor) -> None:
        """Serve whoever connects."""
        self._acceptor = acceptor
        assert self.names  # known from here on, whatever becomes of the sockets
        for listener in self._sockets:
            reserve(listener)
        acceptor.add_here(self._sockets)

    def accept_all(self) -> None:
        """Whoever has connected is accepted when this returns."""
        if self._acceptor is not None and self.serves and not self._accepting:
            self._accepting = True  # a `where` may look at the connections, which comes back to here
            try:
                self._acceptor.accept_all()
            finally:
                self._accepting = False

    @property
    def serves(self) -> bool:
        """Whether whoever connects is accepted."""
        return self._acceptor is not None and not self._down and not self._dropping

    def down(self) -> None:
        """Refuse connections. (After `up`, where that is needed.)"""
        if self._down or self._acceptor is None:
            return
        self.accept_all()
        spares = list(map(spare, self._sockets, self.names))  # where there is no descriptor, it stays up
        self._acceptor.release()
        for each in zip(self._sockets, spares, self.names, strict=True):
            take_down(*each)
        self._sockets, self._down = spares, True
        if self._config.unix is not None:
            status = os.lstat(self._config.unix)
            self._rebound = status.st_dev, status.st_ino

    def drop(self) -> None:
        """Answer no SYN."""
        self.accept_all()
        self._dropping = True
        if self._acceptor is not None:
            self._acceptor.pause()
        for listener in self._sockets:
            drop_syns(listener)

    def up(self, faults: Iterable[Fault], full: bool) -> None:
        """Serve again after `down` or `drop`; unless `full`, when there is a place."""
        if self._acceptor is None:
            return
        if self._dropping:
            self._dropping = False
            for listener in self._sockets:
                answer_syns_again(listener)
            if not full:
                self._acceptor.resume()
        if self._down:
            self._down = False
            for listener in self._sockets:
                listen_again(listener, self._config.backlog)
            self.fit_windows(faults)
            self._acceptor.add_here(self._sockets)
            if not full:
                self._acceptor.resume()

    def fit_windows(self, faults: Iterable[Fault]) -> None:
        """As armed faults want them."""
        self._windows.fit(self._sockets, faults)

    def close(self) -> None:
        """For good. The ports are free, whoever holds a copy of a descriptor."""
        if self._acceptor is not None:
            self._acceptor.release()
        for listener in self._sockets:
            shut(listener)
        if self._rebound is not None:
            remove_path(self.names[0], self._rebound)

    def refuse(self) -> None:
        """Whatever the loop's thread does, listen no more; from any thread."""
        for listener in self._sockets:
            refuse(listener)

    def close_copies(self) -> None:
        """In a forked child."""
        assert self.names
        for sock in self._sockets:
            if (descriptor := sock.detach()) >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)


def _name(listener: socket.socket, text: str) -> Any:
    if text.startswith("unix:"):  # it was bound under another name, and renamed
        return text.removeprefix("unix:")
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    return listener.getsockname() if host.startswith("[") else (host, int(port))
