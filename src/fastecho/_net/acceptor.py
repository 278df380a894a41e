"""Accepting on listening sockets, with pauses: the loops have none.

uvloop accepts fastest by itself. Its server owns the socket that it serves, and closes it when the server closes. So it
serves a duplicate of the listening socket: closing that server is the pause (clients wait in the backlog of the socket
that stays open), serving another duplicate ends it. Stock asyncio would lose connections that way: a server that
closes drops the connections that it has accepted and not yet handed over, and it accepts as many as its backlog in one
go. There the acceptor calls accept() itself, one connection at a time. It does so on uvloop too where a handler sees
each connection first (`on_connection`), where the PROXY protocol puts a header before the first byte, and where
`max_connections` limits them: uvloop may accept one more connection on each listener before a pause takes effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import Any, Literal

from .._session import EchoSession
from .loops import runs_on_uvloop
from .proxy_protocol import ProxyHeaderError, read_header
from .tls import HANDSHAKE_TIMEOUT

__all__ = ["Acceptor", "fork_lock"]

NewSession = Callable[[], EchoSession]
OnConnection = Callable[[socket.socket, Any], EchoSession | None]
"""Given an accepted socket and the client's address: the session that drives it, or None when it keeps the socket."""
Reason = Literal["capacity", "outage", "closing"]

_RETRY_SECONDS = 1.0
"""Seconds without accepting after the system refused a descriptor or memory; asyncio waits as long."""

fork_lock = threading.RLock()
"""Held from accepting a connection until it is registered. A thread that holds it around fork() knows each descriptor
that the child inherits."""

_log = logging.getLogger("fastecho.session")


