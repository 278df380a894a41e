"""Accepting on listening sockets, with a pause: the loops have none.

uvloop accepts fastest by itself, and its server owns the socket it serves and closes it when it closes. So it serves
a duplicate of ours: closing that server is the pause (whoever comes waits in the backlog of the socket that stays
open), serving another duplicate is the resumption. Stock asyncio would lose connections that way (a server that closes
drops what it has accepted and not yet handed over), and it accepts as many as its backlog in one go: there we accept,
one at a time. So we do also where each connection is looked at first (`take`): to record it, or to have it misbehave.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any

from ._session import EchoSession
from ._tls import HANDSHAKE_TIMEOUT

__all__ = ["Acceptor", "Take", "runs_on_uvloop"]

Factory = Callable[[], EchoSession]
Take = Callable[[socket.socket, Any], EchoSession | None]
"""What becomes of an accepted connection, given its peer's address: the session to drive it, or None: it is taken care
of."""

_OUT_OF_RESOURCES = 1.0
"""Seconds without accepting after the system refused a descriptor or memory; asyncio waits as long."""


def runs_on_uvloop(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether `loop` is uvloop's, where the session may send(2) by itself."""
    return type(loop).__module__.partition(".")[0] == "uvloop"


class Acceptor:
    """Serves `factory`'s protocols, or those of `take`, on listening sockets that belong to the caller.

    `guard` is held from accepting a connection until it is taken: for whoever must not fork in between.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Factory,
        *,
        backlog: int,
        context: ssl.SSLContext | None,
        shutdown_timeout: float,
        take: Take | None = None,
        guard: contextlib.AbstractContextManager[Any] | None = None,
    ) -> None:
        self._loop = loop
        self._factory = factory
        self._take: Take = take if take is not None else lambda connection, peer: factory()
        self._guard = guard if guard is not None else contextlib.nullcontext()
        self._backlog = backlog
        self._uvloop = runs_on_uvloop(loop) and take is None
        self._tls: dict[str, Any] = {}
        if context is not None:
            self._tls = {"ssl": context, "ssl_handshake_timeout": HANDSHAKE_TIMEOUT}
            # stock asyncio has the argument since 3.11, as it has that
            if runs_on_uvloop(loop) or hasattr(asyncio, "timeout"):
                self._tls["ssl_shutdown_timeout"] = shutdown_timeout
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._handovers: set[asyncio.Task[None]] = set()
        self._open = True
        self._reopening: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def add(self, sockets: Iterable[socket.socket]) -> None:
        """Serve these too (once resumed, if paused)."""
        added = list(sockets)
        for sock in added:
            sock.setblocking(False)
        async with self._lock:
            self._sockets += added
            await self._serve(added)

    def add_here(self, sockets: Iterable[socket.socket]) -> None:
        """Serve these too, where we accept by ourselves: that takes no waiting."""
        for sock in sockets:
            sock.setblocking(False)
            self._sockets.append(sock)
            if self._open:
                self._accept_from(sock)

    def pause(self) -> None:
        """Accept nobody more; at once."""
        self._open = False
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        if not self._uvloop:
            for sock in self._sockets:
                self._loop.remove_reader(sock)

    def resume(self) -> None:
        """Accept again whoever waits. A `pause` that comes before it has happened undoes it."""
        self._open = True
        self._reopening = self._loop.create_task(self._reopen())

    async def _reopen(self) -> None:
        async with self._lock:
            if not self._open or self._servers:
                return
            try:
                await self._serve(self._sockets)
            except OSError:  # no descriptor for the duplicate
                self.pause()
                self._open = True
                self._loop.call_later(_OUT_OF_RESOURCES, self._try_again)

    def _try_again(self) -> None:
        if self._open:
            self.resume()

    def accept_all(self) -> None:
        """Accept until nobody waits. On uvloop, without `take`, only after `pause`: its server accepts by itself."""
        for sock in self._sockets:
            while self._accept(sock):
                pass

    async def accept_the_rest(self) -> None:
        """Accept until nobody waits, and hand them over. For the end of a listener, after `pause`."""
        self.accept_all()
        await self.handed_over()

    async def handed_over(self) -> None:
        """Wait until those accepted so far are sessions. (TLS on uvloop: or are still in their handshake.)"""
        if self._handovers:
            await asyncio.wait(self._handovers)
        await asyncio.sleep(0)  # connection_made is called in the next turn of the loop

    def release(self) -> list[socket.socket]:
        """Stop for good, and hand back the sockets."""
        self.pause()
        if self._reopening is not None:
            self._reopening.cancel()
        sockets, self._sockets = self._sockets, []
        return sockets

    def close_copies(self) -> None:
        """In a forked child: close its copies of the listening sockets. The loop is the parent's, and not touched."""
        for server in self._servers:
            for sock in getattr(server, "sockets", ()):
                os.close(sock.fileno())
        for sock in self._sockets:
            sock.close()

    async def _serve(self, sockets: Iterable[socket.socket]) -> None:
        for sock in sockets:
            if not self._open:
                return
            if self._uvloop:
                server = await self._uvloop_server(sock)
                if self._open:
                    self._servers.append(server)
                else:  # paused meanwhile
                    server.close()
            else:
                self._accept_from(sock)

    def _accept_from(self, sock: socket.socket) -> None:
        sock.listen(self._backlog)  # as uvloop does with whatever it is given
        self._loop.add_reader(sock, self._accept, sock)

    async def _uvloop_server(self, sock: socket.socket) -> asyncio.AbstractServer:
        served = sock.dup()
        served.setblocking(False)
        # It calls listen() again, with 100 unless told otherwise.
        options: dict[str, Any] = {"sock": served, "backlog": self._backlog, **self._tls}
        if sock.family == socket.AF_UNIX:
            # Its create_server takes the socket too, but forgets the TLS time-outs.
            options["cleanup_socket"] = False
            return await self._loop.create_unix_server(self._factory, **options)
        return await self._loop.create_server(self._factory, **options)

    def _accept(self, sock: socket.socket) -> bool:
        """Accept one; False when there is none, or none that can be had now."""
        with self._guard:
            try:
                connection, peer = sock.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except ConnectionAbortedError:
                return True
            except OSError:
                if self._open and not self._uvloop:
                    self._loop.remove_reader(sock)
                    self._loop.call_later(_OUT_OF_RESOURCES, self._retry, sock)
                return False
            connection.setblocking(False)
            session = self._take(connection, peer)
        if session is None:
            return True
        handover = self._loop.create_task(self._hand_over(connection, session))
        self._handovers.add(handover)
        handover.add_done_callback(self._handovers.discard)
        return True

    def _retry(self, sock: socket.socket) -> None:
        if self._open and sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)

    async def _hand_over(self, connection: socket.socket, session: EchoSession) -> None:
        # The peer may be gone, or fail its TLS handshake: nobody to tell.
        with contextlib.suppress(OSError, asyncio.TimeoutError), contextlib.ExitStack() as undo:
            undo.callback(session.never_connected)
            undo.callback(connection.close)
            await self._loop.connect_accepted_socket(lambda: session, connection, **self._tls)
            undo.pop_all()
