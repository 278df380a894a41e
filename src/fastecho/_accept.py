"""Accepting on listening sockets, with a pause: the loops have none.

A loop's server owns the socket it serves and closes it when it closes. So each serves a duplicate of ours: closing that
server is the pause (whoever comes waits in the backlog of the socket that stays open), serving another duplicate is the
resumption.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any

from ._tls import HANDSHAKE_TIMEOUT

__all__ = ["Acceptor", "runs_on_uvloop"]

Factory = Callable[[], asyncio.BaseProtocol]


def runs_on_uvloop(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether `loop` is uvloop's, where the session may send(2) by itself."""
    return type(loop).__module__.partition(".")[0] == "uvloop"


class Acceptor:
    """Serves `factory`'s protocols on listening sockets that belong to the caller."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Factory,
        *,
        backlog: int,
        context: ssl.SSLContext | None,
        shutdown_timeout: float,
    ) -> None:
        self._loop = loop
        self._factory = factory
        self._backlog = backlog
        self._uvloop = runs_on_uvloop(loop)
        self._tls: dict[str, Any] = {}
        if context is not None:
            self._tls = {"ssl": context, "ssl_handshake_timeout": HANDSHAKE_TIMEOUT}
            if self._uvloop or hasattr(asyncio, "timeout"):  # stock asyncio has the argument since 3.11, as it has that
                self._tls["ssl_shutdown_timeout"] = shutdown_timeout
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._open = True
        self._lock = asyncio.Lock()

    async def add(self, sockets: Iterable[socket.socket]) -> None:
        """Serve these too (once resumed, if paused)."""
        added = list(sockets)
        async with self._lock:
            self._sockets += added
            if self._open:
                for sock in added:
                    self._servers.append(await self._serve(sock))

    def pause(self) -> None:
        """Accept nobody more; at once."""
        self._open = False
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()

    async def resume(self) -> None:
        """Accept again whoever waits."""
        self._open = True
        async with self._lock:
            if self._open and not self._servers:
                for sock in self._sockets:
                    self._servers.append(await self._serve(sock))
            if not self._open:  # paused meanwhile
                self.pause()

    async def accept_the_rest(self) -> None:
        """Accept until nobody waits. For the end of a listener, after `pause`."""
        for sock in self._sockets:
            while True:
                try:
                    connection, _ = sock.accept()
                except OSError:  # EAGAIN: the queue is empty; whatever else: there is nobody to serve
                    break
                connection.setblocking(False)
                try:
                    await self._loop.connect_accepted_socket(self._factory, connection, **self._tls)
                except (OSError, asyncio.TimeoutError):
                    connection.close()  # gone before or in its handshake

    def release(self) -> list[socket.socket]:
        """Stop for good, and hand back the sockets."""
        self.pause()
        sockets, self._sockets = self._sockets, []
        return sockets

    async def _serve(self, sock: socket.socket) -> asyncio.AbstractServer:
        served = sock.dup()
        served.setblocking(False)
        # Both loops call listen() again, with 100 unless told otherwise. Stock asyncio takes the same number for how
        # many it accepts in a row, past any limit of ours: one there, and the true backlog afterwards.
        backlog = self._backlog if self._uvloop else 1
        options: dict[str, Any] = {"sock": served, "backlog": backlog, **self._tls}
        if self._uvloop and sock.family == socket.AF_UNIX:
            # Its create_server takes the socket too, but forgets the TLS time-outs.
            options["cleanup_socket"] = False
            return await self._loop.create_unix_server(self._factory, **options)
        server = await self._loop.create_server(self._factory, **options)
        if not self._uvloop:
            served.listen(self._backlog)
        return server