class Acceptor:
    """Accepts on listening sockets that belong to the caller, and joins each connection to a session.

    Args:
        new_session: makes the session of a connection.
        backlog: clients that the kernel queues for each listener.
        context: of TLS, or None.
        shutdown_timeout: seconds for the close_notify of a TLS client.
        at_capacity: while it returns True, no connection is accepted.
        on_connection: sees each accepted socket first. If it raises, the connection is closed and the error is logged.
        proxy_protocol: each connection begins with a header of the PROXY protocol.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        new_session: NewSession,
        *,
        backlog: int,
        context: ssl.SSLContext | None,
        shutdown_timeout: float,
        at_capacity: Callable[[], bool] | None = None,
        on_connection: OnConnection | None = None,
        proxy_protocol: bool = False,
    ) -> None:
        self._loop = loop
        self._new_session = new_session
        self._on_connection: OnConnection = on_connection or (lambda connection, client: new_session())
        self._at_capacity = at_capacity if at_capacity is not None else lambda: False
        self._backlog = backlog
        self._proxy_protocol = proxy_protocol
        accepts_by_itself = on_connection is not None or at_capacity is not None or proxy_protocol
        self._uvloop = runs_on_uvloop(loop) and not accepts_by_itself
        self._tls: dict[str, Any] = {}
        if context is not None:
            self._tls = {"ssl": context, "ssl_handshake_timeout": HANDSHAKE_TIMEOUT}
            # Stock asyncio has the argument since 3.11, as it has asyncio.timeout.
            if runs_on_uvloop(loop) or hasattr(asyncio, "timeout"):
                self._tls["ssl_shutdown_timeout"] = shutdown_timeout
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._pauses: set[Reason] = set()
        self._reopening: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def add(self, sockets: Iterable[socket.socket]) -> None:
        """Serve these listening sockets too (once resumed, if paused)."""
        added = list(sockets)
        for sock in added:
            sock.setblocking(False)
        async with self._lock:
            self._sockets += added
            await self._serve(added)

    def add_now(self, sockets: Iterable[socket.socket]) -> None:
        """`add` without waiting; for an acceptor with `on_connection` or `at_capacity`, which calls accept() itself."""
        for sock in sockets:
            sock.setblocking(False)
            self._sockets.append(sock)
            if self.is_accepting:
                self._accept_from(sock)

    @property
    def is_accepting(self) -> bool:
        """False while paused."""
        return not self._pauses

    def pause(self, reason: Reason) -> None:
        """Stop accepting at once, until `resume` was called for each reason."""
        self._pauses.add(reason)
        self._stop_serving()

    def resume(self, reason: Reason) -> None:
        """End the pause for `reason`. The last one that ends lets the clients in the backlog in."""
        if reason in self._pauses:
            self._pauses.remove(reason)
            self._reopen_soon()

    def revive(self) -> None:
        """Serve again where a server of uvloop may have fallen silent: it does for good when it could not make the
        connection that it had accepted, for lack of memory."""
        if self._uvloop and self.is_accepting:
            self._stop_serving()
            self._reopen_soon()

    def _stop_serving(self) -> None:
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        if not self._uvloop:
            for sock in self._sockets:
                self._loop.remove_reader(sock)

    def _reopen_soon(self) -> None:
        if self.is_accepting:
            self._reopening = self._loop.create_task(self._reopen())

    async def _reopen(self) -> None:
        async with self._lock:
            if not self.is_accepting or self._servers:
                return
            try:
                await self._serve(self._sockets)
            except (OSError, MemoryError):  # no descriptor for the duplicate
                self._stop_serving()
                self._loop.call_later(_RETRY_SECONDS, self._reopen_soon)

    def accept_all(self) -> None:
        """Accept the clients that wait. Where uvloop's server accepts, only after `pause`.

        At most as many as the kernel queues: in a storm another client waits whenever one was accepted.
        """
        for sock in self._sockets:
            for _ in range(self._backlog + 1):
                if not self._accept(sock):
                    break

    async def accept_all_and_wait(self) -> None:
        """Accept until no client waits, and wait for their sessions. For the end of a listener, after `pause`."""
        self.accept_all()
        await self.wait_for_sessions()

    async def wait_for_sessions(self) -> None:
        """Wait until each accepted connection has its session. (TLS on uvloop: or is still in its handshake.)"""
        if self._connecting:
            await asyncio.wait(self._connecting)
        await asyncio.sleep(0)  # connection_made is called in the next turn of the loop

    def release(self) -> list[socket.socket]:
        """Serve the sockets no longer, and return them. For an acceptor that is paused."""
        self._stop_serving()
        if self._reopening is not None:
            self._reopening.cancel()
        sockets, self._sockets = self._sockets, []
        return sockets

    def close_copies(self) -> None:
        """In a forked child: close its copies of the listening sockets. The loop is the parent's, and not touched."""
        for server in self._servers:
            for sock in getattr(server, "sockets", ()):
                socket.close(sock.fileno())
        for sock in self._sockets:
            sock.close()

    async def _serve(self, sockets: Iterable[socket.socket]) -> None:
        for sock in sockets:
            if not self.is_accepting:
                return
            if self._uvloop:
                server = await self._uvloop_server(sock)
                if self.is_accepting:
                    self._servers.append(server)
                else:  # paused meanwhile
                    server.close()
            else:
                self._accept_from(sock)

    def _accept_from(self, sock: socket.socket) -> None:
        sock.listen(self._backlog)  # as uvloop does with each socket
        self._loop.add_reader(sock, self._accept, sock)

    async def _uvloop_server(self, sock: socket.socket) -> asyncio.AbstractServer:
        served = sock.dup()
        served.setblocking(False)
        # It calls listen() again, with 100 by default.
        options: dict[str, Any] = {"sock": served, "backlog": self._backlog, **self._tls}
        if sock.family == socket.AF_UNIX:
            # Its create_server takes the socket too, but forgets the TLS time-outs.
            options["cleanup_socket"] = False
            return await self._loop.create_unix_server(self._new_session, **options)
        return await self._loop.create_server(self._new_session, **options)

    def _accept(self, sock: socket.socket) -> bool:
        """Accept one; False when there is none, or none that can be had now."""
        if self._at_capacity():
            return False
        with fork_lock:
            try:
                connection, client = sock.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except ConnectionAbortedError:
                return True
            except OSError:
                if self.is_accepting and not self._uvloop:
                    self._loop.remove_reader(sock)
                    self._loop.call_later(_RETRY_SECONDS, self._retry, sock)
                return False
            connection.setblocking(False)
            try:
                session = self._on_connection(connection, client)
            except Exception as error:
                _log.error("on_connection: %s: %s; the connection is closed", type(error).__name__, error)
                connection.close()
                session = None
        if session is None:
            return True
        task = self._loop.create_task(self._start_session(connection, session))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return True

    def _retry(self, sock: socket.socket) -> None:
        if self.is_accepting and sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)

    async def _start_session(self, connection: socket.socket, session: EchoSession) -> None:
        # The client may have left, or fail its TLS handshake: neither is an error of the server.
        with contextlib.suppress(OSError, asyncio.TimeoutError), contextlib.ExitStack() as undo:
            undo.callback(session.never_connected)
            undo.callback(connection.close)
            if self._proxy_protocol:
                try:
                    session.client = await read_header(self._loop, connection)
                except ProxyHeaderError as error:
                    session.refuse(f"PROXY header: {error}")
                    return
            await self._loop.connect_accepted_socket(lambda: session, connection, **self._tls)
            undo.pop_all()
