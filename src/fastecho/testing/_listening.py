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
from ._ports import answer_syns_again, listen_again, shut, stand_in


class Listening:
    """Bound and listening from the start, by whoever made the sockets."""

    def __init__(self, sockets: list[socket.socket], texts: tuple[str, ...], config: ServerConfig) -> None:
        self.texts = texts
        self._sockets, self._config = sockets, config
        self._acceptor: Acceptor | None = None
        self._keepers: list[socket.socket] = []
        self._dropping = False
        self._windows = Windows()
        self._rebound: tuple[int, int] | None = None
        self._names: tuple[Any, ...] | None = None

    @property
    def names(self) -> tuple[Any, ...]:
        """What `getsockname` says of them; asked for when it is wanted, for that takes time too."""
        if self._names is None:
            self._names = tuple(map(_name, self._sockets, self.texts))
        return self._names

    def open(self, acceptor: Acceptor) -> None:
        """Serve whoever connects."""
        self._acceptor = acceptor
        acceptor.add_here(self._sockets)

    def accept_all(self) -> None:
        """Whoever has connected is accepted when this returns."""
        if self._acceptor is not None and not self._keepers and not self._dropping:
            self._acceptor.accept_all()

    def down(self) -> None:
        """Refuse connections. (After `up`, where that is needed.)"""
        if self._keepers or self._acceptor is None:
            return
        self.accept_all()
        self._keepers = list(map(stand_in, self._acceptor.release(), self.names))
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

    def up(self, faults: Iterable[Fault]) -> None:
        """Serve again after `down` or `drop`."""
        if self._acceptor is None:
            return
        if self._dropping:
            self._dropping = False
            for listener in self._sockets:
                answer_syns_again(listener)
            self._acceptor.resume()
        if self._keepers:
            self._sockets, self._keepers = self._keepers, []
            for listener in self._sockets:
                listen_again(listener, self._config.backlog)
            self.fit_windows(faults)
            self._acceptor.add_here(self._sockets)
            self._acceptor.resume()

    def fit_windows(self, faults: Iterable[Fault]) -> None:
        """As armed faults want them."""
        self._windows.fit(self._sockets, faults)

    def close(self) -> None:
        """For good. The ports are free, whoever holds a copy of a descriptor."""
        assert self.names  # nobody can be asked later
        if self._acceptor is not None:
            for listener in (*self._acceptor.release(), *self._keepers):
                shut(listener)
        if self._rebound is not None:
            remove_path(self.names[0], self._rebound)

    def close_copies(self) -> None:
        """In a forked child."""
        for sock in (*self._sockets, *self._keepers):
            if (descriptor := sock.detach()) >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)


def _name(listener: socket.socket, text: str) -> Any:
    # A UNIX socket was bound under another name, and renamed.
    return listener.getsockname() if listener.family != socket.AF_UNIX else text.removeprefix("unix:")
